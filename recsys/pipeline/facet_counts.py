"""Counts of one facet over some rows: labels, ranges of numbers, yes and no."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from recsys.release.attributes import AttributeColumns, Condition
from recsys.release.labels import Labels
from recsys.types import FacetCount, Ints

#: Values that a facet shows, beside those that the request selects.
MOST_VALUES = 50
MOST_RANGES = 5
#: Borders of ranges are these times a power of ten.
_ROUND = np.outer(10.0 ** np.arange(-2, 13), [1, 1.5, 2, 2.5, 3, 4, 5, 7.5]).ravel().round(3)
Range = tuple[float, float]


def count_attribute(
    columns: AttributeColumns, condition: Condition, rows: Ints, products_I: Ints | None = None
) -> tuple[FacetCount, ...]:
    """The values of a condition's attribute among the rows; the condition selects some. With
    `products_I` an item counts once a product."""
    attribute = condition.attribute
    owners = rows if products_I is None else products_I[rows]
    if attribute.kind == "boolean":
        return _flags(columns.flags_I(attribute)[rows], owners, condition)
    if attribute.kind != "number":
        return count_labels(columns.labels(attribute), rows, condition.values, products_I)
    numbers = columns.numbers(attribute)
    lowest = min(0.0, np.floor(np.nanmin(numbers.values_V, initial=0.0)))
    values, places = numbers.of(rows)
    selected, unit = _selected(condition, lowest), attribute.unit or ""
    return count_ranges(values, owners[places], selected, lowest, unit=unit)


def count_labels(
    labels: Labels, rows: Ints, selected: Iterable[str], products_I: Ints | None = None
) -> tuple[FacetCount, ...]:
    """The most frequent values of the rows, and those that are selected, as the catalogue spells
    them."""
    counts_V = labels.counts(rows, products_I)
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


def count_ranges(
    values: NDArray[np.float64],
    owners: Ints,
    selected: Iterable[Range],
    lowest: float = 0.0,
    *,
    unit: str = "",
) -> tuple[FacetCount, ...]:
    """How many owners have a value within each range, both ends inclusive; the first begins at
    `lowest`."""
    borders, selected = range_borders(values), set(selected)
    bounds = set(pairwise([lowest, *borders, np.inf])) if borders else set()
    counts = []
    for low, high in sorted(bounds | selected):
        within = owners[(values >= low) & (values <= high)]
        count = len(np.unique(within))
        counts.append(FacetCount(range_text(low, high), count, (low, high) in selected, unit))
    return tuple(facet for facet in counts if facet.count or facet.selected)


def _selected(condition: Condition, lowest: float) -> list[Range]:
    """The ranges that a condition names; its bounds are one."""
    ranges = [(max(low, lowest), high) for low, high in condition.ranges]
    if not condition.bounds:
        return ranges
    lows = [bound for operator, bound in condition.bounds if operator in ("gte", "gt")]
    highs = [bound for operator, bound in condition.bounds if operator in ("lte", "lt")]
    return [*ranges, (max([lowest, *lows]), min([np.inf, *highs]))]


def _flags(
    flags_N: NDArray[np.int8], owners_N: Ints, condition: Condition
) -> tuple[FacetCount, ...]:
    counts = [
        FacetCount(word, len(np.unique(owners_N[flags_N == flag])), bool(flag) in condition.flags)
        for flag, word in ((1, "true"), (0, "false"))
    ]
    return tuple(facet for facet in counts if facet.count or facet.selected)


def range_borders(values: NDArray[np.float64]) -> list[float]:
    """Round numbers near the quantiles of the values, with values on both sides of each."""
    if not len(values):
        return []
    sample = values[:: len(values) // 5_000 or 1]
    places = len(sample) * np.arange(1, MOST_RANGES) // MOST_RANGES
    quantiles = np.partition(sample, places)[places]
    lowest, highest = values.min(), values.max()
    if lowest < 0:
        step = 10.0 ** np.floor(np.log10((highest - lowest) / MOST_RANGES or 1.0))
        nearest = np.unique(np.round(quantiles / step) * step).round(6) + 0.0
    else:
        above = np.clip(np.searchsorted(_ROUND, quantiles), 1, len(_ROUND) - 1)
        lower, upper = _ROUND[above - 1], _ROUND[above]
        nearest = np.unique(np.where(quantiles**2 < lower * upper, lower, upper))  # as a ratio
    return nearest[(lowest < nearest) & (nearest <= highest)].tolist()


def range_text(low: float, high: float) -> str:
    """Digits that read back as the same numbers, never in powers of ten."""
    start, stop = (np.format_float_positional(border, trim="-") for border in (low, high))
    return f"{start}-{'' if high == np.inf else stop}"
