"""The spool: events are taken while the log is down, survive kill -9, and are there once when it is
back."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from recsys.errors import StoreDownError
from recsys.events.redis import RedisEventStore
from recsys.events.spool import SpooledEventLog
from recsys.events.sqlite import SqliteEventStore
from recsys.interfaces import AppendResult, EventStore, LogState, UserEvents
from recsys.types import FeatureTable, Impression, PrivacyState
from tests.contracts import EVENING, EventStoreContract, interaction
from tests.redis_server import RedisServer

ROOT = Path(__file__).parents[1]
LONG_AGO = EVENING - timedelta(days=1)
SHOWN = Impression(
    request_id="r",
    time=EVENING,
    release="v7",
    surface="home",
    item_ids=("b", "a"),
    features=FeatureTable(("f",), np.array(((1.5,), (0.25,)), np.float32)),
    user_id="u",
)
#: Appends w0 and w1 to a spool whose log is down, says so and waits to be killed.
WRITER = """
import sys, time
from functools import partial
from recsys.events.redis import RedisEventStore
from recsys.events.spool import SpooledEventLog
from tests.contracts import interaction
store = SpooledEventLog(partial(RedisEventStore, sys.argv[1]), sys.argv[2])
for name in ("w0", "w1"):
    store.append([interaction(name)])
print("acknowledged", flush=True)
time.sleep(60)
"""


class TestSpooledSqlite(EventStoreContract):
    def open(self, folder: Path) -> EventStore:
        return SpooledEventLog(partial(SqliteEventStore, folder / "live"), folder / "spool")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    (tmp_path / "redis").mkdir()
    server = RedisServer(tmp_path / "redis")
    yield server
    server.kill()


def spooled(server: RedisServer, tmp_path: Path, limit_bytes: int = 1 << 30) -> SpooledEventLog:
    return SpooledEventLog(partial(RedisEventStore, server.url), tmp_path / "spool", limit_bytes)


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def ids(store: EventStore) -> list[str]:
    return [
        e
        for batch in store.interactions(store.end().interactions)
        for e in batch["event_id"].to_pylist()
    ]


def test_what_comes_while_the_log_is_down_is_there_once_and_in_order(
    server: RedisServer, tmp_path: Path
) -> None:
    server.start()
    store = spooled(server, tmp_path)
    store.append([interaction("e0")])
    server.kill()
    for number in range(1, 6):
        assert store.append([interaction(f"e{number}", minute=number)]) == AppendResult(1, 0)
    store.append([interaction("e0")])
    store.append_impressions([SHOWN])
    store.quarantine([("no such item", {"user_id": "u", "time": EVENING})])
    state = store.state()
    assert (state.up, state.waiting) == (False, 8)
    assert "cannot be reached" in state.reason
    assert [e.event_id for e in store.user_events("u", EVENING, 2).interactions] == ["e4", "e5"]
    with pytest.raises(StoreDownError):
        store.end()
    server.start()
    until(lambda: store.state() == LogState())
    assert ids(store) == [f"e{number}" for number in range(6)]
    assert list(store.impressions()) == [SHOWN]
    assert store.counts() == {"interactions": 6, "impressions": 1, "quarantined": 1}
    assert store.append([interaction("e5"), interaction("e6")]) == AppendResult(1, 1)
    store.close()


def test_a_log_that_is_down_is_asked_in_vain_once(server: RedisServer, tmp_path: Path) -> None:
    store = spooled(server, tmp_path)
    store.append([interaction("e0")])
    asked: list[int] = []
    store.store.append = lambda *_: asked.append(1)  # type: ignore[method-assign, assignment]
    store.store.user_events = lambda *_: asked.append(1)  # type: ignore[method-assign, assignment]
    for number in range(100):
        store.append([interaction(f"e{number}")])
        store.user_events("u", LONG_AGO, 9)
    assert not asked
    store.close()


def test_a_replica_killed_with_kill_9_leaves_its_events_to_the_next(
    server: RedisServer, tmp_path: Path
) -> None:
    command = [sys.executable, "-c", WRITER, server.url, str(tmp_path / "spool")]
    writer = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert writer.stdout is not None
    assert writer.stdout.readline() == "acknowledged\n"
    next_one = spooled(server, tmp_path)
    next_one.append([interaction("n0")])
    writer.kill()
    writer.wait()
    writer.stdout.close()
    (spool,) = [path for path in (tmp_path / "spool").iterdir() if b"w1" in path.read_bytes()]
    with spool.open("ab") as half:  # as if killed in the middle of a line
        half.write(b'["interactions", 1, ["{')
    server.start()
    until(lambda: sorted(ids(RedisEventStore(server.url))) == ["n0", "w0", "w1"])
    until(lambda: not spool.exists())
    next_one.close()


def test_what_waited_of_who_has_left_meanwhile_is_not_replayed(tmp_path: Path) -> None:
    """No log judges what it quarantines."""
    log = SqliteEventStore(tmp_path / "live")
    log.set_privacy_state("u", PrivacyState(forgotten=EVENING))
    (tmp_path / "spool").mkdir()
    waiting = tmp_path / "spool" / "dead.spool"
    rows = [["no such item", {"user_id": user}] for user in ("u", "v")]
    waiting.write_text(json.dumps(["quarantine", 1.0, rows]) + "\n")
    store = SpooledEventLog(partial(SqliteEventStore, tmp_path / "live"), tmp_path / "spool")
    until(lambda: not waiting.exists())
    assert [store.traces(user)["quarantined"] for user in ("u", "v")] == [0, 1]
    store.close()
    log.close()


def test_a_full_spool_says_so_and_keeps_what_it_has(server: RedisServer, tmp_path: Path) -> None:
    store = spooled(server, tmp_path, limit_bytes=400)
    store.append([interaction("e0")])
    with pytest.raises(StoreDownError, match=r"wait in .*spool and more than 400 may not"):
        store.append([interaction(f"more-{number}") for number in range(9)])
    server.start()
    until(lambda: store.state().up)
    assert ids(store) == ["e0"]
    store.close()


def test_privacy_states_hold_while_the_log_is_down(server: RedisServer, tmp_path: Path) -> None:
    server.start()
    store = spooled(server, tmp_path)
    store.set_privacy_state("u", PrivacyState(opted_out=True))
    server.kill()
    assert store.append([interaction("e1"), interaction("e2", user_id="v")]) == AppendResult(
        1, 0, 1
    )
    store.append_impressions([SHOWN, replace(SHOWN, request_id="r2", user_id=None)])
    assert store.privacy_state("u") == PrivacyState(opted_out=True)
    assert store.user_events("u", LONG_AGO, 9) == UserEvents(PrivacyState(opted_out=True), [])
    assert [e.event_id for e in store.user_events("v", LONG_AGO, 9).interactions] == ["e2"]
    assert store.state().waiting == 2
    with pytest.raises(StoreDownError):
        store.set_privacy_state("v", PrivacyState(opted_out=True))
    store.close()


def test_a_replica_that_never_saw_the_log_leaves_it_to_the_replay(
    server: RedisServer, tmp_path: Path
) -> None:
    server.start()
    RedisEventStore(server.url).set_privacy_state("u", PrivacyState(opted_out=True))
    server.kill()
    store = spooled(server, tmp_path)
    store.append([interaction("e1"), interaction("e2", user_id="v")])
    server.start()
    until(lambda: store.state().up)
    assert ids(store) == ["e2"]
    assert json.dumps(store.counts())
    store.close()
