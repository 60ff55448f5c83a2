"""Facets by value against counting by hand."""

from __future__ import annotations

import numpy as np
import pytest

from recsys.pipeline.facet_values import MOST_DISTINCT, count_values
from recsys.types import FacetCount, NumberStatistics, ValueFacets
from tests.test_attribute_facets import catalogue
from tests.test_facets import SHOP, TOOLS, Catalogue

ALL = np.arange(len(TOOLS))


def test_values_of_labels_prices_and_stock() -> None:
    counts, statistics = count_values(SHOP, ALL, ValueFacets())
    assert [(each.value, each.count) for each in counts["category"]] == [
        *(("Tools", 3), ("Tools / Drills", 2), ("Tools / Drills / Bits", 1), ("Toolshed", 1)),
    ]
    assert [(each.value, each.count) for each in counts["brand"]] == [("acme", 3), ("Globex", 1)]
    assert counts["price"] == (FacetCount("3", 2), FacetCount("12", 1), FacetCount("30", 1))
    assert counts["in_stock"] == (FacetCount("true", 5),)
    assert statistics == {"price": NumberStatistics(3.0, 30.0, 12.0, 48.0)}


def test_only_the_rows_and_the_named_facets() -> None:
    counts, statistics = count_values(SHOP, ALL[2:4], ValueFacets(("Brand", "zork")))
    assert counts.keys() == {"brand"}
    assert set(counts["brand"]) == {FacetCount("Globex", 1), FacetCount("acme", 1)}
    assert statistics == {}
    counts, statistics = count_values(SHOP, ALL[:0], ValueFacets())
    assert not any(counts.values())
    assert statistics == {}


def test_products_are_counted_once() -> None:
    counts, statistics = count_values(
        SHOP, ALL, ValueFacets(("in_stock", "price")), SHOP.products_I
    )
    assert counts["in_stock"] == (FacetCount("true", 4),)
    assert statistics["price"].total == 48.0


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("", ["navy blue", "red"]),
        ("RE", ["red"]),
        ("blu", ["navy blue"]),
        ("blue na", ["navy blue"]),
        ("avy", []),
    ],
)
def test_a_text_begins_words_of_values(text: str, values: list[str]) -> None:
    shop = catalogue([{"colour": "navy blue"}, {"colour": "red"}, {"colour": "navy blue"}])
    counts, _ = count_values(shop, np.arange(3), ValueFacets(("colour",), text))
    assert [each.value for each in counts["colour"]] == values


def test_numbers_and_flags_of_attributes() -> None:
    shop = catalogue([{"width": "60 cm", "vegan": True}, {"width": "0.6 m"}, {"width": "1 m"}, {}])
    counts, statistics = count_values(shop, np.arange(4), ValueFacets(("width", "vegan")))
    assert counts["width"] == (FacetCount("60", 2), FacetCount("100", 1))
    assert counts["vegan"] == (FacetCount("true", 1),)
    assert statistics["width"].high == 100.0


def test_most_values_of_many() -> None:
    shop = Catalogue([{"brand": f"brand {n}", "price": float(n)} for n in range(2 * MOST_DISTINCT)])
    counts, _ = count_values(shop, np.arange(2 * MOST_DISTINCT), ValueFacets())
    assert len(counts["brand"]) == len(counts["price"]) == MOST_DISTINCT
    counts, _ = count_values(
        shop, np.arange(2 * MOST_DISTINCT), ValueFacets(("brand",), f"{2 * MOST_DISTINCT - 1}")
    )
    assert len(counts["brand"]) == 1
