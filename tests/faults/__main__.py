"""`python -m tests.faults`: every fault for longer than the tests have time for, a table, and last
a line of JSON."""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from itertools import chain
from pathlib import Path

# Unset, a local Ray would turn token authentication on for later clusters.
os.environ.setdefault("RAY_AUTH_MODE", "disabled")

import ray

from recsys.storage.version import code_commit
from tests.faults import nodes
from tests.faults.cluster import SHOP, Day, one_node
from tests.faults.night import workers_killed
from tests.faults.processes import eventually
from tests.faults.scenarios import Row, clock_jumped, damaged, killed, rolled, store_killed, swapped
from tests.faults.shop import stocked
from tests.redis_server import RedisServer

#: Replicas are killed so often: a share of failures under a thousandth needs thousands of requests.
KILLS = 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], help="all, where none is named")
    began, rows, parts = time.monotonic(), list[Row](), parser.parse_args().parts or list(PARTS)
    with tempfile.TemporaryDirectory(prefix="faults") as folder:
        ray.init(
            address="local", num_cpus=4, include_dashboard=False, object_store_memory=300 << 20
        )
        home = stocked(Path(folder) / "home")
        ray.shutdown()
        say(f"{'fault':<52} {'asked':>7} failed events lost twice whole s")
        for row in chain.from_iterable(PARTS[part](home, Path(folder)) for part in parts):
            rows.append(row)
            sums = (
                f"{row.requests:>7,} {row.failed:>6,} {row.events:>6,} {row.lost:>4} {row.twice:>5}"
            )
            say(f"{row.fault:<52} {sums} {row.whole_s:>7.1f}  {row.note} {row.failures or ''}")
    sums = {
        name: sum(getattr(row, name) for row in rows)
        for name in ("requests", "failed", "events", "lost", "twice")
    }
    told = {"job": "faults", "commit": code_commit(), "seconds": round(time.monotonic() - began)}
    say(json.dumps({**told, **sums, "rows": [asdict(row) for row in rows]}))


def of_the_night(home: Path, folder: Path) -> Iterator[Row]:
    yield workers_killed(home, folder)


def behind_haproxy(home: Path, folder: Path) -> Iterator[Row]:
    with one_node(home, folder) as day:
        half = half_of(day)
        yield from (
            named(killed(day, SHOP, half), f"HAProxy: replica, {half:.0f} requests/s")
            for _ in range(KILLS)
        )
        yield rolled(day, half)
        yield damaged(day, half)
        yield swapped(day, 100, half / 2)
        for title in ("bin/haproxy", "HAProxyManager"):
            yield named(killed(day, title, half / 2), f"HAProxy: {title}")


def behind_python(home: Path, folder: Path) -> Iterator[Row]:
    with one_node(home, folder, haproxy=False, NIGHTSHELF_FAULTS_LAYOUT="split") as day:
        half = half_of(day)
        for title in (SHOP, "ServeReplica:shop:Encoder", "ServeReplica:shop:Trainer", "ProxyActor"):
            row = killed(day, title, half)
            yield named(row, f"Python proxy, split: {title.split(':')[-1]}, {half:.0f} requests/s")
        yield named(rolled(day, half), "Python proxy, split: a rolling update")


def of_the_log(home: Path, folder: Path) -> Iterator[Row]:
    server = RedisServer(folder)
    server.start()
    try:
        where = {"NIGHTSHELF_EVENTS": server.url, "NIGHTSHELF_SPOOL": str(folder / "spool")}
        with one_node(home, folder, **where) as day:
            yield store_killed(day, server, half_of(day))
    finally:
        server.kill()


def of_the_clock(home: Path, folder: Path) -> Iterator[Row]:
    clock = folder / "clock"
    clock.write_text("0")
    with one_node(home, folder, NIGHTSHELF_FAULTS_CLOCK=str(clock)) as day:
        yield clock_jumped(day, clock, half_of(day))


def of_hosts(home: Path, folder: Path) -> Iterator[Row]:
    if why := nodes.impossible():
        say(f"three hosts: not shown, {why}")
    else:
        yield from nodes.rows(home, folder)


def half_of(day: Day) -> float:
    """Half of what is sustained, in requests a second."""
    eventually(day.answers, "the shop answers")
    return max(5.0, day.sustainable() / 2)


def named(row: Row, fault: str) -> Row:
    return replace(row, fault=fault)


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


PARTS: dict[str, Callable[[Path, Path], Iterator[Row]]] = {
    "night": of_the_night,
    "haproxy": behind_haproxy,
    "python": behind_python,
    "log": of_the_log,
    "clock": of_the_clock,
    "hosts": of_hosts,
}

if __name__ == "__main__":
    main()
