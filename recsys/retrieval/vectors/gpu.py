"""Exact top-k on a GPU: items resident as bf16, one fused pass for the maxima of groups, the best
groups scored again in fp32.

The k best items lie in the k groups with the largest maxima, whatever the groups are: so the matrix
of scores is never written, and what is scored again is a thousandth of it. docs/performance.md has
the alternatives and their measurements."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from triton.tools.tensor_descriptor import TensorDescriptor

from recsys.retrieval.vectors import kernels
from recsys.retrieval.vectors.exact import Exclude, check_k
from recsys.types import Floats, Mask

Tensor = torch.Tensor
#: The key that `kernels.score_groups` writes for no item.
_NO_ITEM = -0x7FFFFFFFFFFFFFFF


@dataclass(frozen=True, kw_only=True)
class Tiling:
    """How the passes are cut: groups of `depth` items, tiles of `block_i`; up to `slack` groups
    more than k are scored again. The defaults are the fastest of those measured on an H200."""

    depth: int = 8
    block_q: int = 128
    block_i: int = 256
    block_d: int = 64
    warps: int = 8
    stages: int = 4
    slack: int = 28


@dataclass(frozen=True)
class _Excluded:
    """Rows to leave out, rising within each query; query q owns rows[offsets[q]:offsets[q + 1]].
    All int32."""

    owners_E: Tensor
    rows_E: Tensor
    offsets: Tensor
    steps: int


class GpuFlatIndex:
    """Item vectors [I, D] resident on one GPU as bf16, and their exact top-k.

    Exact for the rounded vectors: a score is the fp32 product of bf16 vectors. Raises ValueError
    for NaN or infinity."""

    def __init__(
        self, items_ID: Floats | Tensor, device: str = "cuda", tiling: Tiling | None = None
    ) -> None:
        self.items_ID = self._to_bf16(torch.as_tensor(items_ID).to(device))
        self.tiling = tiling or Tiling()

    def __len__(self) -> int:
        return len(self.items_ID)

    def top_k(
        self,
        queries_QD: Floats | Tensor,
        k: int,
        *,
        allowed_I: Mask | Tensor | None = None,
        exclude: Exclude | tuple[Tensor, Tensor] | None = None,
        budget_bytes: int = 16 << 30,
    ) -> tuple[Tensor, Tensor]:
        """Rows [Q, k] int64 and scores [Q, k] float32 on the GPU, as `exact.top_k` returns them,
        equal scores by row.

        At the cut, of groups with equal maxima any may win. Takes as many queries at once as
        `budget_bytes` of maxima allow. Raises ValueError as `exact.top_k` does."""
        check_k(k)
        queries_QD = self._to_bf16(torch.as_tensor(queries_QD).to(self.items_ID.device))
        if queries_QD.shape[1] != self.items_ID.shape[1]:
            raise ValueError(
                f"queries have {queries_QD.shape[1]} dimensions and items {self.items_ID.shape[1]}"
            )
        masked_I = (
            None if allowed_I is None else ~torch.as_tensor(allowed_I).to(self.items_ID.device)
        )
        block = max(
            self.tiling.block_q, budget_bytes // (4 * max(1, len(self) // self.tiling.depth))
        )
        parts = []
        for low in range(0, len(queries_QD), block):
            queries = queries_QD[low : low + block]
            excluded = self._excluded(exclude, low, len(queries)) if exclude is not None else None
            parts.append(self._block(queries, k, masked_I, excluded))
        if not parts:
            return queries_QD.new_empty((0, k), dtype=torch.int64), queries_QD.new_empty(
                (0, k), dtype=torch.float32
            )
        return torch.cat([rows for rows, _ in parts]), torch.cat([scores for _, scores in parts])

    def _to_bf16(self, vectors: Tensor) -> Tensor:
        """As bf16, with dimensions up to a multiple of 8: the copy engine takes 16 bytes at a
        time."""
        padded = torch.nn.functional.pad(
            vectors.to(torch.bfloat16), (0, -vectors.shape[1] % 8)
        ).contiguous()
        if not torch.isfinite(padded).all():
            raise ValueError(
                "a vector holds NaN or infinity: leave it out, or give zeros for no vector"
            )
        return padded

    def _excluded(
        self, exclude: Exclude | tuple[Tensor, Tensor], low: int, count: int
    ) -> _Excluded | None:
        device = self.items_ID.device
        offsets = torch.as_tensor(exclude[0]).to(device, torch.int64)[low : low + count + 1]
        rows = torch.as_tensor(exclude[1]).to(device, torch.int64)[
            int(offsets[0]) : int(offsets[-1])
        ]
        owners = torch.repeat_interleave(torch.arange(count, device=device), offsets.diff())
        valid = (rows >= 0) & (rows < len(self))
        pairs = torch.unique(owners[valid] * len(self) + rows[valid])  # sorted, each once
        if not len(pairs):
            return None
        owners, rows = pairs // len(self), pairs % len(self)
        counts = torch.bincount(owners, minlength=count)
        offsets = torch.nn.functional.pad(counts.cumsum(0), (1, 0))
        steps = int(counts.max()).bit_length()
        return _Excluded(owners.int(), rows.int(), offsets.int(), steps)

    def _block(
        self, queries_QD: Tensor, k: int, masked_I: Tensor | None, excluded: _Excluded | None
    ) -> tuple[Tensor, Tensor]:
        maxima_QG, tile_maxima_QT = self._maxima(queries_QD, masked_I)
        if excluded is not None:
            self._mask_excluded(queries_QD, maxima_QG, tile_maxima_QT, masked_I, excluded)
        chosen_QC = self._best_groups(maxima_QG, tile_maxima_QT, k)
        return _decoded(self._keys(queries_QD, chosen_QC, masked_I, excluded), k)

    def _maxima(self, queries_QD: Tensor, masked_I: Tensor | None) -> tuple[Tensor, Tensor]:
        t, (users, dim), total = self.tiling, queries_QD.shape, len(self)
        tiles_q, tiles = -(-users // t.block_q), -(-total // t.block_i)
        maxima_QG = queries_QD.new_empty(
            (users, tiles * (t.block_i // t.depth)), dtype=torch.float32
        )
        tile_maxima_QT = queries_QD.new_empty((users, tiles), dtype=torch.float32)
        kernels.group_maxima[(min(tiles_q * tiles, _processors(queries_QD)),)](
            queries=TensorDescriptor.from_tensor(queries_QD, [t.block_q, t.block_d]),
            items=TensorDescriptor.from_tensor(self.items_ID, [t.block_i, t.block_d]),
            masked=masked_I, maxima=maxima_QG, tile_maxima=tile_maxima_QT,
            n_queries=users, n_items=total, D=dim, DEPTH=t.depth,
            MASKED=masked_I is not None, BLOCK_Q=t.block_q,
            BLOCK_I=t.block_i, BLOCK_D=t.block_d, num_warps=t.warps, num_stages=t.stages,
        )  # fmt: skip
        return maxima_QG, tile_maxima_QT

    def _mask_excluded(
        self,
        queries_QD: Tensor,
        maxima_QG: Tensor,
        tile_maxima_QT: Tensor,
        masked_I: Tensor | None,
        excluded: _Excluded,
    ) -> None:
        entries, step = len(excluded.rows_E), 16
        kernels.mask_excluded_groups[(-(-entries // step),)](
            queries=queries_QD, items=self.items_ID, masked=masked_I, owners=excluded.owners_E,
            excluded=excluded.rows_E, offsets=excluded.offsets, maxima=maxima_QG,
            n_entries=entries, n_items=len(self), n_groups=maxima_QG.shape[1],
            stride_q=queries_QD.stride(0), stride_i=self.items_ID.stride(0),
            STEPS=excluded.steps, STEP=step, **self._shape(masked_I), num_warps=2,
        )  # fmt: skip
        kernels.mask_excluded_tiles[(-(-entries // 64),)](
            owners=excluded.owners_E, excluded=excluded.rows_E, maxima=maxima_QG,
            tile_maxima=tile_maxima_QT, n_entries=entries, n_tiles=tile_maxima_QT.shape[1],
            GROUPS=self._groups, TILE=self.tiling.block_i, STEP=64, num_warps=2,
        )  # fmt: skip

    def _best_groups(self, maxima_QG: Tensor, tile_maxima_QT: Tensor, k: int) -> Tensor:
        """[Q, C] int32: at least k groups of each query's largest maxima, -1 for none: those in its
        best tiles."""
        (users, tiles), groups = tile_maxima_QT.shape, self._groups
        width = 1 << (k + self.tiling.slack - 1).bit_length()
        if width * groups > 8192:  # too wide for the registers of one program
            best = torch.topk(maxima_QG, min(k, maxima_QG.shape[1]), dim=1, sorted=False)
            chosen_QC = best.indices.masked_fill(best.values == -torch.inf, -1).int()
            return torch.nn.functional.pad(
                chosen_QC, (0, width - chosen_QC.shape[1]), value=-1
            ).contiguous()
        tiles_QC = torch.full((users, width), -1, dtype=torch.int32, device=maxima_QG.device)
        chosen_QC = torch.full_like(tiles_QC, -1)
        kernels.best_tiles[(users,)](
            tile_maxima_QT,
            tiles_QC,
            tiles,
            k,
            C=width,
            WIDTH=1 << (tiles - 1).bit_length(),
            num_warps=4,
        )
        kernels.best_groups[(users,)](
            maxima_QG,
            tiles_QC,
            chosen_QC,
            maxima_QG.shape[1],
            k,
            C=width,
            GROUPS=groups,
            num_warps=2,
        )
        return chosen_QC

    def _keys(
        self,
        queries_QD: Tensor,
        chosen_QC: Tensor,
        masked_I: Tensor | None,
        excluded: _Excluded | None,
    ) -> Tensor:
        users, width = chosen_QC.shape
        slots, shape = width * self.tiling.depth, self._shape(masked_I)
        step = max(8, 8192 // shape["BLOCK_D"])
        keys_QN = queries_QD.new_empty((users, slots), dtype=torch.int64)
        # A kernel without exclusions reads neither pointer.
        rows_E, offsets = (excluded.rows_E, excluded.offsets) if excluded else (chosen_QC,) * 2
        kernels.score_groups[(users, slots // step)](
            queries=queries_QD, items=self.items_ID, masked=masked_I, chosen=chosen_QC,
            excluded=rows_E, offsets=offsets, keys=keys_QN, n_items=len(self),
            stride_q=queries_QD.stride(0), stride_i=self.items_ID.stride(0),
            C=width, STEPS=excluded.steps if excluded else 0, STEP=step, **shape, num_warps=1,
        )  # fmt: skip
        return keys_QN

    @property
    def _groups(self) -> int:
        """Groups of one tile."""
        return self.tiling.block_i // self.tiling.depth

    def _shape(self, masked_I: Tensor | None) -> dict[str, Any]:
        dim = self.items_ID.shape[1]
        block = 1 << (dim - 1).bit_length()
        return {
            "D": dim,
            "BLOCK_D": block,
            "DEPTH": self.tiling.depth,
            "GROUPS": self._groups,
            "MASKED": masked_I is not None,
        }


def _processors(tensor: Tensor) -> int:
    return (
        torch.cuda.get_device_properties(tensor.device).multi_processor_count
        if tensor.is_cuda
        else 4
    )


def _decoded(keys_QN: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k largest keys as rows and scores."""
    best_QK = torch.topk(keys_QN, min(k, keys_QN.shape[1]), dim=1, sorted=True).values
    best_QK = torch.nn.functional.pad(best_QK, (0, k - best_QK.shape[1]), value=_NO_ITEM)
    is_empty_QK, order_QK = best_QK == _NO_ITEM, (best_QK >> 32).int()
    scores_QK = torch.where(order_QK < 0, order_QK ^ 0x7FFFFFFF, order_QK).view(torch.float32)
    rows_QK = 0x7FFFFFFF - (best_QK & 0x7FFFFFFF)
    return rows_QK.masked_fill(is_empty_QK, -1), scores_QK.masked_fill(is_empty_QK, -torch.inf)
