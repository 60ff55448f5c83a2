"""The night's exact lists at scale, on a synthetic shop: python -m jobs.benchmark_night --items
1_000_000

Items, users and histories are drawn from a seed; from there on the stages are the night's own:
nearest, candidates, and the released arrays. Measured for a tenth, three tenths and all of the
users: seconds a stage, time a user; memory of the driver and the workers; a resumed run; lists
against double precision. The last line is JSON; the exit code is 1 where a list is wrong."""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from recsys.batch.benchmarks.night import benchmark_night, make_benchmark, night_table
from recsys.batch.cluster import connect_ray
from recsys.errors import InputError, RecsysError
from recsys.evaluation.results import say, summary_line


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--users", type=int, default=100_000)
    parser.add_argument("--dim", type=int, default=384)
    parser.add_argument("--n", type=int, default=100, help="items in a list")
    parser.add_argument(
        "--texts", type=int, default=20_000, help="of so many items the texts are encoded too"
    )
    parser.add_argument(
        "--resident",
        type=int,
        default=0,
        help="items a worker holds: 16 million on a GPU, 1 on CPUs",
    )
    parser.add_argument(
        "--home", help="a folder for the work (default: a temporary one); emptied at the end"
    )
    sizes = vars(parser.parse_args())
    started, home = time.perf_counter(), sizes.pop("home")
    try:
        with work_folder(home) as folder:
            say(connect_ray())
            benchmark = make_benchmark(folder, list_size=sizes.pop("n"), **sizes)
            rows = benchmark_night(benchmark)
    except RecsysError as error:
        print(f"the benchmark failed: {error}", file=sys.stderr)
        return 1
    say(f"\n{night_table(rows)}")
    say(summary_line("benchmark_night", "generated", started, rows))
    return int(any(row.get("wrong") for row in rows))


@contextmanager
def work_folder(home: str | None) -> Iterator[Path]:
    """An empty folder, deleted at the end. Raises InputError where it has files."""
    folder = Path(home or tempfile.mkdtemp(prefix="nightshelf-")).expanduser().absolute()
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise InputError(f"{folder} is not empty, and would be emptied: give --home a new folder")
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
