"""What is measured against the truth, on logs whose value is known."""

from __future__ import annotations

import numpy as np
import pytest

from recsys.simulation.clicks import Cascade, PositionBased
from recsys.simulation.measures import (
    Row,
    examination_error,
    flip_followed,
    interval,
    moved,
    regret,
    regret_left,
    resampled,
    true_ndcg,
    unrest,
)
from recsys.simulation.shopper import Log
from tests.test_simulation_market import market


def log_of(rows_BK: np.ndarray, users: np.ndarray, wanted: np.ndarray) -> Log:
    nothing, count = np.zeros(rows_BK.shape, bool), len(rows_BK)
    return Log(users, wanted, rows_BK, nothing, nothing, ("r",) * count, ("v1",) * count)


@pytest.mark.parametrize("model", [PositionBased(), Cascade()])
def test_the_best_order_has_no_regret_and_any_other_has_some(
    model: PositionBased | Cascade,
) -> None:
    asked = market().requests(40, seed=2)
    best = market().best(*asked, 5)
    assert regret(market(), model, log_of(best, *asked)) == pytest.approx(np.zeros(40), abs=1e-6)
    worse = log_of(np.argsort(market().attraction(*asked), axis=1)[:, :5].astype(np.int32), *asked)
    assert (regret(market(), model, worse) > 0).all()
    assert (
        true_ndcg(market(), worse).max()
        < true_ndcg(market(), log_of(best, *asked)).min()
        == pytest.approx(1)
    )


def test_regret_left_is_a_ratio_with_its_interval() -> None:
    rng = np.random.default_rng(0)
    row = regret_left(rng.normal(2, 0.5, 1000), rng.normal(1, 0.5, 1000))
    assert row.value == pytest.approx(0.5, abs=0.03)
    assert row.low < row.value < row.high < row.low + 0.1


def test_the_largest_error_is_that_of_the_worst_place() -> None:
    truth, curve = np.array([1.0, 0.5, 0.25]), np.array([1.0, 0.57, 0.24, 0.1])
    row = examination_error(truth, curve, np.stack([curve, curve]))
    assert row.value == row.low == pytest.approx(0.07)
    assert row.reached_floor
    assert not row.reached_goal


def test_a_flip_is_followed_at_the_end_of_the_window_that_is_halfway_back() -> None:
    before, at_noon = np.full(100, 0.9), np.full(100, 0.5)
    after = np.repeat([0.5, 0.6, 0.75, 0.9], 50)
    row = flip_followed(before, at_noon, after, np.full(200, 2), half_day=400)
    assert (row.value, row.low, row.high) == (300, 300, 300)
    assert row.reached_goal
    never = flip_followed(before, at_noon, np.full(200, 0.5), np.full(200, 2), half_day=400)
    assert not never.reached_floor
    assert never.told()["value"] is None


def test_floors_are_judged_on_their_side_and_by_interval_where_asked() -> None:
    assert Row("more", 1.0, 2.0, 1.5, 0.5, 2.5).reached_floor
    assert not Row("more", 1.0, 2.0, 1.5, 0.5, 2.5, by_interval=True).reached_floor
    assert not Row("less", 1.0, None, 1.5, 0.5, 2.5, at_most=True).reached_floor
    assert Row("less", 1.0, None, 0.5, 0.4, 0.9, at_most=True, by_interval=True).reached_floor
    assert Row("nothing asked", None, None, 0.0, 0.0, 0.0).reached_goal


def test_the_interval_of_a_mean_is_that_of_the_normal() -> None:
    values = np.random.default_rng(0).normal(size=2000)
    low, high = resampled(2000, lambda places: float(values[places].mean()), draws=1000)
    assert high - low == pytest.approx(2 * 1.96 / np.sqrt(2000), rel=0.1)
    assert interval([1.0] * 9 + [float("inf")])[1] == float("inf")


def test_an_item_moves_by_the_mean_of_its_places() -> None:
    asked = np.array([0, 1]), np.array([-1, -1])
    before, after = (
        log_of(np.array([[5, 6, 7], [6, 7, 5]]), *asked),
        log_of(np.array([[6, 5, 7], [6, 7, 8]]), *asked),
    )
    assert moved(before, after, 5).value == 1.0  # 1 to 2, and 3 to behind the last
    assert moved(before, before, 5).value == 0.0
    assert unrest(before, after, 5) == pytest.approx(
        (0.5 + 0 + 0.5) / 3
    )  # 6 up by one once, 7 never, 8 in once
