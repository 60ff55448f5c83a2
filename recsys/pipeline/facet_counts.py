"""Counts of one facet over some rows, or their products: labels, ranges of numbers, yes and
no."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
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
#: The rows that pass each reading of a request, the strictest first. A value counts where the
#: first of them has it: that is what a search that selects it finds.
RowsR = Sequence[Ints]


def count_attribute(
    columns: AttributeColumns, condition: Condition, rows_R: RowsR, products_I: Ints | None = None
) -> tuple[FacetCount, ...]:
    """The values of a condition's attribute; the condition selects some."""
    attribute = condition.attribute
    if attribute.kind == "boolean":
        return _flags(columns.flags_I(attribute), condition, rows_R, products_I)
    if attribute.kind != "number":
        return count_labels(columns.labels(attribute), rows_R, condition.values, products_I)
    numbers = columns.numbers(attribute)
    lowest = min(0.0, np.floor(np.nanmin(numbers.values_V, initial=0.0)))
    values_R = []
    for rows in rows_R:
        values, places = numbers.of(rows)
        values_R.append((values, owners_of(rows, products_I)[places]))
    return count_ranges(values_R, _selected(condition, lowest), lowest, unit=attribute.unit or "")


def owners_of(rows: Ints, products_I: Ints | None) -> Ints:
    """What is counted: the rows, or their products."""
    return rows if products_I is None else products_I[rows]


def count_labels(
    labels: Labels, rows_R: RowsR, selected: Iterable[str], products_I: Ints | None = None
) -> tuple[FacetCount, ...]:
    """The most frequent values of the rows, and those that are selected, as the catalogue spells
    them."""
    counts_V = np.zeros(len(labels.spellings_V), np.int64)
    for rows in rows_R:
        counts_V = np.where(counts_V > 0, counts_V, labels.counts(rows, products_I))
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
    values_R: Sequence[tuple[NDArray[np.float64], Ints]],
    selected: Iterable[Range],
    lowest: float = 0.0,
    *,
    unit: str = "",
) -> tuple[FacetCount, ...]:
    """How many owners have a value within each range, both ends inclusive; the first begins at
    `lowest`. `values_R` are pairs of values and their owners."""
    borders, selected = range_borders(values_R[-1][0]), set(selected)
    bounds = set(pairwise([lowest, *borders, np.inf])) if borders else set()
    counts = []
    for low, high in sorted(bounds | selected):
        count = _first_count(
            owners[(values >= low) & (values <= high)] for values, owners in values_R
        )
        counts.append(FacetCount(range_text(low, high), count, (low, high) in selected, unit))
    return tuple(facet for facet in counts if facet.count or facet.selected)


def _first_count(owners_R: Iterable[Ints]) -> int:
    """How many different owners there are in the first list that has any."""
    return next((len(np.unique(owners)) for owners in owners_R if len(owners)), 0)


def _selected(condition: Condition, lowest: float) -> list[Range]:
    """The ranges that a condition names; its bounds are one."""
    ranges = [(max(low, lowest), high) for low, high in condition.ranges]
    if not condition.bounds:
        return ranges
    lows = [bound for operator, bound in condition.bounds if operator in ("gte", "gt")]
    highs = [bound for operator, bound in condition.bounds if operator in ("lte", "lt")]
    return [*ranges, (max([lowest, *lows]), min([np.inf, *highs]))]


def _flags(
    flags_I: NDArray[np.int8], condition: Condition, rows_R: RowsR, products_I: Ints | None
) -> tuple[FacetCount, ...]:
    counts = []
    for flag, word in ((1, "true"), (0, "false")):
        flagged = (rows[flags_I[rows] == flag] for rows in rows_R)
        count = _first_count(owners_of(rows, products_I) for rows in flagged)
        counts.append(FacetCount(word, count, bool(flag) in condition.flags))
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
