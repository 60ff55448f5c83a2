"""The event log in Redis: a real server, killed and started again."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from recsys.errors import StoreDownError
from recsys.events.redis import RECENT, RedisEventStore
from recsys.interfaces import EventStore
from recsys.types import Impression
from tests.conftest import PATIENT_S, RedisServer
from tests.contracts import EventStoreContract, interaction

LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)


class TestRedis(EventStoreContract):
    @pytest.fixture(autouse=True)
    def _server(self, redis_server: str) -> None:
        self.url, self.prefix = redis_server, uuid.uuid4().hex

    def open(self, folder: Path) -> EventStore:
        return RedisEventStore(self.url, self.prefix, timeout_s=PATIENT_S)


@pytest.fixture
def server(redis_server: str, tmp_path: Path) -> Iterator[RedisServer]:
    """One of the test's own, to kill."""
    import shutil

    with RedisServer(shutil.which("redis-server") or "valkey-server", tmp_path) as server:
        yield server


def test_what_was_acknowledged_survives_kill_9_of_the_server(server: RedisServer) -> None:
    store = RedisEventStore(server.url)
    for number in range(50):
        store.append([interaction(f"e{number}")])
    store.append_impressions([Impression("r1", LONG_AGO, "v1", "search", ("a",))])
    server.kill()
    with pytest.raises(StoreDownError, match="does not answer"):
        store.append([interaction("late")])
    server.start()
    assert store.append([interaction("e0"), interaction("e50")]).duplicates == 1
    assert [event.event_id for event in store.recent("u", LONG_AGO, 99)] == [f"e{number}" for number in range(51)]
    assert (store.last_sequence(), store.last_impression()) == (51, 1)
    store.close()


def test_of_a_user_the_newest_are_kept(redis_server: str) -> None:
    store = RedisEventStore(redis_server, uuid.uuid4().hex, timeout_s=PATIENT_S)
    store.append([interaction(f"e{number}", minute=number) for number in range(RECENT + 3)])
    kept = store.recent("u", LONG_AGO, RECENT + 3)
    assert (len(kept), kept[0].event_id, kept[-1].event_id) == (RECENT, "e3", f"e{RECENT + 2}")
    store.close()


def test_what_is_trimmed_is_gone_but_not_from_recent_nor_from_what_was_seen(redis_server: str) -> None:
    store = RedisEventStore(redis_server, uuid.uuid4().hex, timeout_s=PATIENT_S)
    store.append([interaction("e1"), interaction("e2"), interaction("e3")])
    store.append_impressions([Impression(f"r{n}", LONG_AGO, "v1", "search", ("a",)) for n in (1, 2)])
    store.trim(2, 1)
    assert [batch["event_id"].to_pylist() for batch in store.interactions(3)] == [["e3"]]
    assert [shown.request_id for shown in store.impressions()] == ["r2"]
    assert (store.impression("r1"), store.last_sequence()) == (None, 3)
    assert len(store.recent("u", LONG_AGO, 9)) == 3
    assert store.append([interaction("e1")]).duplicates == 1
    store.close()


def test_opening_warns_of_a_server_that_forgets(redis_server: str, caplog: pytest.LogCaptureFixture) -> None:
    import redis

    client = redis.Redis.from_url(redis_server)
    client.config_set("appendfsync", "everysec")
    try:
        RedisEventStore(redis_server, uuid.uuid4().hex, timeout_s=PATIENT_S).close()
    finally:
        client.config_set("appendfsync", "always")
    assert "can lose acknowledged events" in caplog.text
