"""Facets by value: how many of an answer's items have each value, and statistics of its numbers.

`pipeline.facets` counts what would be if another value were selected, numbers by range; here all
filters hold, and each number is a value of its own."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from recsys.attributes.declaration import Attribute, fold_name
from recsys.release.labels import Labels
from recsys.release.release import Release
from recsys.retrieval.text.scripts import fold
from recsys.types import FacetCount, Ints, Mask, NumberStatistics, ValueFacets

#: Values of one facet, the most frequent.
MOST_DISTINCT = 1_000
#: A number for some items (places among the rows), and whose it is.
Numbers = tuple[NDArray[np.float64], Ints]


def count_values(
    release: Release, rows: Ints, facets: ValueFacets, products_I: Ints | None = None
) -> tuple[dict[str, tuple[FacetCount, ...]], dict[str, NumberStatistics]]:
    """The counts of the named facets that the release has, under their own names, and statistics
    of those that are numbers. A category counts everything below it. With `products_I` products
    are counted, not items; statistics are of items."""
    counts, statistics = dict[str, tuple[FacetCount, ...]](), dict[str, NumberStatistics]()
    owners = rows if products_I is None else products_I[rows]
    for name, attribute in _facets(release, facets):
        if attribute is None and name in release.labels:
            labels = release.labels[name]
            values = _label_counts(labels, labels.counts(rows, products_I), facets.text)
        elif attribute is not None and attribute.kind in ("text", "list"):
            labels = release.attributes.labels(attribute)
            values = _label_counts(labels, labels.counts(rows, products_I), facets.text)
        elif name == "in_stock" or (attribute is not None and attribute.kind == "boolean"):
            flags_I = release.attributes.flags_I(attribute) if attribute else release.in_stock_I
            values = _flag_counts(flags_I[rows], owners)
        else:
            numbers, places = _numbers(release, attribute, rows)
            values = _number_counts(numbers, owners[places])
            if len(numbers):
                statistics[name] = _statistics(numbers)
        counts[name] = values
    return counts, statistics


def _facets(release: Release, facets: ValueFacets) -> Iterator[tuple[str, Attribute | None]]:
    """Each facet of the release that is requested."""
    requested = {fold_name(name) for name in facets.names}
    own = [(name, None) for name in ("category", "brand", "price", "in_stock")]
    declared = [(each.name, each) for each in release.attributes.attributes if each.facet]
    for name, attribute in [*own, *declared]:
        if not requested or fold_name(name) in requested:
            yield name, attribute


def _label_counts(labels: Labels, counts_V: NDArray[np.int64], text: str) -> tuple[FacetCount, ...]:
    frequent_V = np.flatnonzero(counts_V)
    frequent_V = frequent_V[np.argsort(-counts_V[frequent_V], kind="stable")]
    words, values = fold(text).split(), list[FacetCount]()
    for v in frequent_V.tolist():
        value = labels.spellings_V[v]
        if value.strip() and _begins_words(words, value):
            values.append(FacetCount(value, int(counts_V[v])))
            if len(values) == MOST_DISTINCT:
                break
    return tuple(values)


def _begins_words(words: list[str], value: str) -> bool:
    """Whether each of the words begins one of the value's."""
    if not words:
        return True
    folded = fold(value)
    beginnings = folded.replace("-", " ").replace("/", " ").split()
    return all(folded.startswith(w) or any(b.startswith(w) for b in beginnings) for w in words)


def _flag_counts(flags_N: NDArray[np.int8] | Mask, owners_N: Ints) -> tuple[FacetCount, ...]:
    pairs = (("true", owners_N[flags_N == 1]), ("false", owners_N[flags_N == 0]))
    counts = (FacetCount(word, len(np.unique(owners))) for word, owners in pairs)
    return tuple(each for each in counts if each.count)


def _numbers(release: Release, attribute: Attribute | None, rows: Ints) -> Numbers:
    """The prices of the rows, or their numbers of the attribute."""
    if attribute is not None:
        return release.attributes.numbers(attribute).of(rows)
    prices = release.prices_I[rows]
    places = np.flatnonzero(~np.isnan(prices))
    return prices[places], places


def _number_counts(numbers_V: NDArray[np.float64], owners_V: Ints) -> tuple[FacetCount, ...]:
    distinct = np.unique(np.stack([numbers_V, owners_V.astype(np.float64)]), axis=1)[0]
    values, counts = np.unique(distinct, return_counts=True)
    order = np.argsort(-counts, kind="stable")[:MOST_DISTINCT]
    return tuple(
        FacetCount(np.format_float_positional(value, trim="-"), int(count))
        for value, count in zip(values[order], counts[order], strict=True)
    )


def _statistics(numbers: NDArray[np.float64]) -> NumberStatistics:
    low, high, mean, total = (
        float(each) for each in (numbers.min(), numbers.max(), numbers.mean(), numbers.sum())
    )
    return NumberStatistics(low, high, mean, total)
