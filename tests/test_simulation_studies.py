"""Synthetic logs and the studies over them, on the checkerboard's market."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from recsys.events.joins import label_examples
from recsys.experiments.exploration import Exploration
from recsys.market.click_models import ClickSpam, PositionBasedModel, power_law_examination
from recsys.market.market import Market
from recsys.ranking.logged_rankings import LoggedRankings
from recsys.simulation.studies.click_spam import spam_displacement
from recsys.simulation.studies.debiasing import debiasing_gain
from recsys.simulation.studies.interleaving import interleaving_traffic, rankers_apart
from recsys.simulation.studies.off_policy import off_policy_coverage, target_scores
from recsys.simulation.studies.online_adaptation import online_adaptation
from recsys.simulation.synthetic_logs import (
    FEATURES,
    SWAPS,
    CandidateSets,
    order_by,
    sales_scores,
    simulate_log,
    to_events,
)
from tests.checkerboard import UNTIL, Checkerboard

MODEL = PositionBasedModel()


@cache
def market() -> Market:
    """Two categories of 8: the checkerboard's items, halved."""
    shop = Market.of(Checkerboard(UNTIL), categories=8, items_per_category=2, shoppers=300)
    return replace(shop, categories_I=np.arange(16) // 8, queries=("first", "second"))


@cache
def candidates(count: int = 2000, seed: int = 0) -> CandidateSets:
    return CandidateSets.draw(market(), count, seed)


def test_a_search_has_its_whole_category_as_candidates() -> None:
    requests = candidates().requests
    categories = market().categories_I[candidates().rows_BN[requests.is_search_B]]
    assert (categories == requests.categories_B[requests.is_search_B][:, None]).all()
    assert all(len(set(rows)) == 8 for rows in candidates().rows_BN.tolist())


def test_the_order_by_truth_is_ideal() -> None:
    assert candidates().true_ndcg(candidates().attraction_BN) == pytest.approx(np.ones(2000))
    assert candidates().true_ndcg(-candidates().attraction_BN).mean() < 0.8


def test_without_exploration_the_log_shows_the_best_by_score() -> None:
    scores = candidates().attraction_BN
    lists = simulate_log(candidates(), scores, policy=Exploration(), model=MODEL, seed=1, k=4)
    best = candidates().rows_at(order_by(scores)[:, :4])
    assert (lists.items_BK == market().ids[best]).all()
    assert (lists.propensities_BK == 1).all()
    assert lists.positions_BK[0].tolist() == [1, 2, 3, 4]
    assert lists.names == FEATURES


def swapped_log(count: int = 2000) -> LoggedRankings:
    requests = candidates(count)
    return simulate_log(requests, sales_scores(requests), policy=SWAPS, model=MODEL, seed=1, k=4)


def test_half_of_the_lists_are_explored_and_log_it() -> None:
    is_swapped = swapped_log().propensities_BK < 0.5
    assert set(is_swapped.sum(axis=1)) == {0, 2}
    assert np.mean(is_swapped.any(axis=1)) == pytest.approx(0.5, abs=0.04)


def test_positions_that_are_not_examined_are_not_clicked() -> None:
    scores, model = candidates().attraction_BN, PositionBasedModel((1.0, 0.5))
    lists = simulate_log(candidates(), scores, policy=Exploration(), model=model, seed=1)
    rates = lists.clicked_BK.mean(axis=0)
    assert rates[0] == pytest.approx(scores.max(axis=1).mean(), abs=0.03)
    assert rates[2:].tolist() == [0] * 6


def test_the_log_has_the_clicks_of_spammers() -> None:
    spam = ClickSpam(tuple(range(30)), row=3)
    lists = simulate_log(
        candidates(),
        sales_scores(candidates()),
        policy=Exploration(),
        model=MODEL,
        seed=1,
        k=8,
        spam=spam,
    )
    by_spammer = candidates().requests.users_B < 30
    assert (lists.clicked_BK == (lists.items_BK == market().ids[3]))[by_spammer].all()


def test_two_rankers_are_apart_by_the_lift() -> None:
    scores = rankers_apart(candidates(), MODEL, 0.05)
    worse, better = (candidates().expected_clicks(each, MODEL).mean() for each in scores)
    assert better / worse == pytest.approx(1.05, abs=0.005)


def test_interleaving_takes_less_traffic_than_an_ab_test() -> None:
    traffic = interleaving_traffic(market(), MODEL, count=6000)
    low, high = traffic.interval
    assert 0 < low < traffic.value < high < 1


def test_off_policy_criteria_are_a_share_and_a_ratio() -> None:
    coverage, width = off_policy_coverage(market(), MODEL, count=500, repetitions=10)
    assert 0.5 <= coverage.value <= 1
    assert 0 < width.value < 1
    low, high = coverage.interval
    assert low < coverage.value <= high <= 1


def test_the_target_ranker_beats_sales() -> None:
    sales = candidates().true_ndcg(sales_scores(candidates())).mean()
    assert candidates().true_ndcg(target_scores(candidates().features_BNF)).mean() > 1.1 * sales


def test_trees_without_position_bias_rank_better_by_the_truth(tmp_path: Path) -> None:
    model = PositionBasedModel(power_law_examination(1.5))
    gain = debiasing_gain(market(), model, tmp_path, count=3000, logs=2)
    assert gain.value > 0
    low, high = gain.interval
    assert low < gain.value < high


def test_a_log_as_events_joins_to_the_same_clicks() -> None:
    lists = swapped_log(200)
    impressions, clicks = to_events(lists)
    joined = LoggedRankings.of(label_examples(impressions, [clicks]))
    assert (joined.clicked_BK == lists.clicked_BK).all()


def test_spam_moves_an_item_within_its_category() -> None:
    moved = spam_displacement(market(), MODEL, count=600, items=2)
    low, high = moved.interval
    assert 0 <= low <= moved.value <= high <= 8


def test_online_learning_follows_a_preference_shift(tmp_path: Path) -> None:
    events = online_adaptation(market(), MODEL, tmp_path, count=600)
    assert 0 < events.value < float("inf")
