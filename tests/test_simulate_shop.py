"""The simulation's table, and what its spammers send; the days themselves need a running
application."""

from __future__ import annotations

import json

from jobs.simulate_shop import table, unasked_clicks
from recsys.simulation.measures import Row
from serve.routes.requests import parse_events


def test_the_table_says_what_was_reached_and_what_was_missed() -> None:
    rows = [
        Row("an error", 0.1, 0.05, 0.04, 0.03, 0.06, at_most=True),
        Row("another", 0.1, 0.05, 0.08, 0.03, 0.09, at_most=True),
        Row("a share", 0.9, None, 0.8, 0.7, 0.85),
        Row("never", 500.0, None, float("inf"), 400.0, float("inf"), at_most=True),
    ]
    head, *lines = table(rows).splitlines()
    assert [line.split()[-1] for line in lines] == ["goal", "floor", "MISSED", "MISSED"]
    assert head.split() == ["floor", "goal", "value", "95", "%", "interval"]
    assert rows[-1].told() == {
        "name": "never",
        "floor": 500.0,
        "goal": None,
        "value": None,
        "low": 400.0,
        "high": None,
        "reached_floor": False,
        "reached_goal": True,
    }


def test_unasked_clicks_are_events_that_the_shop_takes() -> None:
    sent = parse_events(json.dumps(unasked_clicks(3, "i1", 5)).encode())
    assert len({event.event_id for event in sent}) == 5
    assert {event.type for event in sent} == {"click"}
