"""Algolia's languages of filters, as our filters: from known readings, and over a catalogue."""

from __future__ import annotations

import pytest

from recsys.events.impressions import filter_fields, filters_of
from recsys.types import AttributeFilter, Filters
from serve.protocols.algolia.filters import (
    MAX_DEPTH,
    MAX_LEAVES,
    parse_facet_filters,
    parse_filters,
    parse_numeric_filters,
)
from serve.routes.errors import RequestError
from tests.test_facets import Catalogue

SHOP = Catalogue(
    [
        {"category": "Home / Mugs", "brand": "Acme", "price": 5.0},
        {"category": "Home / Plates", "brand": "Globex", "price": 10.0, "in_stock": False},
        {"category": "Garden", "brand": "O'Neil & Co", "price": 20.0},
        {"category": "Garden", "brand": "Acme", "price": None},
    ]
)


def rows(filters: Filters) -> list[int]:
    mask = SHOP.filter_mask(filters)
    return [0, 1, 2, 3] if mask is None else mask.nonzero()[0].tolist()


@pytest.mark.parametrize(
    ("text", "passing"),
    [
        ("", [0, 1, 2, 3]),
        ("brand:Acme", [0, 3]),
        ("brand:acme AND category:Garden", [3]),
        ("NOT brand:Acme", [1, 2]),
        ("brand:Acme OR brand:Globex", [0, 1, 3]),
        ("brand:Acme OR brand:Globex AND category:Home", [0, 1]),  # OR binds tighter
        ("category:Home AND brand:Acme OR brand:Globex", [0, 1]),
        ("(brand:Acme AND category:Garden) OR price > 10", [2, 3]),
        ("NOT (brand:Acme OR brand:Globex)", [2]),
        ("NOT NOT brand:Acme", [0, 3]),
        ('brand:"O\'Neil & Co"', [2]),
        ("brand:'O\\'Neil & Co'", [2]),
        ("categories.lvl1:'Home > Mugs'", [0]),
        ("categories.lvl0:Home", [0, 1]),
        ("hierarchicalCategories.lvl0:Home", [0, 1]),
        ("price:5 TO 10", [0, 1]),
        ("price:5", [0]),
        ("price = 10", [1]),
        ("price != 10", [0, 2, 3]),
        ("price < 10", [0]),
        ("price<=10", [0, 1]),
        ("price > 10", [2]),
        ("price>=10.0", [1, 2]),
        ("in_stock:true", [0, 2, 3]),
        ("in_stock = 0", [1]),
        ("in_stock:false<score=3> OR brand:Acme<score=2>", [0, 1, 3]),
    ],
)
def test_filters(text: str, passing: list[int]) -> None:
    assert rows(parse_filters(text)) == passing


@pytest.mark.parametrize(
    ("value", "passing"),
    [
        ([], [0, 1, 2, 3]),
        (["brand:Acme", "category:Garden"], [3]),
        ([["brand:Acme", "brand:Globex"], "category:Home"], [0, 1]),
        (["brand:-Acme"], [1, 2]),
        ([["brand:-Acme", "category:Garden"]], [1, 2, 3]),
        (["brand:\\-Acme"], []),
        ([["categories.lvl1:Home > Mugs"]], [0]),
        ('[["brand:Acme","brand:Globex"]]', [0, 1, 3]),
        ("brand:Acme,category:Garden", [3]),
        ("(brand:Acme,brand:Globex),category:Home", [0, 1]),
    ],
)
def test_facet_filters(value: object, passing: list[int]) -> None:
    assert rows(parse_facet_filters(value)) == passing


@pytest.mark.parametrize(
    ("value", "passing"),
    [
        (["price>=5", "price<=10"], [0, 1]),
        ([["price<10", "price > 10"]], [0, 2]),
        (["price:5 TO 10"], [0, 1]),
        (["price!=5"], [1, 2, 3]),
        ("price>=5,price<10", [0]),
    ],
)
def test_numeric_filters(value: object, passing: list[int]) -> None:
    assert rows(parse_numeric_filters(value)) == passing


def test_an_attribute_is_named_with_its_parent_or_without() -> None:
    assert parse_filters("attributes.colour:red").attributes == (
        AttributeFilter("colour", "eq", "red"),
    )
    assert parse_filters("width >= 5").attributes == (AttributeFilter("width", "gte", "5"),)


@pytest.mark.parametrize(
    "text",
    [
        *("brand:", "AND", "brand:a AND", "(brand:a", "brand:a)", "brand a", "NOT", "a:b:c"),
        *("price<cheap", "price<", "brand > 3", "in_stock:maybe", "in_stock > 0", "published"),
        *("_tags:published", 'brand:"a', "(" * (MAX_DEPTH + 1) + "brand:a" + ")" * (MAX_DEPTH + 1)),
        " OR ".join(["brand:a"] * (MAX_LEAVES + 1)),
    ],
)
def test_what_is_no_filter_is_refused_in_a_sentence(text: str) -> None:
    with pytest.raises(RequestError, match="give"):
        parse_filters(text)


@pytest.mark.parametrize("value", [{"a": 1}, [1], [["brand:a", 2]], "[", ["brand"], [":a"]])
def test_facet_filters_of_another_shape_are_refused(value: object) -> None:
    with pytest.raises(RequestError, match="give"):
        parse_facet_filters(value)


def test_the_log_keeps_filters_of_filters() -> None:
    filters = parse_filters("(brand:Acme OR colour:red) AND NOT (price < 10 OR category:Home)")
    assert filters_of(filter_fields(filters)) == filters
    assert filter_fields(Filters(brand=("Acme",))) == {"brand": ("Acme",)}
