"""Confidence intervals and tests: of means over requests that cluster by user, by the bootstrap, of
shares; two-sample and goodness-of-fit tests.

Legend: B requests, G clusters (users; a request without a user is one of its own), U users,
S seeds, D draws. Intervals are of LEVEL unless told otherwise."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import chdtrc, stdtr, stdtrit

from recsys.types import Ints

Values = NDArray[np.floating[Any]]
LEVEL = 0.95
#: Standard errors on each side of a normal 95 % interval.
Z_95 = 1.96


# Means of clustered requests


@dataclass(frozen=True)
class ClusteredMean:
    """A mean over requests and its standard error, over `clusters` of them; NaN where there are too
    few to say."""

    value: float
    error: float
    requests: int
    clusters: int

    @property
    def interval(self) -> tuple[float, float]:
        """By Student's t over the clusters."""
        reach = self.error * _t_quantile(self.clusters - 1)
        return self.value - reach, self.value + reach


def cluster_ids(users: Sequence[str | None], request_ids: Sequence[str]) -> NDArray[np.int64]:
    """[B] a number a user; a request without one has its own."""
    names = [
        (user is not None, request if user is None else user)
        for user, request in zip(users, request_ids, strict=True)
    ]
    numbers: dict[tuple[bool, str], int] = {}
    return np.array([numbers.setdefault(name, len(numbers)) for name in names], np.int64)


def clustered_mean(values_B: Values, clusters_B: Ints | None = None) -> ClusteredMean:
    """The mean over requests, its error clustered by user: the mean is a ratio of sums over users,
    whose error the delta method gives (Deng, Lu & Litz 2017). Without `clusters_B` every request is
    its own."""
    count = len(values_B)
    if not count:
        return ClusteredMean(np.nan, np.nan, 0, 0)
    value = float(np.mean(values_B))
    residuals_B = np.asarray(values_B, np.float64) - value
    residuals_G: NDArray[Any] = residuals_B
    if clusters_B is not None:
        residuals_G = np.bincount(np.unique(clusters_B, return_inverse=True)[1], residuals_B)
    clusters = len(residuals_G)
    if clusters < 2:
        return ClusteredMean(value, np.nan, count, clusters)
    error = np.sqrt(clusters / (clusters - 1) * (residuals_G**2).sum()) / count
    return ClusteredMean(value, float(error), count, clusters)


@dataclass(frozen=True)
class Difference:
    """How much one mean is above another, its interval, and the p value of no difference."""

    value: float
    low: float
    high: float
    p: float


def welch_difference(one: ClusteredMean, other: ClusteredMean) -> Difference:
    """`one` less `other`, of different users (Welch 1947: degrees of freedom by Satterthwaite)."""
    value, error = one.value - other.value, float(np.hypot(one.error, other.error))
    if not error > 0:
        return Difference(value, np.nan, np.nan, np.nan)
    parts = [(each.error**4) / (each.clusters - 1) for each in (one, other)]
    freedom = error**4 / sum(parts)
    reach = error * _t_quantile(freedom)
    p = float(2 * stdtr(freedom, -abs(value) / error))
    return Difference(value, value - reach, value + reach, p)


# The bootstrap


def bootstrap_mean(
    values_U: Values, *, level: float = LEVEL, draws: int = 1000, seed: int = 0
) -> tuple[float, float]:
    """The percentile bootstrap interval of the mean over users with a value (Efron 1979); those of
    NaN have none."""
    valid = values_U[~np.isnan(values_U)]
    if not len(valid):
        return math.nan, math.nan
    rng = np.random.default_rng(seed)
    means = [valid[rng.integers(len(valid), size=len(valid))].mean() for _ in range(draws)]
    return percentile_interval(means, level=level)


