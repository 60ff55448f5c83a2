"""Categories of any shape become paths, and names stay names."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from recsys.datasets.category_paths import to_paths


def paths(values: list[Any], *separators: str | None) -> list[list[str] | None]:
    """Of each cell, its paths."""
    column = to_paths(pa.array(values), *separators)
    return [None if text is None else text.split("\n") for text in column.to_pylist()]


@pytest.mark.parametrize(
    "text",
    ["Garden > Picnic", "Garden>Picnic", "Garden >> Picnic", "Garden » Picnic", "Garden › Picnic",
     "Garden → Picnic", "Garden\\Picnic", "Garden::Picnic", "Garden / Picnic", "Garden|Picnic",
     " Garden  >  Picnic > "],
)  # fmt: skip
def test_levels_are_parted_by_whatever_parts_them(text: str) -> None:
    assert paths([text]) == [["Garden / Picnic"]]


@pytest.mark.parametrize(
    ("column", "first"),
    [
        (["Garden/Picnic", "Garden > Picnic"], ["Garden / Picnic"]),
        (["Garden/Picnic", "Garden"], ["Garden / Picnic"]),
        (["Garden/Picnic", "Garden/Tools", "TV"], ["Garden / Picnic"]),
        (["/Garden/Picnic/", "Garden/Tools"], ["Garden / Picnic"]),
        (["TV/Video", "Garden"], ["TV/Video"]),
        (["Home/Garden/Tools", "Kitchen"], ["Home / Garden / Tools"]),
        (["MISC/OTHER", "GROCERY / FROZEN PIZZA"], ["MISC/OTHER"]),
        (["Nuts 1/2 inch", "Nuts 1", "Nuts 1/4 inch"], ["Nuts 1/2 inch"]),
        (["TV / Video > Cables", "TV / Video"], ["TV/Video / Cables"]),
    ],
)
def test_a_slash_is_a_level_where_the_column_shows_it(column: list[str], first: list[str]) -> None:
    assert paths(column)[0] == first


@pytest.mark.parametrize(
    ("column", "first"),
    [
        (["Garden > Picnic, Textiles", "Garden > Picnic"], ["Garden / Picnic", "Textiles"]),
        (["Clothes > Hats, Clothes > Shirts"], ["Clothes / Hats", "Clothes / Shirts"]),
        (["Home,Clothes,Men"], ["Home", "Clothes", "Men"]),
        (["Desks, Chairs", "Desks, Lamps"], ["Desks", "Chairs"]),
        (["Garden; Textiles"], ["Garden", "Textiles"]),
        (["A > B | C > D"], ["A / B", "C / D"]),
        (["Root/A/B,Root/A", "Root/C"], ["Root / A / B", "Root / A"]),
        (['["Garden", "Textiles"]'], ["Garden", "Textiles"]),
        (["['Garden', 'Textiles']"], ["Garden", "Textiles"]),
        (["Garden, Garden", "Garden"], ["Garden"]),
        (["Home, Garden & Tools", "Home"], ["Home, Garden & Tools"]),
        (
            ["Food, Drinks & Tobacco > Meat, Fish & Eggs", "Food, Drinks & Tobacco > Candy"],
            ["Food, Drinks & Tobacco / Meat, Fish & Eggs"],
        ),
        (["Toys\\, Games", "Toys"], ["Toys, Games"]),
        (["1,000 Piece Puzzles"], ["1,000 Piece Puzzles"]),
        (["Tables, round"], ["Tables, round"]),
    ],
)
def test_an_item_of_several_categories(column: list[str], first: list[str]) -> None:
    assert paths(column)[0] == first


def test_lists_of_categories() -> None:
    lists = [["Garden > Picnic", "Textiles"], None, [], ["A"], [None, "B"]]
    assert paths(lists) == [["Garden / Picnic", "Textiles"], None, [""], ["A"], ["B"]]
    assert paths(lists[1:]) == [None, [""], ["A"], ["B"]]
    named = [[{"id": 1, "name": "Garden"}, {"id": 2, "name": "Textiles"}], None]
    assert paths(named) == [["Garden", "Textiles"], None]
    assert paths([{"id": 1, "name": "Garden"}]) == [["Garden"]]
    assert paths([[1, 2]]) == [["1", "2"]]


def test_a_shop_says_its_own_separators() -> None:
    assert paths(["Garden.Picnic, big"], ".") == [["Garden / Picnic, big"]]
    assert paths(["A>B+C"], None, "+") == [["A / B", "C"]]
    assert paths(["WOMEN/KIDS"], "/") == [["WOMEN / KIDS"]]


def test_one_name_stays_as_it_is() -> None:
    assert paths(["Garden", "", None, "Home & Garden"]) == [
        ["Garden"], [""], None, ["Home & Garden"]
    ]  # fmt: skip
