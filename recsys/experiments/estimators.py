"""What a ranker would earn before it goes live: off-policy estimates of its clicks a request from
logged lists.

The target re-orders each logged list by its own scores: the same items, other places. A value is
expected clicks a request; a click is anything that is done with an item (`LoggedRankings.clicked_BK`). The
click model is the position-based one: chance of a click = chance that the place is looked at (the
curve, 1 at place 1) times the item's relevance.

Legend: B requests, K places of the longest list, F features. positions_BK from 1, 0 pads;
`target_BK` is where the target puts each of the items; clicks_BK, propensities_BK, rho_BK belong to
the items as they were shown."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recsys.experiments.exploration import Exploration
from recsys.intervals import Z_95, ClusteredMean, cluster_ids, clustered_mean
from recsys.ranking.examination import Examination
from recsys.ranking.logged_rankings import LoggedRankings, is_vector
from recsys.types import Floats, Ints, Mask

Values = NDArray[np.float64]
#: No weight of `ips` and `snips` counts more, where the caller clips: of an exchange of .3 of the
#: requests one in 150.
CLIP = 100.0
_TREES = {
    "objective": "regression",
    "num_leaves": 15,
    "min_data_in_leaf": 50,
    "learning_rate": 0.1,
    "verbose": -1,
}
_ROUNDS = 60


@dataclass(frozen=True)
class Estimate:
    """Expected clicks a request under the target, with a 95 % interval. `weight` is the largest
    weight that a click got: where it is large the interval is not to be trusted."""

    name: str
    value: float
    low: float
    high: float
    requests: int
    weight: float

    @property
    def width(self) -> float:
        return self.high - self.low


def target_places(scores_BK: Floats, positions_BK: Ints) -> NDArray[np.int64]:
    """[B, K]: each list's own places dealt out anew, the lowest to the highest score; ties stay,
    pads are 0."""
    there_BK = positions_BK > 0
    best_first_BK = np.lexsort((positions_BK, np.where(there_BK, -scores_BK, np.inf)), axis=1)
    far_BK = np.where(there_BK, positions_BK.astype(np.int64), np.iinfo(np.int64).max)
    target_BK = np.empty(positions_BK.shape, np.int64)
    np.put_along_axis(target_BK, best_first_BK, np.sort(far_BK, axis=1), axis=1)
    return np.where(there_BK, target_BK, 0)


def ips(
    target_BK: Ints,
    positions_BK: Ints,
    clicks_BK: Mask,
    propensities_BK: Floats,
    units_B: Ints | None = None,
    clip: float | None = None,
) -> Estimate:
    """Item-place inverse propensity scoring (Li et al. 2018): a click counts where the target
    leaves the item where it was shown, over the chance that it came there. No bias where every
    place that the target wants has a chance; `clip` bounds the weights, for less noise and a bias
    downwards."""
    weights_BK = _matched(target_BK, positions_BK, propensities_BK, clip)
    return _estimate(
        "ips", (weights_BK * clicks_BK).sum(axis=1), units_B, float(weights_BK.max(initial=0))
    )


def snips(
    target_BK: Ints,
    positions_BK: Ints,
    clicks_BK: Mask,
    propensities_BK: Floats,
    units_B: Ints | None = None,
    clip: float | None = None,
) -> Estimate:
    """Self-normalised `ips` (Swaminathan & Joachims 2015): each place's click rate is the weighted
    mean over the requests that show there what the target wants; the rates are summed. A place that
    none shows so counts 0. The error is that of the ratios' linearisation."""
    weights_BK = _matched(target_BK, positions_BK, propensities_BK, clip)
    there_K = np.maximum((positions_BK > 0).mean(axis=0), 1e-12)
    weight_K = weights_BK.mean(axis=0)
    clicks_K = np.divide(
        (weights_BK * clicks_BK).mean(axis=0),
        weight_K,
        out=np.zeros(len(weight_K)),
        where=weight_K > 0,
    )
    scaled_BK = np.divide(
        weights_BK, weight_K / there_K, out=np.zeros(weights_BK.shape), where=weight_K > 0
    )
    values_B = (scaled_BK * (clicks_BK - clicks_K)).sum(axis=1) + float((clicks_K * there_K).sum())
    return _estimate("snips", values_B, units_B, float(weights_BK.max(initial=0)))


