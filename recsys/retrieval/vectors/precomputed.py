"""Neighbours that were found before: the night computes them where the items are held, and ranks
them elsewhere."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from recsys.retrieval.vectors.exact import check_k, inner_products, merge_top_k
from recsys.types import Candidates, Floats, Mask, Requests, Rows


class PrecomputedNeighbours:
    """Answers of `top_k` to one block of requests, a pair of rows [B, K] and scores [B, K] an item
    shard, in global rows. Raises ValueError where another block asks, or deeper than the lists
    are."""

    def __init__(self, source: str, lists: Sequence[tuple[Rows, Floats]], items_ID: Floats) -> None:
        self.source, self.lists, self.items_ID = source, lists, items_ID

    def retrieve(self, requests: Requests, k: int, allowed: Mask | None = None) -> Candidates:
        check_k(k)
        size, depth = self.lists[0][0].shape
        if requests.size != size or k > depth:
            raise ValueError(
                f"{requests.size} requests ask {self.source} for {k}, but {size} were answered with {depth} each: "
                "ask as the lists were made"
            )
        kept = [_kept(rows_BK, scores_BK, allowed) for rows_BK, scores_BK in self.lists]
        rows_BK, scores_BK = merge_top_k(kept)
        return Candidates(self.source, rows_BK[:, :k], scores_BK[:, :k])

    def score(self, requests: Requests, rows_BN: Rows) -> Floats:
        """Inner products of these rows, whoever brought them."""
        return inner_products(requests, self.items_ID, rows_BN)


def _kept(rows_BK: Rows, scores_BK: Floats, allowed: Mask | None) -> tuple[Rows, Floats]:
    if allowed is None:
        return rows_BK, scores_BK
    closed_BK = rows_BK >= 0
    closed_BK[closed_BK] = ~allowed[rows_BK[closed_BK]]
    return np.where(closed_BK, -1, rows_BK).astype(np.int32), np.where(
        closed_BK, -np.inf, scores_BK
    )
