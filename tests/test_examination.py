"""Curves found again in clicks that were drawn from them."""

import numpy as np
import pytest

from recsys.errors import InputError
from recsys.ranking.examination import Examination, intervention_harvesting, regression_em
from tests.toy_clicks import CURVE, toy_lists, toy_log

FOLD = np.array([1, 0.95, 0.9, 0.85, 0.3, 0.28, 0.27, 0.25, 0.2, 0.2])


def furthest(examination, curve=CURVE):
    return np.abs(examination.curve_K - curve).max()


@pytest.mark.parametrize(("seed", "curve"), [(0, CURVE), (1, CURVE), (0, FOLD)])
def test_swaps_show_the_curve(seed, curve):
    """What is on top is what people want least: clicks a place alone are far off."""
    lists, _ = toy_log(20_000, seed, epsilon=0.3, curve=curve)
    rates_K = lists.clicked_BK.mean(axis=0)
    assert np.abs(rates_K / rates_K[0] - curve).max() > 0.1
    examination = intervention_harvesting(lists, draws=100)
    assert furthest(examination, curve) < 0.05
    assert ((examination.low_K <= curve) & (curve <= examination.high_K)).sum() >= 8


def test_shuffles_show_it_too_and_what_was_not_left_to_chance_is_not_asked():
    lists, _ = toy_log(20_000, 1, shuffled=0.2)
    assert furthest(intervention_harvesting(lists, draws=0)) < 0.05
    tied = toy_lists(lists.features_BKF, lists.gains_BK, lists.propensities_BK)
    assert furthest(intervention_harvesting(tied, draws=0)) < 0.05, (
        "without scores all items are one group"
    )


def test_features_show_the_curve_where_nothing_was_left_to_chance():
    lists, _ = toy_log(8_000, 0)
    assert furthest(regression_em(lists, draws=5)) < 0.1


def test_few_clicks_have_wide_intervals():
    few, many = (
        intervention_harvesting(toy_log(size, 3, epsilon=0.3)[0]) for size in (1000, 16_000)
    )
    assert (few.high_K - few.low_K)[1:].mean() > 2 * (many.high_K - many.low_K)[1:].mean()


def test_the_same_seed_the_same_interval():
    lists, _ = toy_log(1000, 3, epsilon=0.3)
    one, other = (intervention_harvesting(lists, draws=20, seed=5) for _ in range(2))
    np.testing.assert_array_equal(one.low_K, other.low_K)
    one, other = (regression_em(lists, draws=5, rounds=10) for _ in range(2))
    np.testing.assert_array_equal(one.curve_K, other.curve_K)


def test_without_a_click_the_curve_is_flat():
    lists, _ = toy_log(50, 0, epsilon=0.5)
    silent = toy_lists(
        lists.features_BKF, 0 * lists.gains_BK, lists.propensities_BK, lists.scores_BK
    )
    for estimate in (intervention_harvesting, regression_em):
        assert estimate(silent).curve_K.tolist() == [1] * 10


def test_a_place_without_a_click_keeps_a_chance():
    lists, _ = toy_log(500, 0, epsilon=0.5, curve=np.array([1, 0.5, 0.3, 0, 0]))
    assert 0 < intervention_harvesting(lists, draws=0).curve_K[-1] < 0.1


def test_a_log_that_cannot_say_it_is_refused():
    lists, _ = toy_log(50)
    with pytest.raises(InputError, match="no position of 50 requests was left to chance"):
        intervention_harvesting(lists)
    with pytest.raises(InputError, match="0 shown items with 3 features are too few"):
        regression_em(lists.where(np.zeros(50, bool)))
    with pytest.raises(InputError, match="500 shown items with 0 features"):
        regression_em(lists.with_features(()))


def test_a_position_behind_the_curve_is_its_last(tmp_path):
    curve = Examination(np.array([1, 0.5, 0.25]), np.array([1, 0.4, 0.2]), np.array([1, 0.6, 0.3]))
    curve.save(tmp_path / "curve.json")
    again = Examination.load(tmp_path / "curve.json")
    assert again.at(np.array([[1, 2], [3, 40]])).tolist() == [[1, 0.5], [0.25, 0.25]]
    np.testing.assert_allclose([again.low_K, again.high_K], [curve.low_K, curve.high_K], rtol=1e-6)
    assert Examination.flat(3).at(np.array([7])).tolist() == [1]


@pytest.mark.parametrize("curve", [[], [0.5, 0.4], [1, 0], [1, 1.5], [1, np.nan]])
def test_a_curve_is_of_chances(curve):
    with pytest.raises(InputError):
        Examination(np.array(curve), np.array(curve), np.array(curve))
