"""POST /events over a shop of three items: what is recorded, and a table of bad events."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from fastapi.testclient import TestClient
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.types import Interaction
from serve.routes.api import build_api
from serve.routes.requests import MAX_EVENTS
from tests.fake_shop import FakeShop, error_of, event, strict_json


@pytest.fixture
def shop() -> FakeShop:
    return FakeShop()


@pytest.fixture
def client(shop: FakeShop) -> Iterator[TestClient]:
    with TestClient(build_api(shop), follow_redirects=False) as client:
        yield client


def without(name: str) -> dict[str, Any]:
    return {key: value for key, value in event().items() if key != name}


def test_events_come_alone_in_lists_or_wrapped(client: TestClient, shop: FakeShop) -> None:
    first = strict_json(client.post("/events", json=event()))
    assert (first["accepted"], first["duplicates"], first["event_ids"]) == (1, 0, ["e1"])
    again = strict_json(client.post("/events", json=[event(), event(event_id="e2")]))
    assert (again["accepted"], again["duplicates"]) == (1, 1)
    unknown = strict_json(
        client.post("/events", json={"events": [event(event_id="e3", item_id="gone")]})
    )
    assert (unknown["accepted"], unknown["quarantined"]) == (0, 1)
    assert sorted(shop.stored) == ["e1", "e2"]


def test_an_event_without_id_gets_one_and_the_time(client: TestClient, shop: FakeShop) -> None:
    ids = strict_json(client.post("/events", json=[without("event_id")] * 2))["event_ids"]
    assert len(set(ids)) == 2
    assert set(ids) == set(shop.stored)
    assert abs(shop.stored[ids[0]].time - datetime.now(UTC)) < timedelta(seconds=10)


def test_an_event_keeps_all_it_says(client: TestClient, shop: FakeShop) -> None:
    said = event(
        time="2026-01-01T02:00:00+02:00", request_id="r", quantity=2, price=1.5, type="purchase"
    )
    client.post("/events", json=said)
    at = datetime(2026, 1, 1, tzinfo=UTC)
    assert shop.stored["e1"] == Interaction(
        event_id="e1",
        user_id="u1",
        item_id="i1",
        type="purchase",
        time=at,
        request_id="r",
        quantity=2.0,
        price=1.5,
    )


def test_clients_may_send_their_own_impressions(client: TestClient, shop: FakeShop) -> None:
    impression = {
        "type": "impression",
        "request_id": "r9",
        "item_ids": ["i1", "i2"],
        "user_id": "u1",
    }
    assert strict_json(client.post("/events", json=[impression, event()]))["accepted"] == 2
    assert (shop.impressions[0].request_id, shop.impressions[0].item_ids) == ("r9", ("i1", "i2"))


def test_an_address_is_kept_as_a_hash_under_the_shops_key_or_not_at_all(
    client: TestClient, shop: FakeShop, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.post("/events", json=event(event_id="e1"))
    monkeypatch.setenv("NIGHTSHELF_ORIGIN_KEY", "one")
    client.post("/events", json=[event(event_id="e2"), event(event_id="e3")])
    monkeypatch.setenv("NIGHTSHELF_ORIGIN_KEY", "other")
    client.post("/events", json=event(event_id="e4"))
    origins = [shop.stored[f"e{at}"].origin for at in (1, 2, 3, 4)]
    assert origins[0] is None
    assert origins[1] == origins[2] != origins[3]
    assert not any("testclient" in str(origin) for origin in origins)


LATER = (datetime.now(UTC) + timedelta(days=1)).isoformat()

BAD_EVENTS = [
    *((without(name), name) for name in ("user_id", "item_id", "type")),
    *((event(type=bad), "type") for bad in ("stare", "", None, 3, ["view"])),
    *(
        (event(user_id=bad), "user_id")
        for bad in ("", " ", "a\x00", "a\nb", "\ud800", None, 7, {}, "u" * 257)
    ),
    *((event(event_id=bad), "event_id") for bad in ("", "\x1b", 1)),
    *((event(price=bad), "price") for bad in (-1, math.nan, math.inf, "free", [])),
    *((event(quantity=bad), "quantity") for bad in (0, -1, math.nan)),
    *(
        (event(time=bad), "time")
        for bad in (
            LATER,
            "today",
            "2026-01-01T00:00:00",
            0,
            1e300,
            None,
            "0001-01-01T00:00Z",
            "20261130",
            "2026",
            "0",
            "1790000000",
            "1790000000.5",
        )
    ),
    (event(time="9999-12-31T23:59:59-23:59"), "time"),
    (event(colour="red"), "colour"),
    (["x", "y"], "events[0]"),
    ([], "body"),
    ({"events": []}, "body"),
    ("view", "body"),
    (None, "body"),
    ([event()] * (MAX_EVENTS + 1), "body"),
    ({"type": "impression", "item_ids": ["i1"]}, "request_id"),
    ({"type": "impression", "request_id": "r", "item_ids": []}, "item_ids"),
    ({"type": "impression", "request_id": "r", "item_ids": ["\x00"]}, "item_ids"),
]


@pytest.mark.parametrize(("content", "name"), BAD_EVENTS)
def test_bad_events_are_refused_whole(
    client: TestClient, shop: FakeShop, content: Any, name: str
) -> None:
    error_of(client.post("/events", content=json.dumps(content)), 422, name)
    assert not shop.stored


def test_the_good_events_of_a_batch_are_taken_and_the_bad_named_by_place(
    client: TestClient, shop: FakeShop
) -> None:
    batch = [
        event(event_id="a"), event(event_id="b", price=-4), event(event_id="c"), "x",
        event(event_id="d", type="add_to_cart"), without("user_id"),
    ]  # fmt: skip
    body = strict_json(client.post("/events", json={"events": batch}))
    assert (body["accepted"], body["event_ids"], list(shop.stored)) == (2, ["a", "c"], ["a", "c"])
    places = [(each["index"], each["event_id"], each["field"]) for each in body["rejected"]]
    assert places == [
        (1, "b", "price"), (3, None, "events[3]"), (4, "d", "type"), (5, "e1", "user_id")
    ]  # fmt: skip
    messages = [each["message"] for each in body["rejected"]]
    assert messages[0] == "events[1]: price is -4: give a number from 0 up"
    assert messages[2] == (
        "events[4]: type is 'add_to_cart': give impression, view, click, cart or purchase "
        "(cart for add_to_cart)"
    )


def test_of_a_batch_of_bad_events_the_first_is_named(client: TestClient, shop: FakeShop) -> None:
    response = client.post("/events", json=[event(price=-4), event(price=-5)])
    error_of(response, 422, "price")
    assert response.json()["error"]["message"].startswith("events[0]: price is -4")
    assert not shop.stored


@pytest.mark.parametrize(
    "body", [b"", b"{", b"\xff\xfe", b"[" * 200_000, b"9" * 5000, b'{"a":', b"\x00"]
)
def test_what_is_no_json_is_refused(client: TestClient, body: bytes) -> None:
    error_of(client.post("/events", content=body), 400, "body")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*event(), "events"]), inner)
    ),
    max_leaves=9,
)


@settings(max_examples=100, deadline=None)
@given(JSON, st.sampled_from(["time", "price", "item_id", "events", "request_id", "type"]))
def test_no_body_breaks_the_server(content: Any, name: str) -> None:
    client = TestClient(build_api(replace(FakeShop(), stored={})))
    for body in (content, event(**{name: content})):
        response = client.post("/events", content=json.dumps(body))
        assert response.status_code < 500
        strict_json(response)
