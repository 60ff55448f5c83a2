"""Histories keep a user's events together, prices too, whatever is taken of them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.arrays import Histories

#: Of (item, type, day, price); a price of NaN is unknown.
EVENT = st.tuples(
    st.integers(-1, 5), st.integers(0, 3), st.integers(0, 9), st.sampled_from([np.nan, 1.0, 2.5])
)
USERS = st.lists(st.lists(EVENT, max_size=4), min_size=1, max_size=5)
Event = tuple[int, int, int, float]


def of(users: list[list[Event]], priced: bool = True) -> Histories:
    events = np.array([event for user in users for event in user], np.float64).reshape(-1, 4)
    return Histories(
        offsets=np.cumsum([0, *map(len, users)]).astype(np.int64),
        items=events[:, 0].astype(np.int32),
        types=events[:, 1].astype(np.int8),
        days=events[:, 2],
        prices=events[:, 3].astype(np.float32) if priced else None,
    )


def same(actual: Histories, users: list[list[Event]], priced: bool) -> None:
    expected = of(users)
    for name in ("offsets", "items", "types", "days"):
        np.testing.assert_array_equal(getattr(actual, name), getattr(expected, name))
    assert (actual.prices is not None) == priced
    prices = expected.prices_E if priced else np.full(len(expected.items), np.nan)
    np.testing.assert_array_equal(actual.prices_E, prices)


@settings(max_examples=60, deadline=None)
@given(USERS, st.booleans(), st.data())
def test_events_stay_whole_whatever_is_taken(
    users: list[list[Event]], priced: bool, data: st.DataObject
) -> None:
    actual = of(users, priced)
    same(actual, users, priced)
    start = data.draw(st.integers(0, len(users)))
    same(actual.slice(start, len(users)), users[start:], priced)
    chosen = data.draw(st.lists(st.integers(0, len(users) - 1), max_size=5))
    same(actual.users(np.array(chosen, np.int64)), [users[at] for at in chosen], priced)
    late = actual.days > 4
    same(actual.where(late), [[event for event in user if event[2] > 4] for user in users], priced)
    most = data.draw(st.integers(1, 5))
    same(actual.newest(most), [user[-most:] for user in users], priced)


@settings(max_examples=40, deadline=None)
@given(USERS, st.booleans(), st.booleans())
def test_what_follows_stands_after_a_users_own(
    users: list[list[Event]], first: bool, then: bool
) -> None:
    """Where only one of the two knows prices, those of the other are unknown."""
    as_lists = of(users, first).followed_by(of(users[::-1], then))
    both = [
        [event if first else (*event[:3], np.nan) for event in own]
        + [event if then else (*event[:3], np.nan) for event in later]
        for own, later in zip(users, users[::-1], strict=True)
    ]
    same(as_lists, both, first or then)


def test_nobody_has_no_prices() -> None:
    assert Histories.empty(2).prices is None
    assert len(Histories.empty(2).prices_E) == 0


def test_prices_are_one_an_event() -> None:
    with pytest.raises(ValueError, match="1 events have 2 prices"):
        Histories(
            offsets=np.array([0, 1]),
            items=np.zeros(1, np.int32),
            types=np.zeros(1, np.int8),
            days=np.zeros(1),
            prices=np.zeros(2, np.float32),
        )
