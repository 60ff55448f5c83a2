"""Team-draft interleaving (Radlinski, Kurup and Joachims 2008): two rankers share one list, and
clicks say which is preferred.

Every request compares both with the same user and query, which takes far fewer requests than an A/B
test."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from recsys.types import Ints

#: The team of an item in the prefix that both rankings share: a click there prefers neither.
NEITHER = -1


def team_draft(
    first_N: Ints, second_N: Ints, k: int, rng: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The k items of a list drafted by two rankings, and the team of each: 0 picked it for the
    first, 1 for the second.

    In each round a coin says who goes first; each then picks its best item that is not in the list
    yet. Negative items pad. Where one has nothing left the other goes on. Items of the prefix that
    both share are of team NEITHER: their clicks would be coin flips (Chapelle et al. 2012). Draws
    one coin per round from `rng`; use `hashing.seeded_rng`."""
    rankings = [[item for item in ranking.tolist() if item >= 0] for ranking in (first_N, second_N)]
    shared = _common_prefix(*rankings)
    teams: dict[int, int] = {}  # of each item, in the list's order
    while len(teams) < k:
        leader = int(rng.integers(2))
        length = len(teams)
        for team in (leader, 1 - leader):
            pick = next((item for item in rankings[team] if item not in teams), None)
            if pick is not None and len(teams) < k:
                teams[pick] = NEITHER if pick in shared else team
        if len(teams) == length:
            break
    return np.array(list(teams), np.int64), np.array(list(teams.values()), np.int64)


def credit(teams: Sequence[str], clicked: Sequence[bool], arms: tuple[str, str]) -> tuple[int, int]:
    """Clicks on what each of the two arms picked; `teams` are their names, or "" for the shared
    prefix."""
    credited = [team for team, click in zip(teams, clicked, strict=True) if click]
    return credited.count(arms[0]), credited.count(arms[1])


def preference(teams: Sequence[str], clicked: Sequence[bool], arms: tuple[str, str]) -> int:
    """1 where this request's clicks prefer the second arm, -1 the first, 0 neither."""
    first, second = credit(teams, clicked, arms)
    return (second > first) - (second < first)


def _common_prefix(first: Sequence[int], second: Sequence[int]) -> set[int]:
    prefix = set()
    for one, other in zip(first, second, strict=False):
        if one != other:
            break
        prefix.add(one)
    return prefix
