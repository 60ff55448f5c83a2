"""Chance in what is shown, with the propensity of every place: what makes a log fit to learn and to
compare from.

Legend: N candidates of one request, K places that are shown, M redraws. Base order: by score, best
first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from recsys.errors import InputError
from recsys.types import Floats, Ints, Mask

Kind = Literal["none", "swap", "epsilon", "thompson"]
#: Noisy orders drawn to estimate a propensity under "thompson": a standard error of at most .035.
REDRAWS = 200
#: See `resampled`.
FAR = 3.0
Shown = tuple[Ints, Floats, tuple[str, ...]]


@dataclass(frozen=True)
class Exploration:
    """How much of what is shown is left to chance.

    With probability `share` a request is explored: "swap" exchanges one uniformly random pair of
    the first `depth` places; "epsilon" gives one uniformly random place to an item from behind the
    list, `tail_share` of these from the tail; "thompson" adds Gaussian noise to the scores, as wide
    as each is uncertain. Raises InputError for numbers out of range."""

    kind: Kind = "none"
    share: float = 0.0
    depth: int = 10
    tail_share: float = 0.0

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise InputError(
                f"exploration is {self.kind!r}: use one of {', '.join(get_args(Kind))}"
            )
        for name, value in (("share", self.share), ("tail_share", self.tail_share)):
            if not 0 <= value <= 1:
                raise InputError(f"{name} of the exploration is {value}: give a number from 0 to 1")
        if self.depth < 2:
            raise InputError(
                f"exploration reaches to place {self.depth}: an exchange needs a depth of 2 or more"
            )


def explored(
    scores_N: Floats,
    tail_N: Mask,
    uncertain_N: Floats | None,
    k: int,
    policy: Exploration,
    rng: np.random.Generator,
) -> Shown:
    """(places_K, propensities_K, moved_K): which candidates are shown, K = min(k, N) of them; the
    chance with which each came to its place, over the policy's draws for this request; and in words
    what moved it there, or "".

    `tail_N` says which candidates are of the tail; `uncertain_N` is the standard deviation of each
    score, of which "thompson" makes its noise: without it nothing is explored. Propensities are
    exact but for "thompson", see `swapped`, `replaced` and `resampled`. Use `chance.rng_of` for a
    draw that can be replayed."""
    order_N = np.argsort(-scores_N, kind="stable")
    k = min(k, len(order_N))
    if policy.kind == "swap":
        return swapped(order_N[:k], policy, rng)
    if policy.kind == "epsilon":
        return replaced(order_N, tail_N, k, policy, rng)
    if policy.kind == "thompson" and uncertain_N is not None:
        return resampled(scores_N, uncertain_N, order_N[:k], policy, rng)
    return order_N[:k], np.ones(k, np.float32), ("",) * k


def swap_chances(share: float, depth: int) -> tuple[float, float]:
    """(stays, moves): the chance that the item of one of the first `depth` >= 2 places keeps it, 1
    - 2 share / depth, and that it is found at any given other of them, 2 share / (depth (depth -
    1)): a place is one of the pair in depth - 1 of depth (depth - 1) / 2 pairs."""
    return 1 - 2 * share / depth, 2 * share / (depth * (depth - 1))


def swapped(order_K: Ints, policy: Exploration, rng: np.random.Generator) -> Shown:
    """One pair of the first D = min(depth, K) places exchanged with probability `share`;
    `swap_chances` has the propensities. Places behind D keep their items with propensity 1; so do
    all where there is no pair."""
    places_K, moved_K, depth = order_K.copy(), [""] * len(order_K), min(policy.depth, len(order_K))
    propensities_K = np.ones(len(order_K), np.float32)
    if depth < 2:
        return places_K, propensities_K, tuple(moved_K)
    stays, moves = swap_chances(policy.share, depth)
    propensities_K[:depth] = stays
    if rng.random() < policy.share:
        one, other = rng.choice(depth, 2, replace=False).tolist()
        places_K[[one, other]] = order_K[[other, one]]
        propensities_K[[one, other]] = moves
        moved_K[one], moved_K[other] = (
            f"exchanged with place {place + 1} by chance" for place in (other, one)
        )
    return places_K, propensities_K, tuple(moved_K)


def replaced(
    order_N: Ints, tail_N: Mask, k: int, policy: Exploration, rng: np.random.Generator
) -> Shown:
    """One of the k places given to one of the R = N - k candidates behind with probability e =
    `share`.

    A place keeps its item with 1 - e / k and shows the candidate j with e / k p_j, where p_j = (1 -
    t) / R + t [j of the tail] / T; t = `tail_share`, T candidates behind are of the tail (T = 0: t
    = 0)."""
    places_K, moved_K, behind_R = order_N[:k].copy(), [""] * k, order_N[k:]
    if not len(behind_R) or not k:
        return places_K, np.ones(k, np.float32), tuple(moved_K)
    propensities_K = np.full(k, 1 - policy.share / k, np.float32)
    if rng.random() < policy.share:
        place, chances_R = int(rng.integers(k)), _chances(tail_N[behind_R], policy.tail_share)
        drawn = int(rng.choice(len(behind_R), p=chances_R))
        places_K[place] = behind_R[drawn]
        propensities_K[place] = policy.share / k * chances_R[drawn]
        moved_K[place] = f"drawn by chance from place {k + drawn + 1}"
    return places_K, propensities_K, tuple(moved_K)


def _chances(tail_R: Mask, tail_share: float) -> NDArray[np.float64]:
    """p_j of `replaced`."""
    even_R = np.full(len(tail_R), 1 / len(tail_R))
    return (
        (1 - tail_share) * even_R + tail_share * tail_R / tail_R.sum() if tail_R.any() else even_R
    )


def resampled(
    scores_N: Floats,
    uncertain_N: Floats,
    order_K: Ints,
    policy: Exploration,
    rng: np.random.Generator,
) -> Shown:
    """The order of the scores with noise, with probability s = `share`.

    The chance of an item at a place under noise, q, has no closed form: it is counted over REDRAWS
    orders, and the drawn one where there is one, so that it is never 0. The propensity is s q + (1
    - s) [it is the place's by score]. A candidate that FAR standard deviations up would not lift
    among the k best, those as far down, is never drawn."""
    k, is_drawn = len(order_K), rng.random() < policy.share
    near_R = _contenders(scores_N, uncertain_N, k)
    drawn_MK = near_R[_noisy(scores_N[near_R], uncertain_N[near_R], k, REDRAWS + is_drawn, rng)]
    places_K = drawn_MK[-1] if is_drawn else order_K
    noisy_K = (drawn_MK == places_K).mean(axis=0)
    propensities_K = policy.share * noisy_K + (1 - policy.share) * (places_K == order_K)
    by_score = np.argsort(np.argsort(-scores_N, kind="stable"), kind="stable")
    return places_K, propensities_K.astype(np.float32), _words(by_score[places_K])


def _contenders(scores_N: Floats, uncertain_N: Floats, k: int) -> NDArray[np.int64]:
    """Those that noise could lift among the k best."""
    if k >= len(scores_N):
        return np.arange(len(scores_N))
    low_N = scores_N - FAR * uncertain_N
    return (
        np.flatnonzero(scores_N + FAR * uncertain_N >= np.partition(low_N, -k)[-k])
        if k
        else np.arange(0)
    )


def _noisy(
    scores_N: Floats, uncertain_N: Floats, k: int, draws: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """[draws, k]: the k best candidates by noisy scores, best first."""
    noisy_MN = scores_N + uncertain_N * rng.standard_normal(
        (draws, len(scores_N)), dtype=np.float32
    )
    if k < len(scores_N):
        best_MK = np.argpartition(-noisy_MN, k - 1, axis=1)[:, :k]
    else:
        best_MK = np.broadcast_to(np.arange(k), (draws, k))
    sorter_MK = np.argsort(-np.take_along_axis(noisy_MN, best_MK, axis=1), axis=1, kind="stable")
    return np.take_along_axis(best_MK, sorter_MK, axis=1)


def _words(by_score_K: Ints) -> tuple[str, ...]:
    return tuple(
        "" if place == at else f"place {at + 1} by its score, moved by its uncertainty"
        for place, at in enumerate(by_score_K.tolist())
    )
