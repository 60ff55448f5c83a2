"""Item-to-item co-occurrence in baskets: counted by night, summed over a history by day.

Legend: B requests, b items of a block, I items, N neighbours, E entries, P pairs.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from recsys.arrays import Candidates, Histories, Requests
from recsys.retrieval.behaviour.sparse import (
    EVENT_WEIGHTS,
    decayed_interests,
    pad_lists,
    ragged_top_k,
    sparse_rows,
    top_unbought,
)
from recsys.retrieval.vectors.exact import check_k
from recsys.types import Floats, Ints, Mask, Rows

if TYPE_CHECKING:
    from scipy.sparse import csr_array

#: Summed over a history, "likelihood" retrieves more of the new things that a user will buy; see
#: `co_occurrence_neighbours`.
Measure = Literal["cosine", "likelihood"]
BASKET_HALF_LIFE_DAYS = 30.0
SHRINKAGE = 5.0
HISTORY_HALF_LIFE_DAYS = 60.0


def co_occurrence_neighbours(
    parts: Iterable[Histories],
    block: range,
    item_count: int,
    n: int,
    *,
    now_days: float,
    measure: Measure = "cosine",
) -> tuple[Rows, Floats]:
    """The n items most often in a basket with each item of `block`: rows_bN int32 (-1 pads),
    scores_bN (-inf pads).

    A basket is one user's events of one UTC day; old baskets decay (half-life BASKET_HALF_LIFE_DAYS
    before `now_days`, days since 1970). By "cosine" the score is that of the two items' basket
    vectors with shrunk norms, c_ij / sqrt((c_ii + s)(c_jj + s)): Linden, Smith & York 2003 for the
    cosine, Bell & Koren 2007 for shrinkage. By "likelihood" it is `likelihood_ratio`: how sure it
    is that they go together; pairs that do not are left out. Memory: the counts of the block's
    items, never the log. Parts are disjoint in users; all are read."""
    if measure not in ("cosine", "likelihood"):
        raise ValueError(f"pairs are not measured by {measure!r}: use 'cosine' or 'likelihood'")
    counts_bI, totals_I, baskets = _counts(parts, block, item_count, now_days)
    pairs = counts_bI.tocoo()
    owners_P, items_P = pairs.coords
    distinct_P = owners_P + block.start != items_P
    owners_P, items_P, together_P = (
        owners_P[distinct_P],
        items_P[distinct_P],
        pairs.data[distinct_P],
    )
    left_P, right_P = totals_I[owners_P + block.start], totals_I[items_P]
    if measure == "likelihood":
        scores_P = likelihood_ratio(together_P, left_P, right_P, baskets)
        positive_P = scores_P > 0
        owners_P, items_P = owners_P[positive_P], items_P[positive_P]
        scores_P = scores_P[positive_P]
    else:
        scores_P = together_P / np.sqrt((left_P + SHRINKAGE) * (right_P + SHRINKAGE))
    lists = ragged_top_k(owners_P, items_P, scores_P.astype(np.float32), len(block), n)
    return pad_lists(*lists, n)


def _counts(
    parts: Iterable[Histories], block: range, item_count: int, now_days: float
) -> tuple[csr_array, NDArray[np.float64], float]:
    """[b, I] how often two items share a basket, [I] how often an item is in one, and the number of
    baskets, all decayed."""
    from scipy.sparse import csr_array

    counts_bI = csr_array((len(block), item_count), dtype=np.float32)
    totals_I, basket_count = np.zeros(item_count), 0.0
    for part in parts:
        baskets_SI, count = _baskets(part, item_count, now_days)
        basket_count += count
        counts_bI = counts_bI + baskets_SI[:, block.start : block.stop].T.tocsr() @ baskets_SI
        totals_I += baskets_SI.power(2).sum(axis=0)
    return counts_bI, totals_I, basket_count


def likelihood_ratio(
    together_P: NDArray[np.floating[Any]],
    left_P: NDArray[np.float64],
    right_P: NDArray[np.float64],
    baskets: float,
) -> NDArray[np.float64]:
    """[P]: -2 ln lambda of two items being independent, 0 where they meet no more often than by
    chance.

    Of `baskets`, `left_P` have the one, `right_P` the other, `together_P` both (decayed counts, so
    fractions): Dunning, Accurate methods for the statistics of surprise and coincidence, 1993."""
    both = np.asarray(together_P, np.float64)
    observed = (both, left_P - both, right_P - both, baskets - left_P - right_P + both)
    without_left, without_right = baskets - left_P, baskets - right_P
    products = (
        left_P * right_P,
        left_P * without_right,
        without_left * right_P,
        without_left * without_right,
    )
    ratio = sum(
        _surprise(count, product / max(baskets, 1e-12))
        for count, product in zip(observed, products, strict=True)
    )
    return np.where(both * baskets > left_P * right_P, np.maximum(2 * ratio, 0), 0)


def _surprise(observed: NDArray[np.float64], expected: NDArray[np.float64]) -> NDArray[np.float64]:
    """observed ln(observed / expected), 0 where nothing is observed (or less, by rounding)."""
    observed, expected = np.maximum(observed, 1e-12), np.maximum(expected, 1e-12)
    return observed * np.log(observed / expected)


def _baskets(part: Histories, item_count: int, now_days: float) -> tuple[csr_array, float]:
    """[baskets, I]: the weight of each item in each user-day, at most 1, times the root of the
    basket's decay; and the number of baskets, decayed. However often a user has an item, all their
    baskets with it count as one at most, and so do those with a pair."""
    days_E = np.floor(part.days).astype(np.int64)
    span = 1 + int(days_E.max(initial=0))
    # One number for user and day: unique pairs by axis take ten times as long.
    users_and_days, baskets_E = np.unique(part.owners_E * span + days_E, return_inverse=True)
    rows = sparse_rows(
        baskets_E, part.items, EVENT_WEIGHTS[part.types], len(users_and_days), item_count
    )
    ages = np.maximum(now_days - users_and_days % span, 0)
    root_decay = 0.5 ** (ages / BASKET_HALF_LIFE_DAYS / 2)
    sizes = np.diff(rows.indptr)
    rows.data = np.minimum(rows.data, 1) * np.repeat(root_decay, sizes).astype(np.float32)
    users_N = np.repeat(users_and_days // span, sizes)
    pairs, pairs_N = np.unique(users_N * item_count + rows.indices, return_inverse=True)
    totals_P = np.bincount(pairs_N, rows.data.astype(np.float64) ** 2, minlength=len(pairs))
    rows.data /= np.sqrt(np.maximum(totals_P, 1)).astype(np.float32)[pairs_N]
    return rows, float((root_decay[sizes > 0] ** 2).sum())


class CoOccurrenceRetriever:
    """Item-to-item neighbours of the history's items, recent and strong events counting more.

    Takes `rows_IN` and `scores_IN`, all blocks of `co_occurrence_neighbours` one above the other;
    or neighbours of another kind, as another `source`."""

    def __init__(self, rows_IN: Ints, scores_IN: Floats, source: str = "co_occurrence") -> None:
        from scipy.sparse import csr_array

        self.source = source
        filled_IN = rows_IN >= 0
        offsets = np.concatenate([[0], np.cumsum(filled_IN.sum(axis=1))])
        self._scores_II = csr_array(
            (scores_IN[filled_IN], rows_IN[filled_IN], offsets), shape=(len(rows_IN),) * 2
        )

    def retrieve(self, requests: Requests, k: int, allowed: Mask | None = None) -> Candidates:
        check_k(k)
        histories = requests.histories
        if histories is None or not len(histories.items):
            return Candidates.none(self.source, requests.size)
        weights_BI = self.item_weights(histories, self._scores_II.shape[0])
        return top_unbought(self.source, requests, weights_BI @ self._scores_II, k, allowed)

    def item_weights(self, histories: Histories, item_count: int) -> csr_array:
        """[B, I]: how much each item of a history counts."""
        return decayed_interests(histories, item_count, HISTORY_HALF_LIFE_DAYS)
