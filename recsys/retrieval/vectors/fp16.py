"""Exact search for one request at a time, narrowed by an fp16 copy of the items."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np

from recsys.arrays import Candidates, Requests
from recsys.retrieval.vectors.exact import ExactRetriever, check_k
from recsys.retrieval.vectors.ivf import allowed_selector, import_faiss
from recsys.types import Floats, Mask

#: Vectors that are copied at once.
BLOCK = 65_536
#: How far sums of float32 products in another order differ, relative to the vectors' lengths.
ROUNDING = 1e-5


class Fp16Retriever(ExactRetriever):
    """What `ExactRetriever` retrieves, for a single request in a third of the time: there the
    product of one vector with all items waits for memory, and fp16 copies (faiss, 2 bytes a number,
    of this process alone) need half.

    The copies give twice as many rows as requested, whose own vectors are then scored. The result
    stands when the last of the k is better than anything the copies left out can be: rounding moves
    no score by more than `error` times the query's length, by Cauchy and Schwarz. Otherwise, and
    for many requests at once, all items are scored."""

    @cached_property
    def _fp16(self) -> tuple[Any, float]:
        """Built by the first single request, which by day is a release's warm-up."""
        return _fp16_index(self.items_ID)

    def retrieve(self, requests: Requests, k: int, allowed: Mask | None = None) -> Candidates:
        check_k(k)
        if requests.size != 1 or requests.vectors_BD is None or not requests.vectors_BD.any():
            return super().retrieve(requests, k, allowed)
        return self._narrowed(requests, k, allowed) or super().retrieve(requests, k, allowed)

    def _narrowed(self, requests: Requests, k: int, allowed: Mask | None) -> Candidates | None:
        """The result from the rows that the copies give; None where it is not proven to be that
        from all rows."""
        index, error = self._fp16
        vectors_1D = np.ascontiguousarray(requests.vectors_BD, np.float32)
        bought = len(requests.histories.bought()[1]) if requests.histories is not None else 0
        width = 2 * k + bought
        if vectors_1D.shape[1] != index.d or not np.isfinite(error * vectors_1D).all():
            return None
        params = import_faiss().SearchParameters(sel=allowed_selector(allowed))
        scores_1W, rows_1W = index.search(vectors_1D, width, params=params)
        near = rows_1W[0][rows_1W[0] >= 0]
        near_I = np.zeros(len(self.items_ID), bool)
        near_I[near] = True
        candidates = super().retrieve(requests, k, near_I)
        bound = float(scores_1W[0, -1]) + error * float(np.linalg.norm(vectors_1D))
        is_proven = len(near) < width or float(candidates.scores_BN[0, -1]) > bound
        return candidates if is_proven else None


def _fp16_index(items_ID: Floats) -> tuple[Any, float]:
    """A faiss index of the items in fp16, and by how much a unit query's score can differ in it;
    infinity where a number is too large for fp16."""
    faiss = import_faiss()
    dim = items_ID.shape[1]
    index = faiss.IndexScalarQuantizer(
        dim, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT
    )
    error, longest = 0.0, 0.0
    for start in range(0, len(items_ID), BLOCK):
        block_ND = np.ascontiguousarray(items_ID[start : start + BLOCK], np.float32)
        index.add(block_ND)
        rounding_ND = index.reconstruct_n(start, len(block_ND)) - block_ND
        error = np.maximum(error, np.linalg.norm(rounding_ND, axis=1).max())  # NaN stays NaN
        longest = np.maximum(longest, np.linalg.norm(block_ND, axis=1).max())
    return index, float(error + ROUNDING * longest)
