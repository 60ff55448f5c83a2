"""Items bought together: counted by night, summed over a history by day.

Legend: B requests, b items of a block, I items, N neighbours, E entries.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from recsys.retrieval.behaviour.sparse import (
    EVENT_WEIGHTS,
    decayed_interests,
    is_bought,
    ragged_top_k,
    sparse_rows,
)
from recsys.retrieval.vectors.exact import check_k
from recsys.types import Candidates, Floats, Histories, Ints, Mask, Requests

if TYPE_CHECKING:
    from scipy.sparse import csr_array

#: Summed over a history, "likelihood" finds more of the new things that a user will buy; see
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
    now_days: float,
    measure: Measure = "cosine",
) -> tuple[NDArray[np.int32], Floats]:
    """The n items most often in a basket with each item of `block`: rows_bN int32 (-1 pads),
    scores_bN (-inf pads).

    A basket is what one user touched on one UTC day; old baskets fade (half-life
    BASKET_HALF_LIFE_DAYS before `now_days`, days since 1970). By "cosine" the score is that of the
    two items' basket vectors with shrunk norms, c_ij / sqrt((c_ii + s)(c_jj + s)): Linden, Smith &
    York 2003 for the cosine, Bell & Koren 2007 for shrinkage. By "likelihood" it is
    `likelihood_ratio`: how sure it is that they go together; pairs that do not are left out.
    Memory: the counts of the block's items, never the log. Parts are disjoint in users; all are
    read."""
    from scipy.sparse import csr_array

    if measure not in ("cosine", "likelihood"):
        raise ValueError(f"pairs are not measured by {measure!r}: use 'cosine' or 'likelihood'")
    counts_bI, totals_I = (
        csr_array((len(block), item_count), dtype=np.float32),
        np.zeros(item_count),
    )
    baskets_sum = 0.0
    for part in parts:
        baskets, sizes = _baskets(part, item_count, now_days)
        baskets_sum += sizes
        counts_bI = counts_bI + baskets[:, block.start : block.stop].T.tocsr() @ baskets
        totals_I += baskets.power(2).sum(axis=0)
    pairs = counts_bI.tocoo()
    owners, items = pairs.coords
    kept = owners + block.start != items
    owners, items = owners[kept], items[kept]
    together, mine, theirs = pairs.data[kept], totals_I[owners + block.start], totals_I[items]
    if measure == "likelihood":
        scores = likelihood_ratio(together, mine, theirs, baskets_sum)
        owners, items, scores = owners[scores > 0], items[scores > 0], scores[scores > 0]
    else:
        scores = together / np.sqrt((mine + SHRINKAGE) * (theirs + SHRINKAGE))
    rows_bK, scores_bK = ragged_top_k(owners, items, scores.astype(np.float32), len(block), n)
    missing = ((0, 0), (0, n - rows_bK.shape[1]))
    return np.pad(rows_bK, missing, constant_values=-1), np.pad(
        scores_bK, missing, constant_values=-np.inf
    )


def likelihood_ratio(
    together_P: NDArray[np.floating[Any]],
    mine_P: NDArray[np.float64],
    theirs_P: NDArray[np.float64],
    baskets: float,
) -> NDArray[np.float64]:
    """[P]: -2 ln lambda of two items being independent, 0 where they meet no more often than chance
    has it.

    Of `baskets`, `mine_P` have the one, `theirs_P` the other, `together_P` both (faded counts, so
    fractions): Dunning, Accurate methods for the statistics of surprise and coincidence, 1993."""
    both = np.asarray(together_P, np.float64)
    table = (both, mine_P - both, theirs_P - both, baskets - mine_P - theirs_P + both)
    without_mine, without_theirs = baskets - mine_P, baskets - theirs_P
    chances = (
        mine_P * theirs_P,
        mine_P * without_theirs,
        without_mine * theirs_P,
        without_mine * without_theirs,
    )
    ratio = sum(
        _surprise(seen, chance / max(baskets, 1e-12))
        for seen, chance in zip(table, chances, strict=True)
    )
    return np.where(both * baskets > mine_P * theirs_P, np.maximum(2 * ratio, 0), 0)


def _surprise(seen: NDArray[np.float64], expected: NDArray[np.float64]) -> NDArray[np.float64]:
    """seen ln(seen / expected), 0 for nothing seen (or less, by rounding)."""
    seen, expected = np.maximum(seen, 1e-12), np.maximum(expected, 1e-12)
    return seen * np.log(seen / expected)


def _baskets(part: Histories, item_count: int, now_days: float) -> tuple[csr_array, float]:
    """[baskets, I]: the weight of each item in each user-day, at most 1, times the root of the
    basket's fading.

    And how many baskets that is, each faded.
    """
    days_E = np.floor(part.days).astype(np.int64)
    span = 1 + int(days_E.max(initial=0))
    # One number for user and day: unique pairs by axis take ten times as long.
    users_and_days, baskets_E = np.unique(part.owners_E * span + days_E, return_inverse=True)
    rows = sparse_rows(
        baskets_E, part.items, EVENT_WEIGHTS[part.types], len(users_and_days), item_count
    )
    fading = 0.5 ** (np.maximum(now_days - users_and_days % span, 0) / BASKET_HALF_LIFE_DAYS / 2)
    rows.data = np.minimum(rows.data, 1) * np.repeat(fading, np.diff(rows.indptr)).astype(
        np.float32
    )
    return rows, float((fading[np.diff(rows.indptr) > 0] ** 2).sum())


class CoOccurrenceRetriever:
    """Retrieves neighbours of what the history touched, recent and strong events counting more.

    Takes the night's `rows_IN` and `scores_IN`, all blocks of `co_occurrence_neighbours` one above the other; or
    neighbours of another kind, as another `source`."""

    def __init__(self, rows_IN: Ints, scores_IN: Floats, source: str = "co_occurrence") -> None:
        from scipy.sparse import csr_array

        self.source = source
        known_IN = rows_IN >= 0
        offsets = np.concatenate([[0], np.cumsum(known_IN.sum(axis=1))])
        self._scores_II = csr_array(
            (scores_IN[known_IN], rows_IN[known_IN], offsets), shape=(len(rows_IN),) * 2
        )

    def retrieve(self, requests: Requests, k: int, allowed: Mask | None = None) -> Candidates:
        check_k(k)
        histories = requests.histories
        if histories is None or not len(histories.items):
            return Candidates.none(self.source, requests.size)
        items = self._scores_II.shape[0]
        found = (self.item_weights(histories, items) @ self._scores_II).tocoo()
        owners, rows = found.coords
        kept = ~is_bought(histories, owners, rows)
        if allowed is not None:
            kept &= allowed[rows]
        return Candidates(
            self.source, *ragged_top_k(owners[kept], rows[kept], found.data[kept], requests.size, k)
        )

    def item_weights(self, histories: Histories, item_count: int) -> csr_array:
        """[B, I]: how much each history cares for each item."""
        return decayed_interests(histories, item_count, HISTORY_HALF_LIFE_DAYS)
