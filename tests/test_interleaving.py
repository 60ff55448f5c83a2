from __future__ import annotations

from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from recsys.experiments.hashing import seeded_rng
from recsys.experiments.interleaving import NEITHER, credit, preference, team_draft

orders = st.permutations(range(8)).map(np.array)
ARMS = ("old", "new")


def test_both_take_turns() -> None:
    items, teams = team_draft(np.array([1, 2, 3]), np.array([4, 5, 6]), 6, seeded_rng("r", "teams"))
    assert set(items.tolist()) == {1, 2, 3, 4, 5, 6}
    assert [items[teams == team].tolist() for team in (0, 1)] == [[1, 2, 3], [4, 5, 6]]
    assert {tuple(sorted(teams[at : at + 2].tolist())) for at in (0, 2, 4)} == {(0, 1)}


def test_a_request_can_be_replayed() -> None:
    drafts = [
        team_draft(np.arange(9), np.arange(9)[::-1], 9, seeded_rng("r1", "teams")) for _ in range(2)
    ]
    np.testing.assert_array_equal(drafts[0], drafts[1])
    others = {
        tuple(team_draft(np.arange(9), np.arange(9)[::-1], 9, seeded_rng(f"r{n}", "teams"))[0])
        for n in range(30)
    }
    assert len(others) > 5


def test_a_shared_beginning_is_nobodys() -> None:
    items, teams = team_draft(
        np.array([7, 8, 1, 2]), np.array([7, 8, 2, 1]), 4, seeded_rng("r", "teams")
    )
    assert items[:2].tolist() == [7, 8]
    assert teams[:2].tolist() == [NEITHER, NEITHER]
    assert set(teams[2:].tolist()) == {0, 1}


def test_pads_are_left_out_and_the_longer_goes_on() -> None:
    items, teams = team_draft(
        np.array([1, -1, -1]), np.array([2, 3, 4]), 9, seeded_rng("r", "teams")
    )
    assert sorted(items.tolist()) == [1, 2, 3, 4]
    assert teams[np.isin(items, [2, 3, 4])].tolist() == [1, 1, 1]


@given(orders, orders, st.integers(0, 9), st.integers(0, 99))
def test_a_draft_is_a_list_of_both_tops(
    first: np.ndarray, second: np.ndarray, k: int, number: int
) -> None:
    items, teams = team_draft(first, second, k, seeded_rng(str(number), "teams"))
    assert len(items) == len(set(items.tolist())) == min(k, 8)
    for team, order in enumerate((first, second)):
        places = [order.tolist().index(item) for item in items[teams == team]]
        assert places == sorted(places)
    # The last round may be cut, and the first of the teams' own follow who gave the last that both
    # share.
    assert abs(int((teams == 0).sum()) - int((teams == 1).sum())) <= 2


def test_blind_clicks_prefer_neither() -> None:
    """Half of all requests each, whatever the lists: the law that makes a preference one."""
    rng, won = np.random.default_rng(0), Counter[int]()
    for number in range(3000):
        _, teams = team_draft(
            np.arange(9), np.array([0, 5, 1, 7, 2, 3, 8, 4, 6]), 5, seeded_rng(str(number), "teams")
        )
        names = [ARMS[team] if team >= 0 else "" for team in teams]
        won[preference(names, (rng.random(5) < [0.6, 0.4, 0.3, 0.2, 0.1]).tolist(), ARMS)] += 1
    assert binomtest(won[1], won[1] + won[-1]).pvalue > 0.001


def test_clicks_are_credited_to_their_team() -> None:
    teams, clicked = ["", "new", "old", "new"], [True, True, True, False]
    assert credit(teams, clicked, ARMS) == (1, 1)
    assert preference(teams, clicked, ARMS) == 0
    assert preference(teams, [True, True, False, True], ARMS) == 1
    assert preference(teams, [False, False, True, False], ARMS) == -1
