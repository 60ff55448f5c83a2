"""Of rows with one key the first stays, and lines of one order are no repeats."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.datasets.repeats import deduplicate
from recsys.datasets.validate import ValidationResult, check_events, check_items
from recsys.tables import EVENTS, ITEMS_IN


def items(**columns: Any) -> ValidationResult:
    return check_items(pa.table(columns), "shop.csv", 100)


def events(**columns: list[Any]) -> ValidationResult:
    rows = max(map(len, columns.values()))
    defaults = {"user_id": "u", "item_id": "i", "type": "view", "time": "2025-12-31"}
    raw = {name: [value] * rows for name, value in defaults.items()} | columns
    return check_events(pa.table(raw), "log.csv", 0, datetime(2026, 1, 1, tzinfo=UTC))


def test_of_items_with_one_id_the_first_in_the_source_stays() -> None:
    last = check_items(
        pa.table({"item_id": ["b", "a"], "title": ["b of 2", "a of 2"]}), "part-2", 0
    )
    first = check_items(
        pa.table({"item_id": ["c", "b", "b"], "title": ["c", "b of 1", "again"]}), "part-1", 50
    )
    once = deduplicate(pa.concat_tables([last.good, first.good]), "item_id")
    assert once.good.schema == ITEMS_IN
    assert once.good["title"].to_pylist() == ["a of 2", "b of 1", "c"]
    assert [(row["path"], row["row"], row["reason"]) for row in once.quarantined.to_pylist()] == [
        ("part-1", 52, "item_id 'b' repeats row 51 of part-1 with other cells: the first is kept"),
        ("part-2", 0, "item_id 'b' repeats row 51 of part-1 with other cells: the first is kept"),
    ]


def test_events_come_back_by_user_time_and_id() -> None:
    checked = events(
        event_id=["d", "c", "b", "a", "c"],
        user_id=["u2", "u1", "u1", "u1", "u1"],
        time=["2025-01-01", "2025-01-02", "2025-01-01", "2025-01-02", "2025-01-02"],
    )
    once = deduplicate(checked.good, "event_id")
    assert once.good.schema == EVENTS
    assert once.good["event_id"].to_pylist() == ["b", "a", "c", "d"]
    assert once.quarantined["row"].to_pylist() == [4]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.sampled_from("abcd")), st.randoms())
def test_deduplication_does_not_depend_on_the_order_of_rows(ids: list[str], random: Any) -> None:
    good = items(item_id=pa.array(ids, pa.string()), title=pa.array(range(len(ids)))).good
    shuffled = good.take(pa.array(random.sample(range(len(ids)), len(ids)), pa.int64()))
    once, again = deduplicate(good, "item_id"), deduplicate(shuffled, "item_id")
    assert once.good["item_id"].to_pylist() == sorted(set(ids))
    assert once.good.num_rows + once.quarantined.num_rows == len(ids)
    assert once.good.equals(again.good)
    assert once.quarantined.equals(again.quarantined)


def test_lines_of_one_order_all_stay_and_a_line_read_twice_does_not() -> None:
    checked = events(
        event_id=["o1", "o1", "o1", "o1", "o2"],
        item_id=["a", "b", "a", "c", "a"],
        type=["purchase"] * 5,
    )
    once = deduplicate(checked.good, "event_id")
    assert once.counts == {"order_lines": 2}
    lines = zip(*(once.good[name].to_pylist() for name in ("event_id", "item_id")), strict=True)
    assert list(lines) == [("o1", "a"), ("o1/1", "b"), ("o1/2", "c"), ("o2", "a")]
    assert once.quarantined["row"].to_pylist() == [2]
    assert once.quarantined["reason"].to_pylist() == [
        "event_id 'o1' repeats row 0 of log.csv: the first is kept"
    ]


def test_an_id_that_two_users_have_is_two_events() -> None:
    checked = events(event_id=["1", "1", "1"], user_id=["u", "v", None])
    assert deduplicate(checked.good, "event_id").good["user_id"].to_pylist() == ["u", "v", None]


def test_the_same_lines_read_again_are_repeats_whether_they_have_an_id_or_not() -> None:
    log = {"item_id": ["a", "b", "b"], "type": ["purchase"] * 3}
    for ids in (["o1", "o1", "o1"], [None, None, None]):
        twice = [events(event_id=pa.array(ids, pa.string()), **log).good for _ in range(2)]
        once = deduplicate(pa.concat_tables(twice), "event_id")
        assert once.good.num_rows == (2 if ids[0] else 3)
        assert once.good.num_rows + once.quarantined.num_rows == 6
