"""Long-tail recommendation: the nearest items of a user's vector among those with few events."""

from __future__ import annotations

import numpy as np

from recsys.arrays import Candidates, Requests
from recsys.retrieval.vectors.exact import ExactRetriever
from recsys.types import Floats, Mask, Rows


class LongTailRetriever:
    """The tail's items of largest inner product with the requests' vectors, without purchased ones.

    Takes `items_ID` of all items and the tail's mask [I], of `metrics.tail`. Requests without
    vectors get no candidates."""

    source = "tail"

    def __init__(self, items_ID: Floats, tail_I: Mask) -> None:
        if len(items_ID) != len(tail_I):
            raise ValueError(
                f"{len(items_ID)} item vectors and a tail over {len(tail_I)} items: "
                "give one flag a vector"
            )
        self._near, self._tail_I = ExactRetriever(self.source, items_ID), tail_I

    def retrieve(self, requests: Requests, k: int, allowed: Mask | None = None) -> Candidates:
        return self._near.retrieve(
            requests, k, self._tail_I if allowed is None else self._tail_I & allowed
        )

    def score(self, requests: Requests, rows_BN: Rows) -> Floats:
        """Inner products of these rows, 0 outside the tail."""
        return np.where(self._tail_I[rows_BN], self._near.score(requests, rows_BN), 0).astype(
            np.float32
        )
