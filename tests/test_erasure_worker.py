"""The thread that erases forgotten users from releases: in one pass, again after a failure, and
once more when no replica reads the replaced files."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import pytest

from recsys.privacy.receipts import Receipt
from serve import erasure, metrics
from serve.erasure import ErasureWorker
from tests.checkerboard import setup


@dataclass
class FakeReleases:
    """Stands for `recsys.privacy.forget`: records whom each pass erases, and when."""

    passes: list[tuple[set[str], float]] = field(default_factory=list)
    failures: int = 0
    gate: threading.Event = field(default_factory=threading.Event)

    def forget_user(self, setup: Any, events: Any, user_id: str) -> Receipt:
        return Receipt(f"of {user_id}", datetime.now(UTC), {}, {"releases/v1": 1})

    def erase_users(
        self, setup: Any, events: Any, users: Collection[str], grace_s: float
    ) -> dict[str, int]:
        self.gate.wait(10)
        self.passes.append((set(users), time.monotonic()))
        if self.failures:
            self.failures -= 1
            raise OSError("the bucket is away")
        return {"v1": 1}


@pytest.fixture
def releases(monkeypatch: pytest.MonkeyPatch) -> FakeReleases:
    fake = FakeReleases()
    fake.gate.set()
    monkeypatch.setattr(erasure, "forget_user", fake.forget_user)
    monkeypatch.setattr(erasure, "erase_users", fake.erase_users)
    monkeypatch.setattr(erasure, "POLL_S", 0.01)
    return fake


@pytest.fixture
def start(releases: FakeReleases) -> Iterator[Callable[[float], ErasureWorker]]:
    workers: list[ErasureWorker] = []

    def start_one(grace_s: float) -> ErasureWorker:
        workers.append(ErasureWorker(setup(), None, grace_s))
        return workers[-1]

    yield start_one
    for worker in workers:
        worker.close(10)


def wait_for(check: Callable[[], bool]) -> None:
    end = time.monotonic() + 10
    while not check():
        assert time.monotonic() < end
        time.sleep(0.005)


def test_users_who_wait_are_erased_in_one_pass_and_swept_after_the_grace(
    releases: FakeReleases, start: Callable[[float], ErasureWorker]
) -> None:
    releases.gate.clear()
    worker = start(0.3)
    assert worker.forget("u1").token == "of u1"
    wait_for(lambda: not worker._waiting)  # the first pass is at the gate
    worker.forget("u2")
    worker.forget("u3")
    releases.gate.set()
    wait_for(lambda: len(releases.passes) == 3)
    (first, _), (second, at), (swept, swept_at) = releases.passes
    assert (first, second, swept) == ({"u1"}, {"u1", "u2", "u3"}, {"u1", "u2", "u3"})
    assert swept_at - at >= 0.3
    time.sleep(0.4)
    assert len(releases.passes) == 3


def test_a_failed_pass_is_retried_for_the_same_users(
    releases: FakeReleases,
    start: Callable[[float], ErasureWorker],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert erasure.RETRY_S == 5.0
    monkeypatch.setattr(erasure, "RETRY_S", 0.1)
    releases.failures = 2
    start(60).forget("u1")
    wait_for(lambda: len(releases.passes) == 3)
    assert [users for users, _ in releases.passes] == [{"u1"}] * 3
    times = [at for _, at in releases.passes]
    assert all(later - earlier >= 0.1 for earlier, later in pairwise(times))


def test_the_gauge_counts_from_the_oldest_request_until_the_last_sweep(
    releases: FakeReleases,
    start: Callable[[float], ErasureWorker],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    values: list[float] = []
    monkeypatch.setattr(metrics.FORGETTING_WAITS, "set", values.append)
    worker = start(0.2)
    wait_for(lambda: bool(values))
    assert set(values) == {0.0}
    worker.forget("u1")
    wait_for(lambda: len(releases.passes) == 2)
    wait_for(lambda: values[-1] == 0.0)
    assert max(values) >= 0.15


def test_a_closed_worker_ends(
    releases: FakeReleases, start: Callable[[float], ErasureWorker]
) -> None:
    worker = start(0.1)
    assert worker.is_alive()
    worker.close(10)
    assert not worker.is_alive()
