"""Requests to be forgotten, one and many, over releases of three users by hand."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from recsys.config import Setup
from recsys.errors import InputError, NotFoundError
from recsys.events.sqlite import SqliteEventStore
from recsys.interfaces import EventStore
from recsys.privacy.bulk import check_receipts, forget_users, read_ids
from recsys.privacy.erasure import USER_FILES, USERS
from recsys.privacy.forget import erase_users, forget_user
from recsys.privacy.receipts import open_receipt, seal_receipt
from recsys.privacy.traces import find_traces
from recsys.release.manifest import read_manifest
from recsys.storage.artifacts import ArtifactStore
from recsys.types import Interaction, PrivacyState
from tests.checkerboard import setup
from tests.user_release import NIGHT, arrow_file, publish_users, users_of

NOW = NIGHT + timedelta(hours=1)


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Setup:
    monkeypatch.setenv("NIGHTSHELF_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HOME", str(tmp_path / "node"))
    monkeypatch.delenv("NIGHTSHELF_EVENTS", raising=False)
    return setup()


@pytest.fixture
def store(shop: Setup) -> ArtifactStore:
    return ArtifactStore(shop.home)


@pytest.fixture
def events(tmp_path: Path) -> Iterator[EventStore]:
    log = SqliteEventStore(tmp_path / "log.sqlite")
    yield log
    log.close()


def act(events: EventStore, user: str, time: datetime) -> None:
    """An interaction of the user, who had decided nothing when it was sent."""
    decided = events.privacy_state(user)
    events.set_privacy_state(user, PrivacyState())
    event_id = f"{user}-{time.isoformat()}"
    events.append(
        [Interaction(event_id=event_id, user_id=user, item_id="x", type="view", time=time)]
    )
    events.set_privacy_state(user, decided)


def interactions(events: EventStore, user: str) -> int:
    return events.traces(user).get("interactions", 0)


# One user


def test_a_receipt_says_what_is_gone_and_what_is_left(
    shop: Setup, store: ArtifactStore, events: EventStore
) -> None:
    publish_users(store, "v1", peers=["b"])
    act(events, "a", NIGHT)
    receipt = forget_user(shop, events, "a", NOW)
    assert receipt.gone == {"log/interactions": 1}, "and no kind of which there was nothing"
    assert receipt.left == {f"releases/v1/{USERS}": 1}
    assert (receipt.forgotten, open_receipt(events, receipt.token)) == (NOW, ("a", NOW))
    assert events.privacy_state("a") == PrivacyState(forgotten=NOW)


def test_who_opted_out_stays_so_when_forgotten(shop: Setup, events: EventStore) -> None:
    events.set_privacy_state("a", PrivacyState(opted_out=True))
    forget_user(shop, events, "a", NOW)
    assert events.privacy_state("a") == PrivacyState(forgotten=NOW, opted_out=True)


def test_what_was_logged_while_a_user_was_being_forgotten_goes_too(
    shop: Setup, events: EventStore
) -> None:
    for user in ("a", "b", "c"):
        forget_user(shop, events, user, NOW)
    act(events, "a", NOW)
    act(events, "b", NOW)
    act(events, "c", NOW + timedelta(seconds=1))
    act(events, "d", NIGHT)
    erase_users(shop, events, ["a", "c", "d"])
    left = {user: interactions(events, user) for user in "abcd"}
    assert left == {"a": 0, "b": 1, "c": 1, "d": 1}, "not listed; came back; was never forgotten"


def test_releases_that_cannot_be_read_do_not_stop_the_others(
    shop: Setup, store: ArtifactStore, events: EventStore
) -> None:
    for version in ("v1", "v2", "v3"):
        publish_users(store, version)
    store.write("releases/v1/manifest.json", b"{")
    store.write(f"releases/v2/{USERS}", b"other")
    left = forget_user(shop, events, "b", NOW).left
    assert left == {f"releases/{version}/{USERS}": 1 for version in ("v1", "v2", "v3")}
    assert erase_users(shop, events) == {"v3": 1}
    assert users_of(store, read_manifest(store, "v3")) == [["a"], ["c"]]


def test_replaced_files_go_with_the_next_erasure_whomever_it_erases(
    shop: Setup, store: ArtifactStore, events: EventStore
) -> None:
    publish_users(store, "v1")
    forget_user(shop, events, "b", NOW)
    assert erase_users(shop, events, ["b"]) == {"v1": 1}
    assert all(store.exists(f"releases/v1/{name}") for name in USER_FILES)
    assert erase_users(shop, events, [], grace_s=0) == {}
    assert not any(store.exists(f"releases/v1/{name}") for name in USER_FILES)


def test_stale_copies_of_this_node_go(
    shop: Setup, store: ArtifactStore, events: EventStore
) -> None:
    manifest = publish_users(store, "v1")
    views = [Path.home() / ".cache" / "nightshelf" / name for name in ("current", "stale")]
    for view, total in zip(views, (manifest.files[USERS], "0" * 64), strict=True):
        view.mkdir(parents=True)
        origin = {"uri": store.uri, "folder": "releases/v1", "files": {USERS: total}}
        (view / ".view.json").write_text(json.dumps(origin))
        (view / USERS).write_bytes(arrow_file(["a"]))
    erase_users(shop, events, [])
    assert [view.exists() for view in views] == [True, False]


def test_a_receipt_of_another_time_or_user_is_another(events: EventStore) -> None:
    for user, time in (("a", NOW), ("ü/☃", NIGHT)):
        assert open_receipt(events, seal_receipt(events, user, time)) == (user, time)
    for token in ("", "a", "ü", "Ā"):
        with pytest.raises(NotFoundError, match="no receipt"):
            open_receipt(events, token)


# Many


def test_ids_are_read_once_each_in_their_order(tmp_path: Path) -> None:
    file = tmp_path / "ids"
    file.write_text("b\n\n  \na\nb\nü\n", encoding="utf-8")
    assert read_ids(file) == ["b", "a", "ü"]


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "cannot be read"), (b"caf\xe9\n", "cannot be read"), (b"\n \n", "names nobody")],
)
def test_a_file_without_ids_is_refused(tmp_path: Path, content: bytes | None, message: str) -> None:
    file = tmp_path / "ids"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_ids(file)


@pytest.mark.parametrize("deletes", [True, False])
def test_many_are_forgotten_in_one_pass(
    shop: Setup, store: ArtifactStore, events: EventStore, deletes: bool
) -> None:
    """All that is left are unfinished nights, unless those go too."""
    publish_users(store, "v1", peers=["b"])
    publish_users(store, "v2", shards=[["c"]], peers=["c"])
    store.write("work/v1/a.arrow", arrow_file(["b"]))
    store.write("work/v9/a.arrow", arrow_file(["a", "c"]))
    act(events, "a", NIGHT)
    lines: list[str] = []
    receipts = forget_users(
        shop, events, ["a", "b"], grace_s=0, delete_unfinished=deletes, say=lines.append
    )
    assert [open_receipt(events, each)[0] for each in receipts] == ["a", "b"]
    assert lines[0] == "release v1 amended: 3 rows deleted"
    assert lines[1:] == (["night v9, which had not ended, deleted"] if deletes else [])
    assert store.exists("work/v9/a.arrow") == (not deletes)
    assert read_manifest(store, "v1").amendments == 1
    assert not store.exists(f"releases/v1/{USERS}")
    left = find_traces(shop, events, *open_receipt(events, receipts[0]))
    assert left == ({} if deletes else {"work/v9": 1})


def test_the_grace_passes_between_the_erasures(
    shop: Setup, store: ArtifactStore, events: EventStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish_users(store, "v1")
    waits: list[tuple[float, bool]] = []

    def wait(seconds: float) -> None:
        waits.append((seconds, store.exists(f"releases/v1/{USERS}")))

    monkeypatch.setattr("recsys.privacy.bulk.time.sleep", wait)
    monkeypatch.setattr(ArtifactStore, "age_s", lambda self, path: 9.0 * len(waits))
    forget_users(shop, events, ["a"], grace_s=9.0, delete_unfinished=False, say=print)
    assert waits == [(9.0, True)]
    assert not store.exists(f"releases/v1/{USERS}")


def test_receipts_say_of_how_many_something_is_left(
    shop: Setup, store: ArtifactStore, events: EventStore
) -> None:
    store.write("work/v1/x.arrow", arrow_file(["a"]))
    store.write("work/v2/x.arrow", arrow_file(["a", "b"]))
    tokens = [seal_receipt(events, user, NOW) for user in ("a", "c", "b")]
    lines: list[str] = []
    assert check_receipts(shop, events, tokens, lines.append) == 2
    assert lines == [
        f"{tokens[0]}  left: 1 in work/v1, 1 in work/v2",
        f"{tokens[1]}  nothing is left",
        f"{tokens[2]}  left: 1 in work/v2",
    ]
    assert check_receipts(shop, events, [], lines.append) == 0
    with pytest.raises(NotFoundError, match="no receipt"):
        check_receipts(shop, events, ["none"], lines.append)
