"""Intervals and tests against those of SciPy, of the normal distribution, and known answers."""

from __future__ import annotations

import math

import numpy as np
import pytest

from recsys.intervals import (
    bootstrap_interval,
    bootstrap_mean,
    chi_square_test,
    cluster_bootstrap_mean,
    cluster_ids,
    clustered_mean,
    percentile_band,
    percentile_interval,
    sign_test,
    two_way_bootstrap_mean,
    welch_difference,
    wilson_interval,
)


def test_a_users_requests_are_not_independent() -> None:
    """Ten users who all click or never do: ten requests each say no more than one."""
    values_B, users_B = np.repeat([0.0, 1.0] * 5, 10), np.repeat(np.arange(10), 10)
    assert clustered_mean(values_B, users_B).error == pytest.approx(
        clustered_mean(values_B[::10]).error
    )
    assert clustered_mean(values_B).error < clustered_mean(values_B, users_B).error / 3


def test_differences_are_welchs() -> None:
    from scipy.stats import ttest_ind

    one_B, other_B = np.array([1.0, 2, 4, 9]), np.array([0.0, 1, 1, 2, 1])
    difference = welch_difference(clustered_mean(one_B), clustered_mean(other_B))
    truth = ttest_ind(one_B, other_B, equal_var=False)
    assert difference.p == pytest.approx(truth.pvalue)
    assert (difference.low, difference.high) == pytest.approx(
        tuple(truth.confidence_interval(0.95))
    )


def test_chi_square_is_pearsons() -> None:
    from scipy.stats import chisquare

    assert chi_square_test([60, 30], [0.5, 0.5]) == pytest.approx(tuple(chisquare([60, 30])))


def test_requests_without_a_user_are_clusters_of_their_own() -> None:
    assert cluster_ids(["a", None, "a", None], ["r1", "r2", "r3", "a"]).tolist() == [0, 1, 0, 2]


def test_the_bootstrap_interval_is_the_normal_one_and_repeats() -> None:
    values_U = np.append(np.random.default_rng(3).random(2_000), np.nan)
    low, high = bootstrap_mean(values_U)
    assert (low, high) == bootstrap_mean(values_U)
    error = np.nanstd(values_U) / np.sqrt(2_000)
    np.testing.assert_allclose(
        [low, high], np.nanmean(values_U) + np.array([-1.96, 1.96]) * error, atol=0.2 * error
    )


def test_the_interval_over_users_and_seeds() -> None:
    """One seed: that over users. Users alike: that over seeds, whose mean of three has 27
    values."""
    values_SU = np.random.default_rng(3).random((1, 2_000))
    np.testing.assert_allclose(
        two_way_bootstrap_mean(values_SU),
        bootstrap_mean(values_SU[0]),
        atol=0.2 * 0.29 / np.sqrt(2_000),
    )
    alike_SU = np.repeat([[0.0], [0.3], [0.6]], 5, axis=1)
    np.testing.assert_allclose(two_way_bootstrap_mean(alike_SU), [0, 0.6])
    assert np.isnan(two_way_bootstrap_mean(np.full((2, 3), np.nan))).all()
    with_gap_SU = np.append(alike_SU, [[np.nan]] * 3, axis=1)
    assert two_way_bootstrap_mean(with_gap_SU) == two_way_bootstrap_mean(alike_SU)


def test_requests_of_one_user_are_drawn_together() -> None:
    """A hundred requests of two users say no more than two do."""
    values = np.repeat([0.0, 1.0], 50)
    assert cluster_bootstrap_mean(values, np.repeat([0, 1], 50)) == (0, 1)
    low, high = cluster_bootstrap_mean(values, np.arange(100))
    assert 0.35 < low < high < 0.65


def test_the_interval_of_a_mean_is_that_of_the_normal() -> None:
    values = np.random.default_rng(0).normal(size=2000)
    low, high = bootstrap_interval(2000, lambda rows: float(values[rows].mean()), draws=1000)
    assert high - low == pytest.approx(2 * 1.96 / np.sqrt(2000), rel=0.1)
    assert percentile_interval([1.0] * 9 + [math.inf], method="nearest")[1] == math.inf


def test_no_values_have_no_interval() -> None:
    assert np.isnan(bootstrap_mean(np.array([]))).all()
    assert np.isnan(cluster_bootstrap_mean(np.array([]), np.array([], int))).all()
    assert np.isnan(clustered_mean(np.array([])).value)
    assert np.isnan(clustered_mean(np.array([1.0])).interval).all()
    assert math.isnan(sign_test(0, 0))


def test_a_band_is_the_interval_place_by_place() -> None:
    draws_DK = np.random.default_rng(0).random((99, 3))
    places = zip(*percentile_band(draws_DK), strict=True)
    assert list(places) == [percentile_interval(draws_D) for draws_D in draws_DK.T]


def test_shares_have_wilsons_interval_and_the_sign_test_is_binomial() -> None:
    from scipy.stats import binomtest

    tossed = binomtest(9, 10)
    low, high = tossed.proportion_ci(method="wilson")
    assert wilson_interval(0.9, 10) == pytest.approx((low, high), abs=1e-4)
    assert sign_test(9, 1) == tossed.pvalue
