"""Prices that moved between two releases, counted by hand."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from recsys.release.price_moves import PriceMoves, price_moves
from recsys.tables import ITEMS_IN
from recsys.types import NEXT_CATEGORY

NAMES = [field.with_nullable(True) for field in ITEMS_IN]


def catalogue(*rows: tuple[str, float | None, str | None], **other: Any) -> pa.Table:
    items = [
        {"item_id": item_id, "price": price, "category": category, **other}
        for item_id, price, category in rows
    ]
    return pa.Table.from_pylist(items, schema=pa.schema(NAMES))


def test_moves_are_counted_by_leading_category_up_and_down() -> None:
    tea, cups = f"tea{NEXT_CATEGORY}gifts", "cups"
    before = catalogue(
        ("a", 10.0, tea), ("b", 10.0, tea), ("c", 20.0, tea), ("d", 5.0, cups), ("gone", 1.0, tea),
        ("free", 0.0, tea), ("unpriced", None, tea), ("none", 4.0, None), ("same", 3.0, cups),
    )  # fmt: skip
    after = catalogue(
        ("d", 4.0, cups), ("c", 10.0, tea), ("b", 12.0, tea), ("a", 11.0, tea), ("new", 1.0, tea),
        ("free", 2.0, tea), ("unpriced", 2.0, tea), ("none", None, None), ("same", 3.001, cups),
    )  # fmt: skip
    everything, of_tea, of_cups = price_moves(after, before)
    assert (everything.category, everything.up, everything.down) == ("all categories", 2, 2)
    assert (of_tea.category, of_tea.up, of_tea.down) == ("tea", 2, 1)
    assert (of_tea.median_up, of_tea.median_down) == (pytest.approx(0.15), -0.5)
    assert of_cups == PriceMoves(
        category="cups", up=0, down=1, median_up=None, median_down=pytest.approx(-0.2)
    )
    assert [each.category for each in price_moves(after, before, 1)] == ["all categories", "tea"]


def test_nothing_moved_and_nothing_is_said() -> None:
    same = catalogue(("a", 10.0, "tea"))
    assert price_moves(same, same) == []
    assert price_moves(same, catalogue()) == []


def test_prices_in_another_currency_are_no_moves() -> None:
    euros, dollars = (
        catalogue(("a", price, "tea"), currency=code)
        for price, code in ((10.0, "EUR"), (11, "USD"))
    )
    assert price_moves(dollars, euros) == []


def test_items_without_a_category_are_a_group() -> None:
    rows = price_moves(catalogue(("a", 9.0, None)), catalogue(("a", 10.0, None)))
    assert [(each.category, each.down) for each in rows] == [
        ("all categories", 1), ("no category", 1)
    ]  # fmt: skip
