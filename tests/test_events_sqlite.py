"""The SQLite event log: the contract, and what only several processes can show."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from recsys.errors import InputError
from recsys.events.sqlite import SqliteEventStore
from recsys.interfaces import EventStore
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
