"""Pictures to vectors, how fast: python -m jobs.benchmark_pictures

Decoding alone, encoding alone, and the night's own stages over Ray, from a Parquet catalogue to
vectors, on all cores or on a GPU. On a GPU also lite0 and a ViT-B of random weights beside a plain
loop over torch's DataLoader; `--without-ray` is these alone. Pictures are drawn by a seed, 500 to
1,000 pixels a side, or those of `--data`. The last line is JSON."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time

from recsys.batch.benchmarks.picture_models import (
    benchmark_models,
    draw_pictures,
    read_pictures,
)
from recsys.batch.benchmarks.timing import describe_machine, has_gpu
from recsys.errors import RecsysError
from recsys.evaluation.results import (
    Column,
    Criterion,
    Row,
    criteria_table,
    say,
    summary_line,
    text_table,
)

COLUMNS = (Column("pictures_per_s", ",.0f", "pictures/s"), Column("ratio", ".2f"))


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pictures", type=int, help="30,000 on a GPU, 10,000 without")
    parser.add_argument("--data", help="a Parquet whose column image holds encoded pictures")
    parser.add_argument("--without-ray", action="store_true", help="the models alone")
    arguments = parser.parse_args()
    started, use_gpu = time.perf_counter(), has_gpu()
    count = arguments.pictures or (30_000 if use_gpu else 10_000)
    say(describe_machine())
    try:
        drawn = read_pictures(arguments.data) if arguments.data else draw_pictures(count)
    except RecsysError as error:
        print(error, file=sys.stderr)
        return 1
    rows: list[Row] = []
    if use_gpu or arguments.without_ray:
        with tempfile.TemporaryDirectory() as folder:
            rows += list(benchmark_models(drawn, count, folder))
    if not arguments.without_ray:
        # Ray is not everywhere where models are measured.
        from recsys.batch.benchmarks.pictures import benchmark_picture_night

        rows += benchmark_picture_night(drawn, count, 10 if use_gpu else 30)
    criteria = [benchmark_criterion(row, use_gpu) for row in rows if use_gpu and "ratio" in row]
    criteria = criteria or [
        benchmark_criterion(row, use_gpu) for row in rows if "Parquet" in row["name"]
    ]
    say(f"\n{text_table(rows, COLUMNS)}\n")
    say(criteria_table(criteria))
    rows += [each.as_row() for each in criteria]
    say(summary_line("benchmark_pictures", arguments.data or "drawn", started, rows))
    return int(not all(each.reached_floor for each in criteria))


def benchmark_criterion(row: Row, use_gpu: bool) -> Criterion:
    """Over the plain loop, or of the night over the slower of decoding and encoding alone."""
    night = (0.7, 0.9) if use_gpu else (0.8, 0.92)
    floor, goal = night if "Parquet" in row["name"] else (2.0, 4.0)
    value = row["ratio"]
    return Criterion(name=row["name"], value=value, interval=(value, value), floor=floor, goal=goal)


if __name__ == "__main__":
    sys.exit(main())
