"""Metrics against the ground truth: regret, true nDCG, the error of an examination curve, the speed
of adaptation, displacement by spam.

Legend: B requests, K positions. Intervals are 95 % percentile bootstrap intervals over requests
(Efron 1979)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys.evaluation.results import Criterion
from recsys.intervals import bootstrap_interval, percentile_interval
from recsys.market.click_models import ClickModel
from recsys.market.market import Market
from recsys.simulation.shoppers import ClickLog
from recsys.types import Ints

Values = NDArray[np.floating[Any]]
DRAWS = 400


def _resampled_mean(values_B: Values, rng: np.random.Generator) -> float:
    return float(values_B[rng.integers(len(values_B), size=len(values_B))].mean())


def regret(market: Market, model: ClickModel, log: ClickLog) -> Values:
    """[answered requests]: expected clicks of the ideal ranking of the whole catalogue, less those
    of the list."""
    requests, rows_BK = log.answered()
    ideal_BK = market.ideal_ranking(requests, rows_BK.shape[1])
    ideal_B, actual_B = (
        model.expected_clicks(market.attraction_of(requests, rows)) for rows in (ideal_BK, rows_BK)
    )
    return ideal_B - actual_B


def true_ndcg(market: Market, log: ClickLog) -> Values:
    """[answered requests]"""
    return market.true_ndcg(*log.answered())


def regret_ratio(first_B: Values, last_B: Values) -> Criterion:
    """Mean regret of the last day over that of the first."""
    rng = np.random.default_rng(0)
    ratios = [_resampled_mean(last_B, rng) / _resampled_mean(first_B, rng) for _ in range(DRAWS)]
    return Criterion(
        name="regret after 10 nights / before",
        floor=1 / 2,
        goal=1 / 3,
        value=float(last_B.mean() / first_B.mean()),
        interval=percentile_interval(ratios, method="nearest"),
        at_most=True,
    )


def examination_error(truth_K: Values, curve_K: Values, bootstrap_DK: Values) -> Criterion:
    """The largest error of an estimated examination curve, over the positions that both have.

    `bootstrap_DK` are estimates from resampled logs: the interval is that of their own largest
    errors, which noise makes larger than the estimate's."""
    positions = min(len(truth_K), len(curve_K))
    errors = np.abs(bootstrap_DK[:, :positions] - truth_K[:positions]).max(axis=1)
    return Criterion(
        name="examination curve, largest error",
        floor=0.10,
        goal=0.05,
        value=float(np.abs(curve_K[:positions] - truth_K[:positions]).max()),
        interval=percentile_interval(errors.tolist(), method="nearest"),
        at_most=True,
    )


def adaptation(
    before_B: Values, shifted_B: Values, after_B: Values, events_B: Ints, window: int = 50
) -> Criterion:
    """Events after a preference shift until the lists have regained half of the quality that they
    lost by it; infinite where they never do.

    `before_B` is the quality of lists before the shift by the old truth, `shifted_B` of the same
    lists by the new one, `after_B` of successive lists after the shift, `events_B` the events on
    each. Regained at the end of the first `window` requests whose mean lies halfway back. The floor
    is the number of events after the shift."""
    events_W = np.add.reduceat(events_B, np.arange(0, len(events_B), window)).cumsum()

    def events_needed(before: float, shifted: float, sample_B: Values) -> float:
        starts = range(0, len(sample_B), window)
        means_W = np.array([sample_B[start : start + window].mean() for start in starts])
        [windows] = np.nonzero(means_W >= (before + shifted) / 2)
        return float(events_W[windows[0]]) if len(windows) else float("inf")

    rng = np.random.default_rng(0)
    starts_B = np.arange(len(after_B)) // window * window
    sizes_B = np.minimum(window, len(after_B) - starts_B)
    draws = [
        events_needed(
            _resampled_mean(before_B, rng),
            _resampled_mean(shifted_B, rng),
            after_B[starts_B + rng.integers(sizes_B)],
        )
        for _ in range(DRAWS)
    ]
    return Criterion(
        name="events until a flip is followed",
        floor=float(events_B.sum()),
        goal=500,
        value=events_needed(float(before_B.mean()), float(shifted_B.mean()), after_B),
        interval=percentile_interval(draws, method="nearest"),
        at_most=True,
    )


def displacement(before: ClickLog, after: ClickLog, row: int) -> Criterion:
    """Positions that an item moved between the answers to the same requests, as a mean; an absent
    item counts as behind the last one."""
    shift_B = _positions(before, row) - _positions(after, row)

    def mean_shift(indices: Ints) -> float:
        return float(abs(shift_B[indices].mean()))

    return Criterion(
        name="places that spam moves an item, in answers",
        floor=5.0,
        value=mean_shift(np.arange(len(shift_B))),
        interval=bootstrap_interval(len(shift_B), mean_shift, draws=DRAWS),
        at_most=True,
    )


def background_displacement(before: ClickLog, after: ClickLog, row: int) -> float:
    """The same of all other items of these answers, as a mean: what a night moves without spam."""
    items = np.setdiff1d(np.union1d(before.rows_BK, after.rows_BK), [row, -1])
    shifts = [(_positions(before, item) - _positions(after, item)).mean() for item in items]
    return float(np.mean(np.abs(shifts)))


def _positions(log: ClickLog, row: int) -> Values:
    """[B] from 1."""
    matches_BK = log.rows_BK == row
    absent = log.rows_BK.shape[1] + 1
    positions_B = np.where(matches_BK.any(axis=1), 1 + matches_BK.argmax(axis=1), absent)
    return positions_B.astype(np.float64)
