"""How likely each place of an answer is looked at, estimated from clicks.

Both estimators end in one model: items of group g at place k are clicked at the rate t_k r_g, with
t the curve. Groups are such that r_g does not depend on the place: by where the ranker wanted the
item, which exploration then left to chance (`from_swaps`), or by how relevant its features say it
is (`regression_em`). Legend: K places of the curve, B requests, N shown items, G groups, D draws of
the bootstrap."""

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

#: Places that a curve tells apart.
PLACES = 10
#: How much the curve's slope, log chance over log place, changes from place to place: a standard
#: deviation of what is believed before a click was seen. Largest error over ten places, mean of
#: twelve simulated logs of 20,000 requests, a swap in 30 % of them: of a smooth curve .024 with
#: 0.5, .031 with 2; of one with a fold .116 and .043.
BEND = 2.0
#: Trees of the regression-EM, and the groups of equal relevance that they make.
ROUNDS, GROUPS = 120, 30
_FLOOR, _STEPS = 1e-3, 50
_TREES = {"learning_rate": 0.4, "num_leaves": 6, "verbose": -1, "num_threads": 1}
_SAME = {"deterministic": True, "force_row_wise": True}
Values = NDArray[np.float64]


@dataclass(frozen=True)
class Examination:
    """`curve_K[k - 1]` is the chance that place k is looked at, over that of the first; `low_K` and
    `high_K` are the bounds of its 95 % bootstrap interval over requests."""

    curve_K: Floats
    low_K: Floats
    high_K: Floats

    def __post_init__(self) -> None:
        curve_K = np.asarray(self.curve_K)
        if not len(curve_K) == len(self.low_K) == len(self.high_K) or not len(curve_K):
            raise InputError(
                "a curve needs a lower and an upper bound for each of its places, at least one"
            )
        if curve_K[0] != 1 or not ((curve_K > 0) & (curve_K <= 1)).all():
            raise InputError(
                f"the curve {curve_K.tolist()} is none of chances: begin with 1, and give above 0 up to 1"
            )

    def at(self, positions: Ints) -> Floats:
        """The chance at positions from 1, float32 of their shape; beyond the curve that of its last
        place."""
        return np.asarray(self.curve_K, np.float32)[np.clip(positions, 1, len(self.curve_K)) - 1]

    @classmethod
    def flat(cls, places: int = PLACES) -> Examination:
        """All places are looked at alike."""
        return cls(*(np.ones(places, np.float32) for _ in range(3)))

    def save(self, path: Path) -> None:
        """Writes JSON that a person can read."""
        told = {"curve": self.curve_K, "low": self.low_K, "high": self.high_K}
        path.write_text(
            json.dumps({name: np.asarray(line).tolist() for name, line in told.items()}, indent=2)
            + "\n"
        )

    @classmethod
    def load(cls, path: Path) -> Examination:
        """What `save` wrote."""
        told = json.loads(path.read_text())
        return cls(*(np.array(told[name], np.float32) for name in ("curve", "low", "high")))


def from_swaps(
    lists: LoggedRankings, places: int = PLACES, draws: int = 200, seed: int = 0
) -> Examination:
    """The curve from what exploration left to chance (intervention harvesting, Agarwal et al., WSDM
    2019; the swaps are those of Joachims et al., WSDM 2017).

    Learns from places with a propensity under 1. Items that stood equally high by the logged score,
    among equally many places left to chance, are one group; in each, clicks and showings count by
    inverse propensity, so that one and the same set of items is compared at every place. For that
    every item left to chance must have been able to come to each of its request's places left to
    chance, as in swaps of any two and in shuffles: give only requests of such a policy (one that
    brings items from behind the list is none). Without any click the curve is flat. Raises
    InputError where nothing among the first `places` was left to chance."""
    chance_BK = lists.there_BK & (lists.propensities_BK < 1)
    at = owner_N, _ = np.nonzero(chance_BK & (lists.positions_BK <= places))
    if not len(owner_N):
        raise InputError(
            f"no place of {len(lists):,} requests was left to chance: let some of the traffic explore, "
            "or estimate the examination with regression_em"
        )
    scores_BK = np.where(chance_BK, lists.scores_BK, -np.inf)
    rank_BK = ranks(scores_BK[:, :, None])[:, :, 0]
    first_B = np.where(chance_BK, lists.positions_BK, np.iinfo(np.int32).max).min(axis=1)
    alike = np.stack([first_B[owner_N], chance_BK.sum(axis=1)[owner_N], rank_BK[at]])
    _, group_N = np.unique(alike, axis=1, return_inverse=True)
    return _estimated(
        owner_N,
        group_N.ravel(),
        lists.positions_BK[at],
        lists.clicked_BK[at],
        lists.propensities_BK[at],
        draws,
        seed,
    )


