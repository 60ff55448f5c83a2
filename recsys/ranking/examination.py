"""How likely each place of an answer is looked at, estimated from clicks.

Both estimators end in one model: items of group g at place k are clicked at the rate t_k r_g, with t the curve. Groups
are such that r_g does not depend on the place: by where the ranker wanted the item, which exploration then left to
chance (`from_swaps`), or by how relevant its features say it is (`regression_em`). Legend: K places of the curve, B
requests, N shown items, G groups, D draws of the bootstrap.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys.errors import InputError
from recsys.ranking.lists import Lists, is_vector
from recsys.ranking.mixer import ranks
from recsys.types import Floats, Ints

#: Places that a curve tells apart.
PLACES = 10
#: How much the curve's slope, log chance over log place, may change from place to place: a standard deviation of what
#: is believed before a click was seen. It matters for places with few clicks alone.
BEND = 1.0
_FLOOR = 1e-3


@dataclass(frozen=True)
class Examination:
    """`curve_K[k - 1]` is the chance that place k is looked at, over that of the first; `low_K` and `high_K` are the
    bounds of its 95 % bootstrap interval over requests."""

    curve_K: Floats
    low_K: Floats
    high_K: Floats

    def __post_init__(self) -> None:
        curve_K = np.asarray(self.curve_K)
        if not len(curve_K) == len(self.low_K) == len(self.high_K) or not len(curve_K):
            raise InputError("a curve needs a lower and an upper bound for each of its places, at least one")
        if curve_K[0] != 1 or not ((curve_K > 0) & (curve_K <= 1)).all():
            raise InputError(f"the curve {curve_K.tolist()} is none of chances: begin with 1, and give above 0 up to 1")

    def at(self, positions: Ints) -> Floats:
        """The chance at positions from 1, float32 of their shape; beyond the curve that of its last place."""
        return np.asarray(self.curve_K, np.float32)[np.clip(positions, 1, len(self.curve_K)) - 1]

    @classmethod
    def flat(cls, places: int = PLACES) -> Examination:
        """All places are looked at alike."""
        return cls(*(np.ones(places, np.float32) for _ in range(3)))

    def save(self, path: Path) -> None:
        """Writes JSON that a person can read."""
        told = {"curve": self.curve_K, "low": self.low_K, "high": self.high_K}
        path.write_text(json.dumps({name: np.asarray(line).tolist() for name, line in told.items()}, indent=2) + "\n")

    @classmethod
    def load(cls, path: Path) -> Examination:
        """What `save` wrote."""
        told = json.loads(path.read_text())
        return cls(*(np.array(told[name], np.float32) for name in ("curve", "low", "high")))


def from_swaps(lists: Lists, places: int = PLACES, draws: int = 200, seed: int = 0) -> Examination:
    """The curve from what exploration left to chance (intervention harvesting, Agarwal et al., WSDM 2019; the swaps
    are those of Joachims et al., WSDM 2017).

    Learns from places with a propensity under 1. Items that stood equally high by the logged score, among equally many
    places left to chance, are one group; in each, clicks and showings count by inverse propensity, so that one and the
    same set of items is compared at every place. Every item left to chance must have been able to come to each of its
    request's places left to chance, as in swaps of any two and in shuffles. Only places that were left to chance are
    told apart. Without any click there the curve is flat. Raises InputError where nothing was left to chance.
    """
    chance_BK = lists.there_BK & (lists.propensities_BK < 1)
    if not chance_BK.any():
        raise InputError(
            f"no place of {len(lists):,} requests was left to chance: let some of the traffic explore, "
            "or estimate the examination with regression_em"
        )
    scores_BK = np.where(chance_BK, lists.scores_BK, -np.inf)
    rank_BK = ranks(scores_BK[:, :, None])[:, :, 0]
    first_B = np.where(chance_BK, lists.positions_BK, np.iinfo(np.int32).max).min(axis=1)
    owner_N, place_N = np.nonzero(chance_BK & (lists.positions_BK <= places))
    alike = np.stack([first_B[owner_N], chance_BK.sum(axis=1)[owner_N], rank_BK[owner_N, place_N]])
    _, group_N = np.unique(alike, axis=1, return_inverse=True)
    at = owner_N, place_N
    return _estimated(
        owner_N, group_N.ravel(), lists.positions_BK[at], lists.clicked_BK[at], lists.propensities_BK[at], draws, seed
    )


def regression_em(lists: Lists, places: int = PLACES, draws: int = 200, seed: int = 0) -> Examination:
    raise NotImplementedError


def _estimated(
    owner_N: Ints, group_N: Ints, position_N: Ints, click_N: NDArray[Any], propensity_N: Floats, draws: int, seed: int
) -> Examination:
    raise NotImplementedError


_ = is_vector
