"""Click models with a known truth: position-based and cascade, click spam, purchases after clicks.

Legend: B requests, K positions. `attraction_BK` is the probability of a click on an examined
product (`Market.attraction_of`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from recsys.types import Floats, Ints, Mask, Rows


class ClickModel(Protocol):
    """How shoppers examine a list and click. `expected_clicks` is the mean of `draw_clicks`."""

    def draw_clicks(self, attraction_BK: Floats, rng: np.random.Generator) -> Mask:
        """[B, K]: one draw of the clicks."""
        ...

    def expected_clicks(self, attraction_BK: Floats) -> Floats:
        """[B]: the expected number of clicks on each list."""
        ...


def power_law_examination(power: float = 0.8, positions: int = 10) -> tuple[float, ...]:
    """Examination probabilities 1 / position ^ power: 1 .57 .42 .33 .28 .24 .21 .19 .17 .16 by
    default."""
    return tuple(float(position) ** -power for position in range(1, positions + 1))


@dataclass(frozen=True)
class PositionBasedModel:
    """Position k is examined with probability `curve[k - 1]`, whatever the products (Richardson et
    al. 2007; Chuklin et al. 2015, section 3.3), and never beyond the curve's end."""

    curve: tuple[float, ...] = power_law_examination()

    def examination(self, positions: int) -> Floats:
        """[positions]"""
        padded = np.zeros(max(positions, len(self.curve)), np.float32)
        padded[: len(self.curve)] = self.curve
        return padded[:positions]

    def draw_clicks(self, attraction_BK: Floats, rng: np.random.Generator) -> Mask:
        examination_K = self.examination(attraction_BK.shape[1])
        return rng.random(attraction_BK.shape) < attraction_BK * examination_K

    def expected_clicks(self, attraction_BK: Floats) -> Floats:
        return attraction_BK @ self.examination(attraction_BK.shape[1])


@dataclass(frozen=True)
class CascadeModel:
    """Lists are examined from the top down until the first click (Craswell et al. 2008)."""

    def draw_clicks(self, attraction_BK: Floats, rng: np.random.Generator) -> Mask:
        attracted_BK = rng.random(attraction_BK.shape) < attraction_BK
        return attracted_BK & (np.cumsum(attracted_BK, axis=1) == 1)

    def expected_clicks(self, attraction_BK: Floats) -> Floats:
        return 1 - np.prod(1 - attraction_BK, axis=1)


@dataclass(frozen=True)
class ClickSpam:
    """Shoppers who click one item at any position, and do nothing else."""

    shoppers: Sequence[int]
    row: int

    def is_spammer(self, users_B: Ints) -> Mask:
        """[B, 1]"""
        return np.isin(users_B, self.shoppers)[:, None]

    def replace_clicks(self, clicked_BK: Mask, users_B: Ints, rows_BK: Rows) -> Mask:
        """The clicks, with those of the spammers on their item alone."""
        return np.where(self.is_spammer(users_B), rows_BK == self.row, clicked_BK)


def draw_purchases(
    clicked_BK: Mask, attraction_BK: Floats, rng: np.random.Generator, share: float = 0.2
) -> Mask:
    """Which clicks end in a purchase: with probability `share` x attraction."""
    return clicked_BK & (rng.random(clicked_BK.shape) < share * attraction_BK)
