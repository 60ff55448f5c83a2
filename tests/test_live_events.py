"""What a user did since the night, in rows of a release of three items."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import numpy as np

from recsys.pipeline.live_events import live_history, purchased_rows
from recsys.types import Interaction

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
RELEASE: Any = SimpleNamespace(item_ids=SimpleNamespace(row={"a": 0, "b": 1, "c": 2}.get))


def event(item: str, kind: str, days: float, price: float | None = None) -> Interaction:
    time = EPOCH + timedelta(days=days)
    return Interaction(
        event_id=f"{item}{kind}", user_id="u", item_id=item, type=kind, time=time, price=price
    )


EVENTS = [
    event("b", "view", 1.0),
    event("new", "purchase", 2.0, 9.0),
    event("a", "purchase", 2.5, 4.5),
    event("c", "cart", 3.0, 0.0),
    event("b", "purchase", 4.0),
]


def test_events_become_a_history_without_unknown_items() -> None:
    history = live_history(RELEASE, EVENTS)
    assert history.offsets.tolist() == [0, 4]
    assert history.items.tolist() == [1, 0, 2, 1]
    assert history.types.tolist() == [0, 3, 2, 3]
    assert history.days.tolist() == [1.0, 2.5, 3.0, 4.0]
    np.testing.assert_array_equal(history.prices, [np.nan, 4.5, 0.0, np.nan])


def test_without_events_the_history_is_one_empty_user_s() -> None:
    history = live_history(RELEASE, [event("new", "view", 1.0)])
    assert (len(history), history.items.tolist()) == (1, [])


def test_only_purchases_of_items_of_the_release_are_purchased() -> None:
    assert purchased_rows(RELEASE, EVENTS) == [0, 1]
    assert purchased_rows(RELEASE, []) == []
