"""Exposure and clicks by item: debiased by position, bounded by user and address."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import numpy as np

from recsys.events.item_clicks import (
    MAX_CLICKS_A_DAY,
    MAX_REPEATS_A_DAY,
    count_item_clicks,
    dcg_examination,
)
from recsys.tables import ITEM_CLICKS
from recsys.types import Impression, Interaction
from tests.event_log import HOME, NOON, SEARCH, batches, event


def halving(positions: np.ndarray) -> np.ndarray:
    """Half as likely with each place."""
    return np.float32(2.0) ** (1 - positions)


def count(
    shown: list[Impression], *events: Interaction, days: int = 30
) -> dict[str, tuple[float, int]]:
    table = count_item_clicks(
        shown, batches(*events), halving, NOON - timedelta(days=1), NOON + timedelta(days=days)
    )
    assert table.schema.equals(ITEM_CLICKS)
    assert table["item_id"].to_pylist() == sorted(table["item_id"].to_pylist())
    return {row["item_id"]: (row["exposure"], row["clicks"]) for row in table.to_pylist()}


def later(shown: Impression, name: str, days: float = 0, **others: Any) -> Impression:
    return replace(shown, request_id=name, time=shown.time + timedelta(days=days), **others)


def test_exposure_is_what_the_places_are_worth_and_a_click_is_more_than_a_view() -> None:
    events = event("b", "click"), event("b", "purchase"), event("c", "view")
    assert count([SEARCH], *events) == {"a": (1.0, 0), "b": (0.5, 1), "c": (0.25, 0)}
    assert count([replace(SEARCH, offset=2)], *events) == {
        "a": (0.25, 0),
        "b": (0.125, 1),
        "c": (0.0625, 0),
    }


def test_an_answer_counts_whose_user_clicks_at_all() -> None:
    """HOME has no user: it is that of who clicked in it."""
    nobody = later(SEARCH, "r3", user_id="crawler")
    assert count([SEARCH, HOME, nobody], event("a", "view"), event("c", "click", None)) == {}
    assert count([SEARCH, HOME, nobody], event("b", "click", "r2")) == {
        "a": (1, 0),
        "b": (1, 1),
        "c": (0.25, 0),
    }
    assert count([HOME, nobody], event("b", "click", "r2", user_id="w")) == {"b": (1, 1)}


def test_a_click_that_answers_nothing_does_not_count() -> None:
    events = (
        event("a", "click", "r9"),
        event("z", "click"),
        event("a", "click", time=NOON - timedelta(minutes=6)),
    )
    assert count([SEARCH], *events) == {"a": (1, 0), "b": (0.5, 0), "c": (0.25, 0)}
    assert count([later(SEARCH, "r1", -1), later(SEARCH, "r1", 31)], event("a", "click")) == {}


def test_a_user_counts_once_an_item_and_day_and_an_address_too() -> None:
    """The best place of the day is what counts; the next day counts again."""
    swapped = ("b", "a", "c")
    again = [SEARCH, later(SEARCH, "r2", item_ids=swapped), later(SEARCH, "r3", 1)]
    mine = [event("b", "click", each.request_id, time=each.time) for each in again]
    assert count(again, *mine) == {"a": (2, 0), "b": (1 + 0.5, 2), "c": (0.5, 0)}
    users = [later(SEARCH, f"r{n}", user_id=f"u{n}") for n in range(9)]
    theirs = [event("b", "click", each.request_id, user_id=each.user_id) for each in users]
    assert count(users, *theirs) == {"a": (9, 0), "b": (4.5, 9), "c": (2.25, 0)}
    one_address = [replace(each, origin="x") for each in theirs]
    assert count(users, *one_address) == {"a": (1, 0), "b": (0.5, 1), "c": (0.25, 0)}


def test_nobody_clicks_without_bound_even_under_others_names() -> None:
    """One address under ever new names, one user from ever new addresses: both to MAX_CLICKS_A_DAY,
    over all items."""
    many = [
        later(SEARCH, f"r{n}", item_ids=(f"i{n:03d}",), user_id=None)
        for n in range(3 * MAX_CLICKS_A_DAY)
    ]
    for one in ({"origin": "x"}, {"user_id": "spam"}):
        own = [{"user_id": f"u{n}", "origin": f"o{n}"} | one for n in range(len(many))]
        events = [
            event(each.item_ids[0], "click", each.request_id, **who)
            for each, who in zip(many, own, strict=True)
        ]
        assert sum(clicks for _, clicks in count(many, *events).values()) == MAX_CLICKS_A_DAY


def test_who_presses_one_item_all_day_tells_nothing_that_day() -> None:
    """MAX_REPEATS_A_DAY answers are one click; one more, and the user's day does not count. Behind
    an address are many."""
    answers = [later(SEARCH, f"r{n}") for n in range(MAX_REPEATS_A_DAY + 1)]
    mine = [event("b", "click", each.request_id, origin="x") for each in answers]
    assert count(answers, *mine[:MAX_REPEATS_A_DAY])["b"] == (0.5, 1)
    assert count(answers, *mine) == {}
    next_day = later(SEARCH, "next", 1)
    assert count([*answers, next_day], *mine, event("b", "click", "next", time=next_day.time))[
        "b"
    ] == (0.5, 1)
    names = [
        event("b", "click", each.request_id, origin="x", user_id=f"u{n}")
        for n, each in enumerate(answers)
    ]
    assert count([replace(each, user_id=None) for each in answers], *names)["b"] == (0.5, 1)


def test_answers_in_any_order_of_two_days_count_and_later_ones_do_not() -> None:
    days = [later(SEARCH, f"r{day}", day) for day in (1, 0, 2, 0.1)]
    assert count(days, event("a", "click", "r2", time=NOON + timedelta(days=2)))["a"] == (3, 1)


def test_places_are_worth_what_ndcg_takes_them_for_where_nobody_measured() -> None:
    np.testing.assert_allclose(dcg_examination(np.array([1, 3, 7])), [1, 1 / 2, 1 / 3])
