"""Off-policy (counterfactual) estimators: a ranker's clicks a request, before it goes live, from
lists that another ranker showed.

The target re-ranks each logged list by its own scores: the same items, other positions. A value is
expected clicks a request; a click is any interaction with an item (`LoggedRankings.clicked_BK`).
The click model is the position-based one: the chance of a click is the chance that the position is
examined (the curve, 1 at position 1) times the item's relevance.

Legend: B requests, K positions of the longest list, F features. positions_BK from 1, 0 pads;
`target_BK` is where the target puts each of the items; clicks_BK, propensities_BK, rho_BK belong to
the items as they were shown."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys.experiments.exploration import Exploration
from recsys.intervals import Z_95, ClusteredMean, cluster_ids, clustered_mean
from recsys.ranking.examination import Examination
from recsys.ranking.logged_rankings import LoggedRankings, is_vector
from recsys.types import Floats, Ints, Mask

Values = NDArray[np.float64]
_TREES: dict[str, Any] = {
    "objective": "regression",
    "num_leaves": 15,
    "min_data_in_leaf": 50,
    "learning_rate": 0.1,
    "verbose": -1,
    "deterministic": True,
    "num_threads": 1,
}
_ROUNDS = 60


@dataclass(frozen=True)
class LoggedClicks:
    """What the logging policy showed and what was clicked, item by item; `clusters_B` numbers the
    users of the requests, None: each is its own."""

    positions_BK: Ints
    clicks_BK: Mask
    propensities_BK: Floats
    clusters_B: Ints | None = None

    @property
    def is_item_BK(self) -> Mask:
        """False at pads."""
        return self.positions_BK > 0


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """Expected clicks a request under the target, with a 95 % interval. `weight` is the largest
    weight that a click got: where it is large the interval is not to be trusted."""

    name: str
    value: float
    low: float
    high: float
    requests: int
    weight: float

    @classmethod
    def from_mean(cls, name: str, mean: ClusteredMean, weight: float) -> Estimate:
        low, high = mean.interval
        return cls(
            name=name, value=mean.value, low=low, high=high, requests=mean.requests, weight=weight
        )

    @property
    def width(self) -> float:
        return self.high - self.low


def estimate_clicks(
    lists: LoggedRankings,
    scores_BK: Floats,
    examination: Examination,
    policy: Exploration | None = None,
    seed: int = 0,
) -> list[Estimate]:
    """`logged`: what the lists had; `ips`, `snips`, `dr`: of a ranker that gives these scores;
    `gain`: dr less logged.

    `policy` is what explored while they were shown, where that is known. Features that are vectors
    are no input of the click model. Two folds, by user. No list gives no estimate."""
    if not len(lists):
        return []
    clusters_B = cluster_ids(lists.users_B.tolist(), lists.request_ids_B.tolist())
    log = LoggedClicks(lists.positions_BK, lists.clicked_BK, lists.propensities_BK, clusters_B)
    target_BK = target_positions(scores_BK, log.positions_BK)
    columns = [column for column, name in enumerate(lists.names) if not is_vector(name)]
    features_BKF = np.concatenate(
        [lists.features_BKF[:, :, columns], lists.scores_BK[:, :, None]], axis=2
    )
    folds_B = np.random.default_rng(seed).integers(2, size=clusters_B.max() + 1)[clusters_B]
    relevance_BK = predict_relevance(log, features_BKF, examination, folds_B, seed)
    rho_BK = None
    if policy is not None and policy.kind == "swap":
        rho_BK = swap_aware_examination(log.positions_BK, log.propensities_BK, examination)
    clicks_B = log.clicks_BK.sum(axis=1).astype(np.float64)
    return [
        Estimate.from_mean("logged", clustered_mean(clicks_B, clusters_B), 1.0),
        ips(log, target_BK),
        snips(log, target_BK),
        doubly_robust(log, target_BK, examination, relevance_BK, rho_BK),
        doubly_robust(log, target_BK, examination, relevance_BK, rho_BK, gain=True),
    ]


def target_positions(scores_BK: Floats, positions_BK: Ints) -> NDArray[np.int64]:
    """[B, K]: each list's own positions dealt out anew, the lowest to the highest score; ties stay,
    pads are 0."""
    is_item_BK = positions_BK > 0
    best_first_BK = np.lexsort((positions_BK, np.where(is_item_BK, -scores_BK, np.inf)), axis=1)
    pads_last_BK = np.where(is_item_BK, positions_BK.astype(np.int64), np.iinfo(np.int64).max)
    target_BK = np.empty(positions_BK.shape, np.int64)
    np.put_along_axis(target_BK, best_first_BK, np.sort(pads_last_BK, axis=1), axis=1)
    return np.where(is_item_BK, target_BK, 0)


def ips(log: LoggedClicks, target_BK: Ints, *, clip: float | None = None) -> Estimate:
    """Item-position inverse propensity scoring (Li et al. 2018): a click counts where the target
    leaves the item where it was shown, over the chance that it came there. Unbiased where every
    position that the target gives has a chance; `clip` bounds the weights, for less variance and a
    bias downwards."""
    weights_BK = _matching_weights(log, target_BK, clip)
    mean = clustered_mean((weights_BK * log.clicks_BK).sum(axis=1), log.clusters_B)
    return Estimate.from_mean("ips", mean, float(weights_BK.max(initial=0)))


def snips(log: LoggedClicks, target_BK: Ints, *, clip: float | None = None) -> Estimate:
    """Self-normalised `ips` (Swaminathan & Joachims 2015): each position's click rate is the
    weighted mean over the requests that show there what the target would; the rates are summed. A
    position without such a request counts 0. The error is that of the ratios' linearisation."""
    weights_BK = _matching_weights(log, target_BK, clip)
    share_K = np.maximum(log.is_item_BK.mean(axis=0), 1e-12)
    weight_K = weights_BK.mean(axis=0)
    clicks_K = np.divide(
        (weights_BK * log.clicks_BK).mean(axis=0),
        weight_K,
        out=np.zeros(len(weight_K)),
        where=weight_K > 0,
    )
    scaled_BK = np.divide(
        weights_BK, weight_K / share_K, out=np.zeros(weights_BK.shape), where=weight_K > 0
    )
    values_B = (scaled_BK * (log.clicks_BK - clicks_K)).sum(axis=1)
    values_B += float((clicks_K * share_K).sum())
    mean = clustered_mean(values_B, log.clusters_B)
    return Estimate.from_mean("snips", mean, float(weights_BK.max(initial=0)))


