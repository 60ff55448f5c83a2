"""From a log to a ranker that serves: everybody wants what is cheap, which the first stage does not
know."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recsys.batch import night, planning
from recsys.config import Setup
from recsys.errors import InputError
from recsys.events.impressions import build_impression
from recsys.experiments.exploration import Exploration
from recsys.learning.gate import GateCriteria
from recsys.learning.judged_lists import judged_lists
from recsys.learning.options import TrainOptions
from recsys.learning.rankers import RankerOptions, load_live_ranker, train_rankers
from recsys.learning.ranking_log import hold_out_last_day, read_ranking_log
from recsys.models.composition import build_recommender, with_models
from recsys.models.snapshots import publish_snapshot, reset_learning
from recsys.models.store import publish_models
from recsys.pipeline.recommender import Recommender
from recsys.ranking.examination import Examination
from recsys.ranking.linear import WeightedSum
from recsys.release.manifest import read_manifest
from recsys.release.release import Release
from recsys.storage.artifacts import ArtifactStore
from recsys.training.influence import OnlineConfig
from recsys.training.lambdamart import TreeRecipe
from recsys.training.ranker_net import NetRecipe
from recsys.types import Interaction, Query
from serve.live import LiveRelease
from tests.checkerboard import USERS, setup
from tests.in_process import in_this_process

CHEAP = 5
SMALL = RankerOptions(
    TreeRecipe(rounds=30, smallest_leaf=20, threads=1),
    NetRecipe(epochs=25, batch_size=64, learning_rate=1e-2),
    GateCriteria(min_requests=50, margin=0.05),
)


@pytest.fixture(scope="module")
def shop(shop_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Setup]:
    """A shop that explores, with two days of traffic in its log."""
    home = tmp_path_factory.mktemp("learning") / "home"
    shutil.copytree(shop_home, home)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NIGHTSHELF_HOME", str(home))
        explore = Exploration("swap", 0.5, depth=8)
        plain = setup()
        chosen = replace(plain, day=replace(plain.day, explore=explore))
        traffic(chosen, opened(chosen, None), 1800)
        yield chosen


def opened(shop: Setup, version: str | None) -> Recommender:
    return build_recommender(with_models(shop, version), Release.open(ArtifactStore(shop.home)))


def traffic(shop: Setup, recommender: Recommender, requests: int) -> None:
    """A place is looked at with 1 / place^.7; what is looked at is clicked by chance, the cheap far
    more often."""
    rng, store, start = (
        np.random.default_rng(0),
        shop.event_store(),
        datetime.now(UTC) - timedelta(days=2),
    )
    shown, clicks = [], []
    for at in range(requests):
        query = Query(request_id=f"r{at}", k=8, user_id=f"u{at % USERS:02d}" if at % 3 else None)
        answer = build_impression(recommender.recommend(query), "recommend", query)
        user = (
            f"u{at // 6 % USERS:02d}" if at % 6 == 0 else f"visitor-{at}"
        )  # nobody teaches more than his share
        shown.append(replace(answer, user_id=user, time=start + timedelta(days=2) * at / requests))
        for place, item in enumerate(answer.item_ids):
            wanted = 0.9 if int(item[1:]) < CHEAP else 0.05
            if rng.random() < wanted / (1 + place) ** 0.7:
                clicks.append(
                    Interaction(
                        event_id=f"{at}-{item}",
                        user_id=user,
                        item_id=item,
                        type="click",
                        time=shown[-1].time,
                        request_id=query.request_id,
                    )
                )
    store.append_impressions(shown)
    store.append(clicks)
    store.close()


@pytest.fixture(scope="module")
def folder(shop: Setup, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What training left, and published as m1."""
    folder = tmp_path_factory.mktemp("models")
    measured = train_rankers(shop, SMALL, TrainOptions(folder=folder))
    assert set(measured) == {"trees/ips_ndcg@10", "net/ips_ndcg@10"}
    publish_models(shop, "m1", folder, measured)
    return folder


def test_the_curve_is_that_of_the_shop(folder: Path) -> None:
    curve = Examination.load(folder / "examination.json").curve_K
    true_K = 1 / np.arange(1, 9) ** 0.7
    assert np.abs(np.asarray(curve)[:8] - true_K).max() < 0.2


def test_both_rankers_passed_the_gate_which_says_so(folder: Path) -> None:
    for name in ("trees", "net"):
        verdict = json.loads((folder / "gate" / f"{name}.json").read_text())
        assert verdict["passed"]
        assert verdict["rows"][0]["difference"] > 0.02
        assert (folder / "gate" / f"{name}.html").read_text().startswith("<!")


@pytest.mark.parametrize("name", ["trees", "net"])
def test_what_was_learned_serves_and_puts_the_cheap_first(
    shop: Setup, folder: Path, name: str
) -> None:
    certain = replace(shop, ranker=name, day=replace(shop.day, explore=Exploration()))
    after = opened(certain, "m1")
    assert after.recommend(Query(request_id="r", k=3)).ranker == f"{name}@None", (
        "the release itself names no models"
    )
    assert cheap_share(after) > 0.8
    assert cheap_share(opened(certain, None)) < 0.5


def cheap_share(recommender: Recommender) -> float:
    """Of the first three places of everybody's answer."""
    answers = [
        recommender.recommend(Query(request_id="r", k=3, user_id=f"u{user:02d}")).items
        for user in range(USERS)
    ]
    return float(
        np.mean([int(each.item.item_id[1:]) < CHEAP for items in answers for each in items])
    )


