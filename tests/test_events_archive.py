"""The archive beside the live log: one log to every reader, exactly once wherever a drainer is
killed."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recsys.errors import InputError, StoreDownError
from recsys.events import archive
from recsys.events.archive import ArchivedEventLog
from recsys.events.archive_files import KINDS
from recsys.events.redis import RedisEventStore
from recsys.events.sqlite import SqliteEventStore
from recsys.interfaces import AppendResult, ArchivableStore, EventStore, LogPosition
from recsys.privacy.traces import find_log_traces
from recsys.storage.artifacts import ArtifactStore
from recsys.types import FeatureTable, Impression, Interaction, PrivacyState
from tests.contracts import EVENING, EventStoreContract, interaction

ROOT = Path(__file__).parents[1]
SHOWN = Impression(
    request_id="r",
    time=EVENING,
    release="v7",
    surface="home",
    item_ids=("b", "a"),
    features=FeatureTable(("f",), np.array(((1.5,), (0.25,)), np.float32)),
    user_id="u",
)
#: Drains, and is killed before the step that argv names.
DRAINER = """
import os, signal, sys
from recsys.events.archive import ArchivedEventLog
from recsys.events.sqlite import SqliteEventStore
folder, step = sys.argv[1], int(sys.argv[2])
store, done = ArchivedEventLog(lambda: SqliteEventStore(folder + "/live"), folder + "/home"), 0
def counted(work):
    def call(*arguments):
        global done
        done += 1
        if done == step:
            os.kill(os.getpid(), signal.SIGKILL)
        return work(*arguments)
    return call
