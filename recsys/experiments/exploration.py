"""Exploration of rankings, with the propensity of every place: what makes a log fit for
counterfactual learning and evaluation.

Legend: N candidates of one request, K places of the list, M draws, R candidates behind the list.
The base order is by score, best first; a propensity is the chance with which the item came to its
place, over the policy's draws for this request."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from recsys.errors import InputError
from recsys.types import Floats, Ints, Mask

ExplorationKind = Literal["none", "swap", "epsilon", "thompson"]
#: Noisy orders drawn to estimate a propensity under "thompson": a standard error of at most .035.
PROPENSITY_DRAWS = 200
#: Noise beyond so many standard deviations is not considered, see `perturb_scores`.
MAX_DEVIATIONS = 3.0


@dataclass(frozen=True)
class Exploration:
    """A policy of exploration: which part of the ranking is random.

    With probability `share` a request is explored. "swap" exchanges one uniformly random pair of
    the first `depth` places (swap interventions: Joachims, Swaminathan & Schnabel 2017); "epsilon"
    gives one uniformly random place to an item from behind the list, `tail_share` of these from the
    tail (epsilon-greedy); "thompson" adds Gaussian noise to the scores, as wide as each is
    uncertain (Thompson sampling: Chapelle & Li 2011). Raises InputError for numbers out of
    range."""

    kind: ExplorationKind = "none"
    share: float = 0.0
    depth: int = 10
    tail_share: float = 0.0

    def __post_init__(self) -> None:
        if self.kind not in get_args(ExplorationKind):
            kinds = ", ".join(get_args(ExplorationKind))
            raise InputError(f"exploration is {self.kind!r}: use one of {kinds}")
        for name, value in (("share", self.share), ("tail_share", self.tail_share)):
            if not 0 <= value <= 1:
                raise InputError(f"{name} of the exploration is {value}: give a number from 0 to 1")
        if self.depth < 2:
            raise InputError(
                f"exploration reaches to place {self.depth}: an exchange needs a depth of 2 or more"
            )


class ExploredRanking(NamedTuple):
    """Of each place: the candidate, its propensity, and in words how exploration moved it there, or
    ""."""

    candidates_K: Ints
    propensities_K: Floats
    moves_K: tuple[str, ...]


def explore(
    scores_N: Floats,
    k: int,
    policy: Exploration,
    rng: np.random.Generator,
    *,
    tail_N: Mask,
    uncertainty_N: Floats | None = None,
) -> ExploredRanking:
    """The list of K = min(k, N) candidates under the policy.

    `tail_N` says which candidates are of the tail; `uncertainty_N` is the standard deviation of
    each score, of which "thompson" makes its noise: without it nothing is explored. Propensities
    are exact but for "thompson", see `swap_pair`, `replace_one` and `perturb_scores`. Use
    `hashing.seeded_rng` for a draw that can be replayed."""
    order_N = np.argsort(-scores_N, kind="stable")
    k = min(k, len(order_N))
    if policy.kind == "swap":
        return swap_pair(order_N[:k], policy, rng)
    if policy.kind == "epsilon":
        return replace_one(order_N, k, policy, rng, tail_N=tail_N)
    if policy.kind == "thompson" and uncertainty_N is not None:
        return perturb_scores(scores_N, uncertainty_N, order_N[:k], policy, rng)
    return ExploredRanking(order_N[:k], np.ones(k, np.float32), ("",) * k)


def swap_propensities(share: float, depth: int) -> tuple[float, float]:
    """(stays, moves): the chance that the item of one of the first `depth` >= 2 places keeps it, 1
    - 2 share / depth, and that it comes to any given other of them, 2 share / (depth (depth - 1)):
    a place is one of the pair in depth - 1 of depth (depth - 1) / 2 pairs."""
    return 1 - 2 * share / depth, 2 * share / (depth * (depth - 1))


def swap_pair(order_K: Ints, policy: Exploration, rng: np.random.Generator) -> ExploredRanking:
    """One pair of the first D = min(depth, K) places exchanged with probability `share`;
    `swap_propensities` has the propensities. Places behind D keep their items with propensity 1; so
    do all where there is no pair."""
    candidates_K, moves_K = order_K.copy(), [""] * len(order_K)
    propensities_K, depth = np.ones(len(order_K), np.float32), min(policy.depth, len(order_K))
    if depth < 2:
        return ExploredRanking(candidates_K, propensities_K, tuple(moves_K))
    stays, moves = swap_propensities(policy.share, depth)
    propensities_K[:depth] = stays
    if rng.random() < policy.share:
        one, other = rng.choice(depth, 2, replace=False).tolist()
        candidates_K[[one, other]] = order_K[[other, one]]
        propensities_K[[one, other]] = moves
        moves_K[one] = f"exchanged with place {other + 1} by chance"
        moves_K[other] = f"exchanged with place {one + 1} by chance"
    return ExploredRanking(candidates_K, propensities_K, tuple(moves_K))


def replace_one(
    order_N: Ints, k: int, policy: Exploration, rng: np.random.Generator, *, tail_N: Mask
) -> ExploredRanking:
    """One of the k places given to one of the R = N - k candidates behind with probability e =
    `share`.

    A place keeps its item with 1 - e / k and gets the candidate j with e / k p_j, where p_j = (1 -
    t) / R + t [j of the tail] / T; t = `tail_share`, T candidates behind are of the tail (T = 0: t
    = 0)."""
    candidates_K, moves_K, behind_R = order_N[:k].copy(), [""] * k, order_N[k:]
    if not len(behind_R) or not k:
        return ExploredRanking(candidates_K, np.ones(k, np.float32), tuple(moves_K))
    propensities_K = np.full(k, 1 - policy.share / k, np.float32)
    if rng.random() < policy.share:
        place = int(rng.integers(k))
        chances_R = _replacement_chances(tail_N[behind_R], policy.tail_share)
        draw = int(rng.choice(len(behind_R), p=chances_R))
        candidates_K[place] = behind_R[draw]
        propensities_K[place] = policy.share / k * chances_R[draw]
        moves_K[place] = f"drawn by chance from place {k + draw + 1}"
    return ExploredRanking(candidates_K, propensities_K, tuple(moves_K))


def _replacement_chances(tail_R: Mask, tail_share: float) -> NDArray[np.float64]:
    """p_j of `replace_one`."""
    uniform_R = np.full(len(tail_R), 1 / len(tail_R))
    if not tail_R.any():
        return uniform_R
    return (1 - tail_share) * uniform_R + tail_share * tail_R / tail_R.sum()


def perturb_scores(
    scores_N: Floats,
    uncertainty_N: Floats,
    order_K: Ints,
    policy: Exploration,
    rng: np.random.Generator,
) -> ExploredRanking:
    """The order of the scores with noise, with probability s = `share`.

    The chance of an item at a place under noise, q, has no closed form: it is counted over
    PROPENSITY_DRAWS orders, and the drawn one where there is one, so that it is never 0. The
    propensity is s q + (1 - s) [it is the place's by score]. A candidate that MAX_DEVIATIONS up
    would not lift among the k best, those as far down, is never drawn."""
    k, is_noisy = len(order_K), rng.random() < policy.share
    near_R = _contenders(scores_N, uncertainty_N, k)
    draws = PROPENSITY_DRAWS + is_noisy
    orders_MK = near_R[_noisy_orders(scores_N[near_R], uncertainty_N[near_R], k, draws, rng)]
    candidates_K = orders_MK[-1] if is_noisy else order_K
    noisy_K = (orders_MK == candidates_K).mean(axis=0)
    propensities_K = policy.share * noisy_K + (1 - policy.share) * (candidates_K == order_K)
    place_by_score_N = np.argsort(np.argsort(-scores_N, kind="stable"), kind="stable")
    moves_K = tuple(
        "" if place == by_score else f"place {by_score + 1} by its score, moved by its uncertainty"
        for place, by_score in enumerate(place_by_score_N[candidates_K].tolist())
    )
    return ExploredRanking(candidates_K, propensities_K.astype(np.float32), moves_K)


def _contenders(scores_N: Floats, uncertainty_N: Floats, k: int) -> NDArray[np.int64]:
    """Those that noise could lift among the k best."""
    if k >= len(scores_N):
        return np.arange(len(scores_N))
    if not k:
        return np.arange(0)
    low_N = scores_N - MAX_DEVIATIONS * uncertainty_N
    high_N = scores_N + MAX_DEVIATIONS * uncertainty_N
    return np.flatnonzero(high_N >= np.partition(low_N, -k)[-k])


def _noisy_orders(
    scores_N: Floats, uncertainty_N: Floats, k: int, draws: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """[draws, k]: the k best candidates by noisy scores, best first."""
    noise_MN = rng.standard_normal((draws, len(scores_N)), dtype=np.float32)
    noisy_MN = scores_N + uncertainty_N * noise_MN
    if k < len(scores_N):
        best_MK = np.argpartition(-noisy_MN, k - 1, axis=1)[:, :k]
    else:
        best_MK = np.broadcast_to(np.arange(k), (draws, k))
    sorter_MK = np.argsort(-np.take_along_axis(noisy_MN, best_MK, axis=1), axis=1, kind="stable")
    return np.take_along_axis(best_MK, sorter_MK, axis=1)
