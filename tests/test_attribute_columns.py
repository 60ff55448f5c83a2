"""A catalogue's cells to typed columns: every form of pairs, kinds, units, what is dropped."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.attributes.cells import PAIRS, read_attributes
from recsys.attributes.columns import DECLARATION, TypedColumns, typed_columns
from recsys.attributes.declaration import Attribute
from recsys.errors import InputError

SHOP = (
    Attribute("colour", "list", column="color"),
    Attribute("width", "number", unit="cm"),
    Attribute("waterproof", "boolean"),
    Attribute("batch", searchable=False),
)


def pairs_of(cell: Any, type: pa.DataType | None = None) -> list[tuple[str, str]]:
    _, pairs = read_attributes(pa.table({"attributes": pa.array([cell], type)}), SHOP)
    assert pairs is not None
    return [(each["name"], each["value"]) for each in pairs.to_pylist()[0]]


def typed(cells: list[Any], attributes: Any = SHOP, **choices: Any) -> TypedColumns:
    _, pairs = read_attributes(
        pa.table({"attributes": cells}), attributes, choices.get("infer", False)
    )
    return typed_columns(pa.chunked_array([pairs]), attributes, **choices)


RED_60 = [("colour", "red"), ("width", "60 cm")]


@pytest.mark.parametrize(
    "cell",
    [
        '{"colour": "red", "width": "60 cm"}',
        '{"colour": ["red"], "width": {"value": 60, "unit": "cm"}}',
        '[{"name": "colour", "value": "red"}, {"name": "width", "values": ["60 cm"]}]',
        '["colour: red", "width: 60 cm"]',
        "colour: red; width: 60 cm",
        "colour:red\nwidth:60 cm",
        "colour=red,width=60 cm",
        "colour=red|width=60 cm",
        "colour: red, width: 60 cm",
        {"colour": "red", "width": "60 cm"},
        {"colour": ["red"], "width": ["60 cm"]},
        [{"name": "colour", "value": "red"}, {"name": "width", "value": "60 cm"}],
        ["colour: red", "width: 60 cm"],
    ],
)
def test_pairs_are_read_in_whatever_form_they_have(cell: Any) -> None:
    assert pairs_of(cell) == RED_60


def test_pairs_of_a_map_of_a_slice() -> None:
    maps = pa.array([[("x", "y")], RED_60, None, [("z", "1")]], pa.map_(pa.string(), pa.string()))
    _, pairs = read_attributes(pa.table({"attributes": maps[1:3]}), SHOP)
    assert pairs is not None
    assert pairs.to_pylist() == [[{"name": n, "value": v} for n, v in RED_60], []]


@pytest.mark.parametrize("cell", ["soft and warm", "{broken", "[", "", None, "nan", "colour: "])
def test_what_is_no_pair_is_text(cell: str | None) -> None:
    assert pairs_of(cell, pa.string()) == []


def test_without_a_declaration_a_text_stays_as_it_is_and_other_types_become_text() -> None:
    raw = pa.table({"attributes": ["colour: red", None]})
    assert read_attributes(raw, ()) == (raw, None)
    structs = pa.table({"attributes": [{"colour": "red", "size": 4}]})
    table, pairs = read_attributes(structs, ())
    assert pairs is None
    assert table["attributes"].to_pylist() == ["colour: red; size: 4"]


def test_the_text_has_what_is_searchable() -> None:
    raw = pa.table(
        {
            "color": ["red", None, None],
            "waterproof": [True, False, None],
            "attributes": ["width: 60 cm; batch: 7; fit: slim", "batch: 8", "soft and warm"],
        }
    )
    table, _ = read_attributes(raw, SHOP)
    texts = ["red; waterproof; width 60 cm; fit: slim", None, "soft and warm"]
    assert table["attributes"].to_pylist() == texts


def test_a_column_that_the_table_lacks_is_named() -> None:
    with pytest.raises(InputError, match="colour is to be read from the column 'color', but"):
        read_attributes(pa.table({"item_id": ["a"]}), SHOP)


def test_numbers_come_in_one_unit_and_what_cannot_is_counted() -> None:
    columns = typed(["width: 60 cm", "width: 0.6m", 'width: 24"', "width: 60", "width: 5 kg", None])
    assert columns.table["width"].to_pylist()[:4] == [60.0, 60.0, 60.96, 60.0]
    assert np.isnan(columns.table["width"].to_pylist()[4:]).all()
    [bad] = columns.unreadable
    assert (bad.value, bad.items) == ("5 kg", 1)
    assert bad.reason == "width is '5 kg': give a number in cm, or a unit that converts into it"


def test_without_a_unit_the_most_frequent_counts() -> None:
    weight = (Attribute("weight", "number"),)
    columns = typed(["weight: 1 kg", "weight: 500 g", "weight: 2 kg"], weight)
    assert columns.table["weight"].to_pylist() == [1.0, 0.5, 2.0]
    metadata = columns.table.schema.field("weight").metadata[DECLARATION]
    assert Attribute.from_json(metadata).unit == "kg"


def test_several_values_of_one_item() -> None:
    columns = typed(["colour: red; colour: Blue|red; width: 10; width: 20; width: 10", None])
    assert columns.table["colour"].to_pylist() == [
        "red\nBlue\nred",
        "",
    ]  # a label's values are counted once
    assert columns.table["width"].to_pylist() == [[10.0, 20.0], []]


def test_booleans_in_words() -> None:
    columns = typed(["waterproof: yes", "waterproof: nein", "waterproof: perhaps", None])
    assert columns.table["waterproof"].to_pylist() == [True, False, None, None]
    assert [bad.reason for bad in columns.unreadable] == ["waterproof is 'perhaps': give yes or no"]


def test_undeclared_attributes_are_inferred_where_the_setup_says_so() -> None:
    cells = [f"Breite: {n} mm; Form: {form}; vegan: {vegan}" for n, form, vegan in
             [(1, "oval", "ja"), (2, "rund", "nein"), (3, "oval", "ja")]]  # fmt: skip
    assert read_attributes(pa.table({"attributes": cells}), ())[1] is None
    columns = typed([*cells, "rare: 1"], (), infer=True)
    kinds = {
        name: Attribute.from_json(columns.table.schema.field(name).metadata[DECLARATION])
        for name in columns.table.column_names
    }
    assert {name: (each.kind, each.unit) for name, each in kinds.items()} == {
        "Breite": ("number", "mm"),
        "Form": ("text", None),
        "vegan": ("boolean", None),
    }


def test_of_many_inferred_attributes_the_most_frequent_have_facets() -> None:
    cells = ["; ".join(f"a{n}: x" for n in range(30 if item else 20)) for item in range(3)]
    schema = typed(cells, (), infer=True).table.schema
    facets = [Attribute.from_json(field.metadata[DECLARATION]).facet for field in schema]
    assert facets == [True] * 20 + [False] * 10
    assert set(schema.names[:20]) == {f"a{n}" for n in range(20)}


words = st.text(st.sampled_from("abc:;=|,{}[]\"'\n 1"), max_size=12)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.none() | words, max_size=8), st.booleans())
def test_any_cell_gives_a_row(cells: list[str | None], infer: bool) -> None:
    raw = pa.table({"attributes": pa.array(cells, pa.string())})
    table, pairs = read_attributes(raw, SHOP, infer)
    assert pairs is not None
    assert pairs.type == PAIRS
    assert table.num_rows == len(pairs) == len(cells)
    columns = typed_columns(pa.chunked_array([pairs]), SHOP, infer)
    assert columns.table.num_rows == len(cells)
