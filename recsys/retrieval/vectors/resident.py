"""Items that one worker holds, asked in one way: resident on its GPU, or a memory map that its CPUs
go through."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from recsys.retrieval.vectors.exact import Exclude, mask_zero_queries, top_k
from recsys.types import Floats, Mask, Rows

#: Rows that go to a GPU at once: 100 MB of 384 dimensions.
_PIECE = 65_536


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
        """Rows [Q, k] int32 and scores [Q, k] float32, as `exact.top_k` answers; a zero vector has
        no neighbours.

        Excluded rows that are not held do no harm. Raises ValueError as `exact.top_k` does.
        """
        ...


def resident_vectors(
    items_ID: Floats, gpu: bool = False, block_queries: int = 512
) -> ResidentVectors:
    """The items on this process's GPU as bf16 (2 bytes a number), or where they lie.
    `block_queries` are multiplied at once by CPUs: the scores of a block are the largest thing
    there, 134 MB for 512."""
    return GpuVectors(items_ID) if gpu else HostVectors(items_ID, block_queries)


class HostVectors:
    """The kernel of the day over items in memory or in a mapped file, which is never copied."""

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
        found = top_k(
            queries_QD,
            self.items_ID,
            k,
            allowed_I=allowed_I,
            exclude=exclude,
            block_queries=self.block_queries,
        )
        return mask_zero_queries(queries_QD, *found)


class GpuVectors:
    """`gpu.GpuFlatIndex`, whose answers come back as arrays: exact for the vectors as kept, in
    bf16."""

    def __init__(self, items_ID: Floats) -> None:
        import torch

        from recsys.retrieval.vectors.gpu import GpuFlatIndex

        kept_ID = torch.empty(items_ID.shape, dtype=torch.bfloat16, device="cuda")
        for start in range(0, len(items_ID), _PIECE):
            kept_ID[start : start + _PIECE] = torch.from_numpy(
                np.array(items_ID[start : start + _PIECE])
            ).cuda()
        self.items = GpuFlatIndex(kept_ID)

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
        queries = torch.from_numpy(np.array(queries_QD))
        rows_QK, scores_QK = self.items.top_k(
            queries,
            k,
            allowed_I=allowed_I,
            exclude=exclude,
            budget_bytes=min(16 << 30, free_bytes // 4),
        )
        return mask_zero_queries(queries_QD, rows_QK.int().cpu().numpy(), scores_QK.cpu().numpy())


def shard_exclusions(exclude: Exclude, rows: range) -> Exclude:
    """Exclusions in global rows as rows of the shard `rows`; -1 for what lies in another."""
    offsets, excluded = exclude
    inside = (excluded >= rows.start) & (excluded < rows.stop)
    return offsets, np.where(inside, excluded - rows.start, -1).astype(excluded.dtype)
