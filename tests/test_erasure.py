"""Erasure from a release of three users by hand: who goes, what the manifest says, which replaced
files are deleted when."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from recsys.errors import NotFoundError, ReleaseError
from recsys.privacy.decisions import PrivacyDecisions
from recsys.privacy.erasure import (
    PEERS,
    QUARANTINE,
    USER_ARRAYS,
    USER_FILES,
    USERS,
    delete_replaced_files,
    erase_users_from_release,
    is_unlisted_user_file,
    release_time,
)
from recsys.release.manifest import read_manifest
from recsys.storage.artifacts import ArtifactStore
from recsys.types import PrivacyState
from tests.user_release import NIGHT, publish_users, users_of

FORGOTTEN = PrivacyState(forgotten=NIGHT)
BASE = "releases/v1"


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(str(tmp_path))


def forgetting(*users: str) -> PrivacyDecisions:
    return PrivacyDecisions(states=dict.fromkeys(users, FORGOTTEN))


def test_the_rows_of_a_user_go_from_every_file_and_all_others_stay(store: ArtifactStore) -> None:
    publish_users(store, "v1", quarantined=("b", "c"))
    assert erase_users_from_release(store, "v1", forgetting("c")) == 3
    after = read_manifest(store, "v1")
    assert users_of(store, after) == [["a", "b"]]
    assert users_of(store, after, PEERS) == [["a"]]
    rows = pq.read_table(f"{store.uri}/{BASE}/{after.path_of(QUARANTINE)}")
    assert rows["source"].to_pylist() == ['{"user_id": "b"}']
    for name in USER_ARRAYS:
        values = np.load(f"{store.uri}/{BASE}/{after.path_of(name)}")
        assert values.tolist() == [[0.0], [1.0]], name
    assert after.counts == {"items": 7, "users": 2}
    assert (after.amendments, after.replaced) == (1, list(USER_FILES))
    assert after.files.keys() == {"items.arrow", *(f"{after.amended}/{f}" for f in USER_FILES)}
    assert all(store.sha256(f"{BASE}/{path}") == total for path, total in after.files.items())


def test_the_second_erasure_replaces_the_files_of_the_first(store: ArtifactStore) -> None:
    publish_users(store, "v1")
    assert erase_users_from_release(store, "v1", forgetting("a")) == 2
    first = read_manifest(store, "v1")
    assert erase_users_from_release(store, "v1", forgetting("a", "b")) == 1
    second = read_manifest(store, "v1")
    assert users_of(store, second) == [["c"]]
    assert (second.amendments, second.counts["users"]) == (2, 1)
    assert second.replaced == [*USER_FILES, *(f"{first.amended}/{name}" for name in USER_FILES)]
    assert len(second.files) == 1 + len(USER_FILES)


def test_only_the_listed_users_are_erased(store: ArtifactStore) -> None:
    publish_users(store, "v1")
    assert erase_users_from_release(store, "v1", forgetting("a", "c"), ["a", "b"]) == 2
    assert users_of(store, read_manifest(store, "v1")) == [["b"], ["c"]]
    assert erase_users_from_release(store, "v1", forgetting("a", "c"), []) == 0


def test_where_nobody_is_erased_nothing_is_written(store: ArtifactStore) -> None:
    before = publish_users(store, "v1")
    assert erase_users_from_release(store, "v1", forgetting("stranger")) == 0
    assert read_manifest(store, "v1") == before
    assert len(store.files(BASE)) == len(before.files) + 1


def test_what_is_later_than_the_decision_stays(store: ArtifactStore) -> None:
    """`forgotten` at the very time of the release is no later than it."""
    publish_users(store, "v1")
    earlier = PrivacyState(forgotten=NIGHT - timedelta(microseconds=1))
    assert erase_users_from_release(store, "v1", PrivacyDecisions(states={"a": earlier})) == 0
    assert erase_users_from_release(store, "v1", forgetting("a")) == 2


def test_peers_without_names_all_go_with_anybody(store: ArtifactStore) -> None:
    publish_users(store, "v1", peers=("", "c", ""))
    assert erase_users_from_release(store, "v1", forgetting("stranger")) == 0
    assert erase_users_from_release(store, "v1", forgetting("b")) == 3
    assert users_of(store, read_manifest(store, "v1"), PEERS) == [["c"]]


def test_a_quarantined_row_alone_is_reason_enough(store: ArtifactStore) -> None:
    publish_users(store, "v1", quarantined=("x",))
    assert erase_users_from_release(store, "v1", forgetting("x")) == 1


def test_a_damaged_file_is_not_written_again(store: ArtifactStore) -> None:
    before = publish_users(store, "v1")
    store.write(f"{BASE}/{USER_ARRAYS[0]}", b"other")
    with pytest.raises(ReleaseError, match="is damaged"):
        erase_users_from_release(store, "v1", forgetting("a"))
    assert read_manifest(store, "v1") == before
    with pytest.raises(NotFoundError):
        erase_users_from_release(store, "v2", forgetting("a"))


def test_files_that_another_erasure_made_stale_are_deleted_at_once(
    store: ArtifactStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first of two at once finds another manifest than it read: it must not publish, and what
    it wrote still held the other's user."""
    publish_users(store, "v1")
    write, raced = ArtifactStore.write, list[str]()

    def slow(self: ArtifactStore, path: str, data: bytes) -> str:
        if path.endswith(USERS) and not raced:
            raced.append(path)
            erase_users_from_release(store, "v1", forgetting("b"))
        return write(self, path, data)

    monkeypatch.setattr(ArtifactStore, "write", slow)
    assert erase_users_from_release(store, "v1", forgetting("a")) == 2
    manifest = read_manifest(store, "v1")
    assert users_of(store, manifest) == [["c"]]
    assert [path for path in raced if store.exists(path)] == []


