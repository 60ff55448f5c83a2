"""Single values: numbers and units as shops write them, yes and no, lists, levels."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.attributes.declaration import Attribute, fold_name, require_distinct
from recsys.attributes.units import base_of, convert
from recsys.attributes.values import (
    clean_value,
    parse_boolean,
    parse_decimal,
    parse_quantity,
    split_values,
)
from recsys.errors import InputError


@pytest.mark.parametrize(
    ("text", "quantity"),
    [
        ("60 cm", (60.0, "cm")),
        ("0.6m", (0.6, "m")),
        ("0,6 m", (0.6, "m")),
        ('24"', (24.0, '"')),
        ("1 1/2 in", (1.5, "in")),
        ("1½ in", (1.5, "in")),
        ("5' 3\"", (5.25, "'")),
        ("1 h 30 min", (1.5, "h")),
        ("5kg 200g", (5.2, "kg")),
        ("-20 °C", (-20.0, "°C")),
        ("1 250,5 g", (1250.5, "g")),
        ("1.299,5 mm", (1299.5, "mm")),
        ("1,299.5 mm", (1299.5, "mm")),
        ("1'250 g", (1250.0, "g")),
        ("1,000,000", (1e6, "")),
        ("12 m²", (12.0, "m2")),
        ("ca. 60 cm", (60.0, "cm")),
        ("0,125 l", (0.125, "l")),
        ("１６ＧＢ", (16.0, "GB")),
        (".5 l", (0.5, "l")),
    ],
)
def test_a_quantity_is_read(text: str, quantity: tuple[float, str]) -> None:
    assert parse_quantity(text) == quantity


@pytest.mark.parametrize(
    "text",
    [
        *("", "red", "60 x 40 cm", "10-20 cm", "2 in 1", "5 stars", "1/0", "1.2.3", "EU 42"),
        *("1,299", "5 kg, 3 cm", "5 kg 3 cm", "60 cm and more", "1e5", "9**99", "3 m**9"),
        "12 cm 90 m",
    ],
)
def test_what_is_no_single_quantity_is_not_read(text: str) -> None:
    assert parse_quantity(text) is None


def test_a_lone_comma_before_three_digits_is_what_the_shop_says() -> None:
    assert parse_quantity("1,299 g", ",") == (1.299, "g")
    assert parse_quantity("1,299 g", ".") == (1299.0, "g")
    assert parse_quantity("1.299 g", ",") == (1299.0, "g")
    assert parse_quantity("1.299 g") == (1.299, "g")
    assert parse_decimal("0,60", ".") == 0.6


@pytest.mark.parametrize(
    ("number", "unit", "to", "result"),
    [
        (0.6, "m", "cm", 60.0),
        (24, '"', "cm", 60.96),
        (5, "KG", "g", 5000.0),
        (100, "ML", "l", 0.1),
        (1, "lb", "kg", 0.45359237),
        (20, "°C", "°F", 68.0),
        (1, "TB", "GB", 1000.0),
        (60, "", "cm", 60.0),
        (5, "kg", "cm", None),
        (16, "GB", "%", None),
        (5, "blue", "cm", None),
    ],
)
def test_units_convert_where_they_measure_the_same(
    number: float, unit: str, to: str, result: float | None
) -> None:
    assert convert(number, unit, to) == result


@given(st.text(max_size=30))
def test_any_text_is_a_quantity_or_none(text: str) -> None:
    quantity = parse_quantity(text)
    assert quantity is None or (quantity[1] == "" or base_of(quantity[1]) is not None)


@given(st.floats(-1e6, 1e6), st.sampled_from(["mm", "cm", "m", "in", "ft"]))
def test_there_and_back_is_the_same_length(number: float, unit: str) -> None:
    there = convert(number, unit, "cm")
    assert there is not None
    assert convert(there, "cm", unit) == pytest.approx(number, rel=1e-9, abs=1e-9)


def test_yes_and_no_in_words() -> None:
    assert [parse_boolean(text) for text in ("Yes", " TRUE ", "ja", "1", "✓")] == [True] * 5
    assert [parse_boolean(text) for text in ("no", "False", "nein", "0")] == [False] * 4
    assert parse_boolean("maybe") is None


def test_lists_and_levels() -> None:
    assert split_values("red | Blue;green, red") == ["red", "Blue", "green"]
    assert split_values("a, b/c", "/") == ["a, b", "c"]
    assert clean_value(" Textile > Wool >", ">") == "Textile / Wool"
    assert clean_value("a\n b\x00") == "a b"


def test_a_declaration_that_cannot_be_is_a_sentence() -> None:
    with pytest.raises(InputError, match="attribute width of kind text has the unit 'cm'"):
        Attribute("width", unit="cm")
    with pytest.raises(InputError, match="has the unit 'beauty': give a number a unit"):
        Attribute("width", "number", unit="beauty")
    with pytest.raises(InputError, match="'price': give 1 to 64 characters"):
        Attribute("price", "number")
    with pytest.raises(InputError, match=r"'a\[b\]'"):
        Attribute("a[b]")
    with pytest.raises(InputError, match="of kind 'colour': use one of text, number"):
        Attribute("colour", "colour")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="width and Breite are both read from 'width'"):
        require_distinct([Attribute("width"), Attribute("Breite", column="Width")])


def test_names_fold_and_declarations_survive_json() -> None:
    assert fold_name("Shoe_Size") == fold_name("shoe size ") == "shoe size"
    attribute = Attribute("width", "number", unit="cm", column="Breite", variant=True)
    assert Attribute.from_json(attribute.to_json()) == attribute
    assert attribute.keys == {"width", "breite"}


def test_the_declaration_of_the_documents_runs() -> None:
    document = (Path(__file__).parent.parent / "docs" / "attributes.md").read_text()
    names: dict[str, Any] = {}
    for block in re.findall(r"```python\n(.*?)```", document, re.DOTALL):
        exec(block, names)
    assert [each.name for each in names["catalogue"].attributes][:3] == ["colour", "size", "width"]