store.home.write = counted(store.home.write)
store.live.acknowledge = counted(store.live.acknowledge)
store.drain()
"""


class DrainedAtOnce(ArchivedEventLog):
    """Nothing stays in the live log for longer than a call."""

    def append(self, interactions: Sequence[Interaction]) -> AppendResult:
        appended = super().append(interactions)
        self.drain()
        return appended

    def append_impressions(self, impressions: Sequence[Impression]) -> None:
        super().append_impressions(impressions)
        self.drain()


class TestArchivedSqlite(EventStoreContract):
    kind: type[ArchivedEventLog] = ArchivedEventLog

    def open(self, folder: Path) -> EventStore:
        return self.kind(partial(SqliteEventStore, folder / "live"), str(folder / "home"))


class TestDrainedSqlite(TestArchivedSqlite):
    kind = DrainedAtOnce


class TestArchivedRedis(EventStoreContract):
    kind: type[ArchivedEventLog] = ArchivedEventLog

    @pytest.fixture(autouse=True)
    def _server(self, redis_url: str) -> None:
        self.url = redis_url

    def open(self, folder: Path) -> EventStore:
        return self.kind(partial(RedisEventStore, self.url, str(folder)), str(folder / "home"))


class TestDrainedRedis(TestArchivedRedis):
    kind = DrainedAtOnce


@pytest.fixture(params=["sqlite", "redis"])
def live(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], ArchivableStore]:
    if request.param == "sqlite":
        return partial(SqliteEventStore, tmp_path / "live")
    return partial(RedisEventStore, request.getfixturevalue("redis_url"), str(tmp_path))


def filled(live: Callable[[], ArchivableStore], home: Path) -> ArchivedEventLog:
    store = ArchivedEventLog(live, str(home))
    store.append([interaction(f"e{number}", minute=number) for number in range(10)])
    store.append_impressions([replace(SHOWN, request_id=f"r{number}") for number in range(10)])
    return store


def read(store: EventStore, after: int = 0) -> tuple[list[str], list[str]]:
    batches = store.interactions(store.end().interactions, after)
    done = [event for batch in batches for event in batch["event_id"].to_pylist()]
    return done, [shown.request_id for shown in store.impressions(after)]


def numbered(start: int, stop: int) -> tuple[list[str], list[str]]:
    return [f"e{number}" for number in range(start, stop)], [
        f"r{number}" for number in range(start, stop)
    ]


def test_archive_and_live_log_are_one_log(
    live: Callable[[], ArchivableStore], tmp_path: Path
) -> None:
    store = filled(live, tmp_path / "home")
    assert store.drain() == 20
    assert store.live.counts() == {"interactions": 0, "impressions": 0, "quarantined": 0}
    store.append([interaction("e10"), interaction("e3")])
    store.append_impressions([replace(SHOWN, request_id="r10")])
    assert read(store) == numbered(0, 11)
    assert read(store, after=4) == numbered(4, 11)
    assert store.impression("r2") == replace(SHOWN, request_id="r2")
    assert store.counts() == {"interactions": 11, "impressions": 11, "quarantined": 0}
    assert len(store.user_events("u", EVENING - timedelta(days=1), 99).interactions) == 11
    assert (store.drain(), store.drain()) == (2, 0)
    assert read(store) == numbered(0, 11)


@pytest.mark.parametrize("step", range(1, 8))
def test_a_drainer_that_fails_anywhere_loses_and_doubles_nothing(
    step: int, live: Callable[[], ArchivableStore], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, left = filled(live, tmp_path / "home"), step

    def dies(work: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            nonlocal left
            left -= 1
            if left == 0:
                raise StoreDownError("the power went")
            return work(*arguments)

        return call

    with monkeypatch.context() as patch:
        patch.setattr(store.home, "write", dies(store.home.write))
        patch.setattr(store.live, "acknowledge", dies(store.live.acknowledge))
        if step < 7:
            with pytest.raises(StoreDownError, match="power"):
                store.drain()
        else:
            assert store.drain() == 20  # there is no seventh step
    assert read(store) == numbered(0, 10)
    store.append([interaction("e10")])
    store.append_impressions([replace(SHOWN, request_id="r10")])
    store.drain()
    assert read(store) == numbered(0, 11)
    assert store.counts() == {"interactions": 11, "impressions": 11, "quarantined": 0}


@pytest.mark.parametrize("step", [1, 2, 3, 5])
def test_a_drainer_killed_with_kill_9_loses_and_doubles_nothing(
    step: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    live = partial(SqliteEventStore, tmp_path / "live")
    filled(live, tmp_path / "home").close()
    killed = subprocess.run(
        [sys.executable, "-c", DRAINER, str(tmp_path), str(step)], cwd=ROOT, check=False
    )
    assert killed.returncode == -9
    store = ArchivedEventLog(live, str(tmp_path / "home"))
    assert read(store) == numbered(0, 10)
    assert store.drain() == 0  # the dead one's lock still holds
    (lock,) = store.live.database.connection().execute("SELECT token FROM leases").fetchone()
    store.live.release_lease(lock)
    store.drain()
    assert read(store) == numbered(0, 10)
    named = {r.file for kind in KINDS for r in store.files.segments(kind)}
    assert {path for path in store.home.files("log") if path.endswith(".parquet")} == named


def test_two_drainers_at_once_write_twice_and_are_read_once(
    live: Callable[[], ArchivableStore], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lock ran out while the first slept before its record: the second drained all of it, and
    more."""
    slow, fast = filled(live, tmp_path / "home"), ArchivedEventLog(live, str(tmp_path / "home"))
    write, overtaken = slow.files.commit, []

    def sleeps(record: Any) -> None:
        if not overtaken:
            overtaken.append(record)
            fast.append([interaction("e10")])
            monkeypatch.setattr(fast.live, "acquire_lease", lambda *_: True)
            fast.drain()
        write(record)

    monkeypatch.setattr(slow.files, "commit", sleeps)
    slow.drain()
    assert overtaken
    assert read(slow)[0] == read(fast)[0] == numbered(0, 11)[0]
    assert slow.counts() == {"interactions": 11, "impressions": 10, "quarantined": 0}


def test_a_second_drainer_leaves_the_first_alone(
    live: Callable[[], ArchivableStore], tmp_path: Path
) -> None:
    store = filled(live, tmp_path / "home")
    other = ArchivedEventLog(live, str(tmp_path / "home"))
    assert store.live.acquire_lease("mine", 60)
    assert other.drain() == 0
    with pytest.raises(StoreDownError, match="is being drained"):
        other.forget("u")
    store.live.release_lease("mine")
    assert other.drain() == 20


