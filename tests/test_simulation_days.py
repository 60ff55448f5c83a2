"""The events that spammers send; the days themselves need a running application."""

from __future__ import annotations

import json

from recsys.simulation.days import trainer_delay, unattributed_clicks
from recsys.simulation.shop import setup
from serve.routes.requests import parse_events


def test_unattributed_clicks_are_events_that_the_shop_accepts() -> None:
    events, rejected = parse_events(json.dumps(unattributed_clicks(3, "i1", 5)).encode())
    assert not rejected
    assert len({event.event_id for event in events}) == 5
    assert {event.type for event in events} == {"click"}


def test_the_trainer_is_given_time_to_learn() -> None:
    assert trainer_delay(setup()) > 0
