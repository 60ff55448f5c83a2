"""Forgetting a user: nothing of him is left anywhere, nothing of anybody else is lost, and nobody
has to believe it."""

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
from recsys.privacy import erasure as amending
from recsys.privacy import forget as forgetting
from recsys.privacy.erasure import PrivacyDecisions
from recsys.release.release import Release, read_manifest
from recsys.storage.artifacts import ArtifactStore
from recsys.training.influence import OnlineConfig
from recsys.types import Impression, Interaction, PrivacyState
from tests.checkerboard import ITEMS, UNTIL, Checkerboard, setup

pytestmark = pytest.mark.ray
HIM, HER = "u03", "u04"
NOW = UNTIL + timedelta(days=2)
ROOT = Path(__file__).parent.parent


@pytest.fixture
def home(shop_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two releases of this test's own, and a log in which both of them did something."""
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
    for user in (HIM, HER):
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
    found = {}
    for row in range(len(release.user_ids)):
        lists = release.candidate_rows_UN[row].tolist(), release.candidate_sources_UN[row].tolist()
        features = release.candidate_features_UNF[row].ravel().tolist()
        vector = release.user_vectors_UD[row].tolist()
        found[release.user_ids[row]] = (
            release.history(row).items.tolist(),
            vector + features,
            lists[0] + lists[1],
        )
    return found


def forgotten(shop: Setup, events: EventStore, now: datetime = NOW) -> forgetting.Receipt:
    made = forgetting.forget(shop, events, HIM, now)
    forgetting.erase(shop, events, [HIM], grace_s=0)
    return made


def test_he_is_gone_everywhere_and_nobody_else_lost_anything(
    shop: Setup, events: EventStore, home: Path
) -> None:
    store = ArtifactStore(shop.home)
    before = {version: rows_of(Release.open(store, version)) for version in store.versions()}
    made = forgetting.forget(shop, events, HIM, NOW)
    assert made.gone == {"log/interactions": 1, "log/impressions": 1, "log/quarantined": 1}
    assert set(made.left) == {
        f"releases/{version}/{file}"
        for version in before
        for file in ("users.arrow", "peers.arrow")
    } | {path for path in made.left if "quarantine" in path}
    assert HIM not in made.token
    assert forgetting.unsealed(events, made.token) == (HIM, NOW)
    assert set(forgetting.erase(shop, events, [HIM], grace_s=0)) == set(before)
    assert forgetting.left(shop, events, HIM, NOW) == {}
    assert HIM.encode() not in b"".join(
        path.read_bytes() for path in home.rglob("*") if path.is_file()
    )
    for version, users in before.items():
        release = Release.open(store, version)  # every checksum compared
        assert rows_of(release) == {user: rows for user, rows in users.items() if user != HIM}
        assert (release.manifest.counts["users"], release.manifest.amendments) == (
            len(users) - 1,
            1,
        )
        assert len(release.peers) == len(users) - 1
    assert events.traces(HER) == {"interactions": 1, "impressions": 1, "quarantined": 1}


def test_many_leave_in_one_amendment_and_the_next_replaces_the_last(
    shop: Setup, events: EventStore
) -> None:
    store = ArtifactStore(shop.home)
    for user in ("u00", "u01", "u39"):
        forgetting.forget(shop, events, user, NOW)
    forgetting.erase(shop, events, ["u00", "u39"], grace_s=0)
    assert "u01" in rows_of(Release.open(store))
    forgetting.erase(shop, events, None, grace_s=0)
    release = Release.open(store)
    assert set(rows_of(release)).isdisjoint(["u00", "u01", "u39"])
    assert release.manifest.amendments == 2
    folders = [path.name for path in release.folder.glob("amended-*") if any(path.iterdir())]
    assert folders == [release.manifest.amended]


def test_what_was_replaced_stays_while_replicas_may_have_it_mapped(
    shop: Setup, events: EventStore
) -> None:
    forgetting.forget(shop, events, HIM, NOW)
    forgetting.erase(shop, events, [HIM], grace_s=60)
    left = forgetting.left(shop, events, HIM, NOW)
    assert left
    assert all(path.startswith("releases/") for path in left)
    forgetting.erase(shop, events, [], grace_s=0)
    assert forgetting.left(shop, events, HIM, NOW) == {}


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
        "source": json.dumps({"user_id": HIM}),
    }
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist([row]), sink)
    store.write(f"releases/{store.current()}/quarantine.parquet", sink.getvalue())


def in_a_failed_night(shop: Setup, events: EventStore, old: dict[str, bytes]) -> None:
    store = ArtifactStore(shop.home)
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"user_id": [HIM]}), sink)
    store.write(
        "work/2026-01-03T120000/plan.json", json.dumps({"until": UNTIL.isoformat()}).encode()
    )
    store.write("work/2026-01-03T120000/live.parquet", sink.getvalue())


