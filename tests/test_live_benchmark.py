"""What the benchmark of changes by day counts as wrong."""

from __future__ import annotations

from typing import Any

import pytest

from recsys.simulation.live_benchmark import Shelf, count_wrong


def answer(number: int, *prices: float | None, **fields: Any) -> dict[str, Any]:
    items = [{"item_id": f"i{at}", "price": price} for at, price in enumerate(prices)]
    return {"snapshot": f"v1@{number}", "items": items, "total": 9, "relaxed": []} | fields


@pytest.fixture
def shelf() -> Shelf:
    """i0 costs 5 from change 2 on and 7 from 4 on; i1 is hidden from 3 on."""
    shelf = Shelf()
    for number, row in (
        (2, {"item_id": "i0", "price": 5.0}),
        (4, {"item_id": "i0", "price": 7.0}),
        (3, {"item_id": "i1", "hidden": True}),
    ):
        shelf.note(row, number)
    return shelf


@pytest.mark.parametrize(
    ("params", "given", "is_wrong"),
    [
        ({"sort": "relevance"}, answer(1, 99.0), False),
        ({"sort": "relevance"}, answer(2, 5.0, 1.0), False),
        ({"sort": "relevance"}, answer(3, 7.0), True),
        ({"sort": "relevance"}, answer(4, 7.0), False),
        ({"sort": "relevance"}, answer(3, 5.0, 1.0), True),
        ({"sort": "price"}, answer(2, 5.0, 4.0), True),
        ({"sort": "-price"}, answer(2, 5.0, 4.0), False),
        ({"sort": "price", "max_price": 4}, answer(2, 5.0), True),
        ({"sort": "price", "max_price": 4}, answer(2, 5.0, relaxed=["any price"]), False),
        ({"sort": "relevance"}, answer(2, 5.0, total=0), True),
    ],
)
def test_an_answer_is_held_against_the_catalogue_of_its_snapshot(
    shelf: Shelf, params: dict[str, Any], given: dict[str, Any], is_wrong: bool
) -> None:
    assert count_wrong([(params, given)], shelf)[0] == is_wrong
