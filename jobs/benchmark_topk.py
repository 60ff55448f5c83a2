"""Exact top-k beside its rivals and the machine's matrix rate: python -m jobs.benchmark_topk

On a GPU: `gpu.ResidentItems` beside torch's matmul and topk. Without one: `exact.top_k` beside numpy's product alone.
Vectors are random, of length 1. Needs no Ray. The last line is JSON; seconds are medians of five.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

Row = dict[str, Any]
ROUNDS = 5


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--users", type=int, default=0, help="16,384 on a GPU, 1,024 without")
    parser.add_argument("--items", type=int, default=0, help="1,000,000 on a GPU, 100,000 without")
    parser.add_argument("--dim", type=int, default=384)
    parser.add_argument("--k", type=int, nargs="+", default=[100])
    parser.add_argument("--excluded", type=int, default=0, help="items that each user leaves out")
    parser.add_argument("--cpu", action="store_true", help="leave a GPU alone")
    arguments = parser.parse_args()
    begun = time.perf_counter()
    rows = list(_on_cpu(arguments) if arguments.cpu or not _has_gpu() else _on_gpu(arguments))
    print(f"\n{'':<16}{'k':>6}{'ms':>10}{'TFLOP/s':>10}{'of ceiling':>12}{'exact':>7}")
    for row in rows:
        told = f"{row['name']:<16}{row['k']:>6}{row['ms']:>10.2f}{row['tflops']:>10.2f}{row['of_ceiling']:>12.3f}"
        print(f"{told}{row.get('exact', '')!s:>7}")
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    summary = {"job": "benchmark_topk", "dataset": "random", "commit": commit, "dim": arguments.dim}
    print(json.dumps({**summary, "seconds": round(time.perf_counter() - begun, 1), "rows": rows}))
    return int(any(row.get("exact") is False for row in rows))


def _has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


def _on_gpu(arguments: argparse.Namespace) -> Iterator[Row]:
    import torch

    from recsys.retrieval.gpu import ResidentItems

    users, items, dim = arguments.users or 16_384, arguments.items or 1_000_000, arguments.dim
    flops = 2.0 * users * items * dim
    square = torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16)
    ceiling = 2 * 8192.0**3 / _seconds(lambda: square @ square, torch.cuda.synchronize)
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}: {ceiling / 1e12:.0f} TFLOP/s in an 8192-cube")
    queries_QD, items_ID = (_unit(torch.randn(n, dim, device="cuda")).bfloat16() for n in (users, items))
    resident, exclude = ResidentItems(items_ID), None
    if arguments.excluded:
        offsets = torch.arange(users + 1) * arguments.excluded
        exclude = offsets, torch.randint(0, items, (int(offsets[-1]),))
    for k in arguments.k:
        taken = _seconds(lambda k=k: resident.top_k(queries_QD, k, exclude=exclude), torch.cuda.synchronize)  # type: ignore[misc]
        row = _row("nightshelf", k, taken, flops, ceiling)
        if exclude is None:
            wanted = torch.topk(queries_QD[:512].float() @ items_ID.float().T, k, dim=1).values
            found = resident.top_k(queries_QD[:512], k)[1]
            row["exact"] = bool((found - wanted).abs().max() < 1e-5)
        yield row

        def plain(k: int = k) -> Any:
            return [torch.topk(queries_QD[at : at + 2048] @ items_ID.T, k, dim=1) for at in range(0, users, 2048)]

        yield _row("torch", k, _seconds(plain, torch.cuda.synchronize), flops, ceiling)


def _on_cpu(arguments: argparse.Namespace) -> Iterator[Row]:
    from recsys.retrieval.exact import top_k

    users, items, dim = arguments.users or 1_024, arguments.items or 100_000, arguments.dim
    flops, random = 2.0 * users * items * dim, np.random.default_rng(0)
    queries_QD, items_ID = (_unit(random.standard_normal((n, dim), np.float32)) for n in (users, items))
    space = np.empty((512, min(items, 65_536)), np.float32)
    part = items_ID[: space.shape[1]]
    ceiling = 2.0 * 512 * len(part) * dim / _seconds(lambda: np.matmul(queries_QD[:512], part.T, out=space[:users]))
    print(f"{ceiling / 1e9:.0f} GFLOP/s in a product of 512 x {len(part):,}")
    exclude = None
    if arguments.excluded:
        offsets = np.arange(users + 1) * arguments.excluded
        exclude = offsets, random.integers(0, items, offsets[-1])
    for k in arguments.k:
        taken = _seconds(lambda k=k: top_k(queries_QD, items_ID, k, exclude=exclude))  # type: ignore[misc]
        row = _row("nightshelf", k, taken, flops, ceiling)
        if exclude is None:
            wanted = -np.sort(-(queries_QD[:64] @ items_ID.T), axis=1)[:, :k]
            row["exact"] = bool(np.allclose(top_k(queries_QD[:64], items_ID, k)[1], wanted, atol=1e-5))
        yield row


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