def test_the_live_ranker_is_the_current_models_one(shop: Setup, folder: Path) -> None:
    assert type(load_live_ranker(shop)).__name__ == "NetRanker"
    assert type(load_live_ranker(replace(shop, ranker="first"))).__name__ == "WeightedSum"


def test_a_ranker_that_is_worse_than_the_live_one_is_refused(shop: Setup, tmp_path: Path) -> None:
    """Trees of one leaf know nothing and leave what was shown; what serves by now knows what
    everybody wants."""
    stump = RankerOptions(
        TreeRecipe(rounds=1, smallest_leaf=100_000, threads=1),
        None,
        GateCriteria(min_requests=50, margin=0.001),
    )
    knowing = replace(
        shop, rankers={"cheap": partial(WeightedSum, {"log_price": -1.0})}, ranker="cheap"
    )
    with pytest.raises(InputError, match=r"no ranker passed the gate \(trees: overall: "):
        train_rankers(knowing, stump, TrainOptions(folder=tmp_path))
    assert not (tmp_path / "ranker_trees").exists()
    assert not json.loads((tmp_path / "gate" / "trees.json").read_text())["passed"]


def test_too_short_a_log_is_refused(shop: Setup, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="too few to tell"):
        train_rankers(
            shop,
            replace(SMALL, net=None, criteria=GateCriteria(min_requests=100_000)),
            TrainOptions(folder=tmp_path),
        )


def test_a_log_without_ranked_answers_says_so(
    shop: Setup, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NIGHTSHELF_EVENTS", str(tmp_path / "empty.sqlite"))
    with pytest.raises(InputError, match="no ranked answers yet"):
        read_ranking_log(replace(setup(), home=shop.home))


def test_the_last_day_is_apart(shop: Setup) -> None:
    lists = read_ranking_log(shop).lists
    past, day = hold_out_last_day(lists)
    assert len(past) + len(day) == len(lists)
    assert 1600 < len(lists) < 1800, "somebody clicked the same thing again"
    assert past.times_B.max() < day.times_B.min()
    assert 0.15 < len(day) / len(lists) <= 0.5


def test_judged_queries_are_lists_with_the_days_features(shop: Setup, tmp_path: Path) -> None:
    rows = [
        ("red chair", "i00", 3.0),
        ("red chair", "i01", 1.0),
        ("red chair", "gone", 3.0),
        ("lamp", "i04", 2.0),
    ]
    queries, items, grades = zip(*rows, strict=True)
    pq.write_table(
        pa.table({"query": queries, "item_id": items, "relevance": grades}),
        tmp_path / "judged.parquet",
    )
    encoder = shop.encoder()
    recommender = opened(shop, None)
    lists = judged_lists(
        recommender, lambda text: encoder.encode_queries([text])[0], tmp_path / "judged.parquet"
    )
    assert (len(lists), lists.items_BK.tolist(), lists.gains_BK.tolist()) == (
        1,
        [["i00", "i01"]],
        [[1.0, 0.0]],
    )
    lexical = lists.features_BKF[0, :, lists.names.index("lexical")]
    assert lexical[0] > lexical[1] > 0
    pq.write_table(
        pa.table({"query": ["x"], "item_id": ["i00"], "relevance": [3.0]}), tmp_path / "one.parquet"
    )
    with pytest.raises(InputError, match="judges no two items"):
        judged_lists(
            recommender, lambda text: encoder.encode_queries([text])[0], tmp_path / "one.parquet"
        )


def test_what_was_logged_in_another_space_teaches_nothing(shop: Setup, tmp_path: Path) -> None:
    """The older of the two releases is made one of another space: what was shown before the newer
    one is left out."""
    home = tmp_path / "home"
    shutil.copytree(shop.home, home)
    first, second = ArtifactStore(str(home)).versions()
    path = home / "releases" / first / "manifest.json"
    path.write_text(
        path.read_text().replace(f'"space": "{shop.encoder().space}"', '"space": "another"')
    )
    created = datetime.fromisoformat(read_manifest(ArtifactStore(str(home)), second).created)
    early = replace(
        next(shop.event_store().impressions()),
        request_id="early",
        time=created - timedelta(hours=1),
    )
    shop.event_store().append_impressions([early])
    assert "early" in read_ranking_log(shop).lists.request_ids_B
    assert "early" not in read_ranking_log(replace(shop, home=str(home))).lists.request_ids_B


@pytest.mark.slow
def test_a_replica_takes_what_was_learned_by_day_and_gives_it_back(
    shop: Setup, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A night takes the models; then a snapshot of theirs appears, and a reset."""
    monkeypatch.setattr(night, "run_stages", in_this_process)
    night.run_night(planning.begin(shop, version="ranked"), print)
    daily = replace(shop, day=replace(shop.day, online=OnlineConfig()))
    live = LiveRelease(daily, shop.encoder().space, shop.encoder().encode_items)
    assert live.recommender is not None
    assert (live.version, live.recommender.reranker.labels["net"]) == ("ranked", "net@m1")
    before = live.recommender
    snapshot = publish_snapshot(
        daily, folder / "ranker_net", base="m1", mark="", metrics={}, state={}
    )
    live.refresh()
    assert (
        live.recommender.recommend(Query(request_id="r", k=3)).ranker
        == f"net@m1+{snapshot.version}"
    )
    assert live.recommender.release is before.release
    reset_learning(daily)
    live.refresh()
    assert live.recommender.reranker.labels["net"] == "net@m1"
    publish_snapshot(
        daily, folder / "ranker_net", base="of other models", mark="", metrics={}, state={}
    )
    live.refresh()
    assert live.recommender.reranker.labels["net"] == "net@m1"
