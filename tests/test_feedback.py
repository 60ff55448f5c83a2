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

from recsys.events.feedback import (
    AGAIN,
    CLICKS_A_DAY,
    attraction,
    feature_names,
    histories,
    join,
    sanity,
    unmeasured,
)
from recsys.tables import ATTRACTION, EVENTS, EXAMPLES, LIVE_EVENTS
from recsys.types import EVENT_TYPES, PURCHASE, Impression, Interaction

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
SEARCH = Impression(
    request_id="r1",
    time=NOON,
    release="v1",
    surface="search",
    item_ids=("a", "b", "c"),
    feature_names=("bm25", "ann"),
    features=((3, 0), (2, 1), (1, 9)),
    user_id="u",
    query="tea",
)
HOME = Impression(
    request_id="r2",
    time=NOON,
    release="v2",
    surface="home",
    item_ids=("b",),
    feature_names=("ann", "new"),
    features=((5, 6),),
)


def event(item_id: str, type: str, request_id: str | None = "r1", **others: Any) -> Interaction:
    known = {
        "event_id": f"{item_id}{type}{request_id}",
        "user_id": "u",
        "time": NOON + timedelta(minutes=1),
    }
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
    told = [
        tuple(row[name] for name in ("position", "score", "team", "ranker", "label", "origin"))
        for row in rows
    ]
    assert told[:3] == [(place, 0, "", "", 0, None) for place in (1, 2, 3)]
    assert told[3:] == [
        (11, 3, "a", "net@m1", 0, None), (12, 2, "b", "net@m1", 2, "here"), (13, 1, "a", "net@m1", 0, None)
    ]  # fmt: skip
    assert [row["propensity"] for row in rows] == pytest.approx([1, 1, 1, 0.8, 0.1, 0.1])
    assert rows[3]["arms"] == [("test", "new")]


def test_what_cannot_be_of_an_answer_is_not_learned_from() -> None:
    early, late = NOON - timedelta(minutes=6), NOON + timedelta(days=1)
    done = batches(
        event("a", "click", time=early), event("b", "click", time=late), event("z", "click")
    )
    assert not any(join([SEARCH, SEARCH], done, NOON)["label"].to_pylist())
    assert join([SEARCH, SEARCH], []).num_rows == 3
    slow_clock = event("a", "click", time=NOON - timedelta(minutes=4))
    assert join([SEARCH], batches(slow_clock))["label"].to_pylist() == [2, 0, 0]


def test_nothing_shown_makes_no_examples() -> None:
    assert join([], batches(event("a", "click"))).num_rows == 0
    assert join(
        [Impression(request_id="r", time=NOON, release="v", surface="home", item_ids=())], []
    ).schema.equals(EXAMPLES)


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


def test_histories_are_oldest_first_and_keep_the_newest() -> None:
    events, rows = log(
        [("u", 3, 7, 3), ("u", 1, 5, 0), ("u", 2, 6, 1), ("v", 9, -1, 0), ("w", 4, 5, 0)]
    )
    prices = pa.array([None if item == 7 else float(item) for item in rows])  # u's newest says none
    events = events.set_column(events.schema.get_field_index("price"), "price", prices)
    users, known = histories(events, rows, max_events=2)
    assert users.to_pylist() == ["u", "w"]
    assert known.offsets.tolist() == [0, 2, 3]
    assert known.items.tolist() == [6, 7, 5]
    assert known.types.tolist() == [1, 3, 0]
    assert known.days.tolist() == [2.0, 3.0, 4.0]
    assert known.prices is not None
    np.testing.assert_array_equal(known.prices, np.array([6, np.nan, 5], np.float32))
    assert (known.items.dtype, known.types.dtype, known.days.dtype) == (
        np.int32,
        np.int8,
        np.float64,
    )


def test_clicking_on_and_on_counts_once_a_day_and_buying_each_time() -> None:
    spam = [("u", 1, 7, 1)] * 50 + [("u", 2, 7, 1)] * 2 + [("u", 2, 7, 3)] * 2 + [("v", 1, 7, 1)]
    users, known = histories(*log(spam))
    assert [*zip(known.days, known.types, strict=True)] == [(1, 1), (2, 1), (2, 3), (2, 3), (1, 1)]
    assert known.offsets.tolist() == [0, 4, 5]
    assert users.to_pylist() == ["u", "v"]


def at_once(positions: np.ndarray) -> np.ndarray:
    """Half as likely with each place."""
    return np.float32(2.0) ** (1 - positions)


def counted(
    shown: list[Impression], *done: Interaction, days: int = 30
) -> dict[str, tuple[float, int]]:
    told = attraction(
        shown, batches(*done), at_once, NOON - timedelta(days=1), NOON + timedelta(days=days)
    )
    assert told.schema.equals(ATTRACTION)
    assert told["item_id"].to_pylist() == sorted(told["item_id"].to_pylist())
    return {row["item_id"]: (row["exposure"], row["clicks"]) for row in told.to_pylist()}


def later(shown: Impression, name: str, days: float = 0, **others: Any) -> Impression:
    return replace(shown, request_id=name, time=shown.time + timedelta(days=days), **others)