def in_the_log(shop: Setup, events: EventStore, old: dict[str, bytes]) -> None:
    events.set_privacy_state(HIM, PrivacyState())
    events.append(
        [Interaction(event_id="again", user_id=HIM, item_id="i01", type="view", time=NOW)]
    )
    events.set_privacy_state(HIM, PrivacyState(forgotten=NOW))


def in_a_snapshot(shop: Setup, events: EventStore, old: dict[str, bytes]) -> None:
    votes = {"user\x1f" + events.digest(HIM): 0.5, "user\x1f" + events.digest(HER): 0.5}
    (Path(shop.home) / "net").mkdir()
    state = {"learner": {"votes": {"day": "", "votes": votes}}}
    publish_snapshot(shop, Path(shop.home) / "net", base="m", mark="", metrics={}, state=state)


PLACES = {
    "users": put_back("users.arrow"),
    "peers": put_back("peers.arrow"),
    "vectors": put_back("user_vectors.npy"),
    "candidates": put_back("candidates_features.npy"),
    "quarantine": in_quarantine,
    "work": in_a_failed_night,
    "log": in_the_log,
    "online": in_a_snapshot,
}


@pytest.mark.parametrize("place", PLACES)
def test_one_place_that_is_left_out_is_found(
    place: str, shop: Setup, events: EventStore, home: Path
) -> None:
    """The receipt does not remember: it looks."""
    old = {
        path.relative_to(home).as_posix(): path.read_bytes()
        for path in home.rglob("*")
        if path.name in amending.OF_USERS
    }
    made = forgotten(shop, events)
    assert forgetting.left(shop, events, *forgetting.unsealed(events, made.token)) == {}
    PLACES[place](shop, events, old)
    assert len(forgetting.left(shop, events, HIM, NOW)) == 1


def test_the_votes_of_who_learned_by_day_go_and_others_stay(
    shop: Setup, events: EventStore
) -> None:
    in_a_snapshot(shop, events, {})
    forgotten(shop, events)
    assert forgetting.left(shop, events, HIM, NOW) == {}
    [state] = snapshot_states(shop).values()
    assert events.digest(HER) in state


@pytest.mark.parametrize("writes", [1, 5, 7, 8])
def test_killed_in_the_middle_the_release_is_the_old_one_or_the_new_one(
    writes: int, shop: Setup, events: EventStore
) -> None:
    """Seven files and then the manifest; killed by the system after so many writes."""
    store = ArtifactStore(shop.home)
    before = rows_of(Release.open(store))
    forgetting.forget(shop, events, HIM, NOW)
    code = f"""
import os, signal
from recsys.storage.artifacts import ArtifactStore
from recsys import amending
from tests.checkerboard import setup
write, done = ArtifactStore.write, []
def killed(self, path, data):
    total = write(self, path, data)
    done.append(path)
    if len(done) == {writes}:
        os.kill(os.getpid(), signal.SIGKILL)
    return total
ArtifactStore.write = killed
events = setup().event_store()
store = ArtifactStore(setup().home)
amending.amend(store, store.current(), amending.Decided.of(events))
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    died = subprocess.run(
        [sys.executable, "-c", code], env=environment, check=False, capture_output=True, text=True
    )
    assert died.returncode == -signal.SIGKILL, died.stderr
    after = rows_of(Release.open(store))
    gone = {user: rows for user, rows in before.items() if user != HIM}
    assert after == (gone if writes == 8 else before)
    assert forgetting.left(shop, events, HIM, NOW)
    forgetting.erase(shop, events, None, grace_s=0)
    assert rows_of(Release.open(store)) == gone
    assert forgetting.left(shop, events, HIM, NOW) == {}


def test_who_amends_at_the_same_time_begins_again(
    shop: Setup, events: EventStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another takes her out between the reading and the writing: neither is in it afterwards."""
    store = ArtifactStore(shop.home)
    version = store.current()
    for user in (HIM, HER):
        forgetting.forget(shop, events, user, NOW)
    decided, write, raced = PrivacyDecisions.of(events), ArtifactStore.write, []

    def slow(self: ArtifactStore, path: str, data) -> str:
        if path.endswith("candidates_sources.npy") and not raced:
            raced.append(path)
            amending.amend(store, version, decided, [HER])
            amending.sweep(store, version, 0)
        return write(self, path, data)

    monkeypatch.setattr(ArtifactStore, "write", slow)
    assert amending.amend(store, version, decided, [HIM])
    amending.sweep(store, version, 0)
    assert set(rows_of(Release.open(store))).isdisjoint([HIM, HER])
    assert read_manifest(store, version).amendments == 2