def regression_em(
    lists: LoggedRankings,
    places: int = PLACES,
    draws: int = 200,
    seed: int = 0,
    rounds: int = ROUNDS,
) -> Examination:
    """The curve where nothing was left to chance, by regression-EM (Wang et al., WSDM 2018).

    Learns what makes a click from the features and the place together. Each round moves the curve
    to the likeliest one for groups of equal relevance (theirs, the mean of who looked, needs
    hundreds of rounds where the ranker's own features tell much of the place), says how likely
    every unclicked item was wanted, and adds one tree to the relevance. It holds where the features
    and the logged score say what is wanted, and the places do not follow from them alone: with a
    ranker that knows much which neither tells, errors of .1 were seen, of .02 with its score. The
    interval takes the trees' groups of relevance as given and is too narrow for that: of simulated
    curves half the places lay inside. Vectors are left out. Without any click the curve is flat.
    Raises InputError for no requests or no features."""
    scalars = [at for at, name in enumerate(lists.names) if not is_vector(name)]
    at = owner_N, _ = np.nonzero(lists.there_BK & (lists.positions_BK <= places))
    if not len(owner_N) or not scalars:
        raise InputError(
            f"{len(owner_N):,} shown items with {len(scalars)} features are too few to learn from"
        )
    position_N, click_N = lists.positions_BK[at], lists.clicked_BK[at]
    if not click_N.any():
        return Examination.flat(places)
    told_NF = np.column_stack([lists.features_BKF[at][:, scalars], lists.scores_BK[at]])
    relevance_N = _relevance(told_NF, position_N - 1, click_N, rounds, seed)
    alike_N = np.ones(len(click_N), np.float32)
    return _estimated(owner_N, _groups(relevance_N), position_N, click_N, alike_N, draws, seed)


def _relevance(features_NF: Floats, place_N: Ints, click_N: Mask, rounds: int, seed: int) -> Values:
    """[N] how likely each item is clicked where it is looked at."""
    import lightgbm

    told = _Clicks(place_N, click_N)
    smallest = 20 + len(click_N) // 1000
    parameters = {**_TREES, **_SAME, "objective": told, "seed": seed, "min_data_in_leaf": smallest}
    data = lightgbm.Dataset(features_NF, click_N.astype(np.float32), params={"verbose": -1})
    booster = lightgbm.train(parameters, data, rounds)
    return _sigmoid(told.base + np.asarray(booster.predict(features_NF, raw_score=True)))


class _Clicks:
    """The objective by which trees learn relevance, and the curve as it is believed meanwhile."""

    def __init__(self, place_N: Ints, click_N: Mask) -> None:
        self.place_N, self.click_N = place_N, click_N
        rate = np.clip(
            click_N[place_N == 0].mean() if (place_N == 0).any() else click_N.mean(), 0.01, 0.9
        )
        self.base = float(np.log(rate / (1 - rate)))

    def __call__(self, scores_N: Values, _: Any) -> tuple[Values, Values]:
        """Slope and curvature of the cross-entropy with what the E-step says is wanted; moves the
        curve on the way."""
        relevance_N = _sigmoid(self.base + scores_N)
        self.curve_K = _fitted(
            *_cells(_groups(relevance_N), self.place_N, self.click_N, np.ones(len(relevance_N)))
        )
        wanted_N = self._wanted(relevance_N)
        return relevance_N - wanted_N, relevance_N * (1 - relevance_N)

    def _wanted(self, relevance_N: Values) -> Values:
        """How likely each item is wanted, given whether it was clicked: equation 1 of Wang et
        al."""
        chance_N = self.curve_K[self.place_N]
        unclicked_N = (1 - chance_N) * relevance_N / np.maximum(1 - chance_N * relevance_N, 1e-9)
        return np.where(self.click_N, 1, unclicked_N)


