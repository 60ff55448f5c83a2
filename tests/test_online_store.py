"""Snapshots as small releases, and the trainer's steps over a live log."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from recsys.errors import ReleaseError
from recsys.events.sqlite import SqliteEventStore
from recsys.learning.online import OnlineTrainer
from recsys.models.snapshots import (
    CONTROL,
    current_snapshot,
    freeze_learning,
    publish_snapshot,
    read_control,
    reset_learning,
    snapshot_network,
    snapshot_store,
    unfreeze_learning,
)
from recsys.models.store import publish_models
from recsys.ranking.network import NetRanker
from recsys.release.manifest import Manifest
from recsys.storage.artifacts import ArtifactStore
from recsys.training import EXAMINATION, NET
from recsys.training.influence import OnlineConfig
from recsys.types import FeatureTable, Impression, Interaction
from tests.checkerboard import setup as checkerboard
from tests.toy_clicks import toy_log
from tests.toy_online import CURVES, flow, network

START = datetime(2026, 1, 5, 12, tzinfo=UTC)
CHOICES = OnlineConfig(feedback_delay_s=30, attribution_window_s=600, snapshot_interval_s=0.001)


class Clock:
    """Stands still until `after` moves it."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> datetime:
        return self.now

    def after(self, seconds: float) -> datetime:
        self.now += timedelta(seconds=seconds)
        return self.now