def cluster_bootstrap_mean(
    values_B: Values,
    clusters_B: Ints,
    *,
    level: float = LEVEL,
    draws: int = 1000,
    seed: int = 0,
) -> tuple[float, float]:
    """The percentile bootstrap interval of a mean over requests: users are drawn with replacement,
    each with all of their requests (the cluster bootstrap; Davison & Hinkley 1997, section 3.8).
    `clusters_B` numbers them from 0."""
    if not len(values_B):
        return math.nan, math.nan
    counts_G, sums_G = np.bincount(clusters_B), np.bincount(clusters_B, values_B)
    rng, means_D = np.random.default_rng(seed), np.empty(draws)
    for draw in range(draws):
        sample_G = rng.integers(len(counts_G), size=len(counts_G))
        means_D[draw] = sums_G[sample_G].sum() / counts_G[sample_G].sum()
    return percentile_interval(means_D, level=level)


def two_way_bootstrap_mean(
    values_SU: Values, *, level: float = LEVEL, draws: int = 1000, seed: int = 0
) -> tuple[float, float]:
    """The percentile bootstrap interval of the mean over S seeds and U users, both drawn with
    replacement.

    Every draw takes S seeds and U users, and the users' values under just these seeds (the two-way
    bootstrap of Owen, 2007). Three seeds tell little of their spread, and the draw makes it smaller
    by (S - 1) / S: report it beside this."""
    valid_SU = values_SU[:, ~np.isnan(values_SU).any(axis=0)]
    seeds, users = valid_SU.shape
    if not users:
        return math.nan, math.nan
    rng = np.random.default_rng(seed)
    means = []
    for _ in range(draws):
        weights_U = np.bincount(rng.integers(users, size=users), minlength=users)
        means.append((valid_SU @ weights_U)[rng.integers(seeds, size=seeds)].mean() / users)
    return percentile_interval(means, level=level)


def bootstrap_interval(
    count: int, statistic: Callable[[Ints], float], *, draws: int = 400, seed: int = 0
) -> tuple[float, float]:
    """The percentile bootstrap interval, by nearest draws, of a statistic of `count` requests; it
    is given the places (0..count-1) of a sample drawn with replacement."""
    rng = np.random.default_rng(seed)
    values = [statistic(rng.integers(count, size=count)) for _ in range(draws)]
    return percentile_interval(values, method="nearest")


def percentile_interval(
    draws: ArrayLike, *, level: float = LEVEL, method: Literal["linear", "nearest"] = "linear"
) -> tuple[float, float]:
    """The central `level` of drawn values."""
    low, high = np.quantile(
        np.asarray(draws, np.float64), [(1 - level) / 2, (1 + level) / 2], method=method
    )
    return float(low), float(high)


def percentile_band(draws_DK: ArrayLike, *, level: float = LEVEL) -> tuple[Values, Values]:
    """[K], [K]: `percentile_interval` place by place."""
    low_K, high_K = np.quantile(
        np.asarray(draws_DK, np.float64), [(1 - level) / 2, (1 + level) / 2], axis=0
    )
    return low_K, high_K


# Shares and counts


def wilson_interval(share: float, count: int) -> tuple[float, float]:
    """The 95 % score interval of a share of `count` trials (Wilson 1927)."""
    spread = Z_95**2 / count
    middle = share + spread / 2
    reach = Z_95 * math.sqrt(share * (1 - share) / count + spread / (4 * count))
    return (middle - reach) / (1 + spread), (middle + reach) / (1 + spread)


def sign_test(wins: int, losses: int) -> float:
    """The p value of wins and losses being equally likely (exact binomial test); NaN where there is
    neither."""
    from scipy.stats import binomtest

    return float(binomtest(wins, wins + losses).pvalue) if wins + losses else math.nan


def chi_square_test(counts: Sequence[int], shares: Sequence[float]) -> tuple[float, float]:
    """Pearson's statistic of the counts against the shares, and its p value."""
    expected = np.array(shares) / sum(shares) * sum(counts)
    statistic = float(((np.array(counts) - expected) ** 2 / expected).sum())
    return statistic, float(chdtrc(len(counts) - 1, statistic))


def _t_quantile(freedom: float) -> float:
    return float(stdtrit(freedom, (1 + LEVEL) / 2)) if freedom > 0 else math.nan
