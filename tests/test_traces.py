"""The audit of a forgotten user: every place of a shop by hand, with what must count and what must
not."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest

from recsys.config import Setup
from recsys.privacy.erasure import PEERS, QUARANTINE, USER_ARRAYS, USERS
from recsys.privacy.traces import find_log_traces, find_traces, stale_copies
from recsys.storage.artifacts import ArtifactStore
from recsys.types import Impression
from tests.checkerboard import setup
from tests.event_log import batches, event
from tests.user_release import (
    NIGHT,
    arrow_file,
    npy_file,
    parquet_file,
    publish_users,
    quarantine_file,
)

SECOND = timedelta(seconds=1)
#: utc_days of NIGHT.
NIGHT_DAYS = 20456.0


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Setup:
    """Without releases; the copies of this node are its own."""
    monkeypatch.setenv("NIGHTSHELF_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HOME", str(tmp_path / "node"))
    monkeypatch.delenv("NIGHTSHELF_EVENTS", raising=False)
    return setup()


@pytest.fixture
def store(shop: Setup) -> ArtifactStore:
    return ArtifactStore(shop.home)


class Log(SimpleNamespace):
    """An event log by hand; nobody's unless told otherwise."""

    def __init__(self, **methods: Any) -> None:
        super().__init__(**{"traces": lambda user: {}, "digest": str.upper, **methods})


def traces_of(shop: Setup, user: str = "a", forgotten: datetime = NIGHT) -> dict[str, int]:
    return find_traces(shop, Log(), user, forgotten)


# The log


def log_of(*times: datetime, archived: int = 0) -> Any:
    """One interaction and one impression of "a" at each of the times, and of "b" long ago; the
    first `archived` are too old for `user_events`."""
    rows = [
        event("x", "view", event_id=f"e{n}", user_id="a", time=at) for n, at in enumerate(times)
    ]
    others = event("x", "view", event_id="other", user_id="b", time=NIGHT - 9 * SECOND)
    shown = [
        Impression(
            request_id="r",
            time=each.time,
            release="v",
            surface="s",
            user_id=each.user_id,
            item_ids=("x",),
        )
        for each in (*rows, others)
    ]
    return Log(
        traces=lambda user: {"interactions": len(rows), "impressions": len(rows), "quarantined": 3},
        user_events=lambda user, since, limit: SimpleNamespace(interactions=rows[archived:]),
        end=lambda: SimpleNamespace(interactions=7),
        interactions=lambda until: batches(*rows, others) if until == 7 else iter(()),
        impressions=lambda: iter(shown),
    )


@pytest.mark.parametrize("archived", [0, 1, 3])
def test_rows_of_the_log_count_up_to_the_request(archived: int) -> None:
    """Each once, whether in the archive or not."""
    log = log_of(NIGHT - SECOND, NIGHT, NIGHT + SECOND, archived=archived)
    counts = find_log_traces(log, "a", NIGHT)
    assert counts == {"interactions": 2, "impressions": 2, "quarantined": 3}


def test_who_came_back_later_has_no_traces(shop: Setup) -> None:
    log = log_of(NIGHT + SECOND)
    log.traces = lambda user: {"interactions": 1, "impressions": 1}
    assert find_log_traces(log, "a", NIGHT) == {"interactions": 0, "impressions": 0}
    assert find_traces(shop, log, "a", NIGHT) == {}


def test_of_who_is_not_in_the_log_no_row_is_read() -> None:
    log = Log(traces=lambda user: {"interactions": 0, "impressions": 0, "quarantined": 0})
    assert find_log_traces(log, "a", NIGHT) == {}
    log.traces = lambda user: {"interactions": 0, "quarantined": 2}
    assert find_log_traces(log, "a", NIGHT) == {"interactions": 0, "quarantined": 2}


# Releases


def test_every_file_that_names_the_user_counts(shop: Setup, store: ArtifactStore) -> None:
    publish_users(store, "v1", peers=("a", "c", "a"), quarantined=("a", "b", "a", "a"))
    publish_users(store, "v2", shards=[["b"]], peers=["b"])
    assert traces_of(shop) == {
        f"releases/v1/{USERS}": 1,
        f"releases/v1/{PEERS}": 2,
        f"releases/v1/{QUARANTINE}": 3,
    }
    assert traces_of(shop, "stranger") == {}


def test_a_release_that_began_after_the_request_counts_what_was_before_it(
    shop: Setup, store: ArtifactStore
) -> None:
    """The user came back: in a later release only days up to the request are of before."""
    publish_users(store, "v1", peers=["b"], created=(NIGHT + SECOND).isoformat())
    for days, count in ((NIGHT_DAYS - 1, 1), (NIGHT_DAYS, 1), (NIGHT_DAYS + 0.001, 0)):
        store.write(f"releases/v1/{USERS}", arrow_file(["a"], days=days))
        assert traces_of(shop).get(f"releases/v1/{USERS}", 0) == count, days


