"""The feature table: each feature from a known answer; the laws of the table for any shop, request
and history."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.arrays import Histories
from recsys.ranking.features import (
    BLOCKS,
    FEATURES,
    NEW_DAYS,
    OF_EVENTS,
    RATIO,
    column_names,
    feature_table,
)
from recsys.ranking.item_features import (
    EVENTS,
    SMOOTHING_EXPOSURE,
    SMOOTHING_TOUCHES,
    Context,
    ItemFeatures,
)
from recsys.ranking.projection import P
from recsys.types import EVENT_TYPES, PURCHASE, Floats

NOW = 100.0
VIEW, MINUTE = 0, 1 / (24 * 60)


def projected(*strongest: int) -> Floats:
    return np.eye(P, dtype=np.float32)[list(strongest)]


#: Four items: two of one category and brand, one of another, one of which nothing is known.
SHELF = ItemFeatures(
    prices_I=np.array([10.0, 40.0, 5.0, np.nan]),
    in_stock_I=np.array([True, False, True, True]),
    popularity_I=np.array([3.0, 0.0, 1.0, 0.0], np.float32),
    touches_TI=np.array([[6, 2, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0], [2, 0, 0, 0]]),
    exposure_I=np.array([40.0, 0.0, 10.0, 0.0], np.float32),
    clicks_I=np.array([8.0, 0.0, 2.0, 0.0], np.float32),
    first_days_I=np.array([NOW, NOW - NEW_DAYS, NOW - 2 * NEW_DAYS, np.inf]),
    categories_I=np.array([0, 0, 1, -1]),
    brands_I=np.array([0, 0, 1, -1]),
    item_projected_IP=np.concatenate([projected(0, 1, 2), np.zeros((1, P), np.float32)]),
    taste_projected_IP=np.concatenate([projected(3, 4, 5), np.zeros((1, P), np.float32)]),
    attribute_codes=(np.array([0, 1, 0, -1]), np.array([-1, 2, 2, -1])),
)
ALL = np.array([[0, 1, 2, 3]], np.int32)


def history(*events: tuple[int, int, float, float]) -> Histories:
    """Of (item, type, day, price)."""
    items, types, days, prices = zip(*events, strict=True)
    return Histories(
        offsets=np.array([0, len(events)]),
        items=np.array(items, np.int32),
        types=np.array(types, np.int8),
        days=np.array(days),
        prices=np.array(prices, np.float32),
    )


#: A day ago they bought item 0 for 20 each; then viewed it, and ten minutes ago at item 2.
KNOWN = history(
    (0, PURCHASE, NOW - 1, 20.0), (0, VIEW, NOW - 0.5, np.nan), (2, VIEW, NOW - 10 * MINUTE, np.nan)
)


def value(
    name: str, histories: Histories = KNOWN, surface: str = "recommend", **others: Any
) -> list[float]:
    """One feature of each of the four items."""
    [row] = FEATURES[name](SHELF, Context.of(surface, NOW, histories, **others), ALL)
    assert row.dtype == np.float32
    return row.tolist()  # type: ignore[no-any-return]


def close(*values: float) -> Any:
    return pytest.approx(values, abs=1e-6)


def test_stock_and_price() -> None:
    assert value("in_stock") == [1, 0, 1, 1]
    assert value("log_price") == close(*np.log1p([10, 40, 5]), 0)


def test_a_price_is_compared_with_its_category() -> None:
    """The median of the two logs is that of 20, half way."""
    assert value("price_to_category") == close(-np.log(2), np.log(2), 0, 0)


def test_a_price_is_compared_with_what_the_user_usually_pays() -> None:
    """They paid 20, viewed what costs 10 now, and what costs 5."""
    assert value("price_to_usual") == close(0, np.log(4), -np.log(2), 0)
    assert value("price_to_usual", Histories.empty()) == [0, 0, 0, 0]


def test_the_usual_of_an_even_number_is_in_the_middle() -> None:
    """Between 10 and 40, which is 20 for logs."""
    even = history((0, VIEW, NOW, 10.0), (1, VIEW, NOW, 40.0))
    assert value("price_to_usual", even) == close(-np.log(2), np.log(2), -np.log(4), 0)


def test_a_price_level_is_compared_with_his() -> None:
    """They view what costs half as much as its category; what has no category has no level."""
    cheap = history((0, VIEW, NOW, np.nan))
    assert value("price_level", cheap) == close(0, np.log(4), np.log(2), 0)
    assert value("price_level", Histories.empty()) == [0, 0, 0, 0]


def test_a_price_changed_since_the_user_last_saw_one() -> None:
    """The view after the purchase did not say a price."""
    assert value("price_change") == close(-np.log(2), 0, 0, 0)
    assert value("price_change", replace(KNOWN, prices=None)) == [0, 0, 0, 0]


def test_a_ratio_stays_within_its_bounds() -> None:
    assert value("price_change", history((0, VIEW, NOW, 1e9))) == close(-RATIO, 0, 0, 0)


def test_popularity_touches_and_exposure_are_logs() -> None:
    assert value("popular") == close(np.log(4), 0, np.log(2), 0)
    assert value("touches") == close(np.log(9), np.log(3), 0, 0)
    assert value("exposure") == close(np.log(41), 0, np.log(11), 0)


def test_conversion_is_smoothed_to_the_mean_of_the_shop() -> None:
    """Two purchases in ten events."""
    c = SMOOTHING_TOUCHES
    assert value("conversion") == close((2 + 0.2 * c) / (8 + c), 0.2 * c / (2 + c), 0.2, 0.2)


def test_attraction_is_smoothed_to_the_mean_of_the_shop() -> None:
    """Ten clicks in fifty examined impressions."""
    c = SMOOTHING_EXPOSURE
    assert value("attraction") == close(
        (8 + 0.2 * c) / (40 + c), 0.2, (2 + 0.2 * c) / (10 + c), 0.2
    )


def test_a_shop_without_events_has_no_rates() -> None:
    empty = replace(
        SHELF, touches_TI=0 * SHELF.touches_TI, exposure_I=0 * ALL[0], clicks_I=0 * ALL[0]
    )
    assert empty.conversion_I.tolist() == empty.attraction_I.tolist() == [0, 0, 0, 0]


def test_newness_halves_in_its_days() -> None:
    assert value("newness") == close(1, 0.5, 0.25, 0)


def test_what_a_user_did_with_an_item() -> None:
    assert value("touched_lately") == close(1 / 1.5, 0, 1 / (1 + 10 * MINUTE), 0)
    assert value("times_touched") == close(np.log(3), 0, np.log(2), 0)
    assert value("times_bought") == close(np.log(2), 0, 0, 0)


def test_affinities_are_shares_of_his_events() -> None:
    # The colour of items 0 and 2 has all three events, the size of 1 and 2 one; over 3 + 5.
    assert value("attribute_affinity") == close(3 / 8, (0 + 1 / 8) / 2, (3 / 8 + 1 / 8) / 2, 0)
    assert value("brand_affinity") == value("category_affinity") == close(2 / 8, 2 / 8, 1 / 8, 0)


def test_the_session_is_the_last_half_hour() -> None:
    assert value("session_category") == close(0, 0, 1 / 2, 0)
    assert value("session_length") == close(*[np.log(2)] * 4)
    assert value("session_length", history((0, VIEW, NOW - 31 * MINUTE, 1.0))) == [0, 0, 0, 0]


def test_the_surface_and_the_user_stand_at_each_item() -> None:
    assert value("searched", surface="search") == [1, 1, 1, 1]
    assert value("searched", surface="recommend") == [0, 0, 0, 0]
    assert value("known_user") == close(*[np.log(4)] * 4)


def test_an_intent_matches_the_items_of_its_categories() -> None:
    assert value("intent_match", intent_BL=np.array([[False, True]])) == [0, 0, 1, 0]
    assert value("intent_match", intent_BL=np.array([[True, False]])) == [1, 1, 0, 0]
    assert value("intent_match") == [0, 0, 0, 0]


def test_matches_are_inner_products_of_what_is_projected() -> None:
    assert value("text_match", query_BP=2 * projected(1)) == [0, 2, 0, 0]
    assert value("taste_match", user_BP=3 * projected(5)) == [0, 0, 3, 0]


def test_every_feature_has_a_known_answer_here() -> None:
    informative = {
        word for name in globals() if name.startswith("test_") for word in _texts(globals()[name])
    }
    assert set(FEATURES) <= informative


def _texts(test: Any) -> list[str]:
    return [constant for constant in test.__code__.co_consts if isinstance(constant, str)]


def test_users_do_not_see_each_others_events() -> None:
    both = Histories.empty().followed_by(Histories.empty())
    both = Histories(
        offsets=np.array([0, 0, 3, 3]),
        items=KNOWN.items,
        types=KNOWN.types,
        days=KNOWN.days,
        prices=KNOWN.prices,
    )
    rows_BN = np.repeat(ALL, 3, axis=0)
    context, alone = Context.of("search", NOW, both), Context.of("search", NOW, KNOWN)
    nobody = Context.of("search", NOW, Histories.empty())
    for name, feature in FEATURES.items():
        of_three = feature(SHELF, context, rows_BN)
        np.testing.assert_array_equal(of_three[1], feature(SHELF, alone, ALL)[0], err_msg=name)
        for at in (0, 2):
            np.testing.assert_array_equal(
                of_three[at], feature(SHELF, nobody, ALL)[0], err_msg=name
            )


def test_vector_blocks_stand_in_their_columns() -> None:
    context = Context.of("search", NOW, KNOWN, user_BP=projected(7), query_BP=projected(9))
    columns = [f"{block}.{at}" for block in BLOCKS for at in range(P)]
    query, item, user, taste = np.split(
        feature_table(columns, SHELF, context, ALL, {})[0], 4, axis=1
    )
    np.testing.assert_array_equal(query, np.repeat(projected(9), 4, axis=0))
    np.testing.assert_array_equal(user, np.repeat(projected(7), 4, axis=0))
    np.testing.assert_array_equal(item, SHELF.item_projected_IP)
    np.testing.assert_array_equal(taste, SHELF.taste_projected_IP)


def test_signals_are_taken_as_they_are_where_they_are_finite() -> None:
    signals = {"bm25": np.array([[1.5, -np.inf, np.nan, 2]], np.float32)}
    columns = feature_table(
        ("unheard", "bm25"), SHELF, Context.of("search", NOW, KNOWN), ALL, signals
    )
    assert columns[0].tolist() == [[0, 1.5], [0, 0], [0, 0], [0, 2]]


def test_the_whole_table_has_signals_features_and_blocks() -> None:
    every = column_names(["bm25", "in_stock"])
    assert every[:2] == ("bm25", "in_stock")
    assert len(every) == len(set(every)) == 1 + len(FEATURES) + len(BLOCKS) * P


def test_what_is_not_of_one_shop_or_request_is_refused() -> None:
    with pytest.raises(ValueError, match="brands_I is of 3 items"):
        replace(SHELF, brands_I=np.array([0, 1, 2]))
    with pytest.raises(ValueError, match="2 user vectors"):
        Context.of("search", NOW, KNOWN, user_BP=projected(1, 2))


def a_shop(rng: np.random.Generator, items: int) -> ItemFeatures:
    """Anything that a catalogue and a log may hold."""
    odd = np.array([np.nan, 0.0, -1.0, 1e-30, 1e30, np.inf, 3.0, 12.5])
    return ItemFeatures(
        prices_I=rng.choice(odd, items),
        in_stock_I=rng.random(items) < 0.5,
        popularity_I=rng.choice([0.0, 1e-9, 1e12], items).astype(np.float32),
        touches_TI=rng.integers(0, 5, (len(EVENT_TYPES), items)) * rng.integers(0, 2),
        exposure_I=rng.choice([0.0, 0.01, 1e9], items).astype(np.float32),
        clicks_I=rng.choice([0.0, 3.0], items).astype(np.float32),
        first_days_I=rng.choice([np.inf, np.nan, NOW + 5, 0.0], items),
        categories_I=rng.integers(-1, 3, items),
        brands_I=rng.integers(-1, 3, items),
        item_projected_IP=rng.normal(size=(items, P)).astype(np.float32),
        taste_projected_IP=rng.normal(size=(items, P)).astype(np.float32),
    )


def some_histories(rng: np.random.Generator, sizes: list[int], items: int) -> Histories:
    events = sum(sizes)
    prices = (
        rng.choice([np.nan, 0.0, 2.0, 1e30], events).astype(np.float32)
        if rng.random() < 0.7
        else None
    )
    return Histories(
        offsets=np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64),
        items=rng.integers(-1, items, events).astype(np.int32),
        types=rng.integers(0, len(EVENT_TYPES), events).astype(np.int8),
        days=np.sort(rng.choice([0.0, NOW - 0.01, NOW + 1], events)),
        prices=prices,
    )


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.lists(st.integers(0, 6), min_size=1, max_size=4), st.data())
def test_any_table_is_finite_has_zeros_at_pads_and_takes_any_columns(
    seed: int, sizes: list[int], data: st.DataObject
) -> None:
    rng, items = np.random.default_rng(seed), 7
    item_features, histories = a_shop(rng, items), some_histories(rng, sizes, items)
    rows_BN = rng.integers(-1, items, (len(sizes), data.draw(st.integers(0, 5)))).astype(np.int32)
    user_BP, query_BP = rng.normal(size=(2, len(sizes), P)).astype(np.float32)
    intent_BL = rng.random((len(sizes), rng.integers(0, 4))) < 0.5
    context = Context.of(
        "search", NOW, histories, user_BP=user_BP, query_BP=query_BP, intent_BL=intent_BL
    )
    signals = {"s": rng.normal(size=rows_BN.shape).astype(np.float32)}
    every = column_names(signals)
    whole = feature_table(every, item_features, context, rows_BN, signals)
    assert whole.shape == (*rows_BN.shape, len(every))
    assert whole.dtype == np.float32
    assert np.isfinite(whole).all()
    assert not whole[rows_BN < 0].any()
    some = data.draw(st.lists(st.sampled_from(every), max_size=6))
    expected = whole[:, :, [every.index(name) for name in some]]
    np.testing.assert_array_equal(
        feature_table(some, item_features, context, rows_BN, signals), expected
    )


def test_an_event_of_an_unknown_item_says_nothing() -> None:
    unknown = history(*[(-1, VIEW, NOW - MINUTE, 99.0)] * 4, (0, PURCHASE, NOW - 1, 20.0))
    alone = history((0, PURCHASE, NOW - 1, 20.0))
    assert all(value(name, unknown) == value(name, alone) for name in FEATURES)


def test_of_a_long_history_the_newest_events_count() -> None:
    long = history(*[(1, VIEW, NOW - 2, 1.0)] * 5, *[(0, VIEW, NOW - 1, 1.0)] * EVENTS)
    assert value("times_touched", long) == close(np.log(1 + EVENTS), 0, 0, 0)


@pytest.mark.slow
def test_a_hundred_candidates_take_no_time_however_much_a_user_did() -> None:
    """2 ms on one idle thread, measured; here with room for a busy machine."""
    rng, items = np.random.default_rng(0), 10_000
    item_features, rows_BN = a_shop(rng, items), rng.integers(0, items, (1, 100)).astype(np.int32)
    histories, took = some_histories(rng, [100_000], items), []
    for _ in range(30):
        started = time.perf_counter()
        feature_table(
            column_names(()), item_features, Context.of("search", NOW, histories), rows_BN, {}
        )
        took.append(time.perf_counter() - started)
    assert min(took) < 0.01


def test_without_events_what_is_left_out_is_zero_and_the_same_features_are_computed() -> None:
    """They are left out where no request of the block has an event, and computed where one has."""
    none, some = Histories.empty(), history((0, VIEW, NOW, 9.0))
    rows = np.concatenate([ALL, ALL])
    alone = feature_table(tuple(FEATURES), SHELF, Context.of("search", NOW, none), ALL, {})
    both = Context.of("search", NOW, replace(some, offsets=np.array([0, 0, 1])))
    beside = feature_table(tuple(FEATURES), SHELF, both, rows, {})
    np.testing.assert_array_equal(alone[0], beside[0])
    differing = np.flatnonzero((beside[0] != beside[1]).any(axis=0))
    assert {list(FEATURES)[at] for at in differing} <= OF_EVENTS
    assert set(FEATURES) >= OF_EVENTS
