"""Click models against their own formulas, and spam."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.market.click_models import (
    CascadeModel,
    ClickModel,
    ClickSpam,
    PositionBasedModel,
    draw_purchases,
    power_law_examination,
)

ATTRACTION = np.array([[0.5, 0.5, 0.2, 0.8]], np.float32)


def draw(model: ClickModel, attraction_BK: np.ndarray, draws: int = 40_000) -> np.ndarray:
    return model.draw_clicks(np.repeat(attraction_BK, draws, axis=0), np.random.default_rng(0))


def test_clicks_follow_the_curve() -> None:
    model = PositionBasedModel((1.0, 0.5, 0.25))
    rates = draw(model, np.full((1, 5), 0.6, np.float32)).mean(axis=0)
    assert rates == pytest.approx([0.6, 0.3, 0.15, 0, 0], abs=0.01)


def test_the_default_curve_falls() -> None:
    curve = power_law_examination()
    assert (len(curve), curve[0]) == (10, 1.0)
    assert all(above > below for above, below in pairwise(curve))


def test_a_cascade_ends_with_its_first_click() -> None:
    clicked = draw(CascadeModel(), ATTRACTION)
    assert clicked.sum(axis=1).max() == 1
    assert clicked.mean(axis=0) == pytest.approx([0.5, 0.25, 0.05, 0.16], abs=0.01)


@pytest.mark.parametrize("model", [PositionBasedModel(), CascadeModel()])
def test_the_mean_of_many_draws_is_the_expectation(model: ClickModel) -> None:
    expected = float(model.expected_clicks(ATTRACTION)[0])
    assert draw(model, ATTRACTION).sum(axis=1).mean() == pytest.approx(expected, abs=0.02)


@pytest.mark.parametrize("model", [PositionBasedModel(), CascadeModel()])
@given(st.lists(st.floats(0, 1, width=32), min_size=2, max_size=10))
def test_no_order_gets_more_clicks_than_the_ideal_one(
    model: ClickModel, attraction: list[float]
) -> None:
    any_1K = np.array([attraction], np.float32)
    ideal_1K = -np.sort(-any_1K)
    assert model.expected_clicks(ideal_1K)[0] >= model.expected_clicks(any_1K)[0] - 1e-5


def test_a_seed_draws_the_same_clicks() -> None:
    first, again = (
        PositionBasedModel().draw_clicks(ATTRACTION, np.random.default_rng(7)) for _ in range(2)
    )
    assert np.array_equal(first, again)


def test_spammers_click_their_item_alone() -> None:
    clicked = np.array([[True, False], [True, True], [False, True]])
    rows = np.array([[1, 2], [2, 1], [3, 4]])
    spammed = ClickSpam((5,), row=2).replace_clicks(clicked, np.array([4, 5, 5]), rows)
    assert spammed.tolist() == [[True, False], [True, False], [False, False]]


def test_only_clicked_items_are_purchased() -> None:
    clicked = draw(PositionBasedModel(), ATTRACTION)
    attraction = np.repeat(ATTRACTION, len(clicked), axis=0)
    purchased = draw_purchases(clicked, attraction, np.random.default_rng(1), share=0.5)
    assert not (purchased & ~clicked).any()
    shares = purchased.sum(axis=0) / clicked.sum(axis=0)
    assert shares == pytest.approx([0.25, 0.25, 0.1, 0.4], abs=0.03)
