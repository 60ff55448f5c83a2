"""Forgetting a user: nothing of them is left anywhere, nothing of anybody else is lost, and anybody
can check it."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recsys.config import Setup
from recsys.datasets.validate import check_events
from recsys.errors import NotFoundError
from recsys.interfaces import EventStore
from recsys.learning.online import OnlineTrainer
from recsys.models.snapshots import publish_snapshot, snapshot_states
from recsys.privacy.decisions import PrivacyDecisions, users_named
from recsys.privacy.erasure import USER_FILES, delete_replaced_files, erase_users_from_release
from recsys.privacy.forget import erase_users, forget_user
from recsys.privacy.receipts import Receipt, open_receipt
from recsys.privacy.traces import find_traces
from recsys.release.manifest import read_manifest
from recsys.release.release import Release
from recsys.storage.artifacts import ArtifactStore
from recsys.training.influence import OnlineConfig
from recsys.types import Impression, Interaction, PrivacyState
from tests.checkerboard import ITEMS, UNTIL, Checkerboard, setup

USER, OTHER = "u03", "u04"
NOW = UNTIL + timedelta(days=2)
ROOT = Path(__file__).parent.parent


@pytest.fixture
def home(shop_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two releases of this test's own, and a log in which both users did something."""
    shutil.copytree(shop_home, tmp_path / "home", ignore=shutil.ignore_patterns("events.sqlite*"))
    monkeypatch.setenv("NIGHTSHELF_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("NIGHTSHELF_EVENTS", raising=False)
    return tmp_path / "home"


@pytest.fixture
def shop(home: Path) -> Setup:
    return setup()


@pytest.fixture
def events(shop: Setup):
    store = shop.event_store()
    for user in (USER, OTHER):
        store.append(
            [
                Interaction(
                    event_id=f"e-{user}",
                    user_id=user,
                    item_id="i01",
                    type="click",
                    time=UNTIL + timedelta(hours=30),
                    request_id=user,
                )
            ]
        )
        shown = Impression(
            request_id=user,
            time=UNTIL + timedelta(hours=29),
            release="v",
            surface="search",
            item_ids=("i01",),
            user_id=user,
            query="lamp",
        )
        store.append_impressions([shown])
        store.quarantine([("no such item", {"user_id": user, "item_id": "x"})])
    yield store
    store.close()


def rows_of(release: Release) -> dict[str, tuple[list[int], list[float], list[int]]]:
    """Everything that a release holds of each user."""
    rows = {}
    for row in range(len(release.user_ids)):
        lists = release.candidate_rows_UN[row].tolist(), release.candidate_sources_UN[row].tolist()
        features = release.candidate_features_UNF[row].ravel().tolist()
        vector = release.user_vectors_UD[row].tolist()
        rows[release.user_ids[row]] = (
            release.history(row).items.tolist(),
            vector + features,
            lists[0] + lists[1],
        )
    return rows


def forget_and_erase(shop: Setup, events: EventStore, now: datetime = NOW) -> Receipt:
    receipt = forget_user(shop, events, USER, now)
    erase_users(shop, events, [USER], grace_s=0)
    return receipt


def test_a_forgotten_user_is_gone_everywhere_and_nobody_else_lost_anything(
    shop: Setup, events: EventStore, home: Path
) -> None:
    store = ArtifactStore(shop.home)
    before = {version: rows_of(Release.open(store, version)) for version in store.versions()}
    receipt = forget_user(shop, events, USER, NOW)
    assert receipt.gone == {"log/interactions": 1, "log/impressions": 1, "log/quarantined": 1}
    assert set(receipt.left) == {
        f"releases/{version}/{file}"
        for version in before
        for file in ("users.arrow", "peers.arrow")
    } | {path for path in receipt.left if "quarantine" in path}
    assert USER not in receipt.token
    assert open_receipt(events, receipt.token) == (USER, NOW)
    assert set(erase_users(shop, events, [USER], grace_s=0)) == set(before)
    assert find_traces(shop, events, USER, NOW) == {}
    assert USER.encode() not in b"".join(
        path.read_bytes() for path in home.rglob("*") if path.is_file()
    )
    for version, users in before.items():
        release = Release.open(store, version)  # every checksum compared
        assert rows_of(release) == {user: rows for user, rows in users.items() if user != USER}
        assert (release.manifest.counts["users"], release.manifest.amendments) == (
            len(users) - 1,
            1,
        )
        assert len(release.peers) == len(users) - 1
    assert events.traces(OTHER) == {"interactions": 1, "impressions": 1, "quarantined": 1}


def test_many_users_are_erased_at_once_and_the_next_erasure_replaces_the_last(
    shop: Setup, events: EventStore
) -> None:
    store = ArtifactStore(shop.home)
    for user in ("u00", "u01", "u39"):
        forget_user(shop, events, user, NOW)
    erase_users(shop, events, ["u00", "u39"], grace_s=0)
    assert "u01" in rows_of(Release.open(store))
    erase_users(shop, events, None, grace_s=0)
    release = Release.open(store)
    assert set(rows_of(release)).isdisjoint(["u00", "u01", "u39"])
    assert release.manifest.amendments == 2
    folders = [path.name for path in release.folder.glob("amended-*") if any(path.iterdir())]
    assert folders == [release.manifest.amended]


def test_what_was_replaced_stays_while_replicas_may_have_it_mapped(
    shop: Setup, events: EventStore
) -> None:
    forget_user(shop, events, USER, NOW)
    erase_users(shop, events, [USER], grace_s=60)
    left = find_traces(shop, events, USER, NOW)
    assert left
    assert all(path.startswith("releases/") for path in left)
    erase_users(shop, events, [], grace_s=0)
    assert find_traces(shop, events, USER, NOW) == {}


def put_back(name: str) -> Callable[[Setup, EventStore, dict[str, bytes]], None]:
    def place(shop: Setup, events: EventStore, old: dict[str, bytes]) -> None:
        path = next(path for path in old if path.endswith(name))
        ArtifactStore(shop.home).write(path, old[path])

    return place


def in_quarantine(shop: Setup, events: EventStore, old: dict[str, bytes]) -> None:
    store = ArtifactStore(shop.home)
    row = {
        "table": "events",
        "path": "p",
        "row": 1,
        "reason": "r",
        "source": json.dumps({"user_id": USER}),
    }
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist([row]), sink)
    store.write(f"releases/{store.current()}/quarantine.parquet", sink.getvalue())


