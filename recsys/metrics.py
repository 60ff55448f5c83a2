"""Metrics of rankings (recall, nDCG, MRR, coverage, novelty, ...): pure functions over arrays.

Legend: U users (or queries), K places of an answer. An answer is `rows_UK` int item rows, best
first, -1 pads at the end, no row twice. The truth is ragged: user u's relevant items are
`items[offsets[u]:offsets[u + 1]]`, distinct. Every per-user value is NaN where a user has no truth;
`mean` and `intervals.bootstrap_mean` leave those users out."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys.types import Ints, Mask

Values = NDArray[np.floating[Any]]
#: The head of a long-tailed shop makes 80 % of what is touched (Anderson, The Long Tail, 2006; Yin
#: et al., VLDB 2012).
TAIL = 0.2


def hit_mask(rows_UK: Ints, offsets: Ints, items: Ints) -> Mask:
    """[U, K]: whether the item in each place is in its user's truth."""
    users = len(rows_UK)
    if len(offsets) != users + 1 or offsets[-1] != len(items):
        raise ValueError(
            f"{users} answers need {users + 1} truth offsets ending in {len(items)}, "
            f"not {len(offsets)} ending in {offsets[-1]}"
        )
    width = 1 + max(rows_UK.max(initial=-1), items.max(initial=-1))
    truth = np.repeat(np.arange(users, dtype=np.int64), np.diff(offsets)) * width + items
    return np.isin(np.arange(users)[:, None] * width + rows_UK, truth) & (rows_UK >= 0)


def _truth_sizes(offsets: Ints) -> Values:
    sizes = np.diff(offsets).astype(np.float64)
    return np.where(sizes > 0, sizes, np.nan)


def hits_at_k(rows_UK: Ints, offsets: Ints, items: Ints, k: int) -> Values:
    """[U]: hits in the first k places / min(k, size of the truth), so that a perfect answer is
    1."""
    return hit_mask(rows_UK[:, :k], offsets, items).sum(axis=1) / np.minimum(
        _truth_sizes(offsets), k
    )


def recall_at_k(rows_UK: Ints, offsets: Ints, items: Ints, k: int) -> Values:
    """[U]: the share of the truth in the first k places."""
    return hit_mask(rows_UK[:, :k], offsets, items).sum(axis=1) / _truth_sizes(offsets)


def ndcg_at_k(rows_UK: Ints, offsets: Ints, items: Ints, k: int) -> Values:
    """[U]: binary gains discounted by log2(place + 1), over the best possible (Järvelin &
    Kekäläinen 2002)."""
    discounts_K = 1 / np.log2(np.arange(2, k + 2))
    sizes = _truth_sizes(offsets)
    ideal = np.cumsum(discounts_K)[np.clip(np.nan_to_num(sizes), 1, k).astype(int) - 1]
    hits_UK = hit_mask(rows_UK[:, :k], offsets, items)
    return np.where(np.isnan(sizes), np.nan, hits_UK @ discounts_K[: hits_UK.shape[1]] / ideal)


def graded_ndcg(scores_P: Values, gains_P: Values, offsets: Ints, k: int) -> Values:
    """[U]: nDCG@k where user u ranks only the candidates offsets[u]:offsets[u + 1], each with a
    gain of its own.

    Ties stay in the order given. NaN where all gains are 0.
    """
    discounts_K = 1 / np.log2(np.arange(2, k + 2))
    values_U = np.full(len(offsets) - 1, np.nan)
    for user, (low, high) in enumerate(pairwise(offsets.tolist())):
        gains = gains_P[low:high]
        best = np.sort(gains)[::-1][:k]
        order = np.argsort(-scores_P[low:high], kind="stable")[:k]
        if ideal := best @ discounts_K[: len(best)]:
            values_U[user] = gains[order] @ discounts_K[: len(order)] / ideal
    return values_U


def reciprocal_rank(rows_UK: Ints, offsets: Ints, items: Ints) -> Values:
    """[U]: 1 / place of the first hit, 0 without one. Its mean is the MRR."""
    hits_UK = hit_mask(rows_UK, offsets, items)
    places = hits_UK.argmax(axis=1) + 1 if hits_UK.shape[1] else np.ones(len(hits_UK))
    return np.where(np.diff(offsets) > 0, hits_UK.any(axis=1) / places, np.nan)


def coverage(rows_UK: Ints, item_count: int) -> float:
    """The share of the catalogue that is in at least one answer."""
    return len(np.unique(rows_UK[rows_UK >= 0])) / item_count


def exposure(rows_UK: Ints, item_count: int) -> Ints:
    """[I]: in how many answers each item stands."""
    return np.bincount(rows_UK[rows_UK >= 0], minlength=item_count)


def gini(exposure_I: Ints) -> float:
    """How unequally the places of all answers are shared among the catalogue's items: 0 equally,
    near 1 one has all.

    sum_j (2 j - n - 1) x_(j) / (n sum x), x ascending (Shani & Gunawardana 2011, section 8.3.3 of
    the Recommender Systems Handbook). Items that were never shown count; NaN where nothing was
    shown."""
    shares_I, n = np.sort(exposure_I), len(exposure_I)
    total = float(shares_I.sum())
    return (
        float((2 * np.arange(1, n + 1) - n - 1) @ shares_I / (n * total)) if total else float("nan")
    )


def tail(counts_I: Ints | Values, share: float = TAIL) -> Mask:
    """[I]: the least interacted items that together have at most `share` of all interactions: what
    the head leaves.

    Items without any always belong to it; of equal counts all or none do. Raises ValueError when
    `share` is not from 0 to 1."""
    if not 0 <= share <= 1:
        raise ValueError(f"a tail's share of {share} is no part of the whole: give 0 to 1")
    values, places_I = np.unique(counts_I, return_inverse=True)
    sums = np.cumsum(values.astype(np.float64) * np.bincount(places_I, minlength=len(values)))
    if not len(sums):
        return np.zeros(0, bool)
    # Rounding of sums must not drop the last item of a share of 1.
    return ((sums <= share * sums[-1] * (1 + 1e-9)) | (values <= 0))[places_I]


def share_of_places(rows_UK: Ints, chosen_I: Mask) -> float:
    """The share of all filled places that hold an item of `chosen_I` (the tail's, say); NaN where
    none is filled."""
    rows = rows_UK[rows_UK >= 0]
    return float(chosen_I[rows].mean()) if len(rows) else float("nan")


def novelty(rows_UK: Ints, counts_I: Ints) -> float:
    """The mean self-information of the shown items, -log2 p(i) in bits (Vargas & Castells, RecSys
    2011).

    p(i) = (n_i + 1) / (n + I): by Laplace's rule an item without an event is the rarest, not
    infinitely rare."""
    rows = rows_UK[rows_UK >= 0]
    information_I = np.log2(counts_I.sum() + len(counts_I)) - np.log2(counts_I + 1)
    return float(information_I[rows].mean()) if len(rows) else float("nan")


def mean(values_U: Values) -> float:
    """The mean over users with a truth; NaN when there are none."""
    values = values_U[~np.isnan(values_U)]
    return float(values.mean()) if len(values) else float("nan")
