"""`python -m tests.faults`: every fault for longer than the tests have time for, a table, and last a line of JSON."""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import ray

from recsys.batch.night import code_commit
from tests.faults.cluster import SHOP, Day, one_node
from tests.faults.processes import eventually
from tests.faults.scenarios import Row, killed, swapped
from tests.faults.shop import stocked

#: Replicas are killed so often: a share of failures under a thousandth needs thousands of requests.
KILLS = 3


def main() -> None:
    began, rows = time.monotonic(), list[Row]()
    with tempfile.TemporaryDirectory(prefix="faults") as folder:
        ray.init(address="local", num_cpus=4, include_dashboard=False, object_store_memory=300 << 20)
        home = stocked(Path(folder) / "home")
        ray.shutdown()
        for row in each_row(home, Path(folder)):
            rows.append(row)
            told = (
                f"{row.requests:>7,} {row.failed:>6,} {row.events:>6,} {row.lost:>4} {row.twice:>5} {row.whole_s:>7.1f}"
            )
            sys.stdout.write(f"{row.fault:<46} {told}  {row.note} {row.failures or ''}\n")
            sys.stdout.flush()
    told = {"job": "faults", "commit": code_commit(), "seconds": round(time.monotonic() - began)}
    sys.stdout.write(json.dumps({**told, "rows": [asdict(row) for row in rows]}) + "\n")


def each_row(home: Path, folder: Path) -> Iterator[Row]:
    sys.stdout.write(f"{'fault':<46} {'asked':>7} failed events lost twice whole s\n")
    with one_node(home, folder) as day:
        eventually(day.answers, "the shop answers")
        half = max(5.0, day.sustainable() / 2)
        yield from (named(killed(day, SHOP, half), f"HAProxy: replica, {half:.0f} requests/s") for _ in range(KILLS))
        yield swapped(day, 100, half / 2)
        for title in ("bin/haproxy", "HAProxyManager"):
            yield named(killed(day, title, half / 2), f"HAProxy: {title}")
    with one_node(home, folder, haproxy=False, layout="split") as day:
        yield from split(day)


def split(day: Day) -> Iterator[Row]:
    eventually(day.answers, "the shop answers")
    half = max(5.0, day.sustainable() / 2)
    for title in (SHOP, "ServeReplica:shop:Encoder", "ProxyActor"):
        yield named(killed(day, title, half), f"Python proxy, split: {title.split(':')[-1]}, {half:.0f} requests/s")


def named(row: Row, fault: str) -> Row:
    return Row(**{**asdict(row), "fault": fault})


if __name__ == "__main__":
    main()
