"""Item vectors resident on one worker behind one interface: on its GPU, or in its host memory."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from recsys.retrieval.vectors.exact import Exclude, mask_zero_queries, top_k
from recsys.types import Floats, Mask, Rows

#: Rows copied to a GPU at once: 100 MB of 384 dimensions.
_COPY_ROWS = 65_536
#: The most that the GPU's maxima may take.
_MAX_BUDGET_BYTES = 16 << 30


class ResidentVectors(Protocol):
    """Item vectors [I, D] and their top-k."""

    def top_k(
        self,
        queries_QD: Floats,
        k: int,
        *,
        allowed_I: Mask | None = None,
        exclude: Exclude | None = None,
    ) -> tuple[Rows, Floats]:
        """Rows [Q, k] int32 and scores [Q, k] float32, as `exact.top_k` returns them; a zero vector
        has no neighbours.

        Excluded rows that are not resident do no harm. Raises ValueError as `exact.top_k` does.
        """
        ...


def resident_vectors(
    items_ID: Floats, gpu: bool = False, block_queries: int = 512
) -> ResidentVectors:
    """The items on this process's GPU as bf16 (2 bytes a number), or in host memory as they are.
    `block_queries` are multiplied at once by CPUs: the scores of a block are the largest array
    there, 134 MB for 512."""
    return GpuVectors(items_ID) if gpu else HostVectors(items_ID, block_queries)


class HostVectors:
    """`exact.top_k` over items in memory or in a memory-mapped file, which is never copied."""

    def __init__(self, items_ID: Floats, block_queries: int = 512) -> None:
        self.items_ID, self.block_queries = items_ID, block_queries

    def top_k(
        self,
        queries_QD: Floats,
        k: int,
        *,
        allowed_I: Mask | None = None,
        exclude: Exclude | None = None,
    ) -> tuple[Rows, Floats]:
        results = top_k(
            queries_QD,
            self.items_ID,
            k,
            allowed_I=allowed_I,
            exclude=exclude,
            block_queries=self.block_queries,
        )
        return mask_zero_queries(queries_QD, *results)


class GpuVectors:
    """`gpu.GpuFlatIndex` with results as numpy arrays: exact for the vectors rounded to bf16."""

    def __init__(self, items_ID: Floats) -> None:
        import torch

        from recsys.retrieval.vectors.gpu import GpuFlatIndex

        bf16_ID = torch.empty(items_ID.shape, dtype=torch.bfloat16, device="cuda")
        for start in range(0, len(items_ID), _COPY_ROWS):
            rows = slice(start, start + _COPY_ROWS)
            bf16_ID[rows] = torch.from_numpy(np.array(items_ID[rows])).cuda()
        self.items = GpuFlatIndex(bf16_ID)

    def top_k(
        self,
        queries_QD: Floats,
        k: int,
        *,
        allowed_I: Mask | None = None,
        exclude: Exclude | None = None,
    ) -> tuple[Rows, Floats]:
        import torch

        free_bytes, _ = torch.cuda.mem_get_info()
        rows_QK, scores_QK = self.items.top_k(
            torch.from_numpy(np.array(queries_QD)),
            k,
            allowed_I=allowed_I,
            exclude=exclude,
            budget_bytes=min(_MAX_BUDGET_BYTES, free_bytes // 4),
        )
        return mask_zero_queries(queries_QD, rows_QK.int().cpu().numpy(), scores_QK.cpu().numpy())


def shard_exclusions(exclude: Exclude, rows: range) -> Exclude:
    """Exclusions in global rows as rows of the shard `rows`; -1 for those in another."""
    offsets, excluded = exclude
    inside = (excluded >= rows.start) & (excluded < rows.stop)
    return offsets, np.where(inside, excluded - rows.start, -1).astype(excluded.dtype)
