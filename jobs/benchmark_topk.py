"""Exact top-k beside its rivals and the machine's matrix rate: python -m jobs.benchmark_topk

On a GPU: `gpu.GpuFlatIndex` beside torch's matmul and topk. Without one: `exact.top_k` beside
numpy's product alone. Vectors are random, of length 1. Needs no Ray. The last line is JSON; seconds
are medians of five."""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import product
from typing import Any

import numpy as np

from recsys.storage.version import code_commit

Row = dict[str, Any]
ROUNDS = 5


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--users", type=int, default=0, help="16,384 on a GPU, 1,024 without")
    parser.add_argument("--items", type=int, default=0, help="1,000,000 on a GPU, 100,000 without")
    parser.add_argument("--dim", type=int, default=384)
    parser.add_argument("--k", type=int, nargs="+", default=[100])
    parser.add_argument(
        "--excluded", type=int, nargs="+", default=[0], help="items that each user leaves out"
    )
    parser.add_argument("--cpu", action="store_true", help="leave a GPU alone")
    arguments = parser.parse_args()
    begun = time.perf_counter()
    rows = list(_on_cpu(arguments) if arguments.cpu or not _has_gpu() else _on_gpu(arguments))
    print(
        f"\n{'':<16}{'k':>6}{'excluded':>10}{'ms':>10}{'TFLOP/s':>10}{'of ceiling':>12}{'exact':>7}"
    )
    for row in rows:
        told = f"{row['name']:<16}{row['k']:>6}{row.get('excluded', ''):>10}{row['ms']:>10.2f}{row['tflops']:>10.2f}"
        print(f"{told}{row['of_ceiling']:>12.3f}{row.get('exact', '')!s:>7}")
    summary = {
        "job": "benchmark_topk",
        "dataset": "random",
        "commit": code_commit(),
        "dim": arguments.dim,
    }
    print(json.dumps({**summary, "seconds": round(time.perf_counter() - begun, 1), "rows": rows}))
    return int(any(row.get("exact") is False for row in rows))


def _has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


def _on_gpu(arguments: argparse.Namespace) -> Iterator[Row]:
    import torch

    from recsys.retrieval.vectors.gpu import GpuFlatIndex

    users, items, dim = arguments.users or 16_384, arguments.items or 1_000_000, arguments.dim
    flops = 2.0 * users * items * dim
    square = torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16)
    ceiling = 2 * 8192.0**3 / _seconds(lambda: square @ square, torch.cuda.synchronize)
    print(
        f"{torch.cuda.get_device_name()}, torch {torch.__version__}: {ceiling / 1e12:.0f} TFLOP/s in an 8192-cube"
    )
    queries_QD, items_ID = (
        _unit(torch.randn(n, dim, device="cuda")).bfloat16() for n in (users, items)
    )
    resident = GpuFlatIndex(items_ID)
    for k, excluded in product(arguments.k, arguments.excluded):
        out_QE = torch.randint(0, items, (users, excluded))
        exclude = (torch.arange(users + 1) * excluded, out_QE.flatten())
        call = partial(resident.top_k, queries_QD, k, exclude=exclude if excluded else None)
        row = _row("nightshelf", k, _seconds(call, torch.cuda.synchronize), flops, ceiling)
        scores_SI = queries_QD[:512].float() @ items_ID.float().T
        scores_SI.scatter_(1, out_QE[:512].cuda(), -torch.inf)
        found_SK, wanted_SK = call()[1][:512], torch.topk(scores_SI, k, dim=1).values
        yield row | {"excluded": excluded, "exact": bool((found_SK - wanted_SK).abs().max() < 1e-5)}
        if excluded == arguments.excluded[0]:

            def plain(k: int = k) -> Any:
                return [
                    torch.topk(queries_QD[at : at + 2048] @ items_ID.T, k, dim=1)
                    for at in range(0, users, 2048)
                ]

            yield _row("torch", k, _seconds(plain, torch.cuda.synchronize), flops, ceiling)


def _on_cpu(arguments: argparse.Namespace) -> Iterator[Row]:
    from recsys.retrieval.vectors.exact import top_k

    users, items, dim = arguments.users or 1_024, arguments.items or 100_000, arguments.dim
    flops, random = 2.0 * users * items * dim, np.random.default_rng(0)
    queries_QD, items_ID = (
        _unit(random.standard_normal((n, dim), np.float32)) for n in (users, items)
    )
    space = np.empty((512, min(items, 65_536)), np.float32)
    part = items_ID[: space.shape[1]]
    ceiling = (
        2.0
        * 512
        * len(part)
        * dim
        / _seconds(lambda: np.matmul(queries_QD[:512], part.T, out=space[:users]))
    )
    print(f"{ceiling / 1e9:.0f} GFLOP/s in a product of 512 x {len(part):,}")
    for k, excluded in product(arguments.k, arguments.excluded):
        out_QE = random.integers(0, items, (users, excluded))
        exclude = (np.arange(users + 1) * excluded, out_QE.ravel())
        call = partial(top_k, queries_QD, items_ID, k, exclude=exclude if excluded else None)
        row = _row("nightshelf", k, _seconds(call), flops, ceiling)
        scores_SI = queries_QD[:64] @ items_ID.T
        np.put_along_axis(scores_SI, out_QE[:64], -np.inf, axis=1)
        wanted_SK = -np.sort(-scores_SI, axis=1)[:, :k]
        yield row | {
            "excluded": excluded,
            "exact": bool(np.allclose(call()[1][:64], wanted_SK, atol=1e-5)),
        }


def _unit(vectors: Any) -> Any:
    return vectors / (vectors**2).sum(1)[:, None] ** 0.5


def _row(name: str, k: int, seconds: float, flops: float, ceiling: float) -> Row:
    told = {"name": name, "k": k, "ms": seconds * 1000, "tflops": flops / seconds / 1e12}
    return {**told, "of_ceiling": flops / seconds / ceiling}


def _seconds(call: Callable[[], Any], wait: Callable[[], None] = lambda: None) -> float:
    """The median, warm."""
    call()
    taken = []
    for _ in range(ROUNDS):
        wait()
        started = time.perf_counter()
        call()
        wait()
        taken.append(time.perf_counter() - started)
    return statistics.median(taken)


if __name__ == "__main__":
    sys.exit(main())
