"""Facet counts of a search by category, brand and price; sorting; collapsing of variants."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from recsys.release.labels import Labels
from recsys.release.release import Release
from recsys.types import SORTS, FacetCount, Filters, Floats, Ints, Mask, Rows

#: Values that a facet shows, beside those that the request selects.
MOST_VALUES = 50
MOST_RANGES = 5
#: Borders of price ranges are these times a power of ten.
_ROUND = np.outer(10.0 ** np.arange(-2, 13), [1, 1.5, 2, 2.5, 3, 4, 5, 7.5]).ravel().round(3)


def count_facets(
    release: Release, matched_I: Mask, filters: Filters
) -> dict[str, tuple[FacetCount, ...]]:
    """How many of the matches an answer would have if just one value of a facet were selected,
    the other filters being what they are: a facet's own selection does not shrink its counts.

    `matched_I` is what the text matches, not filtered. Values are spelled as the catalogue spells
    them, the most frequent first, selected ones always among them. A category counts everything
    below it ("A" counts "A / B"). A price range "10-25" is min_price=10 and max_price=25, both
    inclusive, and "25-" has no end; an item on a border counts on both sides, one without a price
    nowhere."""
    rows = np.flatnonzero(matched_I)
    passing = release.passing(filters, rows)
    return {
        "category": _labels(
            release.labels["category"], _without(passing, rows, "category"), filters.category
        ),
        "brand": _labels(release.labels["brand"], _without(passing, rows, "brand"), filters.brand),
        "price": _ranges(
            release.prices_I[_without(passing, rows, "min_price", "max_price")], filters
        ),
    }


def _without(passing: Mapping[str, Mask], rows: Ints, *names: str) -> Ints:
    """The rows that pass all filters but these."""
    masks = [mask for name, mask in passing.items() if name not in names]
    return rows[np.logical_and.reduce(masks)] if masks else rows


def _labels(labels: Labels, rows: Ints, selected: Iterable[str]) -> tuple[FacetCount, ...]:
    counts_V = labels.counts(rows)
    spelled = {value.casefold(): value for value in selected}
    selected_V = {labels.value_index[folded] for folded in spelled if folded in labels.value_index}
    frequent_V = np.flatnonzero(counts_V)
    frequent_V = frequent_V[np.argsort(-counts_V[frequent_V], kind="stable")]
    top = [v for v in frequent_V[: MOST_VALUES + 1].tolist() if labels.spellings_V[v].strip()]
    counts = [
        FacetCount(labels.spellings_V[v], int(counts_V[v]), v in selected_V)
        for v in {*top[:MOST_VALUES], *selected_V}  # the empty label is no value
    ]
    unknown = [
        FacetCount(value, 0, True)
        for folded, value in spelled.items()
        if folded not in labels.value_index
    ]
    return tuple(sorted([*counts, *unknown], key=lambda facet: (-facet.count, facet.value)))


def _ranges(prices: NDArray[np.float64], filters: Filters) -> tuple[FacetCount, ...]:
    prices = prices[~np.isnan(prices)]
    borders = _borders(prices)
    bounds = list(pairwise([0.0, *borders, np.inf])) if borders else []
    low, high = filters.min_price, filters.max_price
    selected = (
        None if low is None and high is None else (low or 0.0, np.inf if high is None else high)
    )
    counts = [
        FacetCount(
            _range(low, high),
            int(((prices >= low) & (prices <= high)).sum()),
            (low, high) == selected,
        )
        for low, high in sorted({*bounds, *([selected] if selected else [])})
    ]
    return tuple(facet for facet in counts if facet.count or facet.selected)


def _borders(prices: NDArray[np.float64]) -> list[float]:
    """Round numbers near the quantiles of the prices, with prices on both sides of each."""
    if not len(prices):
        return []
    sample = prices[:: len(prices) // 5_000 or 1]
    places = len(sample) * np.arange(1, MOST_RANGES) // MOST_RANGES
    quantiles = np.partition(sample, places)[places]
    above = np.clip(np.searchsorted(_ROUND, quantiles), 1, len(_ROUND) - 1)
    lower, upper = _ROUND[above - 1], _ROUND[above]
    nearest = np.unique(np.where(quantiles**2 < lower * upper, lower, upper))  # as a ratio
    return nearest[(prices.min() < nearest) & (nearest <= prices.max())].tolist()


def _range(low: float, high: float) -> str:
    """Digits that read back as the same numbers, never in powers of ten."""
    start, stop = (np.format_float_positional(border, trim="-") for border in (low, high))
    return f"{start}-{'' if high == np.inf else stop}"


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