def dr(
    target_BK: Ints,
    positions_BK: Ints,
    clicks_BK: Mask,
    examination: Examination,
    relevance_BK: Floats,
    rho_BK: Floats | None = None,
    units_B: Ints | None = None,
    gain: bool = False,
) -> Estimate:
    """Doubly robust under the position-based model (Oosterhuis 2022; policy-aware, Oosterhuis & de
    Rijke 2020): the sum over items of e(target place) (q + (click - e(shown place) q) / rho).

    `relevance_BK` q is a model of the clicks of who looks, see `relevance`. `rho_BK` is the item's
    mean chance to be looked at over what the logging policy could have shown, see `rho_swap`; None
    takes e(shown place), which needs no knowledge of the policy. No bias where the curve is right,
    whatever q is. The curve's own uncertainty (its bounds) is part of the interval: of places that
    err apart or all together, what is worse. With `gain` the estimate is of what the target has
    above the lists as they were shown, request by request."""
    had_B = clicks_BK.sum(axis=1) if gain else np.zeros(len(clicks_BK))
    curve_K = np.asarray(examination.curve_K, np.float64)
    values_B, weight = _robust(curve_K, target_BK, positions_BK, clicks_BK, relevance_BK, rho_BK)
    found = clustered_mean(values_B - had_B, units_B)
    errors_K = (np.asarray(examination.high_K) - np.asarray(examination.low_K)) / (2 * Z_95)
    shifts = []
    for place in np.flatnonzero(errors_K > 0):
        moved_K = curve_K + errors_K * (np.arange(len(curve_K)) == place)
        moved_B, _ = _robust(moved_K, target_BK, positions_BK, clicks_BK, relevance_BK, rho_BK)
        shifts.append((moved_B - had_B).mean() - found.value)
    shift = max(np.linalg.norm(shifts), abs(sum(shifts)))
    whole = ClusteredMean(
        found.value, float(np.hypot(found.error, shift)), found.requests, found.clusters
    )
    return Estimate("gain" if gain else "dr", whole.value, *whole.interval, whole.requests, weight)


def _robust(
    curve_K: Values,
    target_BK: Ints,
    positions_BK: Ints,
    clicks_BK: Mask,
    relevance_BK: Floats,
    rho_BK: Floats | None,
) -> tuple[Values, float]:
    """The values of `dr`, and the largest weight."""
    there_BK = positions_BK > 0
    shown_BK = _at(curve_K, positions_BK)
    weights_BK = np.where(
        there_BK, _at(curve_K, target_BK) / (shown_BK if rho_BK is None else rho_BK), 0
    )
    model_BK = np.where(there_BK, _at(curve_K, target_BK) * relevance_BK, 0)
    values_B = (model_BK + weights_BK * (clicks_BK - shown_BK * relevance_BK)).sum(axis=1)
    return values_B, float(weights_BK.max(initial=0))


def rho_swap(positions_BK: Ints, propensities_BK: Floats, examination: Examination) -> Floats:
    """[B, K]: each item's mean chance to be looked at where a pair of places may have been
    exchanged (`exploration.swap_pair`): stays e(own place) + moves (the sum of e over the other D - 1
    places), 1 at pads.

    The D places of a request with a propensity under 1 were left to chance; the largest is the
    chance to stay, and an item's own place is where it was shown, but for the two that their
    smaller propensity says were exchanged. So no share need be known, and requests that were not
    explored may be among them."""
    looked_BK = examination.at(positions_BK).astype(np.float64)
    chance_BK = (positions_BK > 0) & (propensities_BK < 1)
    chance_BK &= chance_BK.sum(axis=1, keepdims=True) > 1
    all_BK = np.where(chance_BK, looked_BK, 0)
    depth_B1 = np.maximum(chance_BK.sum(axis=1, keepdims=True), 2)
    stays_B1 = np.where(chance_BK, propensities_BK, 0).max(axis=1, keepdims=True, initial=0)
    moves_B1 = (1 - stays_B1) / (depth_B1 - 1)
    moved_BK = chance_BK & (propensities_BK < (stays_B1 + moves_B1) / 2)
    pair_BK = moved_BK & (depth_B1 > 2) & (moved_BK.sum(axis=1, keepdims=True) == 2)
    own_BK = np.where(
        pair_BK, np.where(pair_BK, looked_BK, 0).sum(axis=1, keepdims=True) - looked_BK, looked_BK
    )
    rho_BK = stays_B1 * own_BK + moves_B1 * (all_BK.sum(axis=1, keepdims=True) - own_BK)
    return np.where(positions_BK > 0, np.where(chance_BK, rho_BK, looked_BK), 1).astype(np.float32)


