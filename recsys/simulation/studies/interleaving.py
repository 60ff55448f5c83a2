"""How much less traffic does team-draft interleaving need than an A/B test, to find the better of
two rankers?"""

from __future__ import annotations

import numpy as np

from recsys.evaluation.results import Criterion
from recsys.experiments.hashing import seeded_rng
from recsys.experiments.interleaving import preference, team_draft
from recsys.intervals import bootstrap_interval
from recsys.market.click_models import ClickModel
from recsys.market.market import Market
from recsys.simulation.synthetic_logs import CandidateSets, order_by
from recsys.simulation.truth_metrics import Values
from recsys.types import Floats, Ints

_ARMS = ("0", "1")


def interleaving_traffic(
    market: Market, model: ClickModel, *, count: int = 12_000, seed: int = 0, lift: float = 0.05
) -> Criterion:
    """The requests that interleaving needs over those that an A/B test needs, for a ranker with
    (1 + `lift`) x the expected clicks of another.

    The sample size of a test, whatever its level and power, is proportional to the variance of its
    statistic over the square of its mean. A shopper stays in one arm, so that the variance is
    between shoppers."""
    candidates = CandidateSets.draw(market, count, seed)
    worse_BN, better_BN = rankers_apart(candidates, model, lift)
    rng = np.random.default_rng([seed, 4])
    clicks_AB = [_clicks(candidates, scores_BN, model, rng) for scores_BN in (worse_BN, better_BN)]
    preferences_B = interleaved_preferences(
        candidates, (worse_BN, better_BN), model=model, rng=rng, seed=seed
    )
    # From the truth, not from the clicks: the lift is small beside their spread.
    expected_AB = [candidates.expected_clicks(scores, model) for scores in (worse_BN, better_BN)]
    gain = float((expected_AB[1] - expected_AB[0]).mean())
    users_B = candidates.requests.users_B
    counts_U = np.bincount(users_B)
    sums_AU = [np.bincount(users_B, values).astype(float) for values in (*clicks_AB, preferences_B)]

    def traffic_ratio(users: Ints | slice) -> float:
        arm_a, arm_b, drafted = (_variance(sums_U[users], counts_U[users]) for sums_U in sums_AU)
        vote = sums_AU[2][users].sum() / counts_U[users].sum()
        ab_test = 2 * (arm_a + arm_b) / gain**2  # two arms, each of half the traffic
        return float(drafted / max(vote, 1e-9) ** 2 / ab_test)

    return Criterion(
        name="interleaving's traffic / that of A/B",
        floor=0.1,
        value=traffic_ratio(slice(None)),
        interval=bootstrap_interval(len(counts_U), traffic_ratio),
        at_most=True,
    )


def rankers_apart(
    candidates: CandidateSets, model: ClickModel, lift: float
) -> tuple[Floats, Floats]:
    """The scores of two rankers of the same features: the second has (1 + lift) x the expected
    clicks of the first, which gives the ratings less weight. The weight is found by bisection."""
    rest_BN = 10 * candidates.feature("in_category") + candidates.feature("affinity")
    rest_BN = rest_BN - candidates.feature("relative_price")
    rating_BN = candidates.feature("rating")

    def clicks(weight: float) -> float:
        return float(candidates.expected_clicks(rest_BN + weight * rating_BN, model).mean())

    goal, low, high = clicks(1.0) / (1 + lift), -1.0, 1.0
    for _ in range(30):
        weight = (low + high) / 2
        low, high = (low, weight) if clicks(weight) > goal else (weight, high)
    return rest_BN + low * rating_BN, rest_BN + rating_BN


def _variance(sums_U: Values, counts_U: Ints) -> float:
    """Requests x the variance of their mean, from each shopper's sum over their requests, which are
    not independent (delta method)."""
    average = sums_U.sum() / counts_U.sum()
    return float(((sums_U - counts_U * average) ** 2).sum() / counts_U.sum())


def _clicks(
    candidates: CandidateSets, scores_BN: Floats, model: ClickModel, rng: np.random.Generator
) -> Values:
    """[B]: drawn clicks on the ten best."""
    attraction_BK = candidates.attraction_at(order_by(scores_BN)[:, :10])
    return model.draw_clicks(attraction_BK, rng).sum(axis=1).astype(np.float64)


def interleaved_preferences(
    candidates: CandidateSets,
    scores_ABN: tuple[Floats, Floats],
    *,
    model: ClickModel,
    rng: np.random.Generator,
    seed: int,
) -> Values:
    """[B] 1 where the clicks on an interleaved list prefer the second ranker, -1 the first, else
    0."""
    orders = zip(*map(order_by, scores_ABN), strict=True)
    drafts = [
        team_draft(first_N, second_N, 10, seeded_rng(f"{seed}-{number}", "draft"))
        for number, (first_N, second_N) in enumerate(orders)
    ]
    places_BK = np.stack([places_K for places_K, _ in drafts])
    clicked_BK = model.draw_clicks(candidates.attraction_at(places_BK), rng)
    teams = [
        ["" if team < 0 else _ARMS[team] for team in teams_K.tolist()] for _, teams_K in drafts
    ]
    lists = zip(teams, clicked_BK.tolist(), strict=True)
    return np.array([preference(team_K, clicked_K, _ARMS) for team_K, clicked_K in lists], float)
