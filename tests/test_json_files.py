"""The shapes that shops' JSON has, and what is broken in it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from recsys.datasets.json_files import JsonFile
from recsys.datasets.validate import LINE
from recsys.errors import InputError

NAMES = ("item_id", "title", "price")
ROWS = [{"item_id": "a", "price": 1}, {"item_id": "b", "price": 2}]
LIST = json.dumps(ROWS)


def rows(text: str, records: str | None = None) -> list[dict[str, Any]]:
    file = JsonFile(text, "a.json", records=records, names=NAMES)
    table = file.read(range(len(file.names)), 0, file.num_rows)
    assert table.num_rows == file.num_rows
    return table.to_pylist()


@pytest.mark.parametrize(
    "text",
    [
        '{"item_id": "a", "price": 1}\n\n{"item_id": "b", "price": 2}\n',
        '{"item_id": "a", "price": 1},\n{"item_id": "b", "price": 2},\n',
        LIST,
        json.dumps(ROWS, indent=2),
        "\n".join(json.dumps(row, indent=2) for row in ROWS),
        json.dumps({"products": ROWS}),
        json.dumps({"title": "of today", "next": None, "data": {"products": ROWS}}, indent=1),
        json.dumps({"shops": [{"name": "one"}], "products": ROWS}),
    ],
)
def test_every_shape_gives_the_same_rows(text: str) -> None:
    assert rows(text) == ROWS


def test_one_object_is_one_row_though_lists_are_inside() -> None:
    row = {"item_id": "a", "title": "Lamp", "variants": [{"title": "red"}]}
    assert rows(json.dumps(row)) == [row]


@pytest.mark.parametrize("text", ["", " \n", "[]", "{}", '{"data": {"rows": []}, "n": 0}'])
def test_no_rows(text: str) -> None:
    assert rows(text) == []


def test_two_lists_need_a_choice() -> None:
    text = json.dumps({"data": {"old": ROWS[:1], "new": ROWS}})
    with pytest.raises(InputError, match=r"a\.json holds the lists data\.old, data\.new"):
        rows(text)
    assert rows(text, "data.new") == ROWS
    with pytest.raises(InputError, match=r"no list of objects 'newest', only data\.old, data\.new"):
        rows(text, "newest")


def test_what_is_no_object_is_a_row_with_its_text() -> None:
    lines = [row[LINE] for row in rows('{"item_id": "a"}\n[1]\n{"item_id": "b"\n{"item_id": 4}\n')]
    assert lines == [None, "[1]", '{"item_id": "b"', None]
    assert [row[LINE] for row in rows('[{"item_id": "a"}, 7, {"item_id": "b"}]')] == [
        None, "7", None,
    ]  # fmt: skip


def test_a_list_that_was_cut_short_loses_its_last_row_alone() -> None:
    cut = rows(LIST[:-5])
    assert cut[0] == {"item_id": "a", "price": 1, LINE: None}
    assert [row[LINE] for row in cut] == [None, '{"item_id": "b", "price"']
    broken = rows('[\n{"item_id": "a"},\n{"item_id": b},\n{"item_id": "c"}\n]')
    assert [row["item_id"] for row in broken] == ["a", None, "c"]


def test_half_a_character_is_no_text() -> None:
    broken, sound = rows('{"title": "\\ud83d"}\n{"title": "\\ud83d\\ude00"}\n')
    assert broken[LINE] == '{"title": "\\ud83d"}'
    assert sound["title"] == "😀"


def test_values_of_several_types_are_their_texts() -> None:
    assert [row["a"] for row in rows('{"a": 1}\n{"a": "x"}\n{"a": [2]}\n{}\n')] == [
        "1", "x", "[2]", None,
    ]  # fmt: skip
    assert [row["a"] for row in rows('{"a": 123456789012345678901}\n{"a": 1}')] == [
        "123456789012345678901", "1",
    ]  # fmt: skip
    assert rows('{"a": [{"b": 1.5}]}\n{"a": null}') == [{"a": [{"b": 1.5}]}, {"a": None}]


def test_deep_nesting_is_no_row() -> None:
    assert len(rows('{"a": 1}\n' + '{"a": ' + "[" * 100_000 + "\n")) == 2