def doubly_robust(
    log: LoggedClicks,
    target_BK: Ints,
    examination: Examination,
    relevance_BK: Floats,
    rho_BK: Floats | None = None,
    *,
    gain: bool = False,
) -> Estimate:
    """Doubly robust under the position-based model (Oosterhuis 2022; policy-aware, Oosterhuis & de
    Rijke 2020): the sum over items of e(target position) (q + (click - e(shown position) q) / rho).

    `relevance_BK` q is a model of the clicks on what is examined, see `predict_relevance`. `rho_BK`
    is the item's mean chance to be examined over what the logging policy could have shown, see
    `swap_aware_examination`; None takes e(shown position), which needs no knowledge of the policy.
    Unbiased where the curve is right, whatever q is. The curve's own uncertainty (its bounds) is
    part of the interval: of positions that err independently or all together, the worse. With
    `gain` the estimate is of what the target has above the lists as they were shown, request by
    request."""
    logged_B = log.clicks_BK.sum(axis=1) if gain else np.zeros(len(log.clicks_BK))
    curve_K = np.asarray(examination.curve_K, np.float64)
    values_B, weight = _doubly_robust_values(log, target_BK, curve_K, relevance_BK, rho_BK)
    mean = clustered_mean(values_B - logged_B, log.clusters_B)
    errors_K = (np.asarray(examination.high_K) - np.asarray(examination.low_K)) / (2 * Z_95)
    shifts = []
    for place in np.flatnonzero(errors_K > 0):
        shifted_K = curve_K + errors_K * (np.arange(len(curve_K)) == place)
        shifted_B, _ = _doubly_robust_values(log, target_BK, shifted_K, relevance_BK, rho_BK)
        shifts.append((shifted_B - logged_B).mean() - mean.value)
    curve_error = max(np.linalg.norm(shifts), abs(sum(shifts)))
    mean = replace(mean, error=float(np.hypot(mean.error, curve_error)))
    return Estimate.from_mean("gain" if gain else "dr", mean, weight)


