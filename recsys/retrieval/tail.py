"""What few have found yet: the nearest items to a user's vector among those that hardly anybody touches."""

from __future__ import annotations

import numpy as np

from recsys.retrieval.exact import ExactRetriever
from recsys.types import Candidates, Floats, Mask, Requests, Rows

#: The tail of a long-tailed shop: 80 % of what is touched are the head's (Anderson, The Long Tail, 2006).
SHARE = 0.2


def tail_mask(counts_I: Floats, share: float = SHARE) -> Mask:
    """[I]: the least interacted items that together have at most `share` of all interactions (`counts_I` >= 0).

    Items without any always belong to it; of equal counts all or none do. Raises ValueError when `share` is not
    from 0 to 1.
    """
    if not 0 <= share <= 1:
        raise ValueError(f"a tail's share of {share} is no part of the whole: give 0 to 1")
    values, places_I = np.unique(counts_I, return_inverse=True)
    sums = np.cumsum(values.astype(np.float64) * np.bincount(places_I, minlength=len(values)))
    if not len(sums):
        return np.zeros(0, bool)
    # Rounding of sums must not drop the last item of a share of 1.
    return ((sums <= share * sums[-1] * (1 + 1e-9)) | (values <= 0))[places_I]


class Tail:
    """Inner products of the requests' vectors with the tail's items alone, less what the histories bought.

    Takes `items_ID` of all items and the tail's mask [I], of `tail_mask`. Requests without vectors get nothing.
    """

    source = "tail"

    def __init__(self, items_ID: Floats, tail_I: Mask) -> None:
        if len(items_ID) != len(tail_I):
            raise ValueError(
                f"{len(items_ID)} item vectors and a tail over {len(tail_I)} items: give one flag a vector"
            )
        self._near, self._tail_I = ExactRetriever(self.source, items_ID), tail_I

    def retrieve(self, requests: Requests, k: int, allowed: Mask | None = None) -> Candidates:
        return self._near.retrieve(requests, k, self._tail_I if allowed is None else self._tail_I & allowed)

    def score(self, requests: Requests, rows_BN: Rows) -> Floats:
        """Inner products of these rows, 0 outside the tail."""
        return np.where(self._tail_I[rows_BN], self._near.score(requests, rows_BN), 0).astype(np.float32)
