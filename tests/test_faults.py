"""Faults of the day: a real Ray, real HTTP, real kill -9, constant traffic whose every answer is
checked.

`python -m pytest tests/test_faults.py` asserts; `python -m tests.faults` does the same for longer,
kills an ingress and does without one of three hosts, too, and prints the table."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.faults.cluster import SHOP, RunningShop, one_node
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

pytestmark = [pytest.mark.ray, pytest.mark.slow]


@dataclass(frozen=True)
class Bench:
    """A shop behind HAProxy, its event log's server, and the file that its clock follows."""

    shop: RunningShop
    server: RedisServer
    clock: Path


@pytest.fixture(scope="module")
def bench(ray_session: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    folder = tmp_path_factory.mktemp("faults")
    home, clock, server = publish_releases(folder / "home"), folder / "clock", RedisServer(folder)
    clock.write_text("0")
    server.start()
    try:
        where = {"NIGHTSHELF_EVENTS": server.url, "NIGHTSHELF_SPOOL": str(folder / "spool")}
        with one_node(home, folder, NIGHTSHELF_FAULTS_CLOCK=str(clock), **where) as shop:
            eventually(shop.answers, "the shop answers")
            yield Bench(shop, server, clock)
    finally:
        server.kill()


def nothing_lost(row: Row) -> None:
    assert (row.failures, row.lost, row.twice) == ({}, 0, 0), row
    assert row.requests > 50
    assert row.events > 0


def test_a_replica_is_killed_and_nobody_notices(bench: Bench) -> None:
    nothing_lost(kill_process(bench.shop, SHOP, rate=30))


def test_releases_swap_and_no_answer_is_mixed_or_missing(bench: Bench) -> None:
    nothing_lost(swap_releases(bench.shop, times=6, rate=60))  # they take under 2 s


def test_a_damaged_release_is_refused_and_the_good_one_goes_on(bench: Bench) -> None:
    nothing_lost(point_to_damaged(bench.shop, rate=40))


def test_the_logs_server_is_killed_and_its_events_wait_for_it(bench: Bench) -> None:
    nothing_lost(kill_store(bench.shop, bench.server, rate=20, down_s=3))


def test_clocks_jump_and_nobody_notices(bench: Bench) -> None:
    nothing_lost(jump_clock(bench.shop, bench.clock, rate=20, every_s=2))


def test_an_update_rolls_and_nobody_notices(bench: Bench) -> None:
    nothing_lost(roll_update(bench.shop, rate=20))