def _doubly_robust_values(
    log: LoggedClicks,
    target_BK: Ints,
    curve_K: Values,
    relevance_BK: Floats,
    rho_BK: Floats | None,
) -> tuple[Values, float]:
    """The values of `doubly_robust` by request, and the largest weight."""
    examined_BK, target_examined_BK = _at(curve_K, log.positions_BK), _at(curve_K, target_BK)
    weights_BK = np.where(
        log.is_item_BK, target_examined_BK / (examined_BK if rho_BK is None else rho_BK), 0
    )
    model_BK = np.where(log.is_item_BK, target_examined_BK * relevance_BK, 0)
    residuals_BK = log.clicks_BK - examined_BK * relevance_BK
    values_B = (model_BK + weights_BK * residuals_BK).sum(axis=1)
    return values_B, float(weights_BK.max(initial=0))


def swap_aware_examination(
    positions_BK: Ints, propensities_BK: Floats, examination: Examination
) -> Floats:
    """[B, K]: each item's mean chance to be examined where a pair of positions may have been
    exchanged (`exploration.swap_pair`): stays e(own position) + moves (the sum of e over the other
    D - 1 positions), 1 at pads.

    The D positions of a request with a propensity under 1 were explored; the largest is the chance
    to stay, and an item's own position is where it was shown, but for the two that their smaller
    propensity says were exchanged. So no share need be known, and requests that were not explored
    may be among them."""
    examined_BK = examination.at(positions_BK).astype(np.float64)
    is_explored_BK = (positions_BK > 0) & (propensities_BK < 1)
    is_explored_BK &= is_explored_BK.sum(axis=1, keepdims=True) > 1
    depth_B1 = np.maximum(is_explored_BK.sum(axis=1, keepdims=True), 2)
    stays_B1 = np.where(is_explored_BK, propensities_BK, 0).max(axis=1, keepdims=True, initial=0)
    moves_B1 = (1 - stays_B1) / (depth_B1 - 1)
    is_moved_BK = is_explored_BK & (propensities_BK < (stays_B1 + moves_B1) / 2)
    is_pair_BK = is_moved_BK & (depth_B1 > 2) & (is_moved_BK.sum(axis=1, keepdims=True) == 2)
    of_pair_B1 = np.where(is_pair_BK, examined_BK, 0).sum(axis=1, keepdims=True)
    own_BK = np.where(is_pair_BK, of_pair_B1 - examined_BK, examined_BK)
    total_B1 = np.where(is_explored_BK, examined_BK, 0).sum(axis=1, keepdims=True)
    rho_BK = stays_B1 * own_BK + moves_B1 * (total_B1 - own_BK)
    rho_BK = np.where(is_explored_BK, rho_BK, examined_BK)
    return np.where(positions_BK > 0, rho_BK, 1).astype(np.float32)


def predict_relevance(
    log: LoggedClicks,
    features_BKF: Floats,
    examination: Examination,
    folds_B: Ints,
    seed: int = 0,
) -> Floats:
    """[B, K] how often what is examined is clicked, by its features: boosted trees that minimise
    the squares of click - e(shown position) q, each fold's from the other folds' clicks
    (cross-fitting: no list judges itself)."""
    import lightgbm

    examined_BK = examination.at(log.positions_BK)
    relevance_BK = np.zeros(log.positions_BK.shape, np.float32)
    for fold in np.unique(folds_B):
        is_test_BK = log.is_item_BK & (folds_B == fold)[:, None]
        is_train_BK = log.is_item_BK & (folds_B != fold)[:, None]
        if not (is_train_BK.any() and is_test_BK.any()):
            continue
        examined_N = examined_BK[is_train_BK]
        data = lightgbm.Dataset(
            features_BKF[is_train_BK],
            log.clicks_BK[is_train_BK] / examined_N,
            weight=examined_N**2,
        )
        model = lightgbm.train({**_TREES, "seed": seed}, data, _ROUNDS)
        relevance_BK[is_test_BK] = model.predict(features_BKF[is_test_BK])
    return np.clip(relevance_BK, 0, 1)


def _matching_weights(log: LoggedClicks, target_BK: Ints, clip: float | None) -> Values:
    """1 / propensity where the target leaves the item where it was shown, 0 elsewhere."""
    weights_BK = 1 / np.where(log.is_item_BK, log.propensities_BK, 1).astype(np.float64)
    weights_BK = weights_BK if clip is None else np.minimum(weights_BK, clip)
    return np.where(log.is_item_BK & (target_BK == log.positions_BK), weights_BK, 0)


def _at(curve_K: Values, positions: Ints) -> Values:
    return curve_K[np.clip(positions, 1, len(curve_K)) - 1]
