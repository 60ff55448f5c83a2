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
from tests.faults.cluster import SHOP, RunningShop, one_node
from tests.faults.night import workers_killed
from tests.faults.processes import eventually
from tests.faults.scenarios import (
    Row,
    jump_clock,
    kill_process,
    kill_store,
    point_to_damaged,
    roll_update,
    swap_releases,
)
from tests.faults.shop import publish_releases
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
        home = publish_releases(Path(folder) / "home")
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
    summary = {"job": "faults", "commit": code_commit(), "seconds": round(time.monotonic() - began)}
    say(json.dumps({**summary, **sums, "rows": [asdict(row) for row in rows]}))


def of_the_night(home: Path, folder: Path) -> Iterator[Row]:
    yield workers_killed(home, folder)


def behind_haproxy(home: Path, folder: Path) -> Iterator[Row]:
    with one_node(home, folder) as shop:
        half = half_of(shop)
        yield from (
            relabel(kill_process(shop, SHOP, half), f"HAProxy: replica, {half:.0f} requests/s")
            for _ in range(KILLS)
        )
        yield roll_update(shop, half)
        yield point_to_damaged(shop, half)
        yield swap_releases(shop, 100, half / 2)
        for title in ("bin/haproxy", "HAProxyManager"):
            yield relabel(kill_process(shop, title, half / 2), f"HAProxy: {title}")


def behind_python(home: Path, folder: Path) -> Iterator[Row]:
    with one_node(home, folder, haproxy=False, NIGHTSHELF_FAULTS_LAYOUT="split") as shop:
        half = half_of(shop)
        for title in (SHOP, "ServeReplica:shop:Encoder", "ServeReplica:shop:Trainer", "ProxyActor"):
            row = kill_process(shop, title, half)
            yield relabel(
                row, f"Python proxy, split: {title.split(':')[-1]}, {half:.0f} requests/s"
            )
        yield relabel(roll_update(shop, half), "Python proxy, split: a rolling update")


def of_the_log(home: Path, folder: Path) -> Iterator[Row]:
    server = RedisServer(folder)
    server.start()
    try:
        where = {"NIGHTSHELF_EVENTS": server.url, "NIGHTSHELF_SPOOL": str(folder / "spool")}
        with one_node(home, folder, **where) as shop:
            yield kill_store(shop, server, half_of(shop))
    finally:
        server.kill()


def of_the_clock(home: Path, folder: Path) -> Iterator[Row]:
    clock = folder / "clock"
    clock.write_text("0")
    with one_node(home, folder, NIGHTSHELF_FAULTS_CLOCK=str(clock)) as shop:
        yield jump_clock(shop, clock, half_of(shop))


def of_hosts(home: Path, folder: Path) -> Iterator[Row]:
    if why := nodes.why_unsupported():
        say(f"three hosts: not shown, {why}")
    else:
        yield from nodes.rows(home, folder)


def half_of(shop: RunningShop) -> float:
    """Half of what is sustained, in requests a second."""
    eventually(shop.answers, "the shop answers")
    return max(5.0, shop.sustainable() / 2)


def relabel(row: Row, fault: str) -> Row:
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
