"""The feature log as training data: nobody's clicks alone move a ranker far, and the newest
requests are held out."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa

from recsys.events.joins import label_examples
from recsys.learning.ranking_log import hold_out_last_day, requests_over_influence_limit
from recsys.tables import LIVE_EVENTS
from recsys.types import Impression, Interaction
from tests.toy_clicks import toy_lists

DAY = datetime(2026, 1, 1, 8, tzinfo=UTC)


def answer(
    request: str, items: str, user: str | None, origin: str | None = None, days: float = 0.0
) -> pa.Table:
    """Labelled examples of one answer, every item of it clicked."""
    impression = Impression(
        request_id=request,
        time=DAY + timedelta(days=days),
        release="v",
        surface="recommend",
        item_ids=tuple(items),
        user_id=user,
    )
    clicks = [
        Interaction(
            event_id=f"{request}{item}",
            user_id=user or "?",
            item_id=item,
            type="click",
            time=impression.time,
            request_id=request,
            origin=origin,
        )
        for item in items
    ]
    rows = pa.RecordBatch.from_pylist([vars(click) for click in clicks], LIVE_EVENTS)
    return label_examples([impression], [rows])


def excess(*answers: pa.Table) -> list[str]:
    return sorted(requests_over_influence_limit(pa.concat_tables(answers)).to_pylist())


def test_the_same_item_again_on_a_day_teaches_nothing() -> None:
    """By the same user or from the same address; another day or a stranger counts."""
    first, other_day = answer("r1", "a", "u", "here"), answer("r2", "a", "u", "here", 1)
    again, same_address = answer("r3", "ab", "u", "there", 0.1), answer("r4", "a", "v", "here", 0.2)
    stranger = answer("r5", "a", None, None, 0.3)
    assert excess(again, same_address, stranger, first, other_day) == ["r3", "r4"]
    assert len(requests_over_influence_limit(first.slice(0, 0))) == 0


def test_fifty_clicks_a_day_teach_and_one_more_does_not() -> None:
    items = "".join(chr(200 + at) for at in range(51))
    assert excess(answer("r1", items[:50], "u"), answer("r2", items, "v")) == ["r2"]


def test_who_clicks_an_item_in_four_answers_of_a_day_teaches_nothing_that_day() -> None:
    three = [answer(f"q{at}", "a", "u", None, at / 10) for at in range(3)]
    other = answer("q3", "b", "u", None, 0.4)
    assert excess(*three, other) == ["q1", "q2"], "the first of them, and another item, teach"
    fourth = answer("q4", "a", "u", None, 0.35)
    assert excess(*three, other, fourth) == ["q0", "q1", "q2", "q3", "q4"]


def lists_at(times: np.ndarray):
    lists = toy_lists(np.zeros((len(times), 2, 3)), np.ones((len(times), 2)))
    return replace(lists, times_B=np.datetime64("2026-01-01", "us") + times)


def test_the_last_day_is_held_out_of_a_long_log() -> None:
    past, day = hold_out_last_day(lists_at(np.arange(240) * np.timedelta64(1, "h")))
    assert (len(past), len(day)) == (216, 24)
    assert past.times_B.max() < day.times_B.min()


def test_of_a_short_log_the_newest_fifth_is_held_out() -> None:
    past, day = hold_out_last_day(lists_at(np.arange(101) * np.timedelta64(1, "m")))
    assert (len(past), len(day)) == (81, 20)
