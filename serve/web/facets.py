"""Facets of a search as controls: a tree, lists of values, a price range."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from recsys.pipeline.facet_counts import MOST_VALUES
from recsys.types import BELOW, FacetCount, Ranking
from serve.routes.attribute_filters import PREFIX
from serve.web.cards import label_of
from serve.web.state import SearchState
from serve.web.wording import Wording

#: Values that a list shows before "more".
FIRST_VALUES = 6
#: From so many values on a list has a box to look for one.
SEARCH_FROM = 12
#: Values that looking for one shows.
FOUND_VALUES = 20
#: Steps of the price slider between two borders of the counted ranges.
STEPS_BETWEEN = 5
#: Names of colours that a dot is drawn for, as CSS has them.
SWATCHES = frozenset((
    "red", "orange", "yellow", "green", "blue", "purple", "violet", "pink", "brown", "black",
    "white", "grey", "gray", "beige", "navy", "teal", "turquoise", "gold", "silver", "ivory",
    "olive", "maroon", "coral", "khaki", "indigo", "crimson", "salmon", "lime", "cyan",
    "magenta", "tan", "lavender",
))  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Option:
    """One value: `identity` names its control in the page, `depth` its level in a tree."""

    name: str
    value: str
    label: str
    count: str
    selected: bool
    identity: str
    depth: int = 0
    swatch: str = ""


@dataclass(frozen=True)
class Group:
    """The values of one facet under a heading."""

    name: str
    label: str
    options: Sequence[Option]
    is_tree: bool = False

    @property
    def has_search(self) -> bool:
        return len(self.options) >= SEARCH_FROM and not self.is_tree

    @property
    def is_capped(self) -> bool:
        """Whether there may be more values than the answer has: those are looked for in the
        shop."""
        return len(self.options) >= MOST_VALUES and not self.is_tree

    @property
    def first(self) -> Sequence[Option]:
        """What is open from the start: the selected ones too."""
        if self.is_tree or len(self.options) <= FIRST_VALUES + 1:
            return self.options
        chosen = [each for each in self.options if each.selected]
        others = [each for each in self.options if not each.selected]
        return [*chosen, *others[: max(0, FIRST_VALUES - len(chosen))]]

    @property
    def more(self) -> Sequence[Option]:
        first = {each.identity for each in self.first}
        return [each for each in self.options if each.identity not in first]


@dataclass(frozen=True)
class PriceRange:
    """Stops of the slider: prices from the lowest up; the last means no bound. `bars` are counts
    between borders, as shares of the largest."""

    stops: Sequence[float] = ()
    labels: Sequence[str] = ()
    bars: Sequence[tuple[int, float]] = ()


@dataclass(frozen=True)
class Controls:
    """All facets of an answer; `groups` are in the order of the page, the categories first."""

    groups: Sequence[Group] = ()
    price: PriceRange = field(default_factory=PriceRange)

    @property
    def selected(self) -> list[Option]:
        return [each for group in self.groups for each in group.options if each.selected]


def controls_of(ranking: Ranking, state: SearchState, wording: Wording) -> Controls:
    """A facet without values has no controls, except for those that the visitor selected."""
    groups = []
    for name, counts in ranking.facets.items():
        if name == "price":
            continue
        if name == "category":
            options = _tree(counts, state, wording)
        else:
            options = _values(name, counts, state, wording)
        if len(options) > 1 or any(each.selected for each in options):
            groups.append(Group(name, _label(name, wording), options, name == "category"))
    currency = next((each.item.currency for each in ranking.items if each.item.currency), "")
    price = _price_range(ranking.facets.get("price", ()), currency, wording)
    return Controls(groups, price)


def value_options(
    name: str, ranking: Ranking, state: SearchState, wording: Wording
) -> list[Option]:
    """The most frequent of the values that a visitor looked for, of an answer's value facets."""
    return _values(name, ranking.facets.get(name, ())[:FOUND_VALUES], state, wording)


def _label(name: str, wording: Wording) -> str:
    own = {"category": wording.text("Category"), "brand": wording.text("Brand")}
    return own.get(name, label_of(name))