def test_who_comes_back_begins_anew_and_his_receipt_stays_true(
    shop: Setup, events: EventStore
) -> None:
    made = forgotten(shop, events)
    events.append(
        [
            Interaction(
                event_id="back",
                user_id=HIM,
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
        user_id=HIM,
    )
    events.append_impressions([shown])
    assert events.traces(HIM)["interactions"] == 1
    assert forgetting.left(shop, events, *forgetting.unsealed(events, made.token)) == {}


def test_a_receipt_that_is_none_is_refused(shop: Setup, events: EventStore, tmp_path: Path) -> None:
    token = forgotten(shop, events).token
    other = replace(shop, event_store=lambda: type(events)(tmp_path / "other.sqlite")).event_store()
    for store, text in (
        (other, token),
        (events, token[:-4] + "AAAA"),
        (events, "x"),
        (events, "ü"),
    ):
        with pytest.raises(NotFoundError, match="no receipt"):
            forgetting.unsealed(store, text)
    other.close()


def test_ingest_leaves_out_what_was_before_and_keeps_what_came_later(events: EventStore) -> None:
    times = [UNTIL, UNTIL + timedelta(hours=3)]
    raw = Checkerboard(NOW)._events(
        [(user, f"i{n:02d}", "view", time) for user in (HIM, HER) for n, time in enumerate(times)]
    )
    bad = Checkerboard(NOW)._events([(user, "i05", "stare", UNTIL) for user in (HIM, HER)])
    checked = check_events(pa.concat_tables([raw, bad]), "file", 0, NOW)
    events.set_privacy_state(HIM, PrivacyState(forgotten=UNTIL + timedelta(hours=1)))
    kept = PrivacyDecisions.of(events).without(checked)
    assert kept.good["event_id"].to_pylist() == [f"{HIM}-i01", f"{HER}-i00", f"{HER}-i01"]
    assert [json.loads(source)["user_id"] for source in kept.quarantined["source"].to_pylist()] == [
        HER
    ]
    events.set_privacy_state(HIM, PrivacyState(opted_out=True))
    assert PrivacyDecisions.of(events).without(checked).good["user_id"].unique().to_pylist() == [
        HER
    ]


def test_a_line_that_could_not_be_split_names_every_word_of_it() -> None:
    assert amending.named(json.dumps({"_line": f'e1;"{HIM}";i01'})) == {"e1", HIM, "i01"}
    assert amending.named("no json") == amending.named("[1]") == set()


def test_the_next_night_and_the_next_training_have_nothing_of_him(
    shop: Setup, events: EventStore
) -> None:
    """The shop's own files still name him. A night that never ended goes too."""
    from recsys.batch.night import begin, run_night
    from recsys.events.feedback import join

    in_a_failed_night(shop, events, {})
    made = forgetting.forget(shop, events, HIM, NOW - timedelta(minutes=30))
    lines: list[str] = []
    manifest = run_night(begin(shop, NOW, "2026-01-04T020000"), lines.append)
    assert manifest.counts["forgotten_events"] == 7
    assert any("amended" in line for line in lines)
    assert any("never ended" in line for line in lines)
    release = Release.open(ArtifactStore(shop.home))
    assert release.version == "2026-01-04T020000"
    assert HIM not in rows_of(release)
    assert HER in rows_of(release)
    examples = join(events.impressions(), events.interactions(events.end().interactions))
    assert HIM not in examples["user_id"].to_pylist()
    forgetting.erase(shop, events, [], grace_s=0)
    assert forgetting.left(shop, events, *forgetting.unsealed(events, made.token)) == {}
    assert np.asarray(release.popularity_I).sum() > 0
    assert len(release.items) == ITEMS


def test_in_a_bucket_this_nodes_copies_go_too(
    s3: str,
    shop: Setup,
    events: EventStore,
    home: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("HOME", str(tmp_path / "node"))
    uri = f"s3://shop/forget?region=us-east-1&scheme=http&endpoint_override={s3}"
    there, store = replace(shop, home=uri), ArtifactStore(uri)
    for path in [path for path in home.rglob("*") if path.is_file() and "sqlite" not in path.name]:
        store.write(path.relative_to(home).as_posix(), path.read_bytes())
    assert HIM in rows_of(Release.open(store))
    made = forgetting.forget(there, events, HIM, NOW)
    forgetting.erase(there, events, [HIM], grace_s=3600)
    assert HIM not in rows_of(Release.open(store))
    copies = list((tmp_path / "node").rglob("*"))
    assert not [path for path in copies if path.is_file() and HIM.encode() in path.read_bytes()]
    assert forgetting.left(there, events, HIM, NOW)
    forgetting.erase(there, events, [], grace_s=-1)
    assert forgetting.left(there, events, *forgetting.unsealed(events, made.token)) == {}


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
    file.write_text(f"{HIM}\n\n{HER}\n{HIM}\n")
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
    """Keeps whom it was told to forget."""

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
    assert {each.shown.user_id for each in trainer._waiting.values()} == {
        events.digest(HIM),
        events.digest(HER),
    }
    assert {table["user_id"][0].as_py() for [table] in trainer._touched.values()} == {
        events.digest(HIM),
        events.digest(HER),
    }
    forgetting.forget(shop, events, HIM, NOW)
    trainer._read()
    assert list(trainer._waiting) == list(trainer._touched) == [HER]
    assert learner.gone == {events.digest(HIM)}
    trainer.close()
