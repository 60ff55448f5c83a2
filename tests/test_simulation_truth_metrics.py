"""Metrics against the ground truth, on logs whose value is known."""

from __future__ import annotations

import numpy as np
import pytest

from recsys.market.click_models import CascadeModel, ClickModel, PositionBasedModel
from recsys.market.market import RequestBatch
from recsys.simulation.shoppers import ClickLog
from recsys.simulation.truth_metrics import (
    adaptation,
    background_displacement,
    displacement,
    examination_error,
    regret,
    regret_ratio,
    true_ndcg,
)
from tests.test_market import market


@pytest.mark.parametrize("model", [PositionBasedModel(), CascadeModel()])
def test_the_ideal_ranking_has_no_regret_and_any_other_has_some(model: ClickModel) -> None:
    requests = market().requests(40, seed=2)
    ideal = ClickLog.of_lists(requests, market().ideal_ranking(requests, 5))
    assert regret(market(), model, ideal) == pytest.approx(np.zeros(40), abs=1e-6)
    worst_rows = np.argsort(market().attraction(requests), axis=1)[:, :5].astype(np.int32)
    worst = ClickLog.of_lists(requests, worst_rows)
    assert (regret(market(), model, worst) > 0).all()
    lowest = true_ndcg(market(), ideal).min()
    assert true_ndcg(market(), worst).max() < lowest == pytest.approx(1)


def test_the_regret_ratio_has_an_interval() -> None:
    rng = np.random.default_rng(0)
    ratio = regret_ratio(rng.normal(2, 0.5, 1000), rng.normal(1, 0.5, 1000))
    assert ratio.value == pytest.approx(0.5, abs=0.03)
    low, high = ratio.interval
    assert low < ratio.value < high < low + 0.1


def test_the_largest_error_is_that_of_the_worst_position() -> None:
    truth, curve = np.array([1.0, 0.5, 0.25]), np.array([1.0, 0.57, 0.24, 0.1])
    error = examination_error(truth, curve, np.stack([curve, curve]))
    assert error.value == error.interval[0] == pytest.approx(0.07)
    assert error.reached_floor
    assert not error.reached_goal


def test_adaptation_is_at_the_end_of_the_window_that_is_halfway_back() -> None:
    before, shifted = np.full(100, 0.9), np.full(100, 0.5)
    after = np.repeat([0.5, 0.6, 0.75, 0.9], 50)
    events = adaptation(before, shifted, after, np.full(200, 2))
    assert (events.value, events.interval, events.floor) == (300, (300, 300), 400)
    assert events.reached_goal
    never = adaptation(before, shifted, np.full(200, 0.5), np.full(200, 2))
    assert never.value == float("inf")
    assert not never.reached_floor


def test_an_item_moves_by_the_mean_of_its_positions() -> None:
    requests = RequestBatch(np.array([0, 1]), np.array([-1, -1]))
    before = ClickLog.of_lists(requests, np.array([[5, 6, 7], [6, 7, 5]], np.int32))
    after = ClickLog.of_lists(requests, np.array([[6, 5, 7], [6, 7, 8]], np.int32))
    assert displacement(before, after, 5).value == 1.0  # 1 to 2, and 3 to behind the last
    assert displacement(before, before, 5).value == 0.0
    # 6 up by one once, 7 never, 8 in once
    assert background_displacement(before, after, 5) == pytest.approx((0.5 + 0 + 0.5) / 3)
