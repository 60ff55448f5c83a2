"""The day's faults: a real Ray, real HTTP, real kill -9, constant traffic whose every answer is checked.

`python -m pytest tests/test_faults.py` asserts; `python -m tests.faults` does the same for longer and prints the table.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.cluster import SHOP, Day, one_node
from tests.faults.processes import eventually
from tests.faults.scenarios import Row, killed, swapped
from tests.faults.shop import stocked

pytestmark = [pytest.mark.ray, pytest.mark.slow]


@pytest.fixture(scope="module")
def releases(ray_session: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with the releases "even" and "odd"."""
    return stocked(tmp_path_factory.mktemp("stocked"))


@pytest.fixture(scope="module")
def haproxy(releases: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Day]:
    with one_node(releases, tmp_path_factory.mktemp("haproxy")) as day:
        eventually(day.answers, "the shop answers")
        yield day


def nothing_lost(row: Row) -> None:
    assert (row.failures, row.lost, row.twice) == ({}, 0, 0), row
    assert row.requests > 50
    assert row.events > 0


def test_a_replica_is_killed_and_nobody_notices(haproxy: Day) -> None:
    nothing_lost(killed(haproxy, SHOP, rate=30))


def test_releases_swap_and_no_answer_is_mixed_or_missing(haproxy: Day) -> None:
    nothing_lost(swapped(haproxy, times=6, rate=20))
