"""How shoppers look at a list and what they click: two click models with a known truth, seeded.

Legend: B requests, K places. `attraction_BK` is the chance of a click by who looks
(`market.Market.shown`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from recsys.types import Floats, Ints, Mask


class ClickModel(Protocol):
    """How a list is read. Both methods agree: the mean of `clicks` over draws is `expected`."""

    def clicks(self, attraction_BK: Floats, rng: np.random.Generator) -> Mask:
        """[B, K]: one draw of what is clicked."""
        ...

    def expected(self, attraction_BK: Floats) -> Floats:
        """[B]: the mean number of clicks on each list."""
        ...


def waning(power: float = 0.8, places: int = 10) -> tuple[float, ...]:
    """Examination by place as 1 / place ^ power: 1 .57 .42 .33 .28 .24 .21 .19 .17 .16 by
    default."""
    return tuple(float(place) ** -power for place in range(1, places + 1))


@dataclass(frozen=True)
class PositionBased:
    """Place k is looked at with the chance `curve[k - 1]`, whatever stands there (Richardson et al.
    2007, Chuklin et al. 2015, section 3.3); nobody looks beyond the curve's end."""

    curve: tuple[float, ...] = waning()

    def examination(self, places: int) -> Floats:
        """[places]"""
        padded = np.zeros(max(places, len(self.curve)), np.float32)
        padded[: len(self.curve)] = self.curve
        return padded[:places]

    def clicks(self, attraction_BK: Floats, rng: np.random.Generator) -> Mask:
        return rng.random(attraction_BK.shape) < attraction_BK * self.examination(
            attraction_BK.shape[1]
        )

    def expected(self, attraction_BK: Floats) -> Floats:
        return attraction_BK @ self.examination(attraction_BK.shape[1])


@dataclass(frozen=True)
class Cascade:
    """Read from the top down to the first click, which ends it (Craswell et al. 2008)."""

    def clicks(self, attraction_BK: Floats, rng: np.random.Generator) -> Mask:
        would_BK = rng.random(attraction_BK.shape) < attraction_BK
        return would_BK & (np.cumsum(would_BK, axis=1) == 1)

    def expected(self, attraction_BK: Floats) -> Floats:
        return 1 - np.prod(1 - attraction_BK, axis=1)


@dataclass(frozen=True)
class Spam:
    """Shoppers who click one item wherever it is shown, and do nothing else."""

    shoppers: Sequence[int]
    row: int

    def clicks(self, clicked_BK: Mask, users_B: Ints, rows_BK: Ints) -> Mask:
        """The clicks with those of the spammers in place of what they would have done."""
        spammed_B1 = np.isin(users_B, self.shoppers)[:, None]
        return np.where(spammed_B1, rows_BK == self.row, clicked_BK)


def purchases(
    clicked_BK: Mask, attraction_BK: Floats, rng: np.random.Generator, share: float = 0.2
) -> Mask:
    """Which clicks end in a purchase: a `share` of those on what is certainly wanted, fewer of the
    others."""
    return clicked_BK & (rng.random(clicked_BK.shape) < share * attraction_BK)