def _tree(counts: Sequence[FacetCount], state: SearchState, wording: Wording) -> list[Option]:
    """The top level, and below each selected category the next one; in the order of a tree."""
    chosen = {each.casefold() for each in state.categories}
    folded = {each.value.casefold() for each in counts}
    options = []
    roots = {each.value.partition(BELOW)[0].casefold() for each in counts}
    for each in sorted(counts, key=lambda each: _path_key(each.value, counts)):
        parent, _, leaf = each.value.rpartition(BELOW)
        is_open = not parent or parent.casefold() in chosen or parent.casefold() not in folded
        is_open |= len(roots) == 1 and BELOW not in parent
        is_open |= any(one.startswith(f"{parent}{BELOW}".casefold()) for one in chosen if parent)
        is_selected = each.value.casefold() in chosen
        if is_open or is_selected:
            depth = each.value.count(BELOW)
            fields = {"label": leaf or each.value, "selected": is_selected, "depth": depth}
            options.append(_option("category", each, wording, **fields))
    return options


def _path_key(value: str, counts: Sequence[FacetCount]) -> list[tuple[int, str]]:
    """Sorts a category behind its parent, and siblings by their counts."""
    count_of = {each.value.casefold(): each.count for each in counts}
    levels = value.casefold().split(BELOW)
    paths = [BELOW.join(levels[: at + 1]) for at in range(len(levels))]
    return [(-count_of.get(path, 0), path) for path in paths]


def _values(
    name: str, counts: Sequence[FacetCount], state: SearchState, wording: Wording
) -> list[Option]:
    parameter = name if name == "brand" else f"{PREFIX}{name}]"
    pairs = {(key, value.casefold()) for key, value in state.pairs()}
    options = []
    for each in counts:
        is_selected = each.selected or (parameter, each.value.casefold()) in pairs
        label = _value_label(each, wording)
        options.append(_option(parameter, each, wording, label=label, selected=is_selected))
    return options


def _value_label(each: FacetCount, wording: Wording) -> str:
    if each.value in ("true", "false"):
        return wording.text("yes") if each.value == "true" else wording.text("no")
    label = each.value
    if each.unit or label.endswith("-"):
        low, _, high = label.partition("-")
        if not high:
            return wording.text("{low} and more").format(low=f"{low} {each.unit}".strip())
        label = f"{low}–{high}"
    return f"{label} {each.unit}".strip()


def _option(name: str, each: FacetCount, wording: Wording, **fields: Any) -> Option:
    digest = hashlib.blake2b(f"{name}\n{each.value}".encode("utf-8", "replace"), digest_size=6)
    colour = each.value.casefold()
    return Option(
        name=name,
        value=each.value,
        count=wording.number(each.count),
        identity=f"f{digest.hexdigest()}",
        swatch=colour if colour in SWATCHES else "",
        **fields,
    )


def _price_range(counts: Sequence[FacetCount], currency: str, wording: Wording) -> PriceRange:
    """Stops stand as close as the prices do: the ranges hold about as many items each."""
    bounds = [each.value.partition("-") for each in counts if not each.selected]
    borders = sorted({float(low) for low, _, _ in bounds} | {float(b) for *_, b in bounds if b})
    if len(borders) < 2:
        return PriceRange()
    stops = list[float]()
    for low, high in pairwise(borders):
        step = (high - low) / STEPS_BETWEEN
        stops += [_rounded(low + at * step, step) for at in range(STEPS_BETWEEN)]
    stops = sorted({*stops, borders[-1]})
    labels = [wording.price(stop, currency) for stop in stops]
    largest = max((each.count for each in counts), default=1) or 1
    bars = [(at, each.count / largest) for at, each in enumerate(counts) if not each.selected]
    return PriceRange([*stops, stops[-1]], [*labels, f"{labels[-1]}+"], bars)


def _rounded(price: float, step: float) -> float:
    """To whole numbers where the steps are that large."""
    return float(round(price)) if step >= 1 else round(price, 2)
