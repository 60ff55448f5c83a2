"""What everybody buys lately: the source that always has an answer."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

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
from recsys.types import Candidates, Floats, Histories, Ints, Mask, Requests, Rows

if TYPE_CHECKING:
    from scipy.sparse import csr_array

HALF_LIFE_DAYS = 7.0
#: How fast a user's interest in a category fades.
CATEGORY_HALF_LIFE_DAYS = 60.0


def decayed_popularity(
    parts: Iterable[Histories],
    item_count: int,
    now_days: float,
    half_life_days: float = HALF_LIFE_DAYS,
) -> Floats:
    """[I] float32: event weights summed per item, halved for every half-life before `now_days`
    (days since 1970)."""
    scores_I = np.zeros(item_count)
    for part in parts:
        fading = 0.5 ** (np.maximum(now_days - part.days, 0) / half_life_days)
        scores_I += np.bincount(
            part.items, EVENT_WEIGHTS[part.types] * fading, minlength=item_count
        )
    return scores_I.astype(np.float32)


class PopularityRetriever:
    """The best of one list for everybody, less what each request bought. An item nobody bought
    comes last, with 0."""

    source = "popularity"

    def __init__(self, scores_I: Floats) -> None:
        self._scores_I = scores_I
        self._best_first_I = np.argsort(-scores_I, kind="stable").astype(np.int32)

    def retrieve(self, requests: Requests, k: int, allowed: Mask | None = None) -> Candidates:
        check_k(k)
        histories = requests.histories or Histories.empty(requests.size)
        longest = int(np.diff(histories.bought()[0]).max(initial=0))
        pool = self._best(k + longest, allowed)
        owners, rows = _pairs(requests.size, pool)
        kept = ~is_bought(histories, owners, rows)
        owners, rows = owners[kept], rows[kept]
        return Candidates(
            self.source, *ragged_top_k(owners, rows, self._scores_I[rows], requests.size, k)
        )

    def _best(self, count: int, allowed: Mask | None) -> NDArray[np.int32]:
        """The first `count` that are allowed; looks no further than it must."""
        if allowed is None:
            return self._best_first_I[:count]
        seen = 2 * count
        while True:
            first = self._best_first_I[:seen]
            there = first[allowed[first]]
            if len(there) >= count or seen >= len(self._best_first_I):
                return there[:count]
            seen *= 4

    def score(self, requests: Requests, rows_BN: Rows) -> Floats:
        """The rows' popularity, the same for everybody."""
        return self._scores_I[rows_BN]


def _pairs(size: int, pool: NDArray[np.int32]) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    return np.repeat(np.arange(size), len(pool)), np.tile(pool, size)


class CategoryPopularityRetriever:
    """What sells lately in the categories of the request's history, less what it bought.

    An item's score is the history's interest in its category (`sparse.decayed_interests` summed over the
    category, as a share of the whole history) times its popularity. `categories_I` numbers the
    categories of all items from 0; -1 is none: such items, and those of categories that the history
    never touched, are not retrieved. A group finer than the shop's category (product type, brand)
    is a category too."""

    source = "category_popularity"

    def __init__(self, scores_I: Floats, categories_I: Ints) -> None:
        if len(scores_I) != len(categories_I):
            raise ValueError(
                f"{len(scores_I)} popularities for {len(categories_I)} categories: give one of each an item"
            )
        self._scores_I, self._categories_I = np.asarray(scores_I, np.float32), categories_I
        order = np.lexsort((np.arange(len(scores_I)), -self._scores_I, categories_I))
        self._members = order[categories_I[order] >= 0]
        sizes = np.bincount(
            categories_I[self._members], minlength=1 + int(categories_I.max(initial=-1))
        )
        self._starts_C = np.concatenate([[0], np.cumsum(sizes)])

    def retrieve(self, requests: Requests, k: int, allowed: Mask | None = None) -> Candidates:
        check_k(k)
        histories = requests.histories
        if histories is None or not len(histories.items):
            return Candidates.none(self.source, requests.size)
        tastes = self._tastes(histories).tocoo()
        members, starts_C = self._open(allowed)
        owners_T, categories_T = tastes.coords
        # A category's best k, and one more for each thing the user bought in it, are all that can
        # be in his k best.
        most_T = k + self._bought(histories)[owners_T, categories_T]
        counts_T = np.minimum(np.diff(starts_C)[categories_T], most_T)
        places = np.arange(counts_T.sum()) - np.repeat(np.cumsum(counts_T) - counts_T, counts_T)
        rows = members[np.repeat(starts_C[categories_T], counts_T) + places]
        owners = np.repeat(owners_T, counts_T)
        scores = np.repeat(tastes.data, counts_T) * self._scores_I[rows]
        kept = ~is_bought(histories, owners, rows)
        return Candidates(
            self.source, *ragged_top_k(owners[kept], rows[kept], scores[kept], requests.size, k)
        )

    def score(self, requests: Requests, rows_BN: Rows) -> Floats:
        """As `retrieve` scores them; 0 without a history, or in a category that it never
        touched."""
        histories = requests.histories
        if histories is None or not len(histories.items) or not len(self._members):
            return np.zeros(rows_BN.shape, np.float32)
        categories_BN = self._categories_I[rows_BN]
        owners_BN = np.broadcast_to(np.arange(requests.size)[:, None], rows_BN.shape)
        tastes_BN = self._tastes(histories).toarray()[owners_BN, categories_BN]
        return np.where(categories_BN < 0, 0, tastes_BN * self._scores_I[rows_BN]).astype(
            np.float32
        )

    def _tastes(self, histories: Histories) -> csr_array:
        """[B, C]: the share of each category in what the user did."""
        found = decayed_interests(histories, len(self._categories_I), CATEGORY_HALF_LIFE_DAYS)
        totals_B = np.maximum(found.sum(axis=1), 1e-30)
        owners = np.repeat(np.arange(len(histories)), np.diff(found.indptr))
        return self._by_category(
            owners, found.indices, found.data / totals_B[owners], len(histories)
        )

    def _bought(self, histories: Histories) -> Ints:
        """[B, C]: how many purchases fall into each category, at least as many as different
        items."""
        offsets, rows = histories.bought()
        owners = np.repeat(np.arange(len(histories)), np.diff(offsets))
        counts_BC = self._by_category(owners, rows, np.ones(len(rows), np.float32), len(histories))
        return counts_BC.toarray().astype(np.int64)

    def _by_category(self, owners: Ints, rows: Ints, weights: Floats, size: int) -> csr_array:
        known = self._categories_I[rows] >= 0
        categories = self._categories_I[rows[known]]
        return sparse_rows(
            owners[known],
            categories,
            weights[known].astype(np.float64),
            size,
            len(self._starts_C) - 1,
        )

    def _open(self, allowed: Mask | None) -> tuple[Ints, Ints]:
        """The allowed members of the categories, best first within each, and where each category
        starts."""
        if allowed is None:
            return self._members, self._starts_C
        open_M = allowed[self._members]
        return self._members[open_M], np.concatenate([[0], np.cumsum(open_M)])[self._starts_C]
