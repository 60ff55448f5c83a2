"""Click models against their own formulas, and spam."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.simulation.clicks import Cascade, ClickModel, PositionBased, Spam, purchases, waning

WANTED = np.array([[0.5, 0.5, 0.2, 0.8]], np.float32)


def drawn(model: ClickModel, attraction_BK: np.ndarray, draws: int = 40_000) -> np.ndarray:
    return model.clicks(np.repeat(attraction_BK, draws, axis=0), np.random.default_rng(0))


def test_clicks_follow_the_curve() -> None:
    model = PositionBased((1.0, 0.5, 0.25))
    rates = drawn(model, np.full((1, 5), 0.6, np.float32)).mean(axis=0)
    assert rates == pytest.approx([0.6, 0.3, 0.15, 0, 0], abs=0.01)


def test_the_default_curve_wanes() -> None:
    curve = waning()
    assert (len(curve), curve[0]) == (10, 1.0)
    assert all(above > below for above, below in pairwise(curve))


def test_a_cascade_ends_with_its_first_click() -> None:
    clicked = drawn(Cascade(), WANTED)
    assert clicked.sum(axis=1).max() == 1
    assert clicked.mean(axis=0) == pytest.approx([0.5, 0.25, 0.05, 0.16], abs=0.01)


@pytest.mark.parametrize("model", [PositionBased(), Cascade()])
def test_the_mean_of_many_draws_is_what_is_expected(model: ClickModel) -> None:
    assert drawn(model, WANTED).sum(axis=1).mean() == pytest.approx(
        float(model.expected(WANTED)[0]), abs=0.02
    )


@pytest.mark.parametrize("model", [PositionBased(), Cascade()])
@given(st.lists(st.floats(0, 1, width=32), min_size=2, max_size=10))
def test_no_order_gets_more_clicks_than_the_best_first(
    model: ClickModel, attraction: list[float]
) -> None:
    as_given = np.array([attraction], np.float32)
    assert model.expected(-np.sort(-as_given))[0] >= model.expected(as_given)[0] - 1e-5


def test_a_seed_draws_the_same_clicks() -> None:
    first, again = (PositionBased().clicks(WANTED, np.random.default_rng(7)) for _ in range(2))
    assert np.array_equal(first, again)


def test_spammers_click_their_item_alone() -> None:
    clicked = np.array([[True, False], [True, True], [False, True]])
    rows = np.array([[1, 2], [2, 1], [3, 4]])
    spammed = Spam((5,), row=2).clicks(clicked, np.array([4, 5, 5]), rows)
    assert spammed.tolist() == [[True, False], [True, False], [False, False]]


def test_only_what_was_clicked_is_bought() -> None:
    clicked = drawn(PositionBased(), WANTED)
    bought = purchases(
        clicked, np.repeat(WANTED, len(clicked), axis=0), np.random.default_rng(1), share=0.5
    )
    assert not (bought & ~clicked).any()
    assert bought.sum(axis=0) / clicked.sum(axis=0) == pytest.approx(
        [0.25, 0.25, 0.1, 0.4], abs=0.03
    )
