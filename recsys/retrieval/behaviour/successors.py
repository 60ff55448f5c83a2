"""Item-to-item successors: what users went on to, in the order of their histories.

Legend: B requests, b items of a block, I items, N neighbours, P pairs.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from recsys.arrays import Histories
from recsys.retrieval.behaviour.cooccurrence import CoOccurrenceRetriever
from recsys.retrieval.behaviour.sparse import pad_lists, ragged_top_k, sparse_rows
from recsys.types import Floats, Ints, Rows

if TYPE_CHECKING:
    from scipy.sparse import csr_array

#: Two items of one history count when at most so many events apart: a pair further apart says
#: little, and a robot's 100,000 events would make five billion.
WINDOW = 50
#: A pair counts distance^-DISTANCE, and BACKWARD of that from the later item to the earlier one.
DISTANCE, BACKWARD = 0.5, 0.3
#: A pair's count is divided by (n_from + SHRINKAGE)^FROM (n_to + SHRINKAGE)^TO; the cosine would be
#: 1/2 and 1/2, no shrinkage, which loses a third of the hits. n is relative to the mean, so that
#: the scores of shops are comparable.
SHRINKAGE, FROM, TO = 4.0, 0.5, 0.1
#: Items with events that stand in for one without.
PROXIES = 4


def successor_weights(parts: Iterable[Histories], block: range, item_count: int) -> csr_array:
    """[b, I]: how much an item of `block` in a history speaks for another, from pairs that are near
    each other.

    Item-based filtering (Linden, Smith & York 2003) that knows the order, like the sequential rules
    of Ludewig & Jannach 2018: nearer pairs count more, the later of two items more than the
    earlier, and popular items are damped less than in the cosine. An item says nothing of
    itself. Constants chosen on the validation targets of Amazon Beauty and Sports. Parts
    are disjoint in users."""
    from scipy.sparse import csr_array

    pairs_bI, counts_I = csr_array((len(block), item_count), dtype=np.float32), np.zeros(item_count)
    for part in parts:
        counts_I += np.bincount(part.items, minlength=item_count)
        longest = int(np.diff(part.offsets).max(initial=0))
        for distance in range(1, min(WINDOW, longest - 1) + 1):
            pairs_bI = pairs_bI + _pairs_at(part, distance, block, item_count)
    damped_I = counts_I + SHRINKAGE
    mean = damped_I.mean()
    from_b = (damped_I[block.start : block.stop] / mean) ** -FROM / mean
    to_I = (damped_I / mean) ** -TO
    return pairs_bI.multiply(from_b[:, None]).multiply(to_I).tocsr().astype(np.float32)


def _pairs_at(part: Histories, distance: int, block: range, item_count: int) -> csr_array:
    """[b, I]: the pairs of one distance, forward and back."""
    owners_E = part.owners_E
    (first_P,) = np.nonzero(owners_E[:-distance] == owners_E[distance:])
    pairs = part.items[first_P], part.items[first_P + distance]
    sources, targets = np.concatenate(pairs), np.concatenate(pairs[::-1])
    weights = distance**-DISTANCE * np.repeat([1.0, BACKWARD], len(first_P))
    counts = (sources >= block.start) & (sources < block.stop) & (sources != targets)
    rows, columns = sources[counts] - block.start, targets[counts]
    return sparse_rows(rows, columns, weights[counts], len(block), item_count)


def cold_item_proxies(rows_IN: Rows, similarities_IN: Floats, counts_I: Ints) -> csr_array:
    """[I, I]: for each item without events the shares, summing to 1, of the PROXIES most similar
    items that have some.

    Takes neighbours by content (-1 pads), best first, and events an item. Other items' rows are
    empty."""
    rows = np.flatnonzero(counts_I == 0)
    near_uN = rows_IN[rows]
    has_events_uN = (near_uN >= 0) & (counts_I[near_uN] > 0)
    has_events_uN &= np.cumsum(has_events_uN, axis=1) <= PROXIES
    owners, columns = np.nonzero(has_events_uN)
    similarities = np.maximum(similarities_IN[rows][owners, columns], 1e-3).astype(np.float64)
    shares = similarities / np.bincount(owners, similarities, minlength=len(rows))[owners]
    proxies = near_uN[owners, columns]
    return sparse_rows(rows[owners], proxies, shares, len(counts_I), len(counts_I))


def successor_neighbours(
    parts: Iterable[Histories],
    block: range,
    item_count: int,
    n: int,
    proxies_II: csr_array | None = None,
) -> tuple[Rows, Floats]:
    """The n items of most weight for each of `block`: rows_bN int32 (-1 pads), scores_bN (-inf
    pads).

    Nothing leads to an item without events; with `cold_item_proxies` what leads to its proxies
    does."""
    weights_bI = successor_weights(parts, block, item_count)
    if proxies_II is not None:
        weights_bI = weights_bI + weights_bI @ proxies_II.T.tocsr()
    pairs = weights_bI.tocoo()
    owners, rows = pairs.coords
    return pad_lists(*ragged_top_k(owners, rows, pairs.data, len(block), n), n)


def recency_weights(histories: Histories, item_count: int) -> csr_array:
    """[B, I]: 1 / (1 + age) of each event, counted in events before the newest, summed per item."""
    owners_E = histories.owners_E
    ages_E = histories.offsets[1:][owners_E] - 1 - np.arange(len(owners_E))
    return sparse_rows(owners_E, histories.items, 1 / (1 + ages_E), len(histories), item_count)


class SuccessorRetriever(CoOccurrenceRetriever):
    """Successors of the history's last items: an event counts 1 / (1 + its age), whatever its
    day."""

    def __init__(self, rows_IN: Rows, scores_IN: Floats, source: str = "follows") -> None:
        super().__init__(rows_IN, scores_IN, source)

    def item_weights(self, histories: Histories, item_count: int) -> csr_array:
        return recency_weights(histories, item_count)
