"""Team-draft interleaving (Radlinski, Kurup and Joachims 2008): two rankers share one list, clicks
say who is liked.

Every request compares both with the same user and query, which takes far fewer requests than an A/B
test."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from recsys.types import Ints

#: The team of an item in the beginning that both lists share: a click there says nothing of which
#: is liked.
NEITHER = -1


def team_draft(
    first_N: Ints, second_N: Ints, k: int, rng: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The k items of a list shared by two orders, and the team of each: 0 took it from the first, 1
    from the second.

    In each round a coin says who goes first; each then takes its best that is not taken yet.
    Negative items pad. Where one has nothing left the other goes on. Items of the beginning that
    both orders share are of team NEITHER: their clicks would be coin flips (Chapelle et al. 2012).
    Draws one coin per round from `rng`; use `chance.rng_of`."""
    orders = [[item for item in order.tolist() if item >= 0] for order in (first_N, second_N)]
    shared = _shared_beginning(*orders)
    merged: list[int] = []
    teams: list[int] = []
    taken: set[int] = set()
    while len(merged) < k:
        leader = int(rng.integers(2))
        before = len(merged)
        for team in (leader, 1 - leader):
            item = next((item for item in orders[team] if item not in taken), None)
            if item is not None and len(merged) < k:
                taken.add(item)
                merged.append(item)
                teams.append(NEITHER if item in shared else team)
        if len(merged) == before:
            break
    return np.array(merged, np.int64), np.array(teams, np.int64)


def credit(teams: Sequence[str], clicked: Sequence[bool], arms: tuple[str, str]) -> tuple[int, int]:
    """Clicks on what each of the two arms chose; `teams` are their names, or "" for what both had
    in front."""
    won = [team for team, click in zip(teams, clicked, strict=True) if click]
    return won.count(arms[0]), won.count(arms[1])


def preference(teams: Sequence[str], clicked: Sequence[bool], arms: tuple[str, str]) -> int:
    """1 where this request's clicks prefer the second arm, -1 the first, 0 neither."""
    first, second = credit(teams, clicked, arms)
    return (second > first) - (second < first)


def _shared_beginning(first: Sequence[int], second: Sequence[int]) -> set[int]:
    shared = set()
    for one, other in zip(first, second, strict=False):
        if one != other:
            break
        shared.add(one)
    return shared
