"""The simulated market: its best order, what flips, and the shop that begins with real sales."""

from __future__ import annotations

from datetime import timedelta
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from recsys.errors import InputError
from recsys.pipeline.sources import SOURCES
from recsys.simulation.market import OFF_TOPIC, Market, by_popularity, stocked
from tests.checkerboard import UNTIL, Checkerboard


@cache
def market() -> Market:
    """16 items in 8 categories of 2."""
    return Market.of(Checkerboard(UNTIL), categories=8, each=2, shoppers=20)


def test_the_market_sells_what_a_shop_sells_in_whole_categories() -> None:
    assert market().items.num_rows == 16
    assert np.bincount(market().categories_I).tolist() == [2] * 8
    assert "lamp" in market().words
    assert market().sold_I.sum() == 40 * 7
    assert Market.of(Checkerboard(UNTIL), categories=3, each=2).items.num_rows == 6


def test_no_category_is_large_enough() -> None:
    with pytest.raises(InputError, match="ask for fewer"):
        Market.of(Checkerboard(UNTIL), each=3)


def test_one_seed_is_one_market() -> None:
    again, other = (Market.of(Checkerboard(UNTIL), 8, 2, 20, seed=seed) for seed in (0, 1))
    assert np.array_equal(again.attraction_UI, market().attraction_UI)
    assert not np.array_equal(other.attraction_UI, market().attraction_UI)


def test_the_true_best_order_has_an_ndcg_of_one_and_its_reverse_less() -> None:
    users, wanted = np.array([0, 1]), np.array([-1, 3])
    best = market().best(users, wanted, 16)
    assert market().true_ndcg(users, wanted, best).tolist() == pytest.approx([1, 1])
    assert (market().true_ndcg(users, wanted, best[:, ::-1]) < 0.95).all()
    assert market().true_ndcg(users, wanted, np.full((2, 3), -1)).tolist() == [0, 0]


def test_a_search_wants_one_category() -> None:
    users, wanted = np.array([4, 4]), np.array([-1, 2])
    anything, chosen = market().attraction(users, wanted)
    inside = market().categories_I == 2
    assert np.array_equal(chosen[inside], anything[inside])
    assert chosen[~inside] == pytest.approx(OFF_TOPIC * anything[~inside])
    assert (market().categories_I[market().best(users[1:], wanted[1:], 1)] == 2).all()


def test_requests_are_spread_over_shoppers_and_searches() -> None:
    users, wanted = market().requests(4000, seed=3, searches=0.25)
    assert np.bincount(users, minlength=20).min() > 100
    assert np.mean(wanted >= 0) == pytest.approx(0.25, abs=0.03)
    assert set(wanted[wanted >= 0]) == set(range(8))


def test_after_a_flip_what_is_dear_is_liked_as_much_as_what_is_cheap_was() -> None:
    dear = market().dearness_I > 0
    before, after = market().attraction_UI, market().flipped().attraction_UI
    assert (after[:, dear] > before[:, dear]).all()
    assert (after[:, ~dear] < before[:, ~dear]).all()
    assert np.array_equal(market().flipped().flipped().attraction_UI, before)


def test_rows_of_a_short_list_end_in_pads() -> None:
    assert market().rows(["i03", "i00"], 4).tolist() == [3, 0, -1, -1]


def test_the_shop_begins_with_sales_that_know_nothing_of_taste(tmp_path: Path) -> None:
    market().write(tmp_path, UNTIL)
    files = stocked(str(tmp_path), UNTIL)
    (items,), (events,) = files.item_chunks(), files.event_chunks()
    assert files.read_items(items).num_rows == 16
    past = files.read_events(events)
    assert past.num_rows == 20 * 20
    assert (
        UNTIL - timedelta(days=28)
        < min(past["time"].to_pylist())
        < max(past["time"].to_pylist())
        < UNTIL
    )


def test_the_first_ranker_asks_every_source_and_weighs_popularity_alone() -> None:
    ranker = by_popularity()
    assert ranker.feature_names == SOURCES
    features = np.random.default_rng(0).random((1, 5, len(SOURCES))).astype(np.float32)
    features[:, :, SOURCES.index("buy_again")] = 0
    popular = features[0, :, SOURCES.index("popularity")]
    assert np.argsort(ranker.score(features)[0]).tolist() == np.argsort(popular).tolist()


def test_sales_order_a_search_within_its_category() -> None:
    everything, searched = market().by_sales(np.array([-1, 5]), 16)
    assert (np.diff(market().sold_I[everything]) <= 0).all()
    assert (market().categories_I[searched[:2]] == 5).all()
    assert market().sold_I[searched[0]] >= market().sold_I[searched[1]]


def test_who_is_indifferent_clicks_nothing() -> None:
    assert market().indifferent().attraction_UI.max() < 1e-9
