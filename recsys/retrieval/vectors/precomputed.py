"""Precomputed neighbours as a retriever: the night searches where the items are resident, and ranks
elsewhere."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from recsys.arrays import Candidates, Requests
from recsys.retrieval.vectors.exact import check_k, inner_products, merge_top_k
from recsys.types import Floats, Mask, Rows


class PrecomputedNeighbours:
    """Results of `top_k` for one block of requests, a pair of rows [B, K] and scores [B, K] an item
    shard, in global rows. Raises ValueError for another block, or for a k above K."""

    def __init__(self, source: str, lists: Sequence[tuple[Rows, Floats]], items_ID: Floats) -> None:
        self.source, self.lists, self.items_ID = source, lists, items_ID

    def retrieve(self, requests: Requests, k: int, allowed: Mask | None = None) -> Candidates:
        check_k(k)
        size, depth = self.lists[0][0].shape
        if requests.size != size or k > depth:
            raise ValueError(
                f"{requests.size} requests ask {self.source} for {k}, but {size} were answered "
                f"with {depth} each: ask as the lists were made"
            )
        parts = [_mask_lists(rows_BK, scores_BK, allowed) for rows_BK, scores_BK in self.lists]
        rows_BK, scores_BK = merge_top_k(parts)
        return Candidates(self.source, rows_BK[:, :k], scores_BK[:, :k])

    def score(self, requests: Requests, rows_BN: Rows) -> Floats:
        """Inner products of any rows, whatever source retrieved them."""
        return inner_products(requests, self.items_ID, rows_BN)


def _mask_lists(rows_BK: Rows, scores_BK: Floats, allowed: Mask | None) -> tuple[Rows, Floats]:
    if allowed is None:
        return rows_BK, scores_BK
    masked_BK = rows_BK >= 0
    masked_BK[masked_BK] = ~allowed[rows_BK[masked_BK]]
    rows_BK = np.where(masked_BK, -1, rows_BK).astype(np.int32)
    return rows_BK, np.where(masked_BK, -np.inf, scores_BK)
