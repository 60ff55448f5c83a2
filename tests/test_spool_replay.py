"""What waits in the spool while a log is down, and how it comes back; without a server."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from recsys.errors import InputError, StoreDownError
from recsys.events import backpressure, spool, spool_file
from recsys.events.codec import encode_interaction
from recsys.events.spool import SpooledEventLog
from recsys.events.sqlite import SqliteEventStore
from recsys.interfaces import AppendResult, LogState
from recsys.types import Impression, PrivacyState
from tests.contracts import EVENING, interaction

LONG_AGO = EVENING - timedelta(days=1)
SHOWN = Impression(
    request_id="r", time=EVENING, release="v7", surface="home", item_ids=("b",), user_id="u"
)


class SwitchedLog:
    """A log that can be unplugged; `digest` needs no server."""

    def __init__(self, path: Path) -> None:
        self.store, self.is_down, self.calls = SqliteEventStore(path), True, list[str]()

    def digest(self, user_id: str) -> str:
        return self.store.digest(user_id)

    def close(self) -> None:
        self.store.close()

    def __getattr__(self, name: str) -> Any:
        def call(*arguments: Any) -> Any:
            if self.is_down:
                raise StoreDownError("the log is unplugged")
            self.calls.append(name)
            return getattr(self.store, name)(*arguments)

        return call


@pytest.fixture
def log(tmp_path: Path) -> SwitchedLog:
    return SwitchedLog(tmp_path / "log")


@pytest.fixture
def open_spool(
    log: SwitchedLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., SpooledEventLog]]:
    monkeypatch.setattr(backpressure, "RETRY_S", 0.01)
    stores: list[SpooledEventLog] = []

    def open_one(**choices: Any) -> SpooledEventLog:
        stores.append(SpooledEventLog(lambda: log, tmp_path / "spool", **choices))  # type: ignore[arg-type, return-value]
        return stores[-1]

    yield open_one
    for store in stores:
        store.close()


def wait_until(check: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not check():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def event_ids(log: SwitchedLog) -> list[str]:
    batches = log.store.interactions(log.store.end().interactions)
    return [event_id for batch in batches for event_id in batch["event_id"].to_pylist()]


def line(kind: str, *rows: Any) -> str:
    return json.dumps([kind, 1.0, list(rows)]) + "\n"


def event_line(*names: str) -> str:
    return line("interactions", *(encode_interaction(interaction(name)).decode() for name in names))


def test_what_waits_is_counted_and_read_until_the_log_is_back(
    log: SwitchedLog, open_spool: Callable[..., SpooledEventLog]
) -> None:
    store = open_spool()
    before = time.time()
    events = [interaction(f"e{minute}", minute=minute) for minute in (2, 0, 1)]
    assert store.append(events) == AppendResult(3, 0, 0)
    assert store.append([events[0]]) == AppendResult(1, 0, 0)  # again: the log will see that
    store.append_impressions([SHOWN])
    store.quarantine([("no such item", {"user_id": "u", "time": EVENING})])
    state = store.state()
    assert (state.up, state.waiting, state.reason) == (False, 6, "the log is unplugged")
    assert 0 <= state.lag_s <= time.time() - before

    def newest(limit: int, minute: int = -1) -> list[str]:
        after = EVENING + timedelta(minutes=minute)
        return [event.event_id for event in store.user_events("u", after, limit).interactions]

    assert [newest(9), newest(2), newest(1), newest(0), newest(-1)] == [
        ["e0", "e1", "e2"],
        ["e1", "e2"],
        ["e2"],
        [],
        [],
    ]
    assert [newest(9, minute=0), newest(9, minute=2)] == [["e1", "e2"], []]
    log.is_down = False
    wait_until(lambda: store.state() == LogState())
    assert event_ids(log) == ["e2", "e0", "e1"]
    assert log.store.counts() == {"interactions": 3, "impressions": 1, "quarantined": 1}
    log.is_down = True
    assert newest(9) == [], "what was replayed does not wait any more"


def test_the_lag_is_that_of_the_oldest_row(
    open_spool: Callable[..., SpooledEventLog], monkeypatch: pytest.MonkeyPatch
) -> None:
    store, now = open_spool(), time.time()
    store.append([])
    assert store.state().lag_s == 0
    store.append([interaction("e0")])
    monkeypatch.setattr(spool.time, "time", lambda: now + 60)
    store.append([interaction("e1")])
    assert 59 < store.state().lag_s <= 60
    monkeypatch.setattr(spool.time, "time", lambda: now - 60)  # the clock was set back
    assert store.state().lag_s == 0


def test_only_a_down_log_makes_rows_wait(
    log: SwitchedLog, tmp_path: Path, open_spool: Callable[..., SpooledEventLog]
) -> None:
    log.is_down = False
    store = open_spool()
    store.append([interaction("e1")])
    store.append_impressions([SHOWN])
    store.quarantine([("no such item", {})])
    assert list((tmp_path / "spool").iterdir()) == []
    with pytest.raises(InputError):
        store.append([interaction("\ud800")])
    log.is_down = True
    with pytest.raises(InputError):
        store.append([interaction("\ud800")])
    assert store.state().waiting == 0


def test_privacy_states_are_read_again_and_hold_while_the_log_is_down(
    log: SwitchedLog, open_spool: Callable[..., SpooledEventLog], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool, "PRIVACY_REFRESH_S", 0.02)
    log.is_down = False
    store = open_spool()
    forgotten = PrivacyState(forgotten=EVENING)
    log.store.set_privacy_state("u", forgotten)  # by another replica
    reads = log.calls.count("privacy_states")
    wait_until(lambda: log.calls.count("privacy_states") >= reads + 2)
    log.is_down = True
    before, after = interaction("e0"), interaction("e1", minute=1)
    assert store.append([before, after]) == AppendResult(1, 0, 1)
    store.append_impressions(
        [
            SHOWN,
            replace(SHOWN, request_id="later", time=EVENING + timedelta(minutes=1)),
            replace(SHOWN, request_id="nobody", user_id=None),
        ]
    )
    assert store.privacy_state("u") == store.user_events("u", LONG_AGO, 9).privacy == forgotten
    log.is_down = False
    wait_until(lambda: store.state().up)
    assert event_ids(log) == ["e1"]
    assert [each.request_id for each in log.store.impressions()] == ["later", "nobody"]


def test_a_full_spool_takes_what_fits_to_the_byte(
    open_spool: Callable[..., SpooledEventLog], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool.time, "time", lambda: 1.0)
    size = len(event_line("e0"))
    for limit, fits in ((2 * size, True), (2 * size - 1, False)):
        store = open_spool(limit_bytes=limit)
        store.append([interaction("e0")])
        if fits:
            store.append([interaction("e1")])
            assert store.state().waiting == 2
        else:
            with pytest.raises(StoreDownError, match=r"unplugged; .* wait in "):
                store.append([interaction("e1")])
            assert store.state().waiting == 1


def test_a_disk_that_takes_nothing_is_an_error_and_nothing_waits(
    open_spool: Callable[..., SpooledEventLog], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> int:
        raise OSError("no space left")

    store = open_spool()
    with monkeypatch.context() as patch:
        patch.setattr(spool_file.os, "write", full)
        with pytest.raises(StoreDownError, match=r"takes nothing \(no space left\): free its disk"):
            store.append([interaction("e0")])
    assert store.state().waiting == 0
    assert store.user_events("u", LONG_AGO, 9).interactions == []


def test_a_refused_row_does_not_hold_back_the_others(
    log: SwitchedLog, tmp_path: Path, open_spool: Callable[..., SpooledEventLog]
) -> None:
    (tmp_path / "spool").mkdir()
    waiting = tmp_path / "spool" / "dead.spool"
    lines = [event_line("e0"), event_line("e1", "e2"), event_line("e3")]
    waiting.write_text("".join(lines))
    log.is_down = False
    append = log.store.append

    def refuses(events: Any) -> AppendResult:
        if events[0].event_id == "e1":
            raise InputError("none of the rows was written")
        return append(events)

    log.store.append = refuses  # type: ignore[method-assign]
    open_spool()
    wait_until(lambda: not waiting.exists())
    assert event_ids(log) == ["e0", "e3"]


def test_dead_owners_files_are_replayed_piece_by_piece_and_half_a_line_ends_them(
    log: SwitchedLog,
    tmp_path: Path,
    open_spool: Callable[..., SpooledEventLog],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(spool_file, "READ_BYTES", len(event_line("e0")) + 5)
    (tmp_path / "spool").mkdir()
    names = ["a.spool", "b.spool", "c.spool"]
    first, second, third = (tmp_path / "spool" / name for name in names)
    first.write_text(event_line("e0") + event_line("e1") + event_line("e2")[:-9])
    second.write_text("")
    third.write_text(event_line("e1", "e3"))
    store = open_spool()
    time.sleep(0.1)
    assert [path.name for path in sorted((tmp_path / "spool").iterdir())] == names
    log.is_down = False
    wait_until(lambda: not list((tmp_path / "spool").glob("?.spool")))
    assert event_ids(log) == ["e0", "e1", "e3"]
    wait_until(lambda: store.state() == LogState())


def test_a_log_that_goes_down_during_a_replay_gets_the_rest_later(
    log: SwitchedLog,
    open_spool: Callable[..., SpooledEventLog],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(spool_file, "READ_BYTES", 1)
    store = open_spool()
    for number in range(4):
        store.append([interaction(f"e{number}")])
    append, failed = log.store.append, threading.Event()

    def fails_once(events: Any) -> AppendResult:
        if events[0].event_id == "e2" and not failed.is_set():
            failed.set()
            raise StoreDownError("down again")
        return append(events)

    log.store.append = fails_once  # type: ignore[method-assign]
    log.is_down = False
    wait_until(lambda: store.state() == LogState())
    assert failed.is_set()
    assert event_ids(log) == ["e0", "e1", "e2", "e3"]


def test_what_waited_of_a_user_who_decided_meanwhile_is_dropped(
    log: SwitchedLog, open_spool: Callable[..., SpooledEventLog]
) -> None:
    store = open_spool()
    store.append([interaction("e0"), interaction("e1", user_id="v")])
    store.quarantine(
        [("no such item", {"user_id": "u"}), ("no such item", {"user_id": "v"}), ("odd", {})]
    )
    log.store.set_privacy_state("u", PrivacyState(opted_out=True))
    log.is_down = False
    wait_until(lambda: store.state() == LogState())
    assert event_ids(log) == ["e1"]
    assert log.store.traces("u") == {"interactions": 0, "impressions": 0, "quarantined": 0}
    assert log.store.counts()["quarantined"] == 2


def test_reads_that_need_the_log_raise_while_it_is_down(
    open_spool: Callable[..., SpooledEventLog],
) -> None:
    store = open_spool()
    store.append([interaction("e0")])
    for work in (
        store.end,
        store.counts,
        store.drain,
        store.hasher,
        store.privacy_states,
        lambda: store.impression("r"),
        lambda: store.forget("u"),
        lambda: store.traces("u"),
        lambda: store.set_privacy_state("u", PrivacyState(opted_out=True)),
        lambda: list(store.interactions(9)),
        lambda: list(store.impressions()),
    ):
        with pytest.raises(StoreDownError, match="unplugged"):
            work()
    assert store.append([interaction("e1")]) == AppendResult(1, 0, 0), (
        "the refused decision is none"
    )
