"""New items: a source for what no statistic of past behaviour can rank yet (item cold start)."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from recsys.arrays import Candidates, Histories, Requests
from recsys.retrieval.behaviour.popularity import PopularityRetriever
from recsys.retrieval.vectors.exact import ExactRetriever, check_k
from recsys.types import Floats, Mask, Rows

NEW_ITEM_DAYS = 30.0


def first_days(
    parts: Iterable[Histories], item_count: int, added_days_I: NDArray[np.float64] | None = None
) -> NDArray[np.float64]:
    """[I] float64: the day (since 1970) of an item's first event, or when the shop added it (NaN
    where unknown) if that is earlier; infinite for an item that has neither."""
    days_I = np.full(item_count, np.inf)
    for part in parts:
        is_current_E = part.items >= 0
        np.minimum.at(days_I, part.items[is_current_E], part.days[is_current_E])
    return days_I if added_days_I is None else np.fmin(days_I, added_days_I)


def new_item_mask(
    first_days_I: NDArray[np.float64], now_days: float, within_days: float = NEW_ITEM_DAYS
) -> Mask:
    """[I]: items whose first day is in the `within_days` up to `now_days`, or that have none yet.

    The age of items is known only once the log is older than `within_days`: before that all items
    with events would be new, and only those without count. Raises ValueError when `within_days` is
    not above 0."""
    if within_days <= 0:
        raise ValueError(f"no item is new within {within_days} days: give more than 0")
    since, has_no_day_I = now_days - within_days, np.isinf(first_days_I)
    if np.min(first_days_I, initial=np.inf) > since:
        return has_no_day_I
    return ((first_days_I > since) & (first_days_I <= now_days)) | has_no_day_I


class NewItemRetriever:
    """New items by their inner product with the request's vector; by popularity without a vector.

    Takes `items_ID` and `popularity_I` of all items and the mask [I] of `new_item_mask`. Leaves out
    purchased items. The two scales do not mix: a request has all its scores on one of them."""

    source = "arrivals"

    def __init__(self, items_ID: Floats, popularity_I: Floats, is_new_I: Mask) -> None:
        if not len(items_ID) == len(popularity_I) == len(is_new_I):
            raise ValueError(
                f"{len(items_ID)} vectors, {len(popularity_I)} popularities and "
                f"{len(is_new_I)} flags: give one of each an item"
            )
        self._nearest = ExactRetriever(self.source, items_ID)
        self._popular = PopularityRetriever(popularity_I)
        self._is_new_I = is_new_I

    def retrieve(self, requests: Requests, k: int, allowed: Mask | None = None) -> Candidates:
        check_k(k)
        allowed = self._is_new_I if allowed is None else self._is_new_I & allowed
        popular = self._popular.retrieve(requests, k, allowed)
        vectorless_B = _vectorless(requests)
        if vectorless_B.all():
            return Candidates(self.source, popular.rows_BN, popular.scores_BN)
        nearest = self._nearest.retrieve(requests, k, allowed)
        rows_BN, scores_BN = nearest.rows_BN.copy(), nearest.scores_BN.copy()
        width = popular.rows_BN.shape[1]
        rows_BN[vectorless_B, :width] = popular.rows_BN[vectorless_B]
        scores_BN[vectorless_B, :width] = popular.scores_BN[vectorless_B]
        return Candidates(self.source, rows_BN, scores_BN)

    def score(self, requests: Requests, rows_BN: Rows) -> Floats:
        """As `retrieve` scores them; 0 for items that are not new."""
        scores_BN = self._nearest.score(requests, rows_BN)
        vectorless_B = _vectorless(requests)
        scores_BN[vectorless_B] = self._popular.score(requests, rows_BN)[vectorless_B]
        return np.where(self._is_new_I[rows_BN], scores_BN, 0).astype(np.float32)


def _vectorless(requests: Requests) -> Mask:
    """[B]: requests without a vector."""
    if requests.vectors_BD is None:
        return np.ones(requests.size, bool)
    return np.asarray(~requests.vectors_BD.any(axis=1), dtype=bool)