def in_a_failed_night(shop: Setup, events: EventStore, old: dict[str, bytes]) -> None:
    store = ArtifactStore(shop.home)
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"user_id": [USER]}), sink)
    store.write(
        "work/2026-01-03T120000/plan.json", json.dumps({"until": UNTIL.isoformat()}).encode()
    )
    store.write("work/2026-01-03T120000/live.parquet", sink.getvalue())


def in_the_log(shop: Setup, events: EventStore, old: dict[str, bytes]) -> None:
    events.set_privacy_state(USER, PrivacyState())
    events.append(
        [Interaction(event_id="again", user_id=USER, item_id="i01", type="view", time=NOW)]
    )
    events.set_privacy_state(USER, PrivacyState(forgotten=NOW))


def in_a_snapshot(shop: Setup, events: EventStore, old: dict[str, bytes]) -> None:
    votes = {"user\x1f" + events.digest(USER): 0.5, "user\x1f" + events.digest(OTHER): 0.5}
    (Path(shop.home) / "net").mkdir()
    state = {"learner": {"votes": {"day": "", "votes": votes}}}
    publish_snapshot(shop, Path(shop.home) / "net", base="m", mark="", metrics={}, state=state)


LEFTOVERS = {
    "users": put_back("users.arrow"),
    "peers": put_back("peers.arrow"),
    "vectors": put_back("user_vectors.npy"),
    "candidates": put_back("candidates_features.npy"),
    "quarantine": in_quarantine,
    "work": in_a_failed_night,
    "log": in_the_log,
    "online": in_a_snapshot,
}


@pytest.mark.parametrize("place", LEFTOVERS)
def test_one_place_that_is_left_out_is_found(
    place: str, shop: Setup, events: EventStore, home: Path
) -> None:
    """The receipt does not remember: it looks."""
    old = {
        path.relative_to(home).as_posix(): path.read_bytes()
        for path in home.rglob("*")
        if path.name in USER_FILES
    }
    receipt = forget_and_erase(shop, events)
    assert find_traces(shop, events, *open_receipt(events, receipt.token)) == {}
    LEFTOVERS[place](shop, events, old)
    assert len(find_traces(shop, events, USER, NOW)) == 1


def test_the_votes_of_who_learned_by_day_go_and_others_stay(
    shop: Setup, events: EventStore
) -> None:
    in_a_snapshot(shop, events, {})
    forget_and_erase(shop, events)
    assert find_traces(shop, events, USER, NOW) == {}
    [state] = snapshot_states(shop).values()
    assert events.digest(OTHER) in state


