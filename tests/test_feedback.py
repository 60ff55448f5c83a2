"""Joins from known answers; histories against the plain loop they replace."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.feedback import feature_names, histories, join, sanity
from recsys.tables import EVENTS, EXAMPLES, LIVE_EVENTS
from recsys.types import EVENT_TYPES, Impression, Interaction

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
SEARCH = Impression("r1", NOON, "v1", "search", ("a", "b", "c"), ("bm25", "ann"), ((3, 0), (2, 1), (1, 9)), "u", "tea")
HOME = Impression("r2", NOON, "v2", "home", ("b",), ("ann", "new"), ((5, 6),))


def event(item_id: str, type: str, request_id: str | None = "r1", **others: Any) -> Interaction:
    known = {"event_id": f"{item_id}{type}{request_id}", "user_id": "u", "time": NOON + timedelta(minutes=1)}
    return Interaction(item_id=item_id, type=type, request_id=request_id, **(known | others))


def batches(*events: Interaction) -> Iterator[pa.RecordBatch]:
    for one in events:
        yield pa.RecordBatch.from_pylist([vars(one)], LIVE_EVENTS)


def test_each_shown_item_is_labelled_with_its_strongest_interaction() -> None:
    done = batches(
        event("b", "purchase"), event("b", "click"), event("c", "view"),
        event("a", "cart", None), event("a", "click", "r9"), event("a", "click", "r2"),
    )  # fmt: skip
    examples = join([SEARCH, HOME], done)
    assert examples.schema.equals(EXAMPLES)
    assert examples.select(["request_id", "item_id", "position", "label"]).to_pylist() == [
        {"request_id": "r1", "item_id": "a", "position": 1, "label": 0},
        {"request_id": "r1", "item_id": "b", "position": 2, "label": 4},
        {"request_id": "r1", "item_id": "c", "position": 3, "label": 1},
        {"request_id": "r2", "item_id": "b", "position": 1, "label": 0},
    ]
    assert examples["user_id"].to_pylist() == ["u", "u", "u", None]
    assert examples["query"].to_pylist() == ["tea", "tea", "tea", None]
    assert examples["release"].to_pylist() == ["v1", "v1", "v1", "v2"]


def test_features_stand_under_the_union_of_all_names() -> None:
    examples = join([SEARCH, HOME], [])
    assert feature_names(examples) == ("bm25", "ann", "new")
    assert examples["features"].to_pylist() == [[3, 0, 0], [2, 1, 0], [1, 9, 0], [0, 5, 6]]


def test_what_was_logged_of_an_answer_stands_in_its_examples() -> None:
    second = replace(
        SEARCH, request_id="r3", offset=10, scores=(3, 2, 1), propensities=(0.8, 0.1, 0.1), teams=("a", "b", "a"),
        ranker="net@m1", arms={"test": "new"},
    )  # fmt: skip
    rows = join([SEARCH, second], batches(event("b", "click", "r3", origin="here"))).to_pylist()
    told = [tuple(row[name] for name in ("position", "score", "team", "ranker", "label", "origin")) for row in rows]
    assert told[:3] == [(place, 0, "", "", 0, None) for place in (1, 2, 3)]
    assert told[3:] == [
        (11, 3, "a", "net@m1", 0, None), (12, 2, "b", "net@m1", 2, "here"), (13, 1, "a", "net@m1", 0, None)
    ]  # fmt: skip
    assert [row["propensity"] for row in rows] == pytest.approx([1, 1, 1, 0.8, 0.1, 0.1])
    assert rows[3]["arms"] == [("test", "new")]


def test_what_cannot_be_of_an_answer_is_not_learned_from() -> None:
    early, late = NOON - timedelta(minutes=6), NOON + timedelta(days=1)
    done = batches(event("a", "click", time=early), event("b", "click", time=late), event("z", "click"))
    assert not any(join([SEARCH, SEARCH], done, NOON)["label"].to_pylist())
    assert join([SEARCH, SEARCH], []).num_rows == 3
    slow_clock = event("a", "click", time=NOON - timedelta(minutes=4))
    assert join([SEARCH], batches(slow_clock))["label"].to_pylist() == [2, 0, 0]


def test_nothing_shown_makes_no_examples() -> None:
    assert join([], batches(event("a", "click"))).num_rows == 0
    assert join([Impression("r", NOON, "v", "home", ())], []).schema.equals(EXAMPLES)


def test_sanity_counts_each_fault_once() -> None:
    done = batches(
        event("a", "click"),
        event("a", "view", None),
        event("a", "click", "r9"),
        event("z", "click"),
        event("b", "click", time=NOON - timedelta(minutes=6)),
        event("b", "cart", time=NOON + timedelta(days=1)),
        event("a", "click"),
    )
    assert sanity([SEARCH, HOME, SEARCH], done, NOON + timedelta(hours=1)) == {
        "unknown_requests": 1,
        "not_shown": 1,
        "before_impression": 1,
        "duplicate_impressions": 1,
        "duplicate_events": 1,
        "clock_skew": 1,
    }
    assert set(sanity([], [], NOON).values()) == {0}


def log(rows: list[tuple[str, int, int, int]]) -> tuple[pa.Table, np.ndarray]:
    """Events of (user, day, item row, type), sorted, and their item rows."""
    rows = sorted(rows, key=lambda row: row[:2])
    table = pa.Table.from_pylist(
        [
            vars(event(f"i{item}", EVENT_TYPES[code], user_id=user, time=datetime(1970, 1, 1 + day, tzinfo=UTC)))
            for user, day, item, code in rows
        ],
        EVENTS,
    )
    return table, np.array([item for _, _, item, _ in rows], np.int32)


def test_histories_are_oldest_first_and_keep_the_newest() -> None:
    events, rows = log([("u", 3, 7, 3), ("u", 1, 5, 0), ("u", 2, 6, 1), ("v", 9, -1, 0), ("w", 4, 5, 0)])
    users, known = histories(events, rows, max_events=2)
    assert users.to_pylist() == ["u", "w"]
    assert known.offsets.tolist() == [0, 2, 3]
    assert known.items.tolist() == [6, 7, 5]
    assert known.types.tolist() == [1, 3, 0]
    assert known.days.tolist() == [2.0, 3.0, 4.0]
    assert (known.items.dtype, known.types.dtype, known.days.dtype) == (np.int32, np.int8, np.float64)


ROWS = st.tuples(st.sampled_from("abc"), st.integers(0, 27), st.integers(-1, 3), st.integers(0, 3))


@settings(max_examples=50, deadline=None)
@given(st.lists(ROWS, max_size=15), st.integers(1, 4))
def test_histories_agree_with_a_loop(rows: list[tuple[str, int, int, int]], cap: int) -> None:
    expected: dict[str, list[tuple[int, int, int]]] = defaultdict(list)
    for user, day, item, code in sorted(rows, key=lambda row: row[:2]):
        if item >= 0:
            expected[user].append((day, item, code))
    users, known = histories(*log(rows), max_events=cap)
    assert users.to_pylist() == sorted(expected)
    for number, user in enumerate(sorted(expected)):
        one = known.slice(number, number + 1)
        assert list(zip(one.days, one.items, one.types, strict=True)) == expected[user][-cap:]


def test_events_out_of_order_are_refused() -> None:
    events, rows = log([("u", 1, 1, 0), ("u", 2, 1, 0), ("v", 1, 1, 0)])
    for order in ([1, 0, 2], [2, 0, 1], [0, 2, 1]):
        with pytest.raises(ValueError, match=r"not sorted by \(user_id, time\)"):
            histories(events.take(pa.array(order)), rows)
