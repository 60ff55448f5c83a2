"""Histories from the event log, against the plain loop they replace."""

from __future__ import annotations

from collections import defaultdict
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.events.histories import build_histories, guest_histories
from recsys.tables import EVENTS
from recsys.types import EVENT_TYPES, PURCHASE
from tests.event_log import event

ROWS = st.tuples(st.sampled_from("abc"), st.integers(0, 27), st.integers(-1, 3), st.integers(0, 3))


def log(rows: list[tuple[str, int, int, int]]) -> tuple[pa.Table, np.ndarray]:
    """Events of (user, day, item row, type), sorted, and their item rows."""
    rows = sorted(rows, key=lambda row: row[:2])
    table = pa.Table.from_pylist(
        [
            vars(
                event(
                    f"i{item}",
                    EVENT_TYPES[code],
                    user_id=user,
                    time=datetime(1970, 1, 1 + day, tzinfo=UTC),
                )
            )
            for user, day, item, code in rows
        ],
        EVENTS,
    )
    return table, np.array([item for _, _, item, _ in rows], np.int32)


def test_each_event_of_a_guest_counts_for_its_item_alone() -> None:
    events, rows = log([("u", 3, 7, 3), ("u", 3, 7, 3), ("u", 4, 5, 0), ("u", 5, -1, 0)])
    guests = guest_histories(events, rows)
    assert guests.offsets.tolist() == [0, 1, 2, 3]
    assert guests.items.tolist() == [7, 7, 5]
    assert (guests.types.tolist(), guests.days.tolist()) == ([3, 3, 0], [3.0, 3.0, 4.0])


def test_histories_are_oldest_first_and_keep_the_newest() -> None:
    events, rows = log(
        [("u", 3, 7, 3), ("u", 1, 5, 0), ("u", 2, 6, 1), ("v", 9, -1, 0), ("w", 4, 5, 0)]
    )
    prices = pa.array([None if item == 7 else float(item) for item in rows])  # u's newest says none
    events = events.set_column(events.schema.get_field_index("price"), "price", prices)
    users, histories = build_histories(events, rows, max_events=2)
    assert users.to_pylist() == ["u", "w"]
    assert histories.offsets.tolist() == [0, 2, 3]
    assert histories.items.tolist() == [6, 7, 5]
    assert histories.types.tolist() == [1, 3, 0]
    assert histories.days.tolist() == [2.0, 3.0, 4.0]
    assert histories.prices is not None
    np.testing.assert_array_equal(histories.prices, np.array([6, np.nan, 5], np.float32))
    assert (histories.items.dtype, histories.types.dtype, histories.days.dtype) == (
        np.int32,
        np.int8,
        np.float64,
    )


def test_clicking_on_and_on_counts_once_a_day_and_buying_each_time() -> None:
    spam = [("u", 1, 7, 1)] * 50 + [("u", 2, 7, 1)] * 2 + [("u", 2, 7, 3)] * 2 + [("v", 1, 7, 1)]
    users, histories = build_histories(*log(spam))
    assert [*zip(histories.days, histories.types, strict=True)] == [
        (1, 1),
        (2, 1),
        (2, 3),
        (2, 3),
        (1, 1),
    ]
    assert histories.offsets.tolist() == [0, 4, 5]
    assert users.to_pylist() == ["u", "v"]


@settings(max_examples=50, deadline=None)
@given(st.lists(ROWS, max_size=15), st.integers(1, 4))
def test_histories_agree_with_a_loop(rows: list[tuple[str, int, int, int]], cap: int) -> None:
    expected: dict[str, list[tuple[int, int, int]]] = defaultdict(list)
    for user, day, item, code in sorted(rows, key=lambda row: row[:2]):
        if item >= 0:
            if (day, item, code) in expected[user] and code != PURCHASE:
                expected[user].remove((day, item, code))
            expected[user].append((day, item, code))
    users, histories = build_histories(*log(rows), max_events=cap)
    assert users.to_pylist() == sorted(expected)
    for number, user in enumerate(sorted(expected)):
        one = histories.slice(number, number + 1)
        assert list(zip(one.days, one.items, one.types, strict=True)) == expected[user][-cap:]


def test_events_out_of_order_are_refused() -> None:
    events, rows = log([("u", 1, 1, 0), ("u", 2, 1, 0), ("v", 1, 1, 0)])
    for order in ([1, 0, 2], [2, 0, 1], [0, 2, 1]):
        with pytest.raises(ValueError, match=r"not sorted by \(user_id, time\)"):
            build_histories(events.take(pa.array(order)), rows)