def test_a_reader_goes_on_where_rows_went_to_the_archive(
    live: Callable[[], ArchivableStore], tmp_path: Path
) -> None:
    store = filled(live, tmp_path / "home")
    batches, shown = store.interactions(99), store.impressions()
    first = next(shown).request_id
    store.drain()
    assert [first, *(each.request_id for each in shown)] == numbered(0, 10)[1]
    assert [event for batch in batches for event in batch["event_id"].to_pylist()] == numbered(
        0, 10
    )[0]


def test_who_is_forgotten_leaves_the_archive(
    live: Callable[[], ArchivableStore], tmp_path: Path
) -> None:
    store = filled(live, tmp_path / "home")
    store.append([interaction("other", user_id="v")])
    store.append_impressions([replace(SHOWN, request_id="other", user_id=None)])
    store.drain()
    store.append([interaction("e10")])
    store.set_privacy_state("u", PrivacyState(forgotten=EVENING + timedelta(hours=1)))
    gone = {"interactions": 11, "impressions": 10, "quarantined": 0}
    assert store.traces("u") == store.forget("u") == gone
    assert store.traces("u") == dict.fromkeys(gone, 0)
    assert read(store) == (["other"], ["other"])
    held = b"".join(store.home.read(path) for path in store.home.files("log"))
    assert b"e10" not in held
    assert len(store.home.files("log")) == 4


def test_a_lost_server_is_not_taken_for_the_same_log(tmp_path: Path) -> None:
    filled(partial(SqliteEventStore, tmp_path / "live"), tmp_path / "home").drain()
    anew = ArchivedEventLog(partial(SqliteEventStore, tmp_path / "anew"), str(tmp_path / "home"))
    anew.append([interaction("e10")])
    anew.append_impressions([replace(SHOWN, request_id="r10")])
    assert read(anew) == numbered(0, 11)
    behind = SqliteEventStore(tmp_path / "behind")
    behind.append([interaction("x")])
    with pytest.raises(InputError, match="its server lost rows"):
        ArchivedEventLog(
            partial(SqliteEventStore, tmp_path / "behind"), str(tmp_path / "home")
        ).drain()


def test_segments_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recsys.events.sqlite.PAGE_ROWS", 3)
    monkeypatch.setattr(archive, "SEGMENT_ROWS", LogPosition(4, 10))
    live = partial(SqliteEventStore, tmp_path / "live")
    store = filled(live, tmp_path / "home")
    store.drain()
    assert read(store) == numbered(0, 10)
    assert isinstance(store.home, ArtifactStore)


def test_who_asks_what_is_left_hears_of_rows_that_the_archive_alone_holds(
    redis_url: str, tmp_path: Path
) -> None:
    store = ArchivedEventLog(partial(RedisEventStore, redis_url, "left-in-archive"), str(tmp_path))
    store.append([interaction("e1"), interaction("e2", minute=5)])
    store.drain()
    store.live.client.delete(store.live.key(f"recent:{store.digest('u')}"))  # as time does
    assert store.user_events("u", EVENING - timedelta(days=1), 9).interactions == []
    assert find_log_traces(store, "u", EVENING + timedelta(minutes=1))["interactions"] == 1
    store.close()


def test_a_lease_has_one_holder_until_it_is_released_or_ends(
    live: Callable[[], ArchivableStore],
) -> None:
    store = live()
    assert store.acquire_lease("mine", 60)
    assert not store.acquire_lease("other", 60)
    store.release_lease("other")  # whoever does not hold it cannot end it
    assert not store.acquire_lease("other", 60)
    assert store.acquire_lease("mine", 0.05), "renewed, and shortened"
    time.sleep(0.1)
    assert store.acquire_lease("other", 60)
    assert not store.acquire_lease("mine", 60)
    store.release_lease("mine")
    assert not store.acquire_lease("mine", 60)
    store.close()
