"""What is sent back was not bought."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pytest

from recsys.events.returns import take_back
from recsys.tables import EVENTS

ALL = -float("inf")


def log(*lines: tuple[str | None, str, float | None]) -> pa.Table:
    """Purchases of (user, item, quantity), an hour apart."""
    start = datetime(2026, 1, 1, tzinfo=UTC)
    return pa.Table.from_pylist(
        [
            {
                "event_id": f"e{at}",
                "user_id": user,
                "item_id": item,
                "type": "purchase",
                "time": start + timedelta(hours=at),
                "quantity": quantity,
            }
            for at, (user, item, quantity) in enumerate(lines)
        ],
        EVENTS,
    )


@pytest.mark.parametrize(
    ("lines", "remaining"),
    [
        ([("u", "a", 1), ("u", "b", 1), ("u", "a", -1)], ["e1"]),
        ([("u", "a", None), ("u", "a", -1)], []),
        ([("u", "a", 3), ("u", "a", -1)], ["e0"]),  # two pieces remain
        ([("u", "a", 3), ("u", "a", -1), ("u", "a", -2)], []),
        ([("u", "a", 3), ("u", "a", ALL)], []),
        ([("u", "a", 1), ("u", "a", 1), ("u", "a", -1)], ["e0"]),  # the newest goes
        ([("u", "a", 1), ("u", "a", 2), ("u", "a", ALL)], ["e0"]),
        ([("u", "a", 1), ("u", "a", 1), ("u", "a", -2)], []),
        ([("u", "a", 1), ("v", "a", -1)], ["e0"]),  # another's
        ([("u", "a", -1), ("u", "a", 1)], ["e1"]),  # bought again later
        ([(None, "a", 1), (None, "a", -1)], ["e0"]),  # nobody knows whose it was
    ],
)
def test_a_return_takes_back_what_was_bought_before(
    lines: list[tuple[str | None, str, float | None]], remaining: list[str]
) -> None:
    events, _ = take_back(log(*lines))
    assert events["event_id"].to_pylist() == remaining


def test_returns_are_counted_and_those_of_nothing_apart() -> None:
    _, counts = take_back(log(("u", "a", 1), ("u", "a", -1), ("v", "a", -1), (None, "b", -1)))
    assert counts == {"returned_purchases": 1, "returns_without_purchase": 2}
    assert take_back(log(("u", "a", 1)))[1] == {}


def test_a_return_of_the_same_moment_follows_the_purchase() -> None:
    events = log(("u", "a", -1), ("u", "a", 1))
    same = pa.array([datetime(2026, 1, 1, tzinfo=UTC)] * 2, events.schema.field("time").type)
    events = events.set_column(events.schema.get_field_index("time"), "time", same)
    assert take_back(events)[0].num_rows == 0


def test_views_of_what_was_returned_stay() -> None:
    events = log(("u", "a", None), ("u", "a", 1), ("u", "a", -1))
    types = pa.array(["view", "purchase", "purchase"])
    events = events.set_column(events.schema.get_field_index("type"), "type", types)
    assert take_back(events)[0]["event_id"].to_pylist() == ["e0"]
