"""The event log in Redis: the contract against a real server, and what only kill -9 of it can
show."""

from __future__ import annotations

import pickle
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest

from recsys.errors import InputError, StoreDownError
from recsys.events.redis import RedisEventStore
from recsys.events.redis_scripts import RECENT_EVENTS
from recsys.interfaces import AppendResult, EventStore, LogPosition
from tests.contracts import EVENING, EventStoreContract, interaction
from tests.redis_server import RedisServer

LONG_AGO = EVENING - timedelta(days=1)


class TestRedisEventStore(EventStoreContract):
    @pytest.fixture(autouse=True)
    def _server(self, redis_url: str) -> None:
        self.url = redis_url

    def open(self, folder: Path) -> EventStore:
        return pickle.loads(pickle.dumps(partial(RedisEventStore, self.url, str(folder))))()


def test_an_acknowledged_event_survives_kill_9_of_the_server(tmp_path: Path) -> None:
    server = RedisServer(tmp_path)
    server.start()
    store = RedisEventStore(server.url)
    try:
        store.append([interaction("e1"), interaction("e2")])
        server.kill()
        with pytest.raises(StoreDownError, match="cannot be reached"):
            store.append([interaction("e3")])
        server.start()
        assert store.append([interaction("e2"), interaction("e3")]) == AppendResult(1, 1)
        assert [event.event_id for event in store.user_events("u", LONG_AGO, 9).interactions] == [
            "e1",
            "e2",
            "e3",
        ]
        assert store.end().interactions == 3
    finally:
        server.kill()


def test_a_server_that_can_lose_events_is_told_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server = RedisServer(tmp_path)
    server.start("--appendfsync", "everysec")
    try:
        RedisEventStore(server.url).append([interaction("e1")])
    finally:
        server.kill()
    assert "can LOSE acknowledged events, it has {'appendfsync': 'everysec'}" in caplog.text


def test_a_full_server_takes_nothing_and_says_so(tmp_path: Path) -> None:
    server = RedisServer(tmp_path)
    server.start()
    try:
        store = RedisEventStore(server.url)
        store.append([interaction("e1")])
        store.client.config_set("maxmemory", 1)
        with pytest.raises(StoreDownError):
            store.append([interaction("e2")])
        store.client.config_set("maxmemory", 0)
        assert store.append([interaction("e2")]) == AppendResult(1, 0)
    finally:
        server.kill()


def test_recent_is_bounded_and_acknowledged_rows_leave_it_alone(
    redis_url: str, tmp_path: Path
) -> None:
    store = RedisEventStore(redis_url, str(tmp_path))
    store.append([interaction(f"e{number}", minute=number) for number in range(RECENT_EVENTS + 5)])
    store.acknowledge(LogPosition(interactions=RECENT_EVENTS))
    assert store.counts()["interactions"] == 5
    assert store.traces("u")["interactions"] == RECENT_EVENTS  # those that left the stream, too
    assert len(store.user_events("u", LONG_AGO, 2 * RECENT_EVENTS).interactions) == RECENT_EVENTS
    assert store.append([interaction("e3")]) == AppendResult(0, 1)
    store.close()


def test_what_is_no_address_is_refused() -> None:
    with pytest.raises(InputError, match="cannot lie there"):
        RedisEventStore("http://localhost")


def test_user_events_are_one_round_trip(
    redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from redis.connection import AbstractConnection

    store, trips = RedisEventStore(redis_url, str(tmp_path)), []
    store.append([interaction("e1")])
    send = AbstractConnection.send_packed_command

    def count(self: AbstractConnection, command: object, check_health: bool = True) -> None:
        trips.append(command)
        send(self, command, check_health)

    monkeypatch.setattr(AbstractConnection, "send_packed_command", count)
    assert len(store.user_events("u", LONG_AGO, 9).interactions) == 1
    assert len(trips) == 1
    store.close()
