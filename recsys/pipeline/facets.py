"""Facet counts of a search by category, brand, price and attributes; sorting; collapsing of
variants."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from recsys.pipeline.facet_counts import (
    count_attribute,
    count_labels,
    count_ranges,
    owners_of,
)
from recsys.release.attributes import Condition
from recsys.release.release import Release
from recsys.types import SORTS, FacetCount, Filters, Floats, Ints, Mask, Rows


def count_facets(
    release: Release,
    matched_I: Mask,
    filters: Filters,
    *,
    stricter: Sequence[Filters] = (),
    products_I: Ints | None = None,
) -> dict[str, tuple[FacetCount, ...]]:
    """How many of the matches an answer would have if just one value of a facet were selected,
    the other filters being what they are: a facet's own selection does not shrink its counts.

    `matched_I` is what the text matches, not filtered. Values are spelled as the catalogue spells
    them, the most frequent first, selected ones always among them. A category counts everything
    below it ("A" counts "A / B"). A price range "10-25" is min_price=10 and max_price=25, both
    inclusive, and "25-" has no end; an item on a border counts on both sides, one without a price
    nowhere. Every attribute with `facet` has its name and is counted likewise: labels, "true" and
    "false", or ranges of numbers in its unit. With `products_I` products are counted, not items.

    `stricter` are what the text names besides, and nothing passed: price words that were dropped,
    which hold again where another value is selected whose items pass them."""
    rows = np.flatnonzero(matched_I)
    readings = [_Passing(release.passing(each, rows), rows) for each in (*stricter, filters)]

    def without(*names: str) -> list[Ints]:
        return [passing.without(*names) for passing in readings]

    facets = {
        name: count_labels(release.labels[name], without(name), selected, products_I)
        for name, selected in (("category", filters.category), ("brand", filters.brand))
    }
    priced = [each[~np.isnan(release.prices_I[each])] for each in without("min_price", "max_price")]
    prices = [(release.prices_I[each], owners_of(each, products_I)) for each in priced]
    facets["price"], columns = count_ranges(prices, _price_range(filters)), release.attributes
    conditions = {each.attribute: each for each in columns.conditions(filters.attributes)}
    for attribute in (each for each in columns.attributes if each.facet):
        remaining = without(f"filter[{attribute.name}]", f"variants[{attribute.name}]")
        condition = conditions.get(attribute) or Condition(attribute=attribute)
        facets[attribute.name] = count_attribute(columns, condition, remaining, products_I)
    return facets


def _price_range(filters: Filters) -> list[tuple[float, float]]:
    low, high = filters.min_price, filters.max_price
    if low is None and high is None:
        return []
    return [(low or 0.0, np.inf if high is None else high)]


class _Passing:
    """The rows that pass all filters but some."""

    def __init__(self, masks: Mapping[str, Mask], rows: Ints) -> None:
        self.masks, self.rows = masks, rows
        self.failures_N = self._failures(masks)

    def without(self, *names: str) -> Ints:
        """The rows that pass all filters but these."""
        return self.rows[self.failures_N == self._failures(names)]

    def _failures(self, names: Iterable[str]) -> Ints:
        """[N]: how many of these filters each row fails."""
        failures_N = np.zeros(len(self.rows), np.int16)
        for name in names:
            if name in self.masks:
                failures_N += ~self.masks[name]
        return failures_N


def sort_rows(release: Release, rows: Ints, sort: str, popularity_I: Floats | None = None) -> Rows:
    """The rows by one of `types.SORTS`; equal ones as they came, those without a price or date
    last."""
    if sort == "relevance":
        return rows.astype(np.int32)
    if sort not in SORTS:
        raise ValueError(f"sort {sort!r} is unknown: use one of {', '.join(SORTS)}")
    keys = {
        "price": lambda: release.prices_I[rows],
        "-price": lambda: -release.prices_I[rows],
        "newest": lambda: -release.added_I[rows],
        "popularity": lambda: (
            -(release.popularity_I if popularity_I is None else popularity_I)[rows]
        ),
    }
    return rows[np.argsort(keys[sort](), kind="stable")].astype(np.int32)  # NaN goes last


def collapse(rows: Ints, groups_I: NDArray[np.int32]) -> Rows:
    """The first row of each group, in their order; a row of group -1 is no variant of another."""
    groups = groups_I[rows]
    is_first = groups < 0
    is_first[np.unique(groups, return_index=True)[1]] = True
    return rows[is_first].astype(np.int32)
