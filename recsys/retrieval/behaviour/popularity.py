"""Popularity, decayed by age: the fallback source, for everybody and by category."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from recsys.arrays import Candidates, Histories, Requests
from recsys.retrieval.behaviour.sparse import (
    EVENT_WEIGHTS,
    decayed_interests,
    is_bought,
    ragged_top_k,
    sparse_rows,
)
from recsys.retrieval.vectors.exact import check_k
from recsys.types import Floats, Ints, Mask, Rows

if TYPE_CHECKING:
    from scipy.sparse import csr_array

HALF_LIFE_DAYS = 7.0
#: How fast a user's interest in a category decays.
CATEGORY_HALF_LIFE_DAYS = 60.0


def decayed_popularity(
    parts: Iterable[Histories],
    item_count: int,
    now_days: float,
    half_life_days: float = HALF_LIFE_DAYS,
) -> Floats:
    """[I] float32: event weights summed per item, halved for every half-life before `now_days`
    (days since 1970). A user counts as one buyer of an item at most: a till, a reseller or a test
    account does not make it popular. Parts are disjoint in users."""
    scores_I = np.zeros(item_count)
    for part in parts:
        decay_E = 0.5 ** (np.maximum(now_days - part.days, 0) / half_life_days)
        weights_E = EVENT_WEIGHTS[part.types] * decay_E
        pairs, pairs_E = np.unique(part.owners_E * item_count + part.items, return_inverse=True)
        weights_P = np.minimum(np.bincount(pairs_E, weights_E, minlength=len(pairs)), 1)
        scores_I += np.bincount(pairs % item_count, weights_P, minlength=item_count)
    return scores_I.astype(np.float32)


class PopularityRetriever:
    """The most popular items, the same for everybody, without purchased ones. Items without events
    come last, with 0."""

    source = "popularity"

    def __init__(self, scores_I: Floats) -> None:
        self._scores_I = scores_I
        self._best_first_I = np.argsort(-scores_I, kind="stable").astype(np.int32)

    def retrieve(self, requests: Requests, k: int, allowed: Mask | None = None) -> Candidates:
        check_k(k)
        histories = requests.histories or Histories.empty(requests.size)
        longest = int(np.diff(histories.bought()[0]).max(initial=0))
        pool = self._best(k + longest, allowed)
        owners, rows = np.repeat(np.arange(requests.size), len(pool)), np.tile(pool, requests.size)
        unbought = ~is_bought(histories, owners, rows)
        owners, rows = owners[unbought], rows[unbought]
        top = ragged_top_k(owners, rows, self._scores_I[rows], requests.size, k)
        return Candidates(self.source, *top)

    def _best(self, count: int, allowed: Mask | None) -> NDArray[np.int32]:
        """The first `count` that are allowed, from no longer a prefix than necessary."""
        if allowed is None:
            return self._best_first_I[:count]
        length = 2 * count
        while True:
            prefix = self._best_first_I[:length]
            best = prefix[allowed[prefix]]
            if len(best) >= count or length >= len(self._best_first_I):
                return best[:count]
            length *= 4

    def score(self, requests: Requests, rows_BN: Rows) -> Floats:
        """The rows' popularity, the same for everybody."""
        return self._scores_I[rows_BN]


class CategoryPopularityRetriever:
    """The most popular items in the categories of the request's history, without purchased ones.

    An item's score is the history's interest in its category (`sparse.decayed_interests` summed
    over the category, as a share of the whole history) times its popularity. `categories_I` numbers
    the categories of all items from 0; -1 is none: such items, and those of categories without
    events in the history, are not retrieved. A group finer than the shop's category (product type,
    brand) is a category too."""

    source = "category_popularity"

    def __init__(self, scores_I: Floats, categories_I: Ints) -> None:
        if len(scores_I) != len(categories_I):
            raise ValueError(
                f"{len(scores_I)} popularities for {len(categories_I)} categories: "
                "give one of each an item"
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
        shares = self._category_shares(histories).tocoo()
        members, starts_C = self._allowed_members(allowed)
        owners_S, categories_S = shares.coords
        # A category's best k, and one more for each of the user's purchases in it, are all that can
        # be in their k best.
        limits_S = k + self._purchase_counts(histories)[owners_S, categories_S]
        counts_S = np.minimum(np.diff(starts_C)[categories_S], limits_S)
        ranks = np.arange(counts_S.sum()) - np.repeat(np.cumsum(counts_S) - counts_S, counts_S)
        rows = members[np.repeat(starts_C[categories_S], counts_S) + ranks]
        owners = np.repeat(owners_S, counts_S)
        scores = np.repeat(shares.data, counts_S) * self._scores_I[rows]
        unbought = ~is_bought(histories, owners, rows)
        owners, rows, scores = owners[unbought], rows[unbought], scores[unbought]
        return Candidates(self.source, *ragged_top_k(owners, rows, scores, requests.size, k))

    def score(self, requests: Requests, rows_BN: Rows) -> Floats:
        """As `retrieve` scores them; 0 without a history, or in a category without events in
        it."""
        histories = requests.histories
        if histories is None or not len(histories.items) or not len(self._members):
            return np.zeros(rows_BN.shape, np.float32)
        categories_BN = self._categories_I[rows_BN]
        owners_BN = np.broadcast_to(np.arange(requests.size)[:, None], rows_BN.shape)
        shares_BN = self._category_shares(histories).toarray()[owners_BN, categories_BN]
        scores_BN = np.where(categories_BN < 0, 0, shares_BN * self._scores_I[rows_BN])
        return scores_BN.astype(np.float32)

    def _category_shares(self, histories: Histories) -> csr_array:
        """[B, C]: the share of each category in the user's decayed events."""
        weights_BI = decayed_interests(histories, len(self._categories_I), CATEGORY_HALF_LIFE_DAYS)
        totals_B = np.maximum(weights_BI.sum(axis=1), 1e-30)
        owners = np.repeat(np.arange(len(histories)), np.diff(weights_BI.indptr))
        shares = weights_BI.data / totals_B[owners]
        return self._by_category(owners, weights_BI.indices, shares, len(histories))

    def _purchase_counts(self, histories: Histories) -> Ints:
        """[B, C]: how many purchases fall into each category, at least as many as different
        items."""
        offsets, rows = histories.bought()
        owners = np.repeat(np.arange(len(histories)), np.diff(offsets))
        counts_BC = self._by_category(owners, rows, np.ones(len(rows), np.float32), len(histories))
        return counts_BC.toarray().astype(np.int64)

    def _by_category(self, owners: Ints, rows: Ints, weights: Floats, size: int) -> csr_array:
        categories = self._categories_I[rows]
        has_category = categories >= 0
        return sparse_rows(
            owners[has_category],
            categories[has_category],
            weights[has_category].astype(np.float64),
            size,
            len(self._starts_C) - 1,
        )

    def _allowed_members(self, allowed: Mask | None) -> tuple[Ints, Ints]:
        """The allowed members of the categories, best first within each, and where each category
        starts."""
        if allowed is None:
            return self._members, self._starts_C
        is_allowed_M = allowed[self._members]
        starts_C = np.concatenate([[0], np.cumsum(is_allowed_M)])[self._starts_C]
        return self._members[is_allowed_M], starts_C