def relevance(
    features_BKF: Floats,
    positions_BK: Ints,
    clicks_BK: Mask,
    examination: Examination,
    folds_B: Ints,
    seed: int = 0,
) -> Floats:
    """[B, K] how often what is looked at is clicked, by its features: boosted trees that minimise
    the squares of click - e(shown place) q, each fold's from the other folds' clicks
    (cross-fitting: no list judges itself)."""
    import lightgbm

    looked_BK, there_BK = examination.at(positions_BK), positions_BK > 0
    relevance_BK = np.zeros(positions_BK.shape, np.float32)
    for fold in np.unique(folds_B):
        train_BK, held_BK = (
            there_BK & (folds_B != fold)[:, None],
            there_BK & (folds_B == fold)[:, None],
        )
        if not (train_BK.any() and held_BK.any()):
            continue
        looked_N = looked_BK[train_BK]
        data = lightgbm.Dataset(
            features_BKF[train_BK], clicks_BK[train_BK] / looked_N, weight=looked_N**2
        )
        choices = {**_TREES, "seed": seed, "deterministic": True, "num_threads": 1}
        relevance_BK[held_BK] = lightgbm.train(choices, data, _ROUNDS).predict(
            features_BKF[held_BK]
        )
    return np.clip(relevance_BK, 0, 1)


def estimates(
    lists: LoggedRankings,
    scores_BK: Floats,
    examination: Examination,
    policy: Exploration | None = None,
    seed: int = 0,
) -> list[Estimate]:
    """`logged`: what the lists had; `ips`, `snips`, `dr`: of a ranker that gives these scores;
    `gain`: dr less logged.

    `policy` is what explored while they were shown, where that is known. Features that are vectors
    tell the click model nothing. Two folds, by user. No list gives no estimate."""
    if not len(lists):
        return []
    positions_BK, clicks_BK, propensities_BK = (
        lists.positions_BK,
        lists.clicked_BK,
        lists.propensities_BK,
    )
    units_B = cluster_ids(lists.users_B.tolist(), lists.request_ids_B.tolist())
    target_BK = target_places(scores_BK, positions_BK)
    shown = positions_BK, clicks_BK, propensities_BK, units_B
    plain = [place for place, name in enumerate(lists.names) if not is_vector(name)]
    features_BKF = np.concatenate(
        [lists.features_BKF[:, :, plain], lists.scores_BK[:, :, None]], axis=2
    )
    folds_B = np.random.default_rng(seed).integers(2, size=units_B.max() + 1)[units_B]
    relevance_BK = relevance(features_BKF, positions_BK, clicks_BK, examination, folds_B, seed)
    rho_BK = None
    if policy is not None and policy.kind == "swap":
        rho_BK = rho_swap(positions_BK, propensities_BK, examination)
    known = target_BK, positions_BK, clicks_BK, examination, relevance_BK, rho_BK, units_B
    logged = _estimate("logged", clicks_BK.sum(axis=1).astype(np.float64), units_B, 1.0)
    return [
        logged,
        ips(target_BK, *shown),
        snips(target_BK, *shown),
        dr(*known),
        dr(*known, gain=True),
    ]


@dataclass(frozen=True)
class Coverage:
    """Over repetitions: how often the interval held the truth, its mean width, and the mean error
    of the value."""

    held: float
    width: float
    bias: float
    repetitions: int


def coverage(
    repeat: Callable[[int], tuple[float, Sequence[Estimate]]], repetitions: int
) -> dict[str, Coverage]:
    """Of each estimator, by name. `repeat(seed)` draws a log and gives the truth and the estimates
    from it."""
    rows: dict[str, list[tuple[bool, float, float]]] = {}
    for seed in range(repetitions):
        truth, found = repeat(seed)
        for each in found:
            told = each.low <= truth <= each.high, each.width, each.value - truth
            rows.setdefault(each.name, []).append(told)
    return {name: _summed(told) for name, told in rows.items()}


def _summed(told: Sequence[tuple[bool, float, float]]) -> Coverage:
    held, width, bias = np.mean(told, axis=0).tolist()
    return Coverage(held, width, bias, len(told))


def _matched(
    target_BK: Ints, positions_BK: Ints, propensities_BK: Floats, clip: float | None
) -> Values:
    """1 / propensity where the target leaves the item where it was shown, 0 elsewhere."""
    there_BK = positions_BK > 0
    weights_BK = 1 / np.where(there_BK, propensities_BK, 1).astype(np.float64)
    weights_BK = weights_BK if clip is None else np.minimum(weights_BK, clip)
    return np.where(there_BK & (target_BK == positions_BK), weights_BK, 0)


def _at(curve_K: Values, positions: Ints) -> Values:
    return curve_K[np.clip(positions, 1, len(curve_K)) - 1]


def _estimate(name: str, values_B: Values, units_B: Ints | None, weight: float) -> Estimate:
    found = clustered_mean(values_B, units_B)
    return Estimate(name, found.value, *found.interval, found.requests, weight)
