"""Columns by name, and values inside nested ones."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import numpy as np
import pyarrow as pa
import pytest

from recsys.datasets.columns import ColumnPath, extract_field, plain_column, resolve_columns
from recsys.errors import InputError


def resolve(names: list[str], **mapping: str) -> dict[str, ColumnPath]:
    return resolve_columns(
        "a.csv",
        names,
        canonical=["item_id", "title", "price"],
        mapping=mapping,
        required=["item_id"],
    )


def places(names: list[str], **mapping: str) -> dict[str, int]:
    return {name: column.place for name, column in resolve(names, **mapping).items()}


def test_a_name_is_found_in_any_case() -> None:
    assert places(["Item ID", " Price ", "TITLE"]) == {"item_id": 0, "price": 1, "title": 2}
    assert places(["item_id", "title", "Title"]) == {"item_id": 0, "title": 1}
    assert places(["SKU", "name"], item_id="sku") == {"item_id": 0}
    assert places(["item_id", "Title", "name"], title="name", price="Title") == {
        "item_id": 0, "title": 2, "price": 1,
    }  # fmt: skip
    # A column that is mapped to another name holds that.
    assert places(["item_id", "Price"], title="Price") == {"item_id": 0, "title": 1}


def test_two_columns_that_may_be_meant_are_refused() -> None:
    with pytest.raises(InputError, match=r"a\.csv has the column 'title' twice: rename or remove"):
        resolve(["item_id", "title", "title"])
    with pytest.raises(InputError, match=r"two columns for 'title', 'Title' and 'TITLE': .* map"):
        resolve(["item_id", "Title", "TITLE"])
    assert places(["item_id", "Title", "TITLE", "x", "x"], title="TITLE") == {
        "item_id": 0, "title": 2,
    }  # fmt: skip


def test_no_columns_at_all_is_said() -> None:
    with pytest.raises(InputError, match=r"a\.csv has no columns: write rows as objects"):
        resolve([])


def test_a_row_where_names_should_be_is_said() -> None:
    with pytest.raises(InputError, match=r"its first line, L0, Lamp, 1\.5, looks like a row"):
        resolve(["L0", "Lamp", "1.5"])


def values(rows: list[Any], *fields: str) -> list[Any]:
    column = pa.chunked_array([pa.array(rows)])
    return extract_field(column, fields, "a.json").to_pylist()


def test_paths_lead_into_nested_columns() -> None:
    assert resolve(["item_id", "a.b", "a"], title="a.b", price="a.c.d") == {
        "item_id": ColumnPath(0), "title": ColumnPath(1), "price": ColumnPath(2, ("c", "d")),
    }  # fmt: skip
    assert values([{"a": {"b": 1}}, None, {"a": None}], "a", "b") == [1, None, None]
    lists = [[{"sku": "x"}, {"sku": "y"}], None, [], [{"sku": None}]]
    assert values(lists, "sku") == [["x", "y"], None, [], [None]]
    assert values([None, None], "a") == [None, None]
    array = pa.array(lists)[1:]  # a slice has offsets of its own
    assert extract_field(pa.chunked_array([array]), ["sku"], "").to_pylist() == [None, [], [None]]
    pairs = pa.array([[("red", 1), ("blue", 2)], []], pa.map_(pa.string(), pa.int64()))
    assert extract_field(pa.chunked_array([pairs]), ["blue"], "").to_pylist() == [2, None]


def test_a_field_that_is_not_there_is_named_beside_those_that_are() -> None:
    with pytest.raises(InputError, match=r"a\.json has no field 'amount': map one of currency"):
        values([{"currency": "EUR"}], "amount")
    with pytest.raises(InputError, match=r"a\.json: 'amount' is inside a string"):
        values(["3"], "amount")


@pytest.mark.parametrize(
    ("array", "right"),
    [
        (pa.array([19.99, None, 0.1, 5.0], pa.float32()), [19.99, None, 0.1, 5.0]),
        (pa.array(np.array([1.5, 2], np.float16)), [1.5, 2.0]),
        (pa.array(["a", None]).dictionary_encode(), ["a", None]),
        (pa.array(["a", None], pa.string_view()), ["a", None]),
        (pa.array([UUID(int=5).bytes], pa.uuid()), [str(UUID(int=5))]),
        (pa.array(["[1]"], pa.json_()), ["[1]"]),
    ],
)
def test_values_have_one_layout(array: pa.Array, right: list[Any]) -> None:
    assert plain_column(pa.chunked_array([array])).to_pylist() == right
