"""Means over requests with intervals that know that a user's requests are alike, and tests of their
differences.

Legend: B requests, G users (a request without a user is one of its own). Intervals are of 95 %.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import chdtrc, stdtr, stdtrit

from recsys.types import Ints

LEVEL = 0.95


@dataclass(frozen=True)
class Mean:
    """A mean over requests and its standard error, over `units` users; NaN where there are too few
    to say."""

    value: float
    error: float
    requests: int
    units: int

    @property
    def interval(self) -> tuple[float, float]:
        """By Student's t over the users."""
        reach = self.error * _quantile(self.units - 1)
        return self.value - reach, self.value + reach


def units(users: Sequence[str | None], request_ids: Sequence[str]) -> NDArray[np.int64]:
    """[B] a number a user; a request without one has its own."""
    names = [
        (user is not None, request if user is None else user)
        for user, request in zip(users, request_ids, strict=True)
    ]
    numbers: dict[tuple[bool, str], int] = {}
    return np.array([numbers.setdefault(name, len(numbers)) for name in names], np.int64)


def mean(values_B: NDArray[np.floating], units_B: Ints | None = None) -> Mean:
    """The mean over requests, its error clustered by user: the mean is a ratio of sums over users,
    whose error the delta method gives (Deng, Lu & Litz 2017). Without `units_B` every request is
    its own."""
    count = len(values_B)
    if not count:
        return Mean(np.nan, np.nan, 0, 0)
    value = float(np.mean(values_B))
    off_B = np.asarray(values_B, np.float64) - value
    off_G = (
        off_B if units_B is None else np.bincount(np.unique(units_B, return_inverse=True)[1], off_B)
    )
    groups = len(off_G)
    error = np.sqrt(groups / (groups - 1) * (off_G**2).sum()) / count if groups > 1 else np.nan
    return Mean(value, float(error), count, groups)


@dataclass(frozen=True)
class Difference:
    """What one mean is above another, its interval, and the chance of one so large by chance
    alone."""

    value: float
    low: float
    high: float
    p: float


def difference(one: Mean, other: Mean) -> Difference:
    """`one` less `other`, of different users (Welch 1947: degrees of freedom by Satterthwaite)."""
    value, error = one.value - other.value, float(np.hypot(one.error, other.error))
    if not error > 0:
        return Difference(value, np.nan, np.nan, np.nan)
    parts = [(each.error**4) / (each.units - 1) for each in (one, other)]
    freedom = error**4 / sum(parts)
    reach = error * _quantile(freedom)
    return Difference(
        value, value - reach, value + reach, float(2 * stdtr(freedom, -abs(value) / error))
    )


def chi_square(counts: Sequence[int], shares: Sequence[float]) -> tuple[float, float]:
    """Pearson's statistic of the counts against the shares, and its p value."""
    expected = np.array(shares) / sum(shares) * sum(counts)
    statistic = float(((np.array(counts) - expected) ** 2 / expected).sum())
    return statistic, float(chdtrc(len(counts) - 1, statistic))


def _quantile(freedom: float) -> float:
    return float(stdtrit(freedom, (1 + LEVEL) / 2)) if freedom > 0 else float("nan")