@pytest.fixture(scope="module")
def night(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("night")
    network(folder / NET)
    CURVES.save(folder / EXAMINATION)
    return folder


@pytest.fixture
def setup(tmp_path, night, monkeypatch):
    monkeypatch.setenv("NIGHTSHELF_HOME", str(tmp_path))
    made = replace(
        checkerboard(),
        home=str(tmp_path),
        event_store=partial(SqliteEventStore, str(tmp_path / "events.sqlite")),
    )
    publish_models(made, "m1", night, {})
    release(made, "v1", "m1")
    return made


def release(setup, version, with_models, space="space"):
    """A night's release as far as the trainer reads it."""
    manifest = Manifest(
        version=version,
        space=space,
        setup=setup.name,
        commit="",
        previous=None,
        created=START.isoformat(),
        events_from=None,
        events_until=None,
        counts={},
        quarantined={},
        sources=[],
        metrics={},
        files={},
    )
    ArtifactStore(setup.home).publish(version, replace(manifest, models=with_models).to_json())


def impressions(lists, at, release="v1"):
    """The impressions of the lists, as the answers logged them."""
    item_ids = tuple(f"i{place}" for place in range(10))
    rows = zip(lists.request_ids_B, lists.users_B, lists.features_BKF, strict=True)
    return [
        Impression(
            request_id=request,
            time=at,
            release=release,
            surface="search",
            item_ids=item_ids,
            features=FeatureTable(lists.names, np.asarray(features_KF, np.float32)),
            user_id=user,
        )
        for request, user, features_KF in rows
    ]


def clicks(lists, at):
    """The lists' clicks, each user from their own address."""
    return [
        Interaction(
            event_id=f"{lists.request_ids_B[row]}-{place}",
            user_id=lists.users_B[row],
            item_id=f"i{place}",
            type="click",
            time=at,
            request_id=lists.request_ids_B[row],
            origin=lists.users_B[row],
        )
        for row, place in zip(*np.nonzero(lists.clicked_BK), strict=True)
    ]


def log_traffic(setup, lists, at, clicked=True):
    events = setup.event_store()
    events.append_impressions(impressions(lists, at))
    if clicked:
        events.append(clicks(lists, at))
    events.close()


def sample_scores(ranker):
    return ranker.score(toy_log(20, seed=98)[0].features_BKF)


def open_snapshot(setup):
    snapshot = current_snapshot(setup, "m1")
    assert snapshot is not None
    return snapshot, NetRanker(snapshot_network(setup, snapshot))


def test_it_learns_what_comes_and_publishes_what_it_learned(setup, night) -> None:
    clock = Clock()
    trainer = OnlineTrainer(setup, CHOICES, clock)
    assert trainer.step() is None
    assert current_snapshot(setup, "m1") is None
    lists = flow(60, seed=1, strength=-1.5)
    log_traffic(setup, lists, clock.now)
    report = trainer.step()
    assert report is None  # too young
    clock.after(31)
    report = trainer.step()
    assert report is not None
    assert report.lists == lists.has_gain_B.sum()
    snapshot, ranker = open_snapshot(setup)
    assert (snapshot.base, snapshot.metrics["learned"]) == ("m1", report.learned)
    np.testing.assert_allclose(sample_scores(ranker), sample_scores(trainer.learner), atol=1e-4)
    assert not np.allclose(sample_scores(ranker), sample_scores(NetRanker(night / NET)), atol=1e-3)
    trainer.close()


def test_what_was_there_before_is_not_learned_but_remembered(setup) -> None:
    log_traffic(setup, flow(60, seed=1), START - timedelta(hours=1))
    clock = Clock()
    trainer = OnlineTrainer(setup, CHOICES, clock)
    trainer.step()
    clock.after(60)
    assert trainer.step() is None
    assert len(trainer.learner._reservoir) > 20


def test_a_late_click_teaches_until_the_window_closes(setup) -> None:
    clock = Clock()
    trainer = OnlineTrainer(setup, CHOICES, clock)
    trainer.step()
    lists = flow(40, seed=1)
    log_traffic(setup, lists, clock.now, clicked=False)
    trainer.step()
    clock.after(300)
    assert trainer.step() is None
    events, half = setup.event_store(), lists.where(np.arange(20))
    events.append(clicks(half, clock.now))
    assert trainer.step().lists == half.has_gain_B.sum()
    clock.after(400)
    trainer.step()
    events.append(clicks(lists.where(np.arange(20, 40)), clock.now))
    clock.after(60)
    assert trainer.step() is None
    assert trainer.metrics()["waiting"] == 0


def test_a_list_teaches_once(setup) -> None:
    clock = Clock()
    trainer = OnlineTrainer(setup, CHOICES, clock)
    trainer.step()
    lists = flow(30, seed=1)
    log_traffic(setup, lists, clock.now)
    clock.after(31)
    trainer.step()
    before = trainer.learned
    again = [
        replace(event, event_id=f"again-{event.event_id}") for event in clicks(lists, clock.now)
    ]
    setup.event_store().append(again)
    clock.after(31)
    assert trainer.step() is None
    assert trainer.learned == before


def test_a_bad_row_stops_nobody(setup) -> None:
    clock = Clock()
    trainer = OnlineTrainer(setup, CHOICES, clock)
    trainer.step()
    lists = flow(30, seed=1)
    lists.features_BKF[3] = np.nan
    log_traffic(setup, lists, clock.now)
    clock.after(31)
    trainer.step()
    assert trainer.bad == int(lists.has_gain_B[3])
    assert trainer.learned > 10
    assert np.isfinite(trainer.learner.theta_H).all()


def test_after_a_restart_it_goes_on_and_learns_nothing_twice(setup) -> None:
    clock = Clock()
    choices = replace(CHOICES, replay=0)  # what the second one remembers, the first one saw
    one = OnlineTrainer(setup, choices, clock)
    one.step()
    first, second = flow(40, seed=1, strength=-1.5), flow(40, seed=2, strength=-1.5)
    log_traffic(setup, first, clock.now)
    log_traffic(setup, second, clock.now + timedelta(seconds=20))
    clock.after(31)
    one.step()  # the second half is too young, and the snapshot knows that it waits
    other = OnlineTrainer(setup, choices, clock)
    other.step()
    clock.after(31)
    for trainer in (other, one):
        assert trainer.step().lists == second.has_gain_B.sum()
    np.testing.assert_allclose(other.learner.theta_H, one.learner.theta_H, atol=1e-3)
    assert other.learner.budget.state() == one.learner.budget.state()


def test_frozen_it_serves_on_and_what_comes_is_never_learned(setup) -> None:
    clock = Clock()
    trainer = OnlineTrainer(setup, CHOICES, clock)
    trainer.step()
    log_traffic(setup, flow(40, seed=1), clock.now)
    clock.after(31)
    trainer.step()
    learned, (snapshot, _) = trainer.learned, open_snapshot(setup)
    freeze_learning(setup)
    log_traffic(setup, flow(40, seed=2), clock.now)
    clock.after(31)
    assert trainer.step() is None
    assert current_snapshot(setup, "m1") == snapshot
    unfreeze_learning(setup)
    clock.after(31)
    assert trainer.step() is None
    assert trainer.learned == learned
    log_traffic(setup, flow(40, seed=3), clock.now)
    clock.after(31)
    assert trainer.step().learned > 0


def test_a_reset_puts_the_night_back_at_once(setup, night) -> None:
    clock = Clock()
    trainer = OnlineTrainer(setup, CHOICES, clock)
    trainer.step()
    log_traffic(setup, flow(40, seed=1, strength=-1.5), clock.now)
    clock.after(31)
    trainer.step()
    reset_learning(setup, clock.now)
    assert current_snapshot(setup, "m1") is None  # before the trainer has seen it
    trainer.step()
    np.testing.assert_allclose(
        sample_scores(trainer.learner), sample_scores(NetRanker(night / NET)), atol=1e-5
    )
    assert current_snapshot(setup, "m1") is None


def test_new_models_begin_anew_and_old_snapshots_do_not_count(setup, night) -> None:
    clock = Clock()
    trainer = OnlineTrainer(setup, CHOICES, clock)
    trainer.step()
    log_traffic(setup, flow(40, seed=1, strength=-1.5), clock.now)
    clock.after(31)
    trainer.step()
    publish_models(setup, "m2", night, {})
    release(setup, "v2", "m2")
    assert current_snapshot(setup, "m2") is None
    trainer.step()
    assert trainer.base == "m2"
    assert not trainer.learner.theta_H.any()
    ArtifactStore(setup.home).point("v1")  # and back: what was learned there counts again
    trainer.step()
    assert trainer.learner.theta_H.any()


def test_lists_of_another_space_are_left_out(setup) -> None:
    release(setup, "v0", "m1", space="another")
    ArtifactStore(setup.home).point("v1")
    clock = Clock()
    trainer = OnlineTrainer(setup, CHOICES, clock)
    trainer.step()
    lists = flow(20, seed=1)
    events = setup.event_store()
    events.append_impressions(impressions(lists, clock.now, release="v0"))
    events.append(clicks(lists, clock.now))
    clock.after(31)
    assert trainer.step() is None


def test_without_a_release_or_a_network_it_waits(setup, tmp_path) -> None:
    bare = replace(setup, home=str(tmp_path / "bare"))
    assert OnlineTrainer(bare, CHOICES, Clock()).step() is None
    release(setup, "v2", None)
    trainer = OnlineTrainer(setup, CHOICES, Clock())
    assert trainer.step() is None
    assert trainer.learner is None
    assert current_snapshot(setup, None) is None


def test_a_damaged_snapshot_is_begun_anew_from_the_night(setup) -> None:
    clock = Clock()
    trainer = OnlineTrainer(setup, CHOICES, clock)
    trainer.step()
    log_traffic(setup, flow(40, seed=1), clock.now)
    clock.after(31)
    trainer.step()
    snapshot, _ = open_snapshot(setup)
    next(
        Path(setup.home).glob(f"online/releases/{snapshot.version}/{NET}/*.safetensors")
    ).write_bytes(b"broken")
    other = OnlineTrainer(setup, CHOICES, clock)
    other.step()
    assert not other.learner.theta_H.any()


def test_few_snapshots_stay(setup, night) -> None:
    for _ in range(8):
        publish_snapshot(setup, night / NET, base="m1", mark="", metrics={}, state={})
    assert len(snapshot_store(setup).versions()) == 5


def test_a_control_file_that_cannot_be_read_is_said_so(setup) -> None:
    snapshot_store(setup).write(CONTROL, json.dumps({"frozen": 1, "odd": 2}).encode())
    with pytest.raises(ReleaseError, match="delete it"):
        read_control(setup)
