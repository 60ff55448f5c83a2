"""Logs drawn without a server, and the trials over them, on the checkerboard's market."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest

from recsys.events import feedback
from recsys.experiments.exploration import Exploration
from recsys.ranking.logged_rankings import LoggedRankings
from recsys.simulation.clicks import PositionBased, Spam, waning
from recsys.simulation.drawn import HINTS, Scene, as_events, logged, ordered
from recsys.simulation.market import Market
from recsys.simulation.trials import (
    SWAPS,
    by_popularity,
    debiased,
    flipped,
    interleaving,
    off_policy,
    rivals,
    spammed,
    weighed,
)
from tests.checkerboard import UNTIL, Checkerboard


@cache
def market() -> Market:
    """Two categories of 8: the checkerboard's items, halved."""
    shop = Market.of(Checkerboard(UNTIL), categories=8, each=2, shoppers=300)
    halves = np.arange(16) // 8
    return Market(**{**vars_of(shop), "categories_I": halves, "words": ("first", "second")})


def vars_of(shop: Market) -> dict[str, object]:
    return {name: getattr(shop, name) for name in Market.__dataclass_fields__}


@cache
def scene(count: int = 2000, seed: int = 0) -> Scene:
    return Scene.of(market(), count, seed)


def test_a_search_has_all_of_its_category_as_candidates() -> None:
    searched = scene().wanted_B >= 0
    found = market().categories_I[scene().rows_BN[searched]]
    assert (found == scene().wanted_B[searched][:, None]).all()
    assert all(len(set(rows)) == 8 for rows in scene().rows_BN.tolist())


def test_the_order_by_truth_is_worth_one() -> None:
    assert scene().true_ndcg(scene().attraction_BN) == pytest.approx(np.ones(2000))
    assert scene().true_ndcg(-scene().attraction_BN).mean() < 0.8


def test_without_exploration_the_log_shows_the_best_by_score() -> None:
    lists = logged(scene(), scene().attraction_BN, Exploration(), PositionBased(), seed=1, k=4)
    best = scene().listed(ordered(scene().attraction_BN)[:, :4])
    assert (lists.items_BK == market().ids[best]).all()
    assert (lists.propensities_BK == 1).all()
    assert lists.positions_BK[0].tolist() == [1, 2, 3, 4]
    assert lists.names == HINTS


def clicks_by_place(lists: LoggedRankings) -> np.ndarray:
    return lists.clicked_BK.mean(axis=0)


def test_half_of_the_lists_are_explored_and_say_so() -> None:
    lists = logged(scene(), by_popularity(scene()), SWAPS, PositionBased(), seed=1, k=4)
    moved = lists.propensities_BK < 0.5
    assert set(moved.sum(axis=1)) == {0, 2}
    assert np.mean(moved.any(axis=1)) == pytest.approx(0.5, abs=0.04)


def test_what_nobody_looks_at_is_not_clicked() -> None:
    lists = logged(scene(), scene().attraction_BN, Exploration(), PositionBased((1.0, 0.5)), seed=1)
    rates = clicks_by_place(lists)
    assert rates[0] == pytest.approx(scene().attraction_BN.max(axis=1).mean(), abs=0.03)
    assert rates[2:].tolist() == [0] * 6


def test_spam_stands_in_the_log() -> None:
    spam = Spam(tuple(range(30)), row=3)
    lists = logged(
        scene(), by_popularity(scene()), Exploration(), PositionBased(), seed=1, k=8, spam=spam
    )
    of_spammers = scene().users_B < 30
    assert (lists.clicked_BK == (lists.items_BK == market().ids[3]))[of_spammers].all()


def test_rivals_are_as_far_apart_as_asked() -> None:
    worse, better = rivals(scene(), PositionBased(), 0.05)
    clicks = [scene().expected_clicks(scores, PositionBased()).mean() for scores in (worse, better)]
    assert clicks[1] / clicks[0] == pytest.approx(1.05, abs=0.005)


def test_interleaving_takes_less_traffic_than_halves_of_it() -> None:
    row = interleaving(market(), PositionBased(), count=6000)
    assert 0 < row.low < row.value < row.high < 1


def test_off_policy_rows_are_a_share_and_a_ratio() -> None:
    held, width = off_policy(market(), PositionBased(), count=500, repetitions=10)
    assert 0.5 <= held.value <= 1
    assert 0 < width.value < 1
    assert held.low < held.value <= held.high <= 1


def test_weighing_all_hints_beats_sales() -> None:
    scores = weighed(scene().hints_BNF)
    assert scene().true_ndcg(scores).mean() > 1.1 * scene().true_ndcg(by_popularity(scene())).mean()


def test_trees_without_position_bias_rank_better_by_the_truth(tmp_path: Path) -> None:
    row = debiased(market(), PositionBased(waning(1.5)), tmp_path, count=3000, logs=2)
    assert row.value > 0
    assert row.low < row.value < row.high


def test_a_log_as_events_joins_to_the_clicks_it_came_from() -> None:
    lists = logged(scene(200), by_popularity(scene(200)), SWAPS, PositionBased(), seed=1, k=4)
    examples = feedback.join(*(lambda shown, done: (shown, [done]))(*as_events(lists)))
    assert (LoggedRankings.of(examples).clicked_BK == lists.clicked_BK).all()


def test_spam_moves_an_item_by_some_places_of_its_category() -> None:
    row = spammed(market(), PositionBased(), count=600, items=2)
    assert 0 <= row.low <= row.value <= row.high <= 8


def test_a_flip_is_followed_by_who_learns_by_day(tmp_path: Path) -> None:
    row = flipped(market(), PositionBased(), tmp_path, count=600)
    assert 0 < row.value < float("inf")
