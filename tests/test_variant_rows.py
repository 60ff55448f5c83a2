"""What stands on a product's first row alone holds for its variants."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from recsys.datasets.validate import check_items


def rows(**columns: list[Any]) -> list[dict[str, Any]]:
    count = len(next(iter(columns.values())))
    raw = pa.table({"item_id": [f"i{row}" for row in range(count)]} | columns)
    good: list[dict[str, Any]] = check_items(raw, "shop.csv", 0).good.to_pylist()
    return good


def test_variants_have_the_text_of_their_product_and_their_own_price() -> None:
    items = rows(
        group_id=["shirt", "shirt", "shirt", "coat", "coat", None, None],
        title=["Shirt", "", None, None, "Coat", None, "Cup"],
        brand=["Acme", None, "Other", None, None, None, "Cups Inc"],
        description=[None] * 7,
        price=[20, None, 21, None, 80, None, 5],
    )
    assert [each["title"] for each in items] == [
        "Shirt", "Shirt", "Shirt", "Coat", "Coat", None, "Cup"
    ]  # fmt: skip
    assert [each["brand"] for each in items] == [
        "Acme", "Acme", "Other", None, None, None, "Cups Inc"
    ]  # fmt: skip
    assert [each["price"] for each in items] == [20, None, 21, None, 80, None, 5]


def test_a_first_row_that_is_refused_still_names_its_variants() -> None:
    (item,) = rows(group_id=["g", "g"], title=["Shirt", ""], price=["dear", "5"])
    assert (item["item_id"], item["title"]) == ("i1", "Shirt")


def test_an_empty_group_is_none() -> None:
    assert [each["title"] for each in rows(group_id=["", " "], title=["Shirt", ""])] == [
        "Shirt", ""
    ]  # fmt: skip


def test_titles_are_one_line_without_markup() -> None:
    titles = ["A\ttab", "two\r\nlines", "Salt &amp; pepper", "a\x00b", " plain "]
    assert [each["title"] for each in rows(title=titles)] == [
        "A tab", "two lines", "Salt & pepper", "a b", " plain "
    ]  # fmt: skip
    text = "One line.\nAnother\x07."
    assert rows(description=[text])[0]["description"] == "One line.\nAnother ."