def _groups(relevance_N: Values) -> Ints:
    """GROUPS of about equally relevant items."""
    some = relevance_N[:: 1 + len(relevance_N) // 20_000]
    edges = np.quantile(some, np.linspace(0, 1, GROUPS + 1)[1:-1])
    return np.searchsorted(edges, relevance_N)


def _sigmoid(scores_N: Values) -> Values:
    return 1 / (1 + np.exp(-scores_N))


def _estimated(
    owner_N: Ints,
    group_N: Ints,
    position_N: Ints,
    click_N: Mask,
    propensity_N: Floats,
    draws: int,
    seed: int,
) -> Examination:
    """The curve up to the last position, and its interval by drawing requests again with
    replacement."""
    if not click_N.any():
        return Examination.flat(int(position_N.max()))
    weight_N = 1 / propensity_N.astype(np.float64)
    random, requests = np.random.default_rng(seed), int(owner_N.max()) + 1
    curves = [_fitted(*_cells(group_N, position_N - 1, click_N, weight_N))]
    for _ in range(draws):
        drawn_B = np.bincount(random.integers(requests, size=requests), minlength=requests)
        curves.append(
            _fitted(*_cells(group_N, position_N - 1, click_N, weight_N, drawn_B[owner_N]))
        )
    low_K, high_K = percentile_band(curves[1:] or curves)
    return Examination(*(np.asarray(line_K, np.float32) for line_K in (curves[0], low_K, high_K)))


def _cells(
    group_N: Ints, place_N: Ints, click_N: Mask, weight_N: Values, times_N: Ints | int = 1
) -> tuple[Values, Values]:
    """[G, K] clicks and showings of each group at each place: as many as weigh alike (Kish 1965),
    of the same rate."""
    shape = int(group_N.max()) + 1, int(place_N.max()) + 1
    cell_N = group_N.astype(np.int64) * shape[1] + place_N

    def summed(values_N: Values) -> Values:
        return (
            np.bincount(cell_N, values_N * times_N, shape[0] * shape[1])
            .astype(np.float64)
            .reshape(shape)
        )

    weights_GK = summed(weight_N)
    shown_GK = weights_GK**2 / np.maximum(summed(weight_N**2), 1e-12)
    return shown_GK * summed(weight_N * click_N) / np.maximum(weights_GK, 1e-12), shown_GK


def _fitted(clicks_GK: Values, shown_GK: Values) -> Values:
    """The curve t of the likeliest rates t_k r_g for Poisson clicks, its bends held back by BEND.

    With the best r_g put in, log t has a concave likelihood, that of a multinomial logit a group:
    Newton's steps, none longer than 1, from a flat curve."""
    log_K = np.zeros(shown_GK.shape[1])
    clicks_G, clicks_K, bends_KK = clicks_GK.sum(axis=1), clicks_GK.sum(axis=0), _bends(len(log_K))
    for _ in range(_STEPS):
        shares_GK = shown_GK * np.exp(log_K)
        shares_GK /= np.maximum(shares_GK.sum(axis=1, keepdims=True), 1e-12)
        slope_K = clicks_K - clicks_G @ shares_GK - bends_KK @ log_K
        bend_KK = (
            np.diag(clicks_G @ shares_GK) - (shares_GK * clicks_G[:, None]).T @ shares_GK + bends_KK
        )
        step_K = np.linalg.solve(bend_KK[1:, 1:] + 1e-6 * np.eye(len(log_K) - 1), slope_K[1:])
        log_K[1:] += step_K / max(1.0, np.abs(step_K).max(initial=0))
        if np.abs(step_K).max(initial=0) < 1e-6:
            break
    return np.clip(np.exp(log_K), _FLOOR, 1)


def _bends(places: int) -> Values:
    """[K, K] the prior's precision: squared differences of the slopes of log chance over log place,
    by BEND ** 2."""
    slopes = np.diff(np.eye(places), axis=0) / np.diff(np.log(np.arange(1, places + 1)))[:, None]
    bends = np.diff(slopes, axis=0) / BEND
    return bends.T @ bends