@pytest.mark.parametrize("writes", [1, 5, 7, 8])
def test_killed_in_the_middle_the_release_is_the_old_one_or_the_new_one(
    writes: int, shop: Setup, events: EventStore
) -> None:
    """Seven files and then the manifest; killed by the system after so many writes."""
    store = ArtifactStore(shop.home)
    before = rows_of(Release.open(store))
    forget_user(shop, events, USER, NOW)
    code = f"""
import os, signal
from recsys.storage.artifacts import ArtifactStore
from recsys.privacy.decisions import PrivacyDecisions
from recsys.privacy.erasure import erase_users_from_release
from tests.checkerboard import setup
write, paths = ArtifactStore.write, []
def killed(self, path, data):
    total = write(self, path, data)
    paths.append(path)
    if len(paths) == {writes}:
        os.kill(os.getpid(), signal.SIGKILL)
    return total
ArtifactStore.write = killed
events = setup().event_store()
store = ArtifactStore(setup().home)
erase_users_from_release(store, store.current(), PrivacyDecisions.load(events))
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    died = subprocess.run(
        [sys.executable, "-c", code], env=environment, check=False, capture_output=True, text=True
    )
    assert died.returncode == -signal.SIGKILL, died.stderr
    after = rows_of(Release.open(store))
    gone = {user: rows for user, rows in before.items() if user != USER}
    assert after == (gone if writes == 8 else before)
    assert find_traces(shop, events, USER, NOW)
    erase_users(shop, events, None, grace_s=0)
    assert rows_of(Release.open(store)) == gone
    assert find_traces(shop, events, USER, NOW) == {}


def test_of_two_erasures_at_once_one_begins_again(
    shop: Setup, events: EventStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another user is erased between the reading and the writing: neither is in it afterwards."""
    store = ArtifactStore(shop.home)
    version = store.current()
    for user in (USER, OTHER):
        forget_user(shop, events, user, NOW)
    decisions, write, raced = PrivacyDecisions.load(events), ArtifactStore.write, []

    def slow(self: ArtifactStore, path: str, data) -> str:
        if path.endswith("candidates_sources.npy") and not raced:
            raced.append(path)
            erase_users_from_release(store, version, decisions, [OTHER])
            delete_replaced_files(store, version, 0)
        return write(self, path, data)

    monkeypatch.setattr(ArtifactStore, "write", slow)
    assert erase_users_from_release(store, version, decisions, [USER])
    delete_replaced_files(store, version, 0)
    assert set(rows_of(Release.open(store))).isdisjoint([USER, OTHER])
    assert read_manifest(store, version).amendments == 2


def test_a_user_who_comes_back_begins_anew_and_their_receipt_stays_true(
    shop: Setup, events: EventStore
) -> None:
    receipt = forget_and_erase(shop, events)
    events.append(
        [
            Interaction(
                event_id="back",
                user_id=USER,
                item_id="i00",
                type="click",
                time=NOW + timedelta(minutes=1),
            )
        ]
    )
    shown = Impression(
        request_id="r9",
        time=NOW + timedelta(minutes=1),
        release="v",
        surface="search",
        item_ids=("i01",),
        user_id=USER,
    )
    events.append_impressions([shown])
    assert events.traces(USER)["interactions"] == 1
    assert find_traces(shop, events, *open_receipt(events, receipt.token)) == {}


def test_a_receipt_that_is_none_is_refused(shop: Setup, events: EventStore, tmp_path: Path) -> None:
    token = forget_and_erase(shop, events).token
    other = replace(shop, event_store=lambda: type(events)(tmp_path / "other.sqlite")).event_store()
    for store, text in (
        (other, token),
        (events, token[:-4] + "AAAA"),
        (events, "x"),
        (events, "ü"),
    ):
        with pytest.raises(NotFoundError, match="no receipt"):
            open_receipt(store, text)
    other.close()


def test_ingest_leaves_out_what_was_before_and_keeps_what_came_later(events: EventStore) -> None:
    times = [UNTIL, UNTIL + timedelta(hours=3)]
    raw = Checkerboard(NOW)._events(
        [
            (user, f"i{n:02d}", "view", time)
            for user in (USER, OTHER)
            for n, time in enumerate(times)
        ]
    )
    bad = Checkerboard(NOW)._events([(user, "i05", "stare", UNTIL) for user in (USER, OTHER)])
    checked = check_events(pa.concat_tables([raw, bad]), "file", 0, NOW)
    events.set_privacy_state(USER, PrivacyState(forgotten=UNTIL + timedelta(hours=1)))
    kept = PrivacyDecisions.load(events).filter_events(checked)
    assert kept.good["event_id"].to_pylist() == [f"{USER}-i01", f"{OTHER}-i00", f"{OTHER}-i01"]
    assert [json.loads(source)["user_id"] for source in kept.quarantined["source"].to_pylist()] == [
        OTHER
    ]
    events.set_privacy_state(USER, PrivacyState(opted_out=True))
    assert PrivacyDecisions.load(events).filter_events(checked).good[
        "user_id"
    ].unique().to_pylist() == [OTHER]


def test_a_line_that_could_not_be_split_names_every_word_of_it() -> None:
    assert users_named(json.dumps({"_line": f'e1;"{USER}";i01'})) == {"e1", USER, "i01"}
    assert users_named("no json") == users_named("[1]") == set()


