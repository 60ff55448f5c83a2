"""Facet counts, orders and variants, from a small catalogue's known answers and the laws they
obey."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.pipeline.facet_counts import MOST_VALUES, range_borders
from recsys.pipeline.facets import collapse, count_facets, sort_rows
from recsys.release.attributes import AttributeColumns
from recsys.release.release import Release
from recsys.tables import ITEMS
from recsys.types import SORTS, FacetCount, Filters

DAY = datetime(2026, 1, 1, tzinfo=UTC)
TOOLS = [
    {"category": "Tools / Drills", "brand": "Acme", "price": 12.0, "group_id": "d", "added": DAY},
    {"category": "Tools / Drills / Bits", "brand": "acme", "price": 3.0, "group_id": "b"},
    {
        "category": "tools",
        "brand": "Globex",
        "price": 30.0,
        "group_id": "d",
        "added": DAY + timedelta(days=1),
    },
    {"category": "Toolshed", "brand": "acme", "price": None, "group_id": " "},
    {
        "category": None,
        "brand": None,
        "price": 3.0,
        "group_id": None,
        "added": DAY - timedelta(days=1),
    },
]


class Catalogue(Release):
    """A release of nothing but its items."""

    def __init__(self, items: list[dict[str, Any]]) -> None:
        rows = [
            {"item_id": f"{n:05d}", "in_stock": True, "text_hash": b"0" * 16, **each}
            for n, each in enumerate(items)
        ]
        self.items = pa.Table.from_pylist(rows, ITEMS)
        self.attributes = AttributeColumns.none(len(items))
        self.popularity_I = np.arange(len(items), dtype=np.float32) % 3


SHOP = Catalogue(TOOLS)
ALL = np.ones(len(TOOLS), bool)


def counts(facets: tuple[FacetCount, ...]) -> list[tuple[str, int]]:
    return [(each.value, each.count) for each in facets]


def test_a_category_counts_all_below_it_as_most_items_spell_it() -> None:
    facets = count_facets(SHOP, ALL, Filters())
    assert counts(facets["category"]) == [
        ("Tools", 3),
        ("Tools / Drills", 2),
        ("Tools / Drills / Bits", 1),
        ("Toolshed", 1),
    ]
    assert counts(facets["brand"]) == [("acme", 3), ("Globex", 1)]


def test_a_facets_own_selection_shrinks_the_others_alone() -> None:
    facets = count_facets(SHOP, ALL, Filters(brand=("GLOBEX",)))
    assert facets["brand"] == (FacetCount("acme", 3), FacetCount("Globex", 1, True))
    assert counts(facets["category"]) == [("Tools", 1)]
    facets = count_facets(
        SHOP, ALL, Filters(brand=("GLOBEX", "acme"), category=("tools / drills",))
    )
    assert facets["brand"] == (FacetCount("acme", 2, True), FacetCount("Globex", 0, True))


def test_what_the_catalogue_does_not_have_is_shown_when_selected() -> None:
    facets = count_facets(SHOP, ALL, Filters(brand=("Initech", "initech")))
    assert facets["brand"][-1] == FacetCount("initech", 0, True)
    assert len(facets["brand"]) == 3


def test_price_ranges_have_round_borders_and_do_not_follow_the_price_filter() -> None:
    shop = Catalogue(
        [{"price": price} for price in [1.0, 4.2, 9.5, 11.0, 13.0, 24.0, 40.0, 66.0, 90.0, 180.0]]
    )
    ranges = count_facets(shop, np.ones(10, bool), Filters())["price"]
    assert counts(ranges) == [("0-10", 3), ("10-15", 2), ("15-40", 2), ("40-100", 3), ("100-", 1)]
    chosen = count_facets(shop, np.ones(10, bool), Filters(min_price=10, max_price=15))["price"]
    assert chosen == tuple(replace(each, selected=each.value == "10-15") for each in ranges)
    own = count_facets(shop, np.ones(10, bool), Filters(min_price=11.5))["price"]
    assert FacetCount("11.5-", 6, True) in own
    assert len(own) == len(ranges) + 1


def test_prices_that_no_border_parts_have_no_ranges() -> None:
    for prices in ([10.0], [10.0, 10.0, 10.0], [None]):
        shop = Catalogue([{"price": price} for price in prices])
        assert count_facets(shop, np.ones(len(prices), bool), Filters())["price"] == ()


def test_nothing_found_has_no_values() -> None:
    assert count_facets(SHOP, ~ALL, Filters()) == {"category": (), "brand": (), "price": ()}


def test_at_most_fifty_values_and_every_selected_one() -> None:
    many = Catalogue(
        [{"brand": f"b{n:03d}"} for n in range(200)] + [{"brand": f"b{n:03d}"} for n in range(100)]
    )
    values = count_facets(many, np.ones(300, bool), Filters(brand=("B150",)))["brand"]
    assert len(values) == MOST_VALUES + 1
    assert values[-1] == FacetCount("b150", 1, True)


def test_orders_with_those_that_do_not_say_last() -> None:
    rows = np.array([4, 3, 2, 1, 0], np.int32)
    assert sort_rows(SHOP, rows, "relevance").tolist() == [4, 3, 2, 1, 0]
    assert sort_rows(SHOP, rows, "price").tolist() == [4, 1, 0, 2, 3]
    assert sort_rows(SHOP, rows, "-price").tolist() == [2, 0, 4, 1, 3]
    assert sort_rows(SHOP, rows, "newest").tolist() == [2, 0, 4, 3, 1]
    assert sort_rows(SHOP, rows, "popularity").tolist() == [2, 4, 1, 3, 0]
    with pytest.raises(ValueError, match="sort 'best' is unknown: use one of relevance, price"):
        sort_rows(SHOP, rows, "best")


def test_of_a_group_the_first_stays_and_no_group_is_none() -> None:
    assert SHOP.groups_I.tolist() == [0, 1, 0, -1, -1]
    assert collapse(np.array([4, 2, 0, 3, 1]), SHOP.groups_I).tolist() == [4, 2, 3, 1]
    assert collapse(np.empty(0, np.int32), SHOP.groups_I).tolist() == []


names = st.sampled_from(
    [
        None,
        "",
        " ",
        "a",
        "A",
        "a / b",
        "A / B",
        "a / b / c",
        "ab",
        "a / ",
        " / a",
        "a / / b",
        "ß",
        "SS / x",
    ]
)
prices = (
    st.none() | st.sampled_from([0.0, 0.01, 1.0, 9.99, 10.0, 10.5, 99.0, 1e7]) | st.floats(0, 300)
)
items = st.fixed_dictionaries(
    {
        "category": names,
        "brand": names,
        "price": prices,
        "in_stock": st.booleans(),
        "group_id": names,
    }
)
labels = st.lists(st.sampled_from(["a", "A / b", "ss", "", "zz", "a /"]), max_size=3).map(tuple)
bounds = st.none() | st.sampled_from([0.0, 1.0, 10.0]) | st.floats(0, 300)
filters = st.builds(
    Filters,
    category=labels,
    brand=labels,
    min_price=bounds,
    max_price=bounds,
    in_stock=st.none() | st.booleans(),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(items, st.booleans()), min_size=1, max_size=30), filters)
def test_a_count_is_the_length_of_the_answer_that_selecting_just_it_would_give(
    rows: list[tuple[dict[str, Any], bool]], filters: Filters
) -> None:
    shop, matched_I = (
        Catalogue([item for item, _ in rows]),
        np.array([matches for _, matches in rows]),
    )
    for name, values in count_facets(shop, matched_I, filters).items():
        assert len({each.value for each in values}) == len(values)
        for each in values:
            low, _, high = each.value.partition("-") if name == "price" else ("0", "", "")
            alone = {
                "category": {"category": (each.value,)},
                "brand": {"brand": (each.value,)},
                "price": {"min_price": float(low), "max_price": float(high) if high else None},
            }[name]
            allowed_I = shop.filter_mask(replace(filters, **alone))  # type: ignore[arg-type]
            assert each.count == (matched_I & (allowed_I if allowed_I is not None else True)).sum()


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(items, st.booleans()), min_size=1, max_size=30), filters)
def test_every_priced_item_lies_in_a_range_and_every_label_in_a_value(
    rows: list[tuple[dict[str, Any], bool]], filters: Filters
) -> None:
    shop, matched_I = (
        Catalogue([item for item, _ in rows]),
        np.array([matches for _, matches in rows]),
    )
    facets = count_facets(shop, matched_I, Filters(in_stock=filters.in_stock))
    allowed_I = shop.filter_mask(Filters(in_stock=filters.in_stock))
    passing_I = matched_I & (allowed_I if allowed_I is not None else True)
    if facets["price"]:
        assert (
            sum(each.count for each in facets["price"])
            >= (~np.isnan(shop.prices_I[passing_I])).sum()
        )
    brands = [
        item["brand"]
        for (item, _), passes in zip(rows, passing_I, strict=True)
        if passes and (item["brand"] or "").strip()
    ]
    assert sum(each.count for each in facets["brand"]) == len(brands)
    assert {each.value.casefold() for each in facets["brand"]} == {
        brand.casefold() for brand in brands
    }


@given(st.lists(items, min_size=1, max_size=20), st.sampled_from(SORTS), st.randoms())
def test_an_order_loses_nothing_and_keeps_ties_as_they_came(
    rows: list[dict[str, Any]], sort: str, random: Any
) -> None:
    shop, rows = (
        Catalogue(rows),
        np.array(random.sample(range(len(rows)), len(rows)), np.int32),
    )
    ordered = sort_rows(shop, rows, sort)
    assert sorted(ordered) == sorted(rows)
    assert sort_rows(shop, ordered, sort).tolist() == ordered.tolist()
    first_rows = collapse(ordered, shop.groups_I)
    grouped = [int(group) for group in shop.groups_I[first_rows] if group >= 0]
    assert len(grouped) == len(set(grouped)) == len(set(shop.groups_I.tolist()) - {-1})


def test_facets_of_five_thousand_found_among_a_hundred_thousand_take_milliseconds() -> None:
    random = np.random.default_rng(0)
    shop = Catalogue(
        [
            {
                "category": f"d{n % 20} / c{n % 700} / t{n % 3000}",
                "brand": f"brand {n % 20_000}",
                "price": float(price),
            }
            for n, price in enumerate(random.lognormal(3, 1, 100_000))
        ]
    )
    matched_I = np.zeros(100_000, bool)
    matched_I[random.choice(100_000, 5000, replace=False)] = True
    chosen = Filters(category=("D3", "d4 / c24"), brand=("brand 7",), max_price=50.0)
    count_facets(shop, matched_I, chosen)  # the labels are coded once a release
    times = []
    for _ in range(20):
        started = time.perf_counter()
        count_facets(shop, matched_I, chosen)
        count_facets(shop, matched_I, Filters())
        times.append((time.perf_counter() - started) / 2)
    assert min(times) < 0.003


@pytest.mark.parametrize(("price", "border"), [(11.0, 10.0), (12.0, 10.0), (13.0, 15.0)])
def test_a_border_is_the_round_number_nearest_by_ratio(price: float, border: float) -> None:
    """Between 10 and 15 the middle is the root of 150, 12.25."""
    assert range_borders(np.array([1.0, *[price] * 8, 100.0])) == [border]


def test_a_price_bound_of_one_side_selects_from_nothing_or_without_end() -> None:
    shop = Catalogue([{"price": price} for price in [0.5, 5.0, 20.0]])
    below = count_facets(shop, np.ones(3, bool), Filters(max_price=10))["price"]
    assert FacetCount("0-10", 2, True) in below


def test_borders_of_prices_below_a_tenth_have_three_digits() -> None:
    assert range_borders(np.array([0.014] * 5 + [0.0161] * 5)) == [0.015]
