"""What is new in the shop: a chance for items that no list of what sold can know yet."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from recsys.retrieval.behaviour.popularity import PopularityRetriever
from recsys.retrieval.vectors.exact import ExactRetriever, check_k
from recsys.types import Candidates, Floats, Histories, Mask, Requests, Rows

NEW_ITEM_DAYS = 30.0


def first_days(
    parts: Iterable[Histories], item_count: int, added_days_I: NDArray[np.float64] | None = None
) -> NDArray[np.float64]:
    """[I] float64: the day (since 1970) when an item was first seen: its first event, or the day
    the shop added it (NaN where unknown) if that is earlier; infinite for an item that has
    neither."""
    days_I = np.full(item_count, np.inf)
    for part in parts:
        known_E = part.items >= 0
        np.minimum.at(days_I, part.items[known_E], part.days[known_E])
    return days_I if added_days_I is None else np.fmin(days_I, added_days_I)


def new_item_mask(
    first_days_I: NDArray[np.float64], now_days: float, within_days: float = NEW_ITEM_DAYS
) -> Mask:
    """[I]: first seen in the `within_days` up to `now_days`, or never yet.

    A log tells its own age from its items' only after a while: in its first `within_days` all that
    was touched is new, and only what was not counts. Raises ValueError when `within_days` is not
    above 0."""
    if within_days <= 0:
        raise ValueError(f"nothing arrives within {within_days} days: give more than 0")
    opened = np.min(first_days_I, initial=np.inf)
    if opened > now_days - within_days:
        return np.isinf(first_days_I)
    return ((first_days_I > now_days - within_days) & (first_days_I <= now_days)) | np.isinf(
        first_days_I
    )


class NewItemRetriever:
    """New items by their inner product with the request's vector; by popularity where it has none.

    Takes `items_ID` and `popularity_I` of all items and the mask [I] of `new_item_mask`. Leaves out what
    the history bought. The two scales do not mix: a request has all its scores on one of them."""

    source = "arrivals"

    def __init__(self, items_ID: Floats, popularity_I: Floats, arrived_I: Mask) -> None:
        if not len(items_ID) == len(popularity_I) == len(arrived_I):
            raise ValueError(
                f"{len(items_ID)} vectors, {len(popularity_I)} popularities and {len(arrived_I)} flags: "
                "give one of each an item"
            )
        self._near, self._popular = (
            ExactRetriever(self.source, items_ID),
            PopularityRetriever(popularity_I),
        )
        self._arrived_I = arrived_I

    def retrieve(self, requests: Requests, k: int, allowed: Mask | None = None) -> Candidates:
        check_k(k)
        allowed = self._arrived_I if allowed is None else self._arrived_I & allowed
        popular = self._popular.retrieve(requests, k, allowed)
        silent_B = _silent(requests)
        if silent_B.all():
            return Candidates(self.source, popular.rows_BN, popular.scores_BN)
        near = self._near.retrieve(requests, k, allowed)
        rows_BN, scores_BN = near.rows_BN.copy(), near.scores_BN.copy()
        width = popular.rows_BN.shape[1]
        rows_BN[silent_B, :width] = popular.rows_BN[silent_B]
        scores_BN[silent_B, :width] = popular.scores_BN[silent_B]
        return Candidates(self.source, rows_BN, scores_BN)

    def score(self, requests: Requests, rows_BN: Rows) -> Floats:
        """As `retrieve` scores them; 0 for what is not new."""
        scores_BN = self._near.score(requests, rows_BN)
        silent_B = _silent(requests)
        scores_BN[silent_B] = self._popular.score(requests, rows_BN)[silent_B]
        return np.where(self._arrived_I[rows_BN], scores_BN, 0).astype(np.float32)


def _silent(requests: Requests) -> Mask:
    """[B]: requests without a vector."""
    if requests.vectors_BD is None:
        return np.ones(requests.size, bool)
    silent_B: Mask = np.asarray(~requests.vectors_BD.any(axis=1))
    return silent_B