def test_exposure_is_what_the_places_are_worth_and_a_click_is_more_than_a_view() -> None:
    done = event("b", "click"), event("b", "purchase"), event("c", "view")
    assert counted([SEARCH], *done) == {"a": (1.0, 0), "b": (0.5, 1), "c": (0.25, 0)}
    assert counted([replace(SEARCH, offset=2)], *done) == {
        "a": (0.25, 0),
        "b": (0.125, 1),
        "c": (0.0625, 0),
    }


def test_an_answer_counts_whose_user_clicks_at_all() -> None:
    """HOME has no user: it is that of who clicked in it."""
    nobody = later(SEARCH, "r3", user_id="crawler")
    assert counted([SEARCH, HOME, nobody], event("a", "view"), event("c", "click", None)) == {}
    assert counted([SEARCH, HOME, nobody], event("b", "click", "r2")) == {
        "a": (1, 0),
        "b": (1, 1),
        "c": (0.25, 0),
    }
    assert counted([HOME, nobody], event("b", "click", "r2", user_id="w")) == {"b": (1, 1)}


def test_a_click_that_answers_nothing_does_not_count() -> None:
    done = (
        event("a", "click", "r9"),
        event("z", "click"),
        event("a", "click", time=NOON - timedelta(minutes=6)),
    )
    assert counted([SEARCH], *done) == {"a": (1, 0), "b": (0.5, 0), "c": (0.25, 0)}
    assert counted([later(SEARCH, "r1", -1), later(SEARCH, "r1", 31)], event("a", "click")) == {}


def test_a_user_counts_once_an_item_and_day_and_an_address_too() -> None:
    """The best place of the day is what counts; the next day counts again."""
    swapped = ("b", "a", "c")
    again = [SEARCH, later(SEARCH, "r2", item_ids=swapped), later(SEARCH, "r3", 1)]
    mine = [event("b", "click", each.request_id, time=each.time) for each in again]
    assert counted(again, *mine) == {"a": (2, 0), "b": (1 + 0.5, 2), "c": (0.5, 0)}
    users = [later(SEARCH, f"r{n}", user_id=f"u{n}") for n in range(9)]
    theirs = [event("b", "click", each.request_id, user_id=each.user_id) for each in users]
    assert counted(users, *theirs) == {"a": (9, 0), "b": (4.5, 9), "c": (2.25, 0)}
    one_address = [replace(each, origin="x") for each in theirs]
    assert counted(users, *one_address) == {"a": (1, 0), "b": (0.5, 1), "c": (0.25, 0)}


def test_nobody_clicks_without_bound_even_under_others_names() -> None:
    """One address under ever new names, one user from ever new addresses: both to CLICKS_A_DAY,
    over all items."""
    many = [
        later(SEARCH, f"r{n}", item_ids=(f"i{n:03d}",), user_id=None)
        for n in range(3 * CLICKS_A_DAY)
    ]
    for one in ({"origin": "x"}, {"user_id": "spam"}):
        own = [{"user_id": f"u{n}", "origin": f"o{n}"} | one for n in range(len(many))]
        done = [
            event(each.item_ids[0], "click", each.request_id, **who)
            for each, who in zip(many, own, strict=True)
        ]
        assert sum(clicks for _, clicks in counted(many, *done).values()) == CLICKS_A_DAY


def test_who_presses_one_item_all_day_tells_nothing_that_day() -> None:
    """AGAIN answers are one click; one more, and the day is as if he was not there. Behind an
    address are many."""
    answers = [later(SEARCH, f"r{n}") for n in range(AGAIN + 1)]
    mine = [event("b", "click", each.request_id, origin="x") for each in answers]
    assert counted(answers, *mine[:AGAIN])["b"] == (0.5, 1)
    assert counted(answers, *mine) == {}
    next_day = later(SEARCH, "next", 1)
    assert counted([*answers, next_day], *mine, event("b", "click", "next", time=next_day.time))[
        "b"
    ] == (0.5, 1)
    names = [
        event("b", "click", each.request_id, origin="x", user_id=f"u{n}")
        for n, each in enumerate(answers)
    ]
    assert counted([replace(each, user_id=None) for each in answers], *names)["b"] == (0.5, 1)


def test_answers_in_any_order_of_two_days_count_and_later_ones_do_not() -> None:
    days = [later(SEARCH, f"r{day}", day) for day in (1, 0, 2, 0.1)]
    assert counted(days, event("a", "click", "r2", time=NOON + timedelta(days=2)))["a"] == (3, 1)


def test_places_are_worth_what_ndcg_takes_them_for_where_nobody_measured() -> None:
    np.testing.assert_allclose(unmeasured(np.array([1, 3, 7])), [1, 1 / 2, 1 / 3])


ROWS = st.tuples(st.sampled_from("abc"), st.integers(0, 27), st.integers(-1, 3), st.integers(0, 3))


@settings(max_examples=50, deadline=None)
@given(st.lists(ROWS, max_size=15), st.integers(1, 4))
def test_histories_agree_with_a_loop(rows: list[tuple[str, int, int, int]], cap: int) -> None:
    expected: dict[str, list[tuple[int, int, int]]] = defaultdict(list)
    for user, day, item, code in sorted(rows, key=lambda row: row[:2]):
        if item >= 0:
            if (day, item, code) in expected[user] and code != PURCHASE:
                expected[user].remove((day, item, code))
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
