"""Does the interval of the doubly robust off-policy estimator cover the truth, and how much
narrower is it than that of IPS?"""

from __future__ import annotations

import numpy as np

from recsys.evaluation.results import Criterion
from recsys.experiments.estimators import Estimate, estimate_clicks
from recsys.intervals import bootstrap_interval, wilson_interval
from recsys.market.click_models import PositionBasedModel
from recsys.market.market import Market
from recsys.ranking.examination import intervention_harvesting
from recsys.simulation.synthetic_logs import (
    FEATURES,
    SWAPS,
    CandidateSets,
    order_by,
    sales_scores,
    simulate_log,
)
from recsys.types import Floats

_WEIGHTS = {"relative_price": -1.0, "affinity": 1.0, "rating": 1.0, "in_category": 10.0}


def off_policy_coverage(
    market: Market,
    model: PositionBasedModel,
    *,
    count: int = 2000,
    repetitions: int = 100,
    seed: int = 0,
) -> tuple[Criterion, Criterion]:
    """Over repeated logs of a shop that ranks by sales and swaps: how often the 95 % interval of
    the doubly robust estimate of another ranker's clicks covers the truth, and its width over that
    of IPS.

    The target ranker, `target_scores`, re-orders the logged items. The truth is its mean over many
    requests. Intervals are over repetitions."""
    samples = (CandidateSets.draw(market, 10_000, seed + 1_000_000 + n) for n in range(4))
    truth = float(np.mean([_expected_clicks_reordered(sample, model) for sample in samples]))
    logs = [
        _estimate(CandidateSets.draw(market, count, seed + number), model, seed + number)
        for number in range(repetitions)
    ]
    covers = np.array([log["dr"].low <= truth <= log["dr"].high for log in logs], float)
    widths = np.array([log["dr"].width / log["ips"].width for log in logs])
    coverage = Criterion(
        name="DR's 95 % interval holds the truth",
        floor=0.9,
        value=float(covers.mean()),
        interval=wilson_interval(float(covers.mean()), len(covers)),
    )
    width = Criterion(
        name="width of DR's interval / IPS's",
        goal=0.5,
        value=float(widths.mean()),
        interval=bootstrap_interval(len(widths), lambda rows: float(widths[rows].mean())),
        at_most=True,
    )
    return coverage, width


def target_scores(features_BNF: Floats) -> Floats:
    """The target policy: a weighted sum of all features but popularity."""
    weights_F = np.array([_WEIGHTS.get(name, 0.0) for name in FEATURES], np.float32)
    return features_BNF @ weights_F


def _expected_clicks_reordered(candidates: CandidateSets, model: PositionBasedModel) -> float:
    """Expected clicks a request where `target_scores` orders the ten best sellers."""
    places_BK = order_by(sales_scores(candidates))[:, :10]
    scores_BK = np.take_along_axis(target_scores(candidates.features_BNF), places_BK, axis=1)
    reordered_BK = np.take_along_axis(places_BK, order_by(scores_BK), axis=1)
    return float(model.expected_clicks(candidates.attraction_at(reordered_BK)).mean())


def _estimate(
    candidates: CandidateSets, model: PositionBasedModel, seed: int
) -> dict[str, Estimate]:
    """The estimates of the target policy by estimator, from a log of these requests; the
    examination curve is estimated too."""
    scores_BN = sales_scores(candidates)
    lists = simulate_log(candidates, scores_BN, policy=SWAPS, model=model, seed=seed)
    examination = intervention_harvesting(lists, draws=50)
    results = estimate_clicks(lists, target_scores(lists.features_BKF), examination, SWAPS, seed)
    return {each.name: each for each in results}
