"""The day's faults: a real Ray, real HTTP, real kill -9, constant traffic whose every answer is
checked.

`python -m pytest tests/test_faults.py` asserts; `python -m tests.faults` does the same for longer,
kills an ingress and does without one of three hosts, too, and prints the table."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.faults.cluster import SHOP, Day, one_node
from tests.faults.processes import eventually
from tests.faults.scenarios import Row, clock_jumped, damaged, killed, rolled, store_killed, swapped
from tests.faults.shop import stocked
from tests.redis_server import RedisServer

pytestmark = [pytest.mark.ray, pytest.mark.slow]


@dataclass(frozen=True)
class Place:
    """A shop behind HAProxy, its event log's server, and the file that its clock follows."""

    day: Day
    server: RedisServer
    clock: Path


@pytest.fixture(scope="module")
def place(ray_session: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("faults")
    home, clock, server = stocked(folder / "home"), folder / "clock", RedisServer(folder)
    clock.write_text("0")
    server.start()
    try:
        where = {"NIGHTSHELF_EVENTS": server.url, "NIGHTSHELF_SPOOL": str(folder / "spool")}
        with one_node(home, folder, NIGHTSHELF_FAULTS_CLOCK=str(clock), **where) as day:
            eventually(day.answers, "the shop answers")
            yield Place(day, server, clock)
    finally:
        server.kill()


def nothing_lost(row: Row) -> None:
    assert (row.failures, row.lost, row.twice) == ({}, 0, 0), row
    assert row.requests > 50
    assert row.events > 0


def test_a_replica_is_killed_and_nobody_notices(place: Place) -> None:
    nothing_lost(killed(place.day, SHOP, rate=30))


def test_releases_swap_and_no_answer_is_mixed_or_missing(place: Place) -> None:
    nothing_lost(swapped(place.day, times=6, rate=20))


def test_a_damaged_release_is_refused_and_the_good_one_goes_on(place: Place) -> None:
    nothing_lost(damaged(place.day, rate=40))


def test_the_logs_server_is_killed_and_its_events_wait_for_it(place: Place) -> None:
    nothing_lost(store_killed(place.day, place.server, rate=20, down_s=3))


def test_clocks_jump_and_nobody_notices(place: Place) -> None:
    nothing_lost(clock_jumped(place.day, place.clock, rate=20, every_s=2))


def test_an_update_rolls_and_nobody_notices(place: Place) -> None:
    nothing_lost(rolled(place.day, rate=20))
