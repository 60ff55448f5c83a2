"""Filters and facets of attributes against counting by hand."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.attributes.cells import read_attributes
from recsys.attributes.columns import typed_columns
from recsys.attributes.declaration import Attribute
from recsys.pipeline.facet_counts import range_borders
from recsys.pipeline.facets import count_facets
from recsys.release.attributes import AttributeColumns
from recsys.tables import ITEMS
from recsys.types import AttributeFilter, Filters
from tests.test_facets import Catalogue

DECLARED = (
    Attribute("colour", "list"),
    Attribute("material", levels=">"),
    Attribute("width", "number", unit="cm"),
    Attribute("depth", "number"),
    Attribute("vegan", "boolean"),
)


def catalogue(cells: list[dict[str, Any]]) -> Catalogue:
    raw = pa.table({"attributes": pa.array(map(text, cells), pa.string())})
    _, pairs = read_attributes(raw, DECLARED)
    shop = Catalogue([{"brand": "acme"} for _ in cells])
    columns = typed_columns(pa.chunked_array([pairs]), DECLARED)
    shop.attributes = AttributeColumns(columns.table, len(cells))
    return shop


def text(cell: dict[str, Any]) -> str:
    return "; ".join(f"{name}: {value}" for name, value in cell.items() if value is not None)


colours = st.none() | st.lists(st.sampled_from(["red", "Red", "blue", "navy blue"]), max_size=3)
numbers = st.sampled_from([-20.0, -0.5, 0.0, 1.0, 2.5, 10.0, 40.0, 250.0])
items = st.fixed_dictionaries(
    {
        "colour": colours.map(lambda values: values and "|".join(values)),
        "material": st.sampled_from([None, "Textile > Wool", "textile > Cotton", "Steel"]),
        "width": st.none() | numbers.map(lambda number: f"{number / 100} m"),
        "depth": st.none() | numbers,
        "vegan": st.sampled_from([None, "yes", "no", "perhaps"]),
    }
)
conditions = st.lists(
    st.one_of(
        st.builds(AttributeFilter, st.just("colour"), st.just("eq"), st.sampled_from(["RED", "x"])),
        st.builds(AttributeFilter, st.just("material"), st.just("eq"), st.just("textile")),
        st.builds(
            AttributeFilter,
            st.sampled_from(["width", "depth"]),
            st.sampled_from(["gte", "lte", "gt", "lt"]),
            numbers.map(str),
        ),
        st.builds(AttributeFilter, st.just("depth"), st.just("eq"), st.just("1-40")),
        st.builds(AttributeFilter, st.just("vegan"), st.just("eq"), st.sampled_from(["1", "no"])),
    ),
    max_size=4,
).map(tuple)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(items, st.booleans()), min_size=1, max_size=20), conditions)
def test_a_count_is_the_length_of_the_answer_that_selecting_just_it_would_give(
    rows: list[tuple[dict[str, Any], bool]], attributes: tuple[AttributeFilter, ...]
) -> None:
    shop = catalogue([item for item, _ in rows])
    matched_I = np.array([matches for _, matches in rows])
    facets = count_facets(shop, matched_I, Filters(attributes=attributes))
    for attribute in DECLARED:
        others = tuple(each for each in attributes if each.name != attribute.name)
        for each in facets[attribute.name]:
            alone = (*others, AttributeFilter(attribute.name, "eq", each.value))
            allowed_I = shop.filter_mask(Filters(attributes=alone))
            assert allowed_I is not None
            assert each.count == (matched_I & allowed_I).sum(), (attribute.name, each)


@settings(max_examples=200, deadline=None)
@given(st.lists(items, min_size=1, max_size=20), conditions)
def test_filters_pass_what_a_loop_passes(
    cells: list[dict[str, Any]], attributes: tuple[AttributeFilter, ...]
) -> None:
    mask = catalogue(cells).filter_mask(Filters(attributes=attributes))
    by_hand = [all(meets(cell, name, attributes) for name in cell) for cell in cells]
    assert [True] * len(cells) if mask is None else mask.tolist() == by_hand


def meets(cell: dict[str, Any], name: str, attributes: tuple[AttributeFilter, ...]) -> bool:
    own = [each for each in attributes if each.name == name]
    if not own:
        return True
    if name in ("width", "depth"):
        number = cell[name]
        if number is None:
            return False
        number = float(str(number).removesuffix(" m")) * (100 if name == "width" else 1)
        tests = {"gte": number.__ge__, "lte": number.__le__, "gt": number.__gt__,
                 "lt": number.__lt__}  # fmt: skip
        bounds = all(
            tests[each.operator](float(each.value)) for each in own if each.operator != "eq"
        )
        ranges = [each for each in own if each.operator == "eq"]
        return bounds and (not ranges or 1 <= number <= 40)
    values = (cell[name] or "").casefold()
    words = {"1": "yes", "textile": "textile"}
    wanted = {words.get(each.value, each.value.casefold()) for each in own}
    parts = {values.split(" > ")[0]} if name == "material" else set(values.split("|"))
    return bool(wanted & parts)


def test_borders_of_numbers_below_zero_are_round_too() -> None:
    assert range_borders(np.arange(-20.0, 20.0)) == [-12.0, -4.0, 4.0, 12.0]


def test_a_value_agrees_with_its_words_and_single_items_always() -> None:
    cells = [{"colour": each} for each in ("Blue", "navy blue", "red", None, "red", "red")]
    shop, whole = catalogue(cells), [True, True, False, True, True, True]
    titles = ["Bluebell", "Sky", "Bluebell", "Sky", "Sky", "The BLUE, planet"]
    groups = ["g", "g", "g", "g", "", "g"]
    for name, column in (("title", titles), ("group_id", groups)):
        shop.items = shop.items.set_column(ITEMS.get_field_index(name), name, pa.array(column))
    named = Filters(variants=(AttributeFilter("colour", "eq", "blue"),))
    assert shop.filter_mask(named).tolist() == whole  # type: ignore[union-attr]


def test_ten_facets_of_a_hundred_thousand_take_milliseconds() -> None:
    random = np.random.default_rng(0)
    size = 100_000
    declared = [Attribute(f"a{n}", "number" if n % 2 else "text") for n in range(10)]
    cells = ["; ".join(f"a{n}: {value}" for n, value in enumerate(row))
             for row in random.integers(0, 50, (size, 10)).tolist()]  # fmt: skip
    _, pairs = read_attributes(pa.table({"attributes": cells}), declared)
    shop = Catalogue([{"brand": "acme"}] * size)
    shop.attributes = AttributeColumns(
        typed_columns(pa.chunked_array([pairs]), declared).table, size
    )
    filters = Filters(
        attributes=tuple(AttributeFilter(f"a{n}", "lte" if n % 2 else "eq", "40") for n in range(9))
    )
    matched_I = random.random(size) < 0.05
    times = []
    for _ in range(10):
        started = time.perf_counter()
        shop.filter_mask(filters)
        count_facets(shop, matched_I, replace(filters))
        times.append(time.perf_counter() - started)
    assert min(times[1:]) < 0.02
