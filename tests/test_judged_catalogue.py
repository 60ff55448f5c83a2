"""A folder of two tables as a shop with graded queries."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recsys.datasets import data_folder
from recsys.datasets.judged_catalogue import SPLITS, read_judged_catalogue
from recsys.errors import InputError, NotFoundError
from recsys.tables import ITEMS_IN

ITEMS: dict[str, Any] = {
    "item_id": ["a", "b", "c"],
    "title": ["oak table", "red lamp", None],
    "price": [10, 2, 3],
}
JUDGED: dict[str, Any] = {
    "query": ["lamp", "lamp", "table", "saw", "lamp"],
    "item_id": ["b", "a", "a", "c", "gone"],
    "relevance": [3.0, 1.0, 2.5, 2.0, 3.0],
    "split": ["train", "train", "valid", "test", "train"],
}


def folder(
    root: Path, items: dict[str, Any] | None = None, judgments: dict[str, Any] | None = None
) -> Path:
    for name, table in (("items", items or ITEMS), ("judgments", judgments or JUDGED)):
        pq.write_table(pa.table(table), root / f"{name}.parquet")
    return root


def test_a_shop(tmp_path: Path) -> None:
    shop = read_judged_catalogue(folder(tmp_path))
    assert (shop.name, shop.unknown) == (tmp_path.name, 1)
    assert [(field.name, field.type) for field in shop.items.schema] == [
        (f.name, f.type) for f in ITEMS_IN
    ]
    assert shop.items["price"].to_pylist() == [10.0, 2.0, 3.0]
    assert shop.items["brand"].to_pylist() == [None] * 3
    assert list(shop.pairs) == ["train", "valid", "test"]
    train, valid, test = shop.pairs.values()
    assert (train.queries, train.rows_P.tolist(), train.grades_P.tolist()) == (
        ("lamp",),
        [1, 0],
        [1, 0],
    )
    assert (valid.queries, valid.rows_P.tolist(), valid.grades_P.tolist()) == (
        ("table",),
        [0],
        [0.75],
    )
    assert (test.queries, test.rows_P.tolist(), test.grades_P.tolist()) == (("saw",), [2], [0.5])


def test_ids_may_be_numbers(tmp_path: Path) -> None:
    items = {**ITEMS, "item_id": [100, 200, 300]}
    shop = read_judged_catalogue(
        folder(tmp_path, items, {**JUDGED, "item_id": [200, 100, 100, 300, 7]})
    )
    assert shop.items["item_id"].to_pylist() == ["100", "200", "300"]
    assert (shop.unknown, shop.pairs["train"].rows_P.tolist()) == (1, [1, 0])


def test_queries_without_text_are_left_out(tmp_path: Path) -> None:
    judgments = {**JUDGED, "query": [None, "lamp", "table", "saw", "  "]}
    shop = read_judged_catalogue(folder(tmp_path, judgments=judgments))
    assert shop.pairs["train"].rows_P.tolist() == [0]


def test_a_pair_judged_twice_counts_once(tmp_path: Path) -> None:
    """An item that is in the truth twice could never be found wholly."""
    judgments = {name: [*values, values[0]] for name, values in JUDGED.items()} | {
        "relevance": [3, 1, 2, 2, 3, 2]
    }
    train = read_judged_catalogue(folder(tmp_path, judgments=judgments)).pairs["train"]
    assert (train.rows_P.tolist(), train.grades_P.tolist()) == ([1, 0], [1, 0])


@pytest.mark.parametrize("name", ["items", "judgments"])
def test_a_missing_file_is_said(tmp_path: Path, name: str) -> None:
    (folder(tmp_path) / f"{name}.parquet").unlink()
    with pytest.raises(
        NotFoundError, match=rf"there is no .*{name}\.parquet: put items\.parquet and"
    ):
        read_judged_catalogue(tmp_path)


@pytest.mark.parametrize(
    ("table", "column"),
    [
        ("items", "item_id"),
        ("items", "title"),
        *(("judgments", name) for name in ("query", "item_id", "relevance")),
    ],
)
def test_a_missing_column_is_said(tmp_path: Path, table: str, column: str) -> None:
    tables = {"items": dict(ITEMS), "judgments": dict(JUDGED)}
    del tables[table][column]
    with pytest.raises(
        InputError, match=rf"{table}\.parquet has no column '{column}': give .*{column}"
    ):
        read_judged_catalogue(folder(tmp_path, **tables))


@pytest.mark.parametrize("table", ["items", "judgments"])
def test_a_table_without_rows_is_said(tmp_path: Path, table: str) -> None:
    tables = {"items": pa.table(ITEMS), "judgments": pa.table(JUDGED)}
    for name, rows in tables.items():
        pq.write_table(rows[:0] if name == table else rows, tmp_path / f"{name}.parquet")
    with pytest.raises(InputError, match=rf"{table}\.parquet has no rows"):
        read_judged_catalogue(tmp_path)


@pytest.mark.parametrize("table", ["items", "judgments"])
def test_a_file_of_another_kind_is_said(tmp_path: Path, table: str) -> None:
    (folder(tmp_path) / f"{table}.parquet").write_text("item_id,title\n")
    with pytest.raises(InputError, match=rf"{table}\.parquet cannot be read as Parquet"):
        read_judged_catalogue(tmp_path)


@pytest.mark.parametrize("relevance", [0.5, 4.0, -1.0, float("nan"), float("inf"), None])
def test_relevance_out_of_range_is_said(tmp_path: Path, relevance: float | None) -> None:
    judgments = {**JUDGED, "relevance": [relevance, 1.0, 2.5, 2.0, 3.0]}
    with pytest.raises(InputError, match=r"relevance runs from .* give 1 \(wrong\) to 3 \(right\)"):
        read_judged_catalogue(folder(tmp_path, judgments=judgments))


def test_relevance_and_prices_that_are_no_numbers_are_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"column 'relevance' .*good"):
        read_judged_catalogue(folder(tmp_path, judgments={**JUDGED, "relevance": ["good"] * 5}))
    with pytest.raises(InputError, match=r"column 'price' .*cheap"):
        read_judged_catalogue(folder(tmp_path, items={**ITEMS, "price": ["cheap"] * 3}))


@pytest.mark.parametrize("split", SPLITS)
def test_a_split_of_which_nothing_is_known_is_said(tmp_path: Path, split: str) -> None:
    ids = [
        "gone" if name == split else item
        for name, item in zip(JUDGED["split"], JUDGED["item_id"], strict=True)
    ]
    with pytest.raises(
        InputError, match=f"no judgment of split '{split}' names an item of the catalogue"
    ):
        read_judged_catalogue(folder(tmp_path, judgments={**JUDGED, "item_id": ids}))


def test_a_catalogue_that_nobody_judged_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="names an item of the catalogue"):
        read_judged_catalogue(folder(tmp_path, judgments={**JUDGED, "item_id": ["gone"] * 5}))


def test_without_a_split_each_query_has_one_by_itself(tmp_path: Path) -> None:
    queries = [f"query {at}" for at in range(200) for _ in range(2)]
    judgments = {"query": queries, "item_id": ["a", "b"] * 200, "relevance": [3.0, 1.0] * 200}
    first = read_judged_catalogue(folder(tmp_path, judgments=judgments)).pairs
    turned = {name: values[::-1] for name, values in judgments.items()}
    second = read_judged_catalogue(folder(tmp_path, judgments=turned)).pairs
    splits = Counter({name: len(pairs.queries) for name, pairs in first.items()})
    assert splits.total() == 200, "no query is in two splits"
    assert splits["train"] == pytest.approx(120, abs=20)
    assert splits["valid"] == pytest.approx(30, abs=12)
    assert splits["test"] == pytest.approx(50, abs=15)
    for name in SPLITS:
        assert set(first[name].queries) == set(second[name].queries)


@pytest.mark.realdata
def test_home_depot() -> None:
    try:
        shop = read_judged_catalogue(data_folder("home_depot"))
    except NotFoundError as error:
        pytest.skip(str(error))
    assert shop.items.num_rows == 54_667
    queries = [set(pairs.queries) for pairs in shop.pairs.values()]
    assert not queries[0] & queries[1]
    assert not queries[0] & queries[2]
    assert all((np.bincount(pairs.query_P) > 0).all() for pairs in shop.pairs.values())
