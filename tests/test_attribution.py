"""What each feature added to a score, over a replay by hand: whose ranker, which numbers, and what
is said where they are not those of the answer."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from recsys.pipeline.attribution import (
    Attribution,
    Contribution,
    ScoredRow,
    attribute,
    logged_row,
    replayed_row,
)
from recsys.pipeline.replay import Replay
from recsys.pipeline.rerank import COLUMN, FIRST, TABLE, Pool, Reranked, Reranker
from recsys.ranking.linear import WeightedSum
from recsys.types import FeatureTable, Filters, Impression, Query

NET = WeightedSum({"log_price": 2.0, "taste.0": 1.0, "taste.1": -3.0, "first": 0.5})
IMPRESSION = Impression(
    request_id="r",
    time=datetime(2026, 1, 3, tzinfo=UTC),
    release="v",
    surface="recommend",
    item_ids=("a", "b"),
    features=FeatureTable(("log_price", "taste.1"), np.array([[1, 2], [3, 4]], np.float32)),
    scores=(0.5, 0.25),
    teams=("x", "y"),
    ranker="net@m1",
)


def replay_of(impression: Impression = IMPRESSION, ranker: Any = None) -> Replay:
    """Two candidates, of the signals 1, 10 and 2, 20; re-ranked with scores 7 and 8."""
    pool = Pool(
        rows_N=np.array([3, 4], np.int32),
        scores_N=np.array([1, 2], np.float32),
        names=("popularity", "content"),
        signals_NF=np.array([[1, 10], [2, 20]], np.float32),
        retrieved_NF=np.ones((2, 2), bool),
    )
    features_NF = np.zeros((2, len(TABLE)), np.float32)
    for name, values in {"log_price": (1, 2), "taste.0": (1, 1), "taste.1": (1, 2)}.items():
        features_NF[:, COLUMN[name]] = values
    return Replay(
        impression=impression,
        query=Query(request_id="r"),
        live=(),
        encoded=None,
        pool=pool,
        reranked=replace(
            Reranked.unchanged(pool, "net"),
            scores_N=np.array([7, 8], np.float32),
            teams_N=["x", "y"],
        ),
        features_NF=features_NF,
        first_ranker=ranker or WeightedSum({"popularity": 1.0, "content": -0.5}),
        filters=Filters(),
    )


def shop(
    teams: dict[str, str] | None = None, depth: int = 100, ranker: Any = NET, **labels: str
) -> Any:
    reranker = SimpleNamespace(
        depth=depth,
        rankers={"net": ranker},
        labels=labels,
        rankers_by_team=lambda arms: teams or {"": "net"},
    )
    return SimpleNamespace(reranker=reranker)


# Rows


def test_a_replayed_row_is_that_of_its_place() -> None:
    row = replayed_row(replay_of(), 1)
    assert (row.score, row.team, row.place) == (8.0, "y", 1)
    assert (row.features_F[COLUMN["log_price"]], row.features_F[COLUMN["taste.1"]]) == (2, 2)


def test_a_logged_row_is_that_of_the_answer() -> None:
    row = logged_row(replay_of(), "b", 0)
    assert (row.score, row.team, row.place) == (0.25, "y", 0)
    assert (row.features_F[COLUMN["log_price"]], row.features_F[COLUMN["taste.1"]]) == (3, 4)
    assert np.flatnonzero(row.features_F).size == 2
    assert row.features_F.shape == (len(TABLE),)


def test_what_the_log_does_not_have_is_nothing_and_the_score_the_replay_s() -> None:
    bare = replace(IMPRESSION, scores=(), teams=(), features=FeatureTable())
    row = logged_row(replay_of(bare), "b", 1)
    assert (row.score, row.team, row.features_F.any()) == (8.0, "", False)
    lost = logged_row(replay_of(bare), "b", None)
    assert (lost.score, lost.place) == (0.0, None)
    assert logged_row(replay_of(), "b", None).score == 0.25


# Contributions


def test_parts_are_of_the_reranker_largest_first_and_a_vector_is_one() -> None:
    """2 x 2 + (1 - 6) + 0, of a score of -1."""
    row = replace(replayed_row(replay_of(), 1), score=-1.0)
    attribution = attribute(shop(), replay_of(), row, {})
    assert attribution == Attribution(
        0.0,
        (
            Contribution("taste vector", 0.0, -5.0),
            Contribution("log_price", 2.0, 4.0),
            Contribution("first", 0.0, 0.0),
        ),
    )


class FromThree(WeightedSum):
    """Begins from 3."""

    def contributions(self, features_BNF: Any) -> Any:
        added_BNF = super().contributions(features_BNF)
        added_BNF[..., -1] = 3.0
        return added_BNF


def test_the_base_counts_toward_the_score() -> None:
    ranker = FromThree({"log_price": 1.0})
    row = replace(replayed_row(replay_of(), 0), score=4.0)
    attribution = attribute(shop(ranker=ranker), replay_of(), row, {})
    assert attribution == Attribution(3.0, (Contribution("log_price", 1.0, 1.0),), "")


@pytest.mark.parametrize(
    ("score", "noted"),
    [(4.0, False), (4.0009, False), (3.9991, False), (4.005, True), (3.995, True), (-4.0, True)],
)
def test_another_version_is_noted_where_its_parts_give_another_score(
    score: float, noted: bool
) -> None:
    row = replace(replayed_row(replay_of(), 0), score=score)
    over = shop(ranker=FromThree({"log_price": 1.0}), net="net@m2")
    note = "net@m1 ranked then; the parts are of net@m2, which serves now and gives 4"
    assert attribute(over, replay_of(), row, {}).note == (note if noted else "")


@pytest.mark.parametrize(("score", "noted"), [(1.0009, False), (1.0011, True), (0.0, True)])
def test_small_scores_agree_to_a_thousandth(score: float, noted: bool) -> None:
    """Of large ones to a thousandth of the score."""
    row = replace(replayed_row(replay_of(), 0), score=score)
    ranker = WeightedSum({"log_price": 1.0})
    note = attribute(shop(ranker=ranker), replay_of(), row, {}).note
    assert bool(note) == noted
    assert not note or "the parts are of net, which" in note, "the name, where it has no label"
    large = replace(row, score=1000.0)
    near = shop(ranker=WeightedSum({"log_price": 1000.9}))
    assert attribute(near, replay_of(), large, {}).note == ""


def test_a_shared_list_is_explained_by_the_ranker_of_the_team() -> None:
    teams, first = {"x": FIRST, "y": "net"}, ("content", "popularity")
    by_first, by_net = (
        attribute(shop(teams), replay_of(), replayed_row(replay_of(), place), {})
        for place in (0, 1)
    )
    assert tuple(part.feature for part in by_first.parts) == first
    assert "log_price" in {part.feature for part in by_net.parts}
    both = replace(replayed_row(replay_of(), 1), team="")
    shared = attribute(shop(teams), replay_of(), both, {})
    assert tuple(part.feature for part in shared.parts) == first, "the first ranker scored it"


@pytest.mark.parametrize(("depth", "ranked"), [(2, True), (1, False)])
def test_behind_the_depth_the_first_stage_scored(depth: int, ranked: bool) -> None:
    attribution = attribute(shop(depth=depth), replay_of(), replayed_row(replay_of(), 1), {})
    assert ("log_price" in {part.feature for part in attribution.parts}) == ranked
    if not ranked:
        assert attribution == Attribution(
            0.0, (Contribution("content", 20.0, -10.0), Contribution("popularity", 2.0, 2.0))
        )


def test_a_row_that_left_the_pool_is_explained_by_its_logged_features() -> None:
    attribution = attribute(shop(), replay_of(), logged_row(replay_of(), "b", None), {})
    parts = {part.feature: part.contribution for part in attribution.parts}
    assert parts == {"log_price": 6.0, "taste vector": -12.0, "first": 0.0}


def test_where_nobody_can_explain_there_are_no_parts() -> None:
    gone = ScoredRow(score=1.0, team="", features_F=np.zeros(len(TABLE), np.float32), place=None)
    assert attribute(shop({"": FIRST}), replay_of(), gone, {}) == Attribution()
    silent = SimpleNamespace(feature_names=("popularity", "content"))
    place = replayed_row(replay_of(), 0)
    assert attribute(shop({"": FIRST}), replay_of(ranker=silent), place, {}) == Attribution()


def test_a_real_reranker_s_arms_choose_the_ranker() -> None:
    """`rankers_by_team` of no arms is the serving ranker's."""
    features: Any = None
    reranker = Reranker(item_features=features, rankers={"net": NET}, serving="net")
    over: Any = SimpleNamespace(reranker=reranker)
    attribution = attribute(over, replay_of(), replace(replayed_row(replay_of(), 0), team=""), {})
    assert "log_price" in {part.feature for part in attribution.parts}
