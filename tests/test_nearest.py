"""The night's search for nearest items: the same lists from any cut of the items, and a lost worker
costs its block."""

from __future__ import annotations

import json
import os
import signal
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from recsys.arrays import Requests, utc_days
from recsys.batch import candidates, nearest, synthetic
from recsys.batch.night import run_night
from recsys.batch.plan import NightRun, ShardResult
from recsys.batch.planning import begin
from recsys.batch.stages import ActorWork, Stage, record_path, run_stages
from recsys.config import Night, Setup
from recsys.encoders.hashing import HashingEncoder
from recsys.pipeline import candidates as funnel
from recsys.pipeline import sources
from recsys.ranking.linear import LinearRanker
from recsys.release import files
from recsys.release.arrow import histories_of
from recsys.release.release import Release
from recsys.retrieval.vectors.exact import ExactRetriever
from recsys.storage.artifacts import ArtifactStore
from tests.checkerboard import UNTIL, setup

pytestmark = pytest.mark.ray
ITEMS, USERS, PARTS = 600, 80, 4
CANDIDATES = Stage("candidates", PARTS, candidates.rank_candidates, files.CANDIDATES)


def synthetic_shop(until: datetime) -> synthetic.SyntheticShop:
    return synthetic.SyntheticShop(
        items=ITEMS, users=USERS, dim=8, users_per_part=USERS // PARTS, until=until
    )


def shop(home: Path, items_resident: int) -> NightRun:
    """A synthetic shop, ready for the search of nearest items."""
    choices = Night(
        items_per_shard=250,
        users_per_block=3,
        items_resident=items_resident,
        candidates=120,
        task_cpus=0.25,
        encoder_workers=2,
        encoder_cpus=0.25,
    )
    setup = Setup(
        name="generated",
        home=str(home),
        dataset=synthetic_shop,
        encoder=partial(HashingEncoder, 8),
        event_store=lambda: pytest.fail("no events are asked for"),
        recommend_ranker=partial(LinearRanker, {"discovery": 1.0}),
        night=choices,
    )
    dataset = synthetic_shop(datetime(2026, 1, 2, tzinfo=UTC))
    night = NightRun(
        store=ArtifactStore(str(home)),
        setup=setup,
        plan=synthetic.make_plan("v", dataset, "s", 250, 250),
    )
    run_stages(
        night,
        Stage("items", night.plan.item_parts, synthetic.write_items),
        Stage("habits", 1, synthetic.write_item_stats),
    )
    run_stages(night, Stage("users", PARTS, synthetic.write_users))
    for file in (files.ITEMS, files.ITEM_VECTORS):
        night.join_parts(file, night.plan.item_parts)
    return night


def released(night: NightRun) -> list[bytes]:
    run_stages(night, nearest.stage(night))
    run_stages(night, CANDIDATES)
    return [night.store.read(night.release_path(file.name)) for file in files.CANDIDATES]


def test_lists_do_not_depend_on_the_item_shards(ray_session: None, tmp_path: Path) -> None:
    whole, cut = shop(tmp_path / "whole", 1_000_000), shop(tmp_path / "cut", 250)
    assert (len(nearest.item_shards(whole)), len(nearest.item_shards(cut))) == (1, 3)
    assert released(whole) == released(cut)
    for part in range(PARTS):
        histories = histories_of(cut.read_part(files.USERS, part))
        requests = Requests(
            size=len(histories),
            texts=None,
            vectors_BD=np.array(cut.read_array(files.USER_VECTORS, part)),
            histories=histories,
        )
        sellable_I = np.asarray(cut.open_table(files.ITEMS)["in_stock"])
        exact = ExactRetriever("discovery", cut.open_array(files.ITEM_VECTORS))
        (listed,) = nearest.NeighbourLists(cut, part).substitute_into(
            [exact], range(len(histories))
        )
        expected = exact.retrieve(requests, 120, sellable_I)
        actual = listed.retrieve(requests, 120, sellable_I)
        np.testing.assert_array_equal(actual.rows_BN, expected.rows_BN)
        np.testing.assert_allclose(actual.scores_BN, expected.scores_BN, rtol=1e-5)


@pytest.mark.parametrize("items_resident", [1_000_000, 6])
def test_a_night_releases_the_lists_that_a_search_of_its_own_makes(
    ray_session: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, items_resident: int
) -> None:
    """Byte for byte, beside every other source."""
    monkeypatch.setenv("NIGHTSHELF_HOME", str(tmp_path))
    monkeypatch.setenv("NIGHTSHELF_COMMIT", "test")
    choices = setup()
    choices = replace(choices, night=replace(choices.night, items_resident=items_resident))
    manifest = run_night(begin(choices, UNTIL), print)
    release = Release.open(ArtifactStore(choices.home), manifest.version)
    ranker = choices.recommend_ranker()
    retrievers = sources.make_sources(
        ranker.feature_names, funnel.source_data_of(release, ranker.feature_names)
    )
    assert nearest.SOURCE in ranker.feature_names
    histories, sellable_I = histories_of(release.users), np.asarray(release.items["in_stock"])
    for user in range(len(histories)):
        vector_D = np.array(release.user_vectors_UD[user : user + 1])
        requests = Requests(
            size=1,
            texts=None,
            vectors_BD=vector_D,
            histories=histories.slice(user, user + 1),
            now_days=utc_days(UNTIL),
        )
        actual = funnel.retrieve_and_rank(retrievers, ranker, requests, 12, allowed=sellable_I)
        width = actual.rows_BK.shape[1]
        np.testing.assert_array_equal(release.candidate_rows_UN[user, :width], actual.rows_BK[0])
        np.testing.assert_allclose(
            release.candidate_features_UNF[user, :width], actual.features_BKF[0], rtol=1e-5
        )


class Mortal(nearest.NearestActor):
    """Notes what it begins; is killed once, in the middle of shard 5."""

    def process(self, shard: int, prepared: bytes) -> ShardResult:
        home = Path(self.night.setup.home)
        with (home / "begun").open("a") as noted:
            noted.write(f"{shard}\n")
        if shard == 5 and not (home / "killed").exists():
            (home / "killed").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().process(shard, prepared)


def test_a_killed_worker_loses_its_block_alone(ray_session: None, tmp_path: Path) -> None:
    alone, killed = shop(tmp_path / "alone", 250), shop(tmp_path / "killed", 250)
    run_stages(alone, nearest.stage(alone))
    stage = replace(nearest.stage(killed), work=ActorWork(Mortal))
    assert run_stages(killed, stage)["nearest"].rows == 3 * USERS
    begun = Counter((tmp_path / "killed" / "begun").read_text().split())
    assert begun == {str(shard): 2 if shard == 5 else 1 for shard in range(stage.shards)}
    for shard in range(stage.shards):
        assert record(alone, shard) == record(killed, shard)


def test_recorded_shards_are_reused(ray_session: None, tmp_path: Path) -> None:
    night = shop(tmp_path, 250)
    stage = nearest.stage(night)
    before = run_stages(night, stage) and [record(night, shard) for shard in range(stage.shards)]
    for shard in range(0, stage.shards, 2):
        night.store.remove(record_path(night, "nearest", shard))
    night.store.remove(night.work_path("nearest_rows/00001.npy"))
    line = run_stages(night, stage)["nearest"]
    assert (line.reused, line.shards) == (stage.shards // 2 - 1, stage.shards)
    assert before == [record(night, shard) for shard in range(stage.shards)]


def record(night: NightRun, shard: int) -> dict[str, str]:
    return dict(json.loads(night.store.read(record_path(night, "nearest", shard)))["files"])
