"""The thread that writes impressions: after the answer, in batches, whatever the log does."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import pytest

from recsys.interfaces import LogState
from recsys.types import Impression, Query, Ranking
from serve import impressions, metrics
from serve.impressions import ImpressionWriter

MESSAGE = "the disk is away, said u77"


@dataclass
class FakeLog:
    """Blocks each write until `gate` is set; fails as often as `failures` says."""

    failures: int = 0
    gate: threading.Event = field(default_factory=threading.Event)
    batches: list[list[str]] = field(default_factory=list)

    def append_impressions(self, impressions: Sequence[Impression]) -> None:
        self.gate.wait(10)
        if self.failures:
            self.failures -= 1
            raise OSError(MESSAGE)
        self.batches.append([each.request_id for each in impressions])

    def state(self) -> LogState:
        return LogState()


@pytest.fixture
def log() -> FakeLog:
    return FakeLog()


@pytest.fixture
def drops(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    counts: list[int] = []

    def inc(count: int = 1) -> None:
        counts.append(count)

    monkeypatch.setattr(metrics.IMPRESSIONS_DROPPED, "inc", inc)
    return counts


@pytest.fixture
def open_writer(log: FakeLog) -> Iterator[Callable[[], ImpressionWriter]]:
    writers: list[ImpressionWriter] = []

    def open_one() -> ImpressionWriter:
        writers.append(ImpressionWriter(log))
        return writers[-1]

    yield open_one
    log.gate.set()
    for writer in writers:
        writer.close(10)


def wait_until(check: Callable[[], bool]) -> None:
    end = time.monotonic() + 10
    while not check():
        assert time.monotonic() < end
        time.sleep(0.001)


def add(writer: ImpressionWriter, *request_ids: str) -> None:
    for request_id in request_ids:
        ranking = Ranking(request_id=request_id, release="v1", items=())
        writer.add(ranking, "search", Query(request_id=request_id))


def test_closing_writes_what_waits(
    log: FakeLog, open_writer: Callable[[], ImpressionWriter]
) -> None:
    writer = open_writer()
    add(writer, "r1", "r2", "r3")
    log.gate.set()
    writer.close(10)
    assert [each for batch in log.batches for each in batch] == ["r1", "r2", "r3"]
    assert not writer.is_alive()


def test_what_waits_is_one_transaction_of_500_at_most(
    log: FakeLog, open_writer: Callable[[], ImpressionWriter]
) -> None:
    writer = open_writer()
    add(writer, "first")
    wait_until(writer._queue.empty)  # the thread has taken it, and waits at the gate
    add(writer, *(f"r{at}" for at in range(1_100)))
    log.gate.set()
    writer.close(10)
    assert [len(batch) for batch in log.batches] == [1, 500, 500, 100]


def test_what_the_queue_cannot_hold_is_dropped_and_counted(
    log: FakeLog,
    open_writer: Callable[[], ImpressionWriter],
    drops: list[int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert impressions.MAX_WAITING == 10_000
    monkeypatch.setattr(impressions, "MAX_WAITING", 2)
    writer = open_writer()
    add(writer, "first")
    wait_until(writer._queue.empty)
    add(writer, "r1", "r2", "r3", "r4")
    assert drops == [1, 1]
    log.gate.set()
    writer.close(10)
    assert log.batches == [["first"], ["r1", "r2"]]


def test_a_log_that_fails_loses_its_batch_and_no_more(
    log: FakeLog,
    open_writer: Callable[[], ImpressionWriter],
    drops: list[int],
    caplog: pytest.LogCaptureFixture,
) -> None:
    log.failures = 1
    log.gate.set()
    writer = open_writer()
    add(writer, "r1")
    wait_until(lambda: bool(drops))
    add(writer, "r2")
    writer.close(10)
    assert (drops, log.batches) == ([1], [["r2"]])
    assert "1 impressions were not written: OSError" in caplog.text
    assert MESSAGE not in caplog.text
