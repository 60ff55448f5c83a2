"""Exact top-k beside its rivals and the machine's matrix rate: python -m jobs.benchmark_topk

On a GPU: `gpu.GpuFlatIndex` beside torch's matmul and topk. Without one: `exact.top_k` beside
numpy's product alone. Vectors are random, of length 1. Needs no Ray. The last line is JSON; seconds
are medians of five. The exit code is 1 where a result is wrong."""

from __future__ import annotations

import argparse
import sys
import time

from recsys.batch.benchmarks.timing import has_gpu
from recsys.batch.benchmarks.topk import TopKSizes, benchmark_cpu_topk, benchmark_gpu_topk
from recsys.evaluation.results import Column, say, summary_line, text_table

COLUMNS = (
    "k",
    "excluded",
    Column("ms", ".2f"),
    Column("tflops", ".2f", "TFLOP/s"),
    Column("of_ceiling", ".3f", "of ceiling"),
    "exact",
)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--users", type=int, help="16,384 on a GPU, 1,024 without")
    parser.add_argument("--items", type=int, help="1,000,000 on a GPU, 100,000 without")
    parser.add_argument("--dim", type=int, default=384)
    parser.add_argument("--k", type=int, nargs="+", default=[100])
    parser.add_argument(
        "--excluded", type=int, nargs="+", default=[0], help="items that each user leaves out"
    )
    parser.add_argument("--cpu", action="store_true", help="leave a GPU alone")
    arguments = parser.parse_args()
    started, use_gpu = time.perf_counter(), has_gpu() and not arguments.cpu
    sizes = TopKSizes(
        queries=arguments.users or (16_384 if use_gpu else 1_024),
        items=arguments.items or (1_000_000 if use_gpu else 100_000),
        dim=arguments.dim,
        ks=arguments.k,
        exclusions=arguments.excluded,
    )
    rows = list(benchmark_gpu_topk(sizes) if use_gpu else benchmark_cpu_topk(sizes))
    say(f"\n{text_table(rows, COLUMNS)}")
    say(summary_line("benchmark_topk", "random", started, rows, dim=sizes.dim))
    return int(any(row.get("exact") is False for row in rows))


if __name__ == "__main__":
    sys.exit(main())
