"""Whether an item can be bought, in the words of other shops."""

from __future__ import annotations

from decimal import Decimal

import pyarrow as pa
import pytest

from recsys.datasets.availability import to_stock


@pytest.mark.parametrize(
    ("text", "stock"),
    [
        ("in_stock", True), ("in stock", True), ("InStock", True), ("instock", True),
        ("https://schema.org/InStock", True), ("http://schema.org/OutOfStock", False),
        ("out_of_stock", False), ("Out of stock", False), ("outofstock", False),
        ("preorder", True), ("backorder", True), ("onbackorder", True), ("discontinued", False),
        ("SoldOut", False), ("yes", True), ("No", False), ("y", True), ("n", False),
        ("TRUE", True), ("false", False), ("12", True), ("0", False), ("-3", False),
        ("2.0", True), ("perhaps", None), ("", None), ("nan", None),
    ],
)  # fmt: skip
def test_words_and_counts(text: str, stock: bool | None) -> None:
    assert to_stock(pa.array([text])).to_pylist() == [stock]


def test_columns_of_other_types() -> None:
    assert to_stock(pa.array([True, False, None])).to_pylist() == [True, False, None]
    assert to_stock(pa.array([3, 0, -1, None])).to_pylist() == [True, False, False, None]
    assert to_stock(pa.array([0.5, float("nan")])).to_pylist() == [True, None]
    assert to_stock(pa.array([Decimal("0.00")])).to_pylist() == [False]


def test_a_shops_own_words_come_first() -> None:
    words = {"Auf Lager": True, "preorder": False}
    assert to_stock(pa.array(["auf lager", "pre-order"]), words).to_pylist() == [True, False]