def test_in_an_older_release_the_user_counts_whatever_their_days(
    shop: Setup, store: ArtifactStore
) -> None:
    publish_users(store, "v1", peers=["b"])
    store.write(f"releases/v1/{USERS}", arrow_file(["a"], days=NIGHT_DAYS + 5))
    assert traces_of(shop, forgotten=NIGHT) == {f"releases/v1/{USERS}": 1}
    assert traces_of(shop, forgotten=NIGHT - SECOND) == {}


def test_files_of_users_without_a_manifest_count(shop: Setup, store: ArtifactStore) -> None:
    store.write(f"releases/v1/amended-1/{USERS}", arrow_file(["b"], ["a"], days=1.0))
    store.write(f"releases/v1/{USER_ARRAYS[0]}", npy_file([1]))
    assert traces_of(shop) == {f"releases/v1/amended-1/{USERS}": 1}


def test_replaced_arrays_count_until_they_are_deleted(shop: Setup, store: ArtifactStore) -> None:
    """Their rows have no names: they may be anybody's who was forgotten after the release."""
    replaced, other = USER_ARRAYS[:2]
    publish_users(store, "v1", shards=[["b"]], peers=["b"], replaced=[replaced])
    assert traces_of(shop) == {f"releases/v1/{replaced}": 1}
    assert traces_of(shop, forgotten=NIGHT - SECOND) == {}
    assert store.exists(f"releases/v1/{other}")


def test_a_damaged_file_counts_and_stops_no_audit(shop: Setup, store: ArtifactStore) -> None:
    """Nobody can tell whom it holds, so no receipt may say that nothing is left."""
    publish_users(store, "v1", shards=[["b"]], peers=["a"])
    for name in (USERS, QUARANTINE):
        store.write(f"releases/v1/{name}", b"torn")
    expected = {f"releases/v1/{name}": 1 for name in (USERS, PEERS, QUARANTINE)}
    assert traces_of(shop) == expected


# Nights that have not published


@pytest.mark.parametrize(("begun", "files"), [(-1, 2), (0, 2), (1, 0)])
def test_work_of_a_night_that_began_before_the_request_counts(
    shop: Setup, store: ArtifactStore, begun: int, files: int
) -> None:
    plan = {"until": (NIGHT + begun * SECOND).isoformat()}
    store.write("work/v9/plan.json", json.dumps(plan).encode())
    store.write("work/v9/a.arrow", arrow_file(["a", "a"]))
    store.write("work/v9/deep/b.parquet", quarantine_file("a"))
    store.write("work/v9/c.parquet", parquet_file(pa.table({"user_id": ["b"]})))
    store.write("work/v9/d.parquet", parquet_file(pa.table({"item_id": ["a"]})))
    store.write("work/v9/e.json", b'"a"')
    assert traces_of(shop) == ({"work/v9": files} if files else {})


def test_work_without_a_plan_counts(shop: Setup, store: ArtifactStore) -> None:
    store.write("work/v8/a.arrow", arrow_file(["a"]))
    store.write("work/v9/a.arrow", arrow_file(["b", "a"]))
    assert traces_of(shop) == {"work/v8": 1, "work/v9": 1}


def test_ids_that_are_numbers_by_dictionary_are_read(shop: Setup, store: ArtifactStore) -> None:
    coded = pa.table({"user_id": pa.array(["b", "a"]).dictionary_encode()})
    store.write("work/v9/a.parquet", parquet_file(coded))
    assert traces_of(shop) == {"work/v9": 1}


# Copies of a bucket's files


def copied(store: ArtifactStore, name: str, folder: str, files: dict[str, str]) -> Path:
    """This node's copy of a folder, as `ArtifactStore.local_folder` makes it of a bucket."""
    view = Path.home() / ".cache" / "nightshelf" / name
    view.mkdir(parents=True)
    origin = {"uri": store.uri, "folder": folder, "files": files}
    (view / ".view.json").write_text(json.dumps(origin))
    (view / USERS).write_bytes(arrow_file(["a", "b"], ["a"]))
    (view / PEERS).write_bytes(arrow_file(["b", "a"]))
    (view / "items.arrow").write_bytes(b"no user's")
    return view


def test_only_copies_of_what_was_replaced_or_deleted_are_stale(
    shop: Setup, store: ArtifactStore
) -> None:
    manifest = publish_users(store, "v1", shards=[["b"]], peers=["b"])
    copied(store, "current", "releases/v1", {USERS: manifest.files[USERS]})
    copied(store, "whole", "releases/v1", manifest.files)
    replaced = copied(store, "replaced-0123456789", "releases/v1", {USERS: "0" * 64})
    deleted = copied(store, "deleted", "releases/v0", {USERS: manifest.files[USERS]})
    other = ArtifactStore(f"{shop.home}/other")
    copied(other, "other", "releases/v1", {USERS: "0" * 64})
    assert sorted(stale_copies(store)) == [deleted, replaced]
    assert traces_of(shop) == {"cache/deleted": 3, "cache/replaced-012": 3}
    assert traces_of(shop, "stranger") == {}
