"""The simulated market: its ideal ranking, a preference shift, and a history of real sales."""

from __future__ import annotations

from datetime import timedelta
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from recsys.errors import InputError
from recsys.market.market import OFF_TOPIC, Market, RequestBatch
from recsys.pipeline.sources import SOURCES
from recsys.simulation.shop import market_dataset, popularity_ranker
from tests.checkerboard import UNTIL, Checkerboard


@cache
def market(seed: int = 0) -> Market:
    """16 items in 8 categories of 2."""
    return Market.of(
        Checkerboard(UNTIL), categories=8, items_per_category=2, shoppers=20, seed=seed
    )


def requests(users: list[int], categories: list[int]) -> RequestBatch:
    return RequestBatch(np.array(users), np.array(categories))


def test_the_market_sells_whole_categories_of_a_shop() -> None:
    assert market().items.num_rows == 16
    assert np.bincount(market().categories_I).tolist() == [2] * 8
    assert "lamp" in market().queries
    assert market().sales_I.sum() == 40 * 7
    small = Market.of(Checkerboard(UNTIL), categories=3, items_per_category=2)
    assert small.items.num_rows == 6


def test_no_category_is_large_enough() -> None:
    with pytest.raises(InputError, match="ask for fewer"):
        Market.of(Checkerboard(UNTIL), items_per_category=3)


def test_one_seed_is_one_market() -> None:
    again = market.__wrapped__(0)
    assert np.array_equal(again.attraction_UI, market().attraction_UI)
    assert not np.array_equal(market(1).attraction_UI, market().attraction_UI)


def test_the_ideal_ranking_has_an_ndcg_of_one_and_its_reverse_less() -> None:
    batch = requests([0, 1], [-1, 3])
    ideal = market().ideal_ranking(batch, 16)
    assert market().true_ndcg(batch, ideal).tolist() == pytest.approx([1, 1])
    assert (market().true_ndcg(batch, ideal[:, ::-1]) < 0.95).all()
    assert market().true_ndcg(batch, np.full((2, 3), -1)).tolist() == [0, 0]


def test_a_search_prefers_its_category() -> None:
    batch = requests([4, 4], [-1, 2])
    recommended, searched = market().attraction(batch)
    inside = market().categories_I == 2
    assert np.array_equal(searched[inside], recommended[inside])
    assert searched[~inside] == pytest.approx(OFF_TOPIC * recommended[~inside])
    first = market().ideal_ranking(batch.take(slice(1, 2)), 1)
    assert (market().categories_I[first] == 2).all()


def test_requests_are_spread_over_shoppers_and_searches() -> None:
    batch = market().requests(4000, seed=3, searches=0.25)
    assert len(batch) == 4000
    assert np.bincount(batch.users_B, minlength=20).min() > 100
    assert np.mean(batch.is_search_B) == pytest.approx(0.25, abs=0.03)
    assert set(batch.categories_B[batch.is_search_B]) == set(range(8))


def test_a_preference_shift_mirrors_the_effect_of_the_price() -> None:
    expensive = market().relative_price_I > 0
    shifted = market().with_price_effect_reversed()
    before, after = market().attraction_UI, shifted.attraction_UI
    assert (after[:, expensive] > before[:, expensive]).all()
    assert (after[:, ~expensive] < before[:, ~expensive]).all()
    assert np.array_equal(shifted.with_price_effect_reversed().attraction_UI, before)


def test_rows_of_a_short_list_are_padded() -> None:
    assert market().rows(["i03", "i00"], 4).tolist() == [3, 0, -1, -1]


def test_the_history_is_of_sales_in_the_weeks_before(tmp_path: Path) -> None:
    market().write(tmp_path, UNTIL)
    files = market_dataset(str(tmp_path), UNTIL)
    (items,), (events,) = files.item_chunks(), files.event_chunks()
    assert files.read_items(items).num_rows == 16
    history = files.read_events(events)
    assert history.num_rows == 20 * 20
    times = history["time"].to_pylist()
    assert UNTIL - timedelta(days=28) < min(times) < max(times) < UNTIL


def test_the_first_ranker_queries_every_source_and_weighs_popularity_alone() -> None:
    ranker = popularity_ranker()
    assert ranker.feature_names == SOURCES
    features = np.random.default_rng(0).random((1, 5, len(SOURCES))).astype(np.float32)
    features[:, :, SOURCES.index("buy_again")] = 0
    popular = features[0, :, SOURCES.index("popularity")]
    assert np.argsort(ranker.score(features)[0]).tolist() == np.argsort(popular).tolist()


def test_sales_order_a_search_within_its_category() -> None:
    recommended, searched = market().sales_ranking(requests([0, 0], [-1, 5]), 16)
    assert (np.diff(market().sales_I[recommended]) <= 0).all()
    assert (market().categories_I[searched[:2]] == 5).all()
    assert market().sales_I[searched[0]] >= market().sales_I[searched[1]]


def test_without_clicks_nothing_attracts() -> None:
    assert market().without_clicks().attraction_UI.max() < 1e-9