def test_a_file_that_vanished_while_it_was_written_is_not_published(
    store: ArtifactStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish_users(store, "v1")
    write, lost = ArtifactStore.write, list[str]()

    def losing(self: ArtifactStore, path: str, data: bytes) -> str:
        total = write(self, path, data)
        if path.endswith(PEERS) and not lost:
            lost.append(path)
            store.remove(path)
        return total

    monkeypatch.setattr(ArtifactStore, "write", losing)
    assert erase_users_from_release(store, "v1", forgetting("a")) == 2
    manifest = read_manifest(store, "v1")
    assert all(store.exists(f"{BASE}/{path}") for path in manifest.files)
    assert manifest.amended not in lost[0]


def test_replaced_files_stay_for_the_grace_after_the_last_erasure(
    store: ArtifactStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish_users(store, "v1")
    erase_users_from_release(store, "v1", forgetting("a"))
    manifest = read_manifest(store, "v1")
    ages = {f"{BASE}/manifest.json": 29.9}
    monkeypatch.setattr(ArtifactStore, "age_s", lambda self, path: ages.get(path, 1000.0))
    assert delete_replaced_files(store, "v1", 30.0) == 0
    ages[f"{BASE}/manifest.json"] = 30.0
    assert delete_replaced_files(store, "v1", 30.0) == len(USER_FILES)
    left = {path.removeprefix(f"{BASE}/") for path in store.files(BASE)}
    assert left == {"manifest.json", *manifest.files}


def test_files_of_users_that_no_manifest_names_go_after_an_hour(
    store: ArtifactStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = publish_users(store, "v1")
    strays = [f"{BASE}/amended-{name}/{USERS}" for name in ("new", "old")]
    for path in (*strays, f"{BASE}/amended-old/notes.txt"):
        store.write(path, b"x")
    ages = {strays[0]: 3599.9, f"{BASE}/manifest.json": 1e9}
    monkeypatch.setattr(ArtifactStore, "age_s", lambda self, path: ages.get(path, 3600.0))
    assert delete_replaced_files(store, "v1", 0.0) == 1
    left = {path.removeprefix(f"{BASE}/") for path in store.files(BASE)}
    others = {"manifest.json", f"amended-new/{USERS}", "amended-old/notes.txt"}
    assert left == {*manifest.files, *others}


def test_a_file_of_users_is_unlisted_wherever_it_lies(store: ArtifactStore) -> None:
    manifest = publish_users(store, "v1")
    assert not is_unlisted_user_file(USERS, manifest)
    assert is_unlisted_user_file(f"amended-1/{USERS}", manifest)
    assert is_unlisted_user_file(f"amended-1/deeper/{PEERS}", manifest)
    assert not is_unlisted_user_file("amended-1/items.arrow", manifest)


def test_a_release_without_a_time_zone_is_of_utc(store: ArtifactStore) -> None:
    plain = publish_users(store, "v1", created="2026-01-03T02:00:00")
    east = publish_users(store, "v2", created="2026-01-03T02:00:00+01:00")
    assert release_time(plain) == datetime(2026, 1, 3, 2, tzinfo=UTC)
    assert release_time(east) == datetime(2026, 1, 3, 1, tzinfo=UTC)


def test_an_erasure_whose_files_another_replaced_and_deleted_begins_again(
    store: ArtifactStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish_users(store, "v1")
    local_folder, raced = ArtifactStore.local_folder, list[str]()

    def slow(self: ArtifactStore, folder: str, files: dict[str, str]) -> Path:
        if not raced:
            raced.append(folder)
            erase_users_from_release(store, "v1", forgetting("b"))
            delete_replaced_files(store, "v1", 0.0)
        return local_folder(self, folder, files)

    monkeypatch.setattr(ArtifactStore, "local_folder", slow)
    assert erase_users_from_release(store, "v1", forgetting("a")) == 2
    assert users_of(store, read_manifest(store, "v1")) == [["c"]]
