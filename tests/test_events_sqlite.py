"""The SQLite event log: the contract, and what only several processes can show."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from recsys.errors import InputError
from recsys.events import sqlite
from recsys.events.sqlite import SqliteEventStore
from recsys.interfaces import EventStore, LogPosition
from recsys.types import Impression, Interaction
from tests.contracts import EventStoreContract

ROOT = Path(__file__).parents[1]
#: Appends events NAME-0.. one by one, each once more, then says so and waits to be killed.
WRITER = """
import sys, time
from datetime import UTC, datetime
from recsys.events.sqlite import SqliteEventStore
from recsys.types import Interaction
path, name, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
store = SqliteEventStore(path)
for number in range(count):
    at = datetime(2026, 1, 1, tzinfo=UTC)
    event = Interaction(event_id=f"{name}-{number}", user_id="u", item_id="i", type="view", time=at)
    store.append([event])
    store.append([event])
print("acknowledged", flush=True)
time.sleep(60)
"""


class TestSqliteEventStore(EventStoreContract):
    def open(self, folder: Path) -> EventStore:
        return SqliteEventStore(folder / "log" / "events.sqlite")


def start_writer(path: Path, name: str, count: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WRITER, str(path), name, str(count)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


def kill_after_acknowledgement(writer: subprocess.Popen[str]) -> None:
    assert writer.stdout is not None
    assert writer.stdout.readline() == "acknowledged\n"
    writer.kill()  # SIGKILL
    writer.wait()
    writer.stdout.close()


def test_an_acknowledged_event_survives_kill_9(tmp_path: Path) -> None:
    kill_after_acknowledgement(start_writer(tmp_path / "events.sqlite", "w", 1))
    store = SqliteEventStore(tmp_path / "events.sqlite")
    assert [
        event.event_id
        for event in store.user_events("u", datetime(1970, 1, 1, tzinfo=UTC), 10).interactions
    ] == ["w-0"]
    store.close()


def test_processes_that_append_at_once_lose_and_double_nothing(tmp_path: Path) -> None:
    path = tmp_path / "events.sqlite"  # not there yet: both also make it
    for writer in [start_writer(path, name, 100) for name in "ab"]:
        kill_after_acknowledgement(writer)
    store = SqliteEventStore(path)
    ids = [
        event_id
        for batch in store.interactions(store.end().interactions)
        for event_id in batch["event_id"].to_pylist()
    ]
    store.close()
    assert sorted(ids) == sorted(f"{name}-{number}" for name in "ab" for number in range(100))
    assert [i for i in ids if i[0] == "a"] == [f"a-{number}" for number in range(100)]


@pytest.mark.parametrize(
    "content", [b"not a database, but long enough to be taken for one" * 50, None]
)
def test_a_path_that_is_no_log_is_refused(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "events.sqlite"
    path.write_bytes(content) if content else path.mkdir()
    with pytest.raises(InputError, match=r"events\.sqlite cannot be opened as an event log"):
        SqliteEventStore(path)


def test_user_events_are_read_in_one_transaction(tmp_path: Path) -> None:
    """Who is forgotten between two reads would come back with the events of before."""
    store = SqliteEventStore(tmp_path / "events.sqlite")
    statements: list[str] = []
    store.database.connection().set_trace_callback(statements.append)
    store.user_events("u", datetime(1970, 1, 1, tzinfo=UTC), 10)
    store.close()
    verbs = [statement.split()[0] for statement in statements]
    assert verbs == ["BEGIN", "SELECT", "SELECT", "COMMIT"]


def test_archived_rows_stay_while_they_are_recent_or_among_the_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of six events, 1 to 5 archived: all but the last two may go, where they are a week old."""
    monkeypatch.setattr(sqlite, "KEEP_ROWS", LogPosition(interactions=2, impressions=2))
    store = SqliteEventStore(tmp_path / "events.sqlite")
    now = datetime.now(UTC)
    days = (8, 6, 8, 8, 8, 8)
    events = [
        Interaction(
            event_id=f"e{number}",
            user_id="u",
            item_id="i",
            type="view",
            time=now - timedelta(days=age),
        )
        for number, age in enumerate(days, 1)
    ]
    store.append(events)
    answers = [
        Impression(request_id=f"r{n}", time=now, release="v", surface="home", item_ids=())
        for n in range(1, 7)
    ]
    store.append_impressions(answers)
    store.acknowledge(LogPosition(interactions=5, impressions=5))
    left = store.user_events("u", now - timedelta(days=30), 9).interactions
    assert sorted(event.event_id for event in left) == ["e2", "e4", "e5", "e6"]
    assert [store.impression(f"r{n}") is not None for n in range(1, 7)] == [False] * 3 + [True] * 3
    assert store.counts() == {"interactions": 1, "impressions": 1, "quarantined": 0}
    assert store.archived() == LogPosition(5, 5)
    store.acknowledge(LogPosition(interactions=3, impressions=2))  # an older one, late
    assert store.archived() == LogPosition(5, 5)
    assert store.end() == LogPosition(6, 6)
    assert store.user_event_count("u") == 3
    store.close()
