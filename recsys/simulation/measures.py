"""What a shop's log says against the truth: the rows of `jobs.simulate_shop` that come from a
running server.

Legend: B requests, K places. An interval is the 95 % percentile bootstrap over requests (Efron
1979)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys.simulation.clicks import ClickModel
from recsys.simulation.market import Market
from recsys.simulation.shopper import Log
from recsys.types import Ints

Values = NDArray[np.floating[Any]]
DRAWS = 400
LEVEL = 0.95


@dataclass(frozen=True)
class Row:
    """A line of the table: `floor` must be reached, `goal` is hoped for; None where there is none.

    `at_most`: less is better. With `by_interval` the whole interval must be clear of the floor.
    """

    name: str
    floor: float | None
    goal: float | None
    value: float
    low: float
    high: float
    at_most: bool = False
    by_interval: bool = False

    @property
    def reached_floor(self) -> bool:
        if self.floor is None or not self.by_interval:
            return self._reached(self.floor)
        return bool(self.high < self.floor if self.at_most else self.low > self.floor)

    @property
    def reached_goal(self) -> bool:
        return self._reached(self.goal)

    def _reached(self, bound: float | None) -> bool:
        if bound is None:
            return True
        return bool(self.value <= bound if self.at_most else self.value >= bound)

    def told(self) -> dict[str, Any]:
        """Plain values, as JSON has them: what is not finite is null."""
        numbers = {
            name: _finite(getattr(self, name)) for name in ("floor", "goal", "value", "low", "high")
        }
        return {
            "name": self.name,
            **numbers,
            "reached_floor": self.reached_floor,
            "reached_goal": self.reached_goal,
        }


def _finite(number: float | None) -> float | None:
    return round(float(number), 4) if number is not None and np.isfinite(number) else None


def resampled(
    count: int, measure: Callable[[Ints], float], draws: int = DRAWS, seed: int = 0
) -> tuple[float, float]:
    """The interval of what `measure` makes of the places (0..count-1) of a sample drawn with
    replacement."""
    rng = np.random.default_rng(seed)
    return interval([measure(rng.integers(count, size=count)) for _ in range(draws)])


def interval(values: Sequence[float]) -> tuple[float, float]:
    """The central LEVEL of drawn values."""
    low, high = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], method="nearest")
    return float(low), float(high)


def regret(market: Market, model: ClickModel, log: Log) -> Values:
    """[answered requests]: how many clicks more the true best order of the whole catalogue would
    have had."""
    kept = log.answered_B
    asked, rows_BK = (log.users_B[kept], log.wanted_B[kept]), log.rows_BK[kept]
    best_BK = market.best(*asked, rows_BK.shape[1])
    return model.expected(market.shown(*asked, best_BK)) - model.expected(
        market.shown(*asked, rows_BK)
    )


def true_ndcg(market: Market, log: Log) -> Values:
    """[answered requests]"""
    kept = log.answered_B
    return market.true_ndcg(log.users_B[kept], log.wanted_B[kept], log.rows_BK[kept])


def regret_left(first_B: Values, last_B: Values) -> Row:
    """Regret of the last day over that of the first."""
    rng = np.random.default_rng(0)
    ratios = [_again(last_B, rng) / _again(first_B, rng) for _ in range(DRAWS)]
    value = float(last_B.mean() / first_B.mean())
    return Row(
        "regret after 10 nights / before", 1 / 2, 1 / 3, value, *interval(ratios), at_most=True
    )


def _again(values_B: Values, rng: np.random.Generator) -> float:
    return float(values_B[rng.integers(len(values_B), size=len(values_B))].mean())


def examination_error(truth_K: Values, curve_K: Values, drawn_DK: Values) -> Row:
    """How far the estimated curve lies from the true one at worst, over the places that both have.

    `drawn_DK` are estimates from resampled logs: the interval is that of their own largest errors,
    which noise makes larger than the estimate's."""
    places = min(len(truth_K), len(curve_K))
    errors = np.abs(drawn_DK[:, :places] - truth_K[:places]).max(axis=1)
    value = float(np.abs(curve_K[:places] - truth_K[:places]).max())
    return Row(
        "examination curve, largest error",
        0.10,
        0.05,
        value,
        *interval(errors.tolist()),
        at_most=True,
    )


def flip_followed(
    before_B: Values,
    at_noon_B: Values,
    after_B: Values,
    events_B: Ints,
    half_day: int,
    window: int = 50,
) -> Row:
    """Events after a preference flipped until the lists have made good half of what they lost by
    it.

    `before_B` is the quality of the lists before noon by the old truth, `at_noon_B` of the same
    lists by the new one, `after_B` of those shown after noon, one request after the other,
    `events_B` the events that came of each. Followed at the end of the first `window` requests
    whose mean lies halfway back; infinite where none does. The floor is `half_day`, the number of
    events that came between noon and midnight."""
    arrived_W = np.add.reduceat(events_B, np.arange(0, len(events_B), window)).cumsum()

    def needed(before: float, at_noon: float, sample_B: Values) -> float:
        halfway = (before + at_noon) / 2
        means_W = [
            sample_B[start : start + window].mean() for start in range(0, len(sample_B), window)
        ]
        there = np.flatnonzero(np.array(means_W) >= halfway)
        return float(arrived_W[there[0]]) if len(there) else float("inf")

    rng = np.random.default_rng(0)
    starts_B = np.arange(len(after_B)) // window * window
    sizes_B = np.minimum(window, len(after_B) - starts_B)
    drawn = [
        needed(
            _again(before_B, rng),
            _again(at_noon_B, rng),
            after_B[starts_B + rng.integers(sizes_B)],
        )
        for _ in range(DRAWS)
    ]
    value = needed(float(before_B.mean()), float(at_noon_B.mean()), after_B)
    return Row(
        "events until a flip is followed", half_day, 500, value, *interval(drawn), at_most=True
    )


def moved(before: Log, after: Log, row: int) -> Row:
    """Places that an item moved in the answers to the same requests, as a mean; behind the last one
    where it is not."""
    shift_B = _places(before, row) - _places(after, row)

    def size(places: Ints) -> float:
        return float(abs(shift_B[places].mean()))

    value = size(np.arange(len(shift_B)))
    return Row(
        "places that spam moves an item, in answers",
        5.0,
        None,
        value,
        *resampled(len(shift_B), size),
        at_most=True,
    )


def unrest(before: Log, after: Log, row: int) -> float:
    """The same of all other items of these answers, as a mean: what a night moves without spam."""
    others = np.setdiff1d(np.union1d(before.rows_BK, after.rows_BK), [row, -1])
    return float(
        np.mean([abs((_places(before, other) - _places(after, other)).mean()) for other in others])
    )


def _places(log: Log, row: int) -> Values:
    """[B] from 1."""
    found_BK = log.rows_BK == row
    behind = log.rows_BK.shape[1] + 1
    return np.where(found_BK.any(axis=1), 1 + found_BK.argmax(axis=1), behind).astype(np.float64)