def test_the_next_night_and_the_next_training_have_nothing_of_a_forgotten_user(
    ray_session: None, shop: Setup, events: EventStore
) -> None:
    """The shop's own files still name the user. A night that never ended goes too."""
    from recsys.batch.night import run_night
    from recsys.batch.planning import begin
    from recsys.events.joins import label_examples

    in_a_failed_night(shop, events, {})
    receipt = forget_user(shop, events, USER, NOW - timedelta(minutes=30))
    lines: list[str] = []
    manifest = run_night(begin(shop, NOW, "2026-01-04T020000"), lines.append)
    assert manifest.counts["forgotten_events"] == 7
    assert any("amended" in line for line in lines)
    assert any("never ended" in line for line in lines)
    release = Release.open(ArtifactStore(shop.home))
    assert release.version == "2026-01-04T020000"
    assert USER not in rows_of(release)
    assert OTHER in rows_of(release)
    examples = label_examples(events.impressions(), events.interactions(events.end().interactions))
    assert USER not in examples["user_id"].to_pylist()
    erase_users(shop, events, [], grace_s=0)
    assert find_traces(shop, events, *open_receipt(events, receipt.token)) == {}
    assert np.asarray(release.popularity_I).sum() > 0
    assert len(release.items) == ITEMS


def test_in_a_bucket_this_nodes_copies_go_too(
    s3: str,
    shop: Setup,
    events: EventStore,
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("HOME", str(home.parent / "node"))
    uri = f"s3://shop/forget?region=us-east-1&scheme=http&endpoint_override={s3}"
    there, store = replace(shop, home=uri), ArtifactStore(uri)
    for path in [path for path in home.rglob("*") if path.is_file() and "sqlite" not in path.name]:
        store.write(path.relative_to(home).as_posix(), path.read_bytes())
    assert USER in rows_of(Release.open(store))
    receipt = forget_user(there, events, USER, NOW)
    erase_users(there, events, [USER], grace_s=3600)
    assert USER not in rows_of(Release.open(store))
    copies = list((home.parent / "node").rglob("*"))
    assert not [path for path in copies if path.is_file() and USER.encode() in path.read_bytes()]
    assert find_traces(there, events, USER, NOW)
    erase_users(there, events, [], grace_s=-1)
    assert find_traces(there, events, *open_receipt(events, receipt.token)) == {}


def test_the_job_forgets_a_file_of_users_and_looks_again(
    shop: Setup,
    events: EventStore,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from jobs import forget_users

    def run(*arguments: str) -> tuple[int, list[str]]:
        monkeypatch.setattr(
            sys, "argv", ["forget_users", "--setup", "tests.checkerboard:setup", *arguments]
        )
        return forget_users.main(), capsys.readouterr().out.splitlines()

    file = tmp_path / "users"
    file.write_text(f"{USER}\n\n{OTHER}\n{USER}\n")
    code, lines = run(str(file), "--grace", "0")
    assert code == 0
    assert json.loads(lines[-1]) | {"seconds": 0} == {
        "job": "forget_users",
        "setup": "checkerboard",
        "users": 2,
        "left": 0,
        "seconds": 0,
    }
    receipts = [line.split()[0] for line in lines if "nothing is left" in line]
    file.write_text("\n".join(receipts))
    assert run(str(file), "--check")[0] == 0
    in_the_log(shop, events, {})
    code, lines = run(str(file), "--check")
    assert (code, json.loads(lines[-1])["left"]) == (1, 1)
    assert run(str(tmp_path / "gone"))[0] == 1
    file.write_text("\n")
    assert run(str(file))[0] == 1


class Learner:
    """Remembers whom it had to forget."""

    def __init__(self) -> None:
        self.gone: set[str] = set()

    def forget(self, users: set[str]) -> None:
        self.gone |= users


def test_by_day_users_teach_under_a_digest_and_who_is_forgotten_does_not(
    shop: Setup, events: EventStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = OnlineTrainer(shop, OnlineConfig(), now=lambda: UNTIL + timedelta(hours=29))
    trainer.learner = learner = Learner()
    monkeypatch.setattr(trainer, "_fits", lambda shown: True)
    trainer._read()
    assert {each.impression.user_id for each in trainer._pending.values()} == {
        events.digest(USER),
        events.digest(OTHER),
    }
    assert {table["user_id"][0].as_py() for [table] in trainer._interactions.values()} == {
        events.digest(USER),
        events.digest(OTHER),
    }
    forget_user(shop, events, USER, NOW)
    trainer._read()
    assert list(trainer._pending) == list(trainer._interactions) == [OTHER]
    assert learner.gone == {events.digest(USER)}
    trainer.close()
