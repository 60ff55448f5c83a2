"""Position bias: how likely each position of an answer is examined, estimated from clicks.

Both estimators end in one position-based model: items of group g at position k are clicked at the
rate t_k r_g, with t the examination curve. Groups are such that r_g does not depend on the
position: items that the ranker scored alike before exploration moved them
(`intervention_harvesting`), or that are equally relevant by their features (`regression_em`).
Legend: K positions of the curve, B requests, N shown items, G groups."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys.errors import InputError
from recsys.intervals import percentile_band
from recsys.ranking.logged_rankings import LoggedRankings, is_vector
from recsys.ranking.mixer import ranks
from recsys.types import Floats, Ints, Mask

#: Positions of a curve.
POSITIONS = 10
#: The prior standard deviation of how much the curve's slope, log probability over log position,
#: changes from position to position. Largest error over ten positions, mean of twelve simulated
#: logs of 20,000 requests, a swap in 30 % of them: of a smooth curve .024 with 0.5, .031 with 2; of
#: one with a fold .116 and .043.
SLOPE_CHANGE = 2.0
#: Trees of the regression-EM, and the groups of equal relevance that they make.
ROUNDS, GROUPS = 120, 30
_MIN_PROBABILITY, _NEWTON_STEPS = 1e-3, 50
_TREES = {"learning_rate": 0.4, "num_leaves": 6, "verbose": -1, "num_threads": 1}
_DETERMINISTIC = {"deterministic": True, "force_row_wise": True}
Values = NDArray[np.float64]


@dataclass(frozen=True)
class Examination:
    """The examination curve: `curve_K[k - 1]` is the probability that position k is examined, over
    that of the first; `low_K` and `high_K` are the bounds of its 95 % bootstrap interval over
    requests."""

    curve_K: Floats
    low_K: Floats
    high_K: Floats

    def __post_init__(self) -> None:
        curve_K = np.asarray(self.curve_K)
        if not len(curve_K) == len(self.low_K) == len(self.high_K) or not len(curve_K):
            raise InputError(
                "a curve needs a lower and an upper bound for each of its positions, at least one"
            )
        if curve_K[0] != 1 or not ((curve_K > 0) & (curve_K <= 1)).all():
            raise InputError(
                f"the curve {curve_K.tolist()} is not of probabilities over the first: begin "
                "with 1, and give numbers above 0 up to 1"
            )

    def at(self, positions: Ints) -> Floats:
        """The probability at positions from 1, float32 of their shape; beyond the curve that of its
        last position."""
        return np.asarray(self.curve_K, np.float32)[np.clip(positions, 1, len(self.curve_K)) - 1]

    @classmethod
    def flat(cls, positions: int = POSITIONS) -> Examination:
        """All positions are examined alike."""
        return cls(*(np.ones(positions, np.float32) for _ in range(3)))

    def save(self, path: Path) -> None:
        """Writes JSON that a person can read."""
        lines = {"curve": self.curve_K, "low": self.low_K, "high": self.high_K}
        content = {name: np.asarray(line_K).tolist() for name, line_K in lines.items()}
        path.write_text(json.dumps(content, indent=2) + "\n")

    @classmethod
    def load(cls, path: Path) -> Examination:
        """What `save` wrote."""
        content = json.loads(path.read_text())
        return cls(*(np.array(content[name], np.float32) for name in ("curve", "low", "high")))


def intervention_harvesting(
    lists: LoggedRankings, positions: int = POSITIONS, draws: int = 200, seed: int = 0
) -> Examination:
    """The curve from randomised positions (intervention harvesting, Agarwal et al., WSDM 2019; the
    swaps are those of Joachims et al., WSDM 2017).

    Learns from positions with a propensity under 1. Items of equal rank by the logged score, among
    equally many randomised positions, are one group; in each, clicks and impressions count by
    inverse propensity, so that one and the same set of items is compared at every position. For
    that every randomised item must have been able to come to each of its request's randomised
    positions, as in swaps of any two and in shuffles: give only requests of such a policy (one that
    brings items from behind the list is none). Without any click the curve is flat. Raises
    InputError where none of the first `positions` was randomised."""
    random_BK = lists.present_BK & (lists.propensities_BK < 1)
    at = owner_N, _ = np.nonzero(random_BK & (lists.positions_BK <= positions))
    if not len(owner_N):
        raise InputError(
            f"no position of {len(lists):,} requests was left to chance: let some of the traffic "
            "explore, or estimate the examination with regression_em"
        )
    scores_BK = np.where(random_BK, lists.scores_BK, -np.inf)
    rank_BK = ranks(scores_BK[:, :, None])[:, :, 0]
    first_B = np.where(random_BK, lists.positions_BK, np.iinfo(np.int32).max).min(axis=1)
    keys = np.stack([first_B[owner_N], random_BK.sum(axis=1)[owner_N], rank_BK[at]])
    _, group_N = np.unique(keys, axis=1, return_inverse=True)
    impressions = _Impressions(
        owner_N=owner_N,
        group_N=group_N.ravel(),
        index_N=lists.positions_BK[at] - 1,
        click_N=lists.clicked_BK[at],
        weight_N=1 / lists.propensities_BK[at].astype(np.float64),
    )
    return _estimate(impressions, draws, seed)


def regression_em(
    lists: LoggedRankings,
    positions: int = POSITIONS,
    draws: int = 200,
    seed: int = 0,
    rounds: int = ROUNDS,
) -> Examination:
    """The curve where no position was randomised, by regression-EM (Wang et al., WSDM 2018).

    Learns relevance from the features and examination from the position, together. Each round moves
    the curve to the likeliest one for groups of equal relevance (theirs, the mean of the
    examination posteriors, needs hundreds of rounds where the ranker's own features predict much of
    the position), computes how likely every unclicked item is relevant, and adds one tree to the
    relevance. It holds where the features and the logged score predict relevance, and positions do
    not follow from them alone: with a ranker that knows much that neither has, errors of .1 were
    seen, of .02 with its score. The interval takes the trees' groups of relevance as given and is
    too narrow for that: of simulated curves half the positions lay inside. Vectors are left out.
    Without any click the curve is flat. Raises InputError for no requests or no features."""
    scalars = [column for column, name in enumerate(lists.names) if not is_vector(name)]
    at = owner_N, _ = np.nonzero(lists.present_BK & (lists.positions_BK <= positions))
    if not len(owner_N) or not scalars:
        raise InputError(
            f"{len(owner_N):,} shown items with {len(scalars)} features are too few to learn from"
        )
    index_N, click_N = lists.positions_BK[at] - 1, lists.clicked_BK[at]
    if not click_N.any():
        return Examination.flat(positions)
    features_NF = np.column_stack([lists.features_BKF[at][:, scalars], lists.scores_BK[at]])
    relevance_N = _relevance(features_NF, index_N, click_N, rounds, seed)
    impressions = _Impressions(
        owner_N=owner_N,
        group_N=_groups(relevance_N),
        index_N=index_N,
        click_N=click_N,
        weight_N=np.ones(len(click_N)),
    )
    return _estimate(impressions, draws, seed)


def _relevance(features_NF: Floats, index_N: Ints, click_N: Mask, rounds: int, seed: int) -> Values:
    """[N] how likely each item is clicked where it is examined."""
    import lightgbm

    objective = _RelevanceObjective(index_N, click_N)
    parameters = {
        **_TREES,
        **_DETERMINISTIC,
        "objective": objective,
        "seed": seed,
        "min_data_in_leaf": 20 + len(click_N) // 1000,
    }
    data = lightgbm.Dataset(features_NF, click_N.astype(np.float32), params={"verbose": -1})
    booster = lightgbm.train(parameters, data, rounds)
    return _sigmoid(objective.base + np.asarray(booster.predict(features_NF, raw_score=True)))


class _RelevanceObjective:
    """LightGBM's objective: cross-entropy with the E-step's relevance. Each call re-estimates the
    curve."""

    def __init__(self, index_N: Ints, click_N: Mask) -> None:
        self.index_N, self.click_N = index_N, click_N
        first_N = index_N == 0
        rate = np.clip(click_N[first_N].mean() if first_N.any() else click_N.mean(), 0.01, 0.9)
        self.base = float(np.log(rate / (1 - rate)))

    def __call__(self, scores_N: Values, _: Any) -> tuple[Values, Values]:
        """Gradient and second derivative for each item."""
        relevance_N = _sigmoid(self.base + scores_N)
        cells = _cells(_groups(relevance_N), self.index_N, self.click_N, np.ones(len(relevance_N)))
        posterior_N = self._relevance_posterior(relevance_N, _fit_curve(*cells))
        return relevance_N - posterior_N, relevance_N * (1 - relevance_N)

    def _relevance_posterior(self, relevance_N: Values, curve_K: Values) -> Values:
        """How likely each item is relevant, given whether it was clicked: equation 1 of Wang et
        al."""
        examined_N = curve_K[self.index_N]
        unclicked_N = (1 - examined_N) * relevance_N
        unclicked_N = unclicked_N / np.maximum(1 - examined_N * relevance_N, 1e-9)
        return np.where(self.click_N, 1, unclicked_N)


def _groups(relevance_N: Values) -> Ints:
    """GROUPS of about equally relevant items."""
    sample = relevance_N[:: 1 + len(relevance_N) // 20_000]
    edges = np.quantile(sample, np.linspace(0, 1, GROUPS + 1)[1:-1])
    return np.searchsorted(edges, relevance_N)


def _sigmoid(scores_N: Values) -> Values:
    return 1 / (1 + np.exp(-scores_N))


@dataclass(frozen=True, kw_only=True)
class _Impressions:
    """N shown items: their request, group, position - 1, click, and inverse propensity."""

    owner_N: Ints
    group_N: Ints
    index_N: Ints
    click_N: Mask
    weight_N: Values


def _estimate(impressions: _Impressions, draws: int, seed: int) -> Examination:
    """The curve up to the last position, and its interval by the bootstrap over requests."""
    if not impressions.click_N.any():
        return Examination.flat(int(impressions.index_N.max()) + 1)
    columns = (impressions.group_N, impressions.index_N, impressions.click_N, impressions.weight_N)
    owner_N, rng = impressions.owner_N, np.random.default_rng(seed)
    requests = int(owner_N.max()) + 1
    curves = [_fit_curve(*_cells(*columns))]
    for _ in range(draws):
        counts_B = np.bincount(rng.integers(requests, size=requests), minlength=requests)
        curves.append(_fit_curve(*_cells(*columns, counts_B[owner_N])))
    low_K, high_K = percentile_band(curves[1:] or curves)
    return Examination(*(np.asarray(line_K, np.float32) for line_K in (curves[0], low_K, high_K)))


def _cells(
    group_N: Ints, index_N: Ints, click_N: Mask, weight_N: Values, counts_N: Ints | int = 1
) -> tuple[Values, Values]:
    """[G, K] clicks and impressions of each group at each position, `counts_N` times each item: the
    effective number of equally weighted ones (Kish 1965), of the same rate."""
    shape = int(group_N.max()) + 1, int(index_N.max()) + 1
    cell_N = group_N.astype(np.int64) * shape[1] + index_N

    def sums(values_N: Values) -> Values:
        sums_C = np.bincount(cell_N, values_N * counts_N, shape[0] * shape[1])
        return sums_C.astype(np.float64).reshape(shape)

    weights_GK = sums(weight_N)
    impressions_GK = weights_GK**2 / np.maximum(sums(weight_N**2), 1e-12)
    clicks_GK = impressions_GK * sums(weight_N * click_N) / np.maximum(weights_GK, 1e-12)
    return clicks_GK, impressions_GK


def _fit_curve(clicks_GK: Values, impressions_GK: Values) -> Values:
    """The curve t of the likeliest rates t_k r_g for Poisson clicks, smoothed by SLOPE_CHANGE.

    With the best r_g put in, log t has a concave likelihood, that of a multinomial logit a group:
    Newton's steps, none longer than 1, from a flat curve."""
    log_K = np.zeros(impressions_GK.shape[1])
    clicks_G, clicks_K = clicks_GK.sum(axis=1), clicks_GK.sum(axis=0)
    prior_KK = _prior_precision(len(log_K))
    for _ in range(_NEWTON_STEPS):
        shares_GK = impressions_GK * np.exp(log_K)
        shares_GK /= np.maximum(shares_GK.sum(axis=1, keepdims=True), 1e-12)
        gradient_K = clicks_K - clicks_G @ shares_GK - prior_KK @ log_K
        hessian_KK = (
            np.diag(clicks_G @ shares_GK) - (shares_GK * clicks_G[:, None]).T @ shares_GK + prior_KK
        )
        ridge_KK = 1e-6 * np.eye(len(log_K) - 1)
        step_K = np.linalg.solve(hessian_KK[1:, 1:] + ridge_KK, gradient_K[1:])
        log_K[1:] += step_K / max(1.0, np.abs(step_K).max(initial=0))
        if np.abs(step_K).max(initial=0) < 1e-6:
            break
    return np.clip(np.exp(log_K), _MIN_PROBABILITY, 1)


def _prior_precision(positions: int) -> Values:
    """[K, K]: squared differences of the slopes of log probability over log position, by
    SLOPE_CHANGE ** 2."""
    log_positions = np.log(np.arange(1, positions + 1))
    slopes = np.diff(np.eye(positions), axis=0) / np.diff(log_positions)[:, None]
    changes = np.diff(slopes, axis=0) / SLOPE_CHANGE
    return changes.T @ changes
