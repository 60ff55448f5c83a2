"""Exact top-k beside its rivals and the machine's matrix rate, on random unit vectors.

On a GPU: `gpu.GpuFlatIndex` beside torch's matmul and topk; otherwise `exact.top_k` alone. Legend:
Q queries, I items, D dimensions, K results, E excluded items, S queries that are checked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Any

import numpy as np

from recsys.batch.benchmarks.timing import describe_machine, median_seconds
from recsys.evaluation.results import Row, say
from recsys.retrieval.vectors import exact


@dataclass(frozen=True, kw_only=True)
class TopKSizes:
    """Every number of results is measured with every number of excluded items of each query."""

    queries: int
    items: int
    dim: int
    ks: Sequence[int]
    exclusions: Sequence[int]

    @property
    def flops(self) -> float:
        return 2.0 * self.queries * self.items * self.dim

    def row(self, name: str, k: int, seconds: float, ceiling: float) -> Row:
        """Milliseconds, and TFLOP/s with their share of the `ceiling`."""
        rate = self.flops / seconds
        times = {"name": name, "k": k, "ms": seconds * 1000, "tflops": rate / 1e12}
        return {**times, "of_ceiling": rate / ceiling}


def benchmark_gpu_topk(sizes: TopKSizes) -> Iterator[Row]:
    """A row for each case, with `exact` false where a result is wrong; torch once for each k."""
    import torch

    from recsys.retrieval.vectors.gpu import GpuFlatIndex

    synchronize = torch.cuda.synchronize
    square = torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16)
    ceiling = 2 * 8192.0**3 / median_seconds(lambda: square @ square, synchronize=synchronize)
    say(f"{describe_machine()}: {ceiling / 1e12:.0f} TFLOP/s in an 8192-cube")
    queries_QD, items_ID = (
        _unit(torch.randn(count, sizes.dim, device="cuda")).bfloat16()
        for count in (sizes.queries, sizes.items)
    )
    gpu_index = GpuFlatIndex(items_ID)
    for k, excluded in product(sizes.ks, sizes.exclusions):
        excluded_QE = torch.randint(0, sizes.items, (sizes.queries, excluded))
        exclude = (torch.arange(sizes.queries + 1) * excluded, excluded_QE.flatten())
        call = partial(gpu_index.top_k, queries_QD, k, exclude=exclude if excluded else None)
        row = sizes.row("nightshelf", k, median_seconds(call, synchronize=synchronize), ceiling)
        scores_SI = queries_QD[:512].float() @ items_ID.float().T
        scores_SI.scatter_(1, excluded_QE[:512].cuda(), -torch.inf)
        expected_SK = torch.topk(scores_SI, k, dim=1).values
        is_exact = bool((call()[1][:512] - expected_SK).abs().max() < 1e-5)
        yield row | {"excluded": excluded, "exact": is_exact}
        if excluded == sizes.exclusions[0]:
            rival = partial(_torch_topk, queries_QD, items_ID, k)
            seconds = median_seconds(rival, synchronize=synchronize)
            yield sizes.row("torch", k, seconds, ceiling)


def _torch_topk(queries_QD: Any, items_ID: Any, k: int) -> list[Any]:
    import torch

    blocks = (queries_QD[start : start + 2048] for start in range(0, len(queries_QD), 2048))
    return [torch.topk(block_QD @ items_ID.T, k, dim=1) for block_QD in blocks]


def benchmark_cpu_topk(sizes: TopKSizes) -> Iterator[Row]:
    """A row for each case, with `exact` false where a result is wrong."""
    rng = np.random.default_rng(0)
    queries_QD, items_ID = (
        _unit(rng.standard_normal((count, sizes.dim), np.float32))
        for count in (sizes.queries, sizes.items)
    )
    block_ID, buffer = items_ID[:65_536], np.empty((512, min(sizes.items, 65_536)), np.float32)
    product_flops = 2.0 * 512 * len(block_ID) * sizes.dim
    ceiling = product_flops / median_seconds(
        lambda: np.matmul(queries_QD[:512], block_ID.T, out=buffer[: sizes.queries])
    )
    say(f"{ceiling / 1e9:.0f} GFLOP/s in a product of 512 x {len(block_ID):,}")
    for k, excluded in product(sizes.ks, sizes.exclusions):
        excluded_QE = rng.integers(0, sizes.items, (sizes.queries, excluded))
        exclude = (np.arange(sizes.queries + 1) * excluded, excluded_QE.ravel())
        call = partial(exact.top_k, queries_QD, items_ID, k, exclude=exclude if excluded else None)
        row = sizes.row("nightshelf", k, median_seconds(call), ceiling)
        scores_SI = queries_QD[:64] @ items_ID.T
        np.put_along_axis(scores_SI, excluded_QE[:64], -np.inf, axis=1)
        expected_SK = -np.sort(-scores_SI, axis=1)[:, :k]
        is_exact = bool(np.allclose(call()[1][:64], expected_SK, atol=1e-5))
        yield row | {"excluded": excluded, "exact": is_exact}


def _unit(vectors: Any) -> Any:
    return vectors / (vectors**2).sum(1)[:, None] ** 0.5
