"""Labelled examples and checks of the log, from known answers."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import numpy as np
import pyarrow as pa
import pytest

from recsys.errors import InputError
from recsys.events.joins import feature_names, label_examples, query_pairs
from recsys.events.log_checks import count_anomalies
from recsys.tables import EXAMPLES
from recsys.types import Impression, Rows
from tests.event_log import HOME, NOON, SEARCH, batches, event


def test_each_shown_item_is_labelled_with_its_strongest_interaction() -> None:
    events = batches(
        event("b", "purchase"),
        event("b", "click"),
        event("c", "view"),
        event("a", "cart", None),
        event("a", "click", "r9"),
        event("a", "click", "r2"),
    )
    examples = label_examples([SEARCH, HOME], events)
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
    examples = label_examples([SEARCH, HOME], [])
    assert feature_names(examples) == ("bm25", "ann", "new")
    assert examples["features"].to_pylist() == [[3, 0, 0], [2, 1, 0], [1, 9, 0], [0, 5, 6]]


def test_what_was_logged_of_an_answer_stands_in_its_examples() -> None:
    second = replace(
        SEARCH,
        request_id="r3",
        offset=10,
        scores=(3, 2, 1),
        propensities=(0.8, 0.1, 0.1),
        teams=("a", "b", "a"),
        ranker="net@m1",
        arms={"test": "new"},
    )
    rows = label_examples(
        [SEARCH, second], batches(event("b", "click", "r3", origin="here"))
    ).to_pylist()
    labelled = [
        tuple(row[name] for name in ("position", "score", "team", "ranker", "label", "origin"))
        for row in rows
    ]
    assert labelled[:3] == [(place, 0, "", "", 0, None) for place in (1, 2, 3)]
    assert labelled[3:] == [
        (11, 3, "a", "net@m1", 0, None),
        (12, 2, "b", "net@m1", 2, "here"),
        (13, 1, "a", "net@m1", 0, None),
    ]
    assert [row["propensity"] for row in rows] == pytest.approx([1, 1, 1, 0.8, 0.1, 0.1])
    assert rows[3]["arms"] == [("test", "new")]


def test_what_cannot_be_of_an_answer_is_not_learned_from() -> None:
    early, late = NOON - timedelta(minutes=6), NOON + timedelta(days=1)
    events = batches(
        event("a", "click", time=early), event("b", "click", time=late), event("z", "click")
    )
    assert not any(label_examples([SEARCH, SEARCH], events, NOON)["label"].to_pylist())
    assert label_examples([SEARCH, SEARCH], []).num_rows == 3
    slow_clock = event("a", "click", time=NOON - timedelta(minutes=4))
    assert label_examples([SEARCH], batches(slow_clock))["label"].to_pylist() == [2, 0, 0]


def test_nothing_shown_makes_no_examples() -> None:
    assert label_examples([], batches(event("a", "click"))).num_rows == 0
    assert label_examples(
        [Impression(request_id="r", time=NOON, release="v", surface="home", item_ids=())], []
    ).schema.equals(EXAMPLES)


def test_sanity_counts_each_fault_once() -> None:
    events = batches(
        event("a", "click"),
        event("a", "view", None),
        event("a", "click", "r9"),
        event("z", "click"),
        event("b", "click", time=NOON - timedelta(minutes=6)),
        event("b", "cart", time=NOON + timedelta(days=1)),
        event("a", "click"),
    )
    assert count_anomalies([SEARCH, HOME, SEARCH], events, NOON + timedelta(hours=1)) == {
        "unknown_requests": 1,
        "not_shown": 1,
        "before_impression": 1,
        "duplicate_impressions": 1,
        "duplicate_events": 1,
        "clock_skew": 1,
    }
    assert set(count_anomalies([], [], NOON).values()) == {0}


def rows_of(item_ids: pa.ChunkedArray) -> Rows:
    """a, b, c are the rows 0, 1, 2; no other item is known."""
    return np.array(["abc".find(item) for item in item_ids.to_pylist()], np.int32)


def searches(*queries: str | None) -> list[Impression]:
    """Answers r0, r1, ... to these queries, each of the items a, b and an unknown one."""
    return [
        replace(HOME, request_id=f"r{at}", query=query, item_ids=("a", "b", "?"))
        for at, query in enumerate(queries)
    ]


def test_searches_that_led_to_something_are_pairs_split_by_query() -> None:
    """Of these queries the hash puts "pot" into the part to choose on."""
    events = batches(
        event("b", "click", "r0"),
        event("b", "purchase", "r1"),  # the same query in another spelling
        event("a", "view", "r0"),
        event("?", "purchase", "r0"),
        event("a", "cart", "r2"),
        event("b", "view", "r2"),
        event("a", "click", "r3"),
        event("a", "click", "r4"),
    )
    shown = searches("Tea", " tea ", "pot", "  ", None, "mug")
    pairs = query_pairs(label_examples(shown, events), rows_of)
    assert {name: part.queries for name, part in pairs.items()} == {
        "train": ("tea",),
        "valid": ("pot",),
    }
    triples = {
        name: list(zip(part.query_P, part.rows_P, part.grades_P.round(3).tolist(), strict=True))
        for name, part in pairs.items()
    }
    assert triples == {
        "train": [(0, 0, 0.5), (0, 1, 1.0)],
        "valid": [(0, 0, pytest.approx(0.9)), (0, 1, 0.5)],
    }


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        ("pot", "2 items were touched after a search, none of them for a query of the train part"),
        ("tea", "2 items were touched after a search, none of them for a query of the valid part"),
        (None, "0 items were touched after a search, none of them for a query of the train part"),
    ],
)
def test_a_log_without_a_query_to_train_or_to_choose_on_is_refused(
    query: str | None, reason: str
) -> None:
    events = batches(event("a", "click", "r0"), event("b", "click", "r0"))
    with pytest.raises(InputError, match=reason):
        query_pairs(label_examples(searches(query), events), rows_of)


def test_the_first_origin_and_the_strongest_interaction_count() -> None:
    events = batches(
        event("a", "view", origin="first"),
        event("a", "purchase", event_id="2", origin="second"),
        event("b", "click", event_id="3", origin="third"),
        event("a", "click", event_id="4", origin="fourth"),
    )
    rows = label_examples([SEARCH], events).to_pylist()
    labelled = [(row["label"], row["origin"]) for row in rows]
    assert labelled == [(4, "first"), (2, "third"), (0, None)]


def test_an_event_five_minutes_before_its_answer_or_after_now_still_labels() -> None:
    skew = timedelta(minutes=5)
    edges = event("a", "click", time=NOON - skew), event("b", "click", time=NOON + skew)
    labels = label_examples([SEARCH], batches(*edges), NOON)["label"].to_pylist()
    assert labels == [2, 2, 0]
    more = timedelta(microseconds=1)
    beyond = replace(edges[0], time=NOON - skew - more), replace(edges[1], time=NOON + skew + more)
    assert not any(label_examples([SEARCH], batches(*beyond), NOON)["label"].to_pylist())
