"""Events of search-insights, GA4 and Segment as ours: which type, whose, of which answer; once."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any

import pytest
from fastapi.testclient import TestClient

from serve.routes.api import build_api
from tests.fake_shop import FakeShop

STAMP = 1_767_225_600_000  # 2026-01-01


@pytest.fixture
def shop() -> FakeShop:
    return FakeShop()


@pytest.fixture
def client(shop: FakeShop) -> TestClient:
    return TestClient(build_api(shop))


def insight(type: str, **fields: Any) -> dict[str, Any]:
    return {
        "eventType": type,
        "eventName": "Something",
        "index": "products",
        "userToken": "visitor",
        "objectIDs": ["i1"],
        **fields,
    }


def send(client: TestClient, *events: Any) -> Any:
    response = client.post("/1/events", json={"events": list(events)})
    assert response.status_code == 200, response.text
    assert response.json().items() >= {"status": 200, "message": "OK"}.items()
    return response.json()


@pytest.mark.parametrize(
    ("event", "types"),
    [
        (insight("view"), ["view"]),
        (insight("view", objectIDs=["i1", "i1"]), []),
        (insight("view", algoliaSource=["instantsearch", "instantsearch-internal"]), []),
        (insight("click", positions=[3], queryID="q1"), ["click"]),
        (insight("conversion", eventSubtype="addToCart"), ["cart"]),
        (insight("conversion", eventSubtype="purchase"), ["purchase"]),
        (insight("conversion"), ["cart"]),
        (insight("conversion", eventName="Product Purchased"), ["purchase"]),
        (insight("click", objectIDs=None, filters=["brand:acme"]), []),
        ({"eventType": "instantsearch", "eventName": "__start__"}, []),
    ],
)
def test_types(client: TestClient, shop: FakeShop, event: Any, types: list[str]) -> None:
    assert send(client, event)["accepted"] == len(types)
    assert [each.type for each in shop.stored.values()] == types
    assert {each.user_id for each in shop.stored.values()} <= {"visitor"}


def test_a_purchase_names_its_answer_amounts_and_time(client: TestClient, shop: FakeShop) -> None:
    event = insight(
        "conversion",
        eventSubtype="purchase",
        authenticatedUserToken="ada",
        objectData=[{"queryID": "q2", "price": "10.5", "quantity": 2}],
        timestamp=STAMP,
    )
    send(client, event)
    (stored,) = shop.stored.values()
    assert (stored.user_id, stored.request_id) == ("ada", "q2")
    assert (stored.price, stored.quantity) == (10.5, 2.0)
    assert stored.time == datetime(2026, 1, 1, tzinfo=UTC)


def test_an_event_with_a_time_counts_once(client: TestClient) -> None:
    event = insight("click", timestamp=STAMP)
    assert [send(client, event)["accepted"] for _ in range(2)] == [1, 0]
    assert send(client, insight("click"), insight("click"))["accepted"] == 2


def test_a_bad_event_among_good_ones_is_named(client: TestClient) -> None:
    answer = send(client, insight("click"), insight("click", userToken=None))
    assert (answer["accepted"], answer["rejected"][0]["field"]) == (1, "user_id")


@pytest.mark.parametrize(
    "events",
    [
        *([], None, [1], [{"eventType": "hover"}], [insight("click", userToken=None)]),
        *([insight("click", objectIDs="i1")], [insight("click", timestamp="now")]),
        [insight("click", timestamp=1e300)],
    ],
)
def test_what_is_no_event_is_422(client: TestClient, events: Any) -> None:
    response = client.post("/1/events", json={"events": events})
    assert (response.status_code, response.json()["status"]) == (422, 422)


# GA4


def ga4(client: TestClient, *events: dict[str, Any], **body: Any) -> Any:
    body = {"client_id": "1.2", "events": list(events), **body}
    response = client.post("/events/ga4", json=body)
    assert response.status_code == 200, response.text
    return response.json()


ITEM = {"item_id": "i1", "item_name": "Red chair", "price": 10, "quantity": 2}


@pytest.mark.parametrize(
    ("name", "type"),
    [
        ("view_item", "view"),
        ("select_item", "click"),
        ("add_to_cart", "cart"),
        ("purchase", "purchase"),
    ],
)
def test_ga4_events(client: TestClient, shop: FakeShop, name: str, type: str) -> None:
    now_us = time.time_ns() // 1_000
    answer = ga4(
        client, {"name": name, "params": {"items": [ITEM]}}, user_id="ada", timestamp_micros=now_us
    )
    assert answer["accepted"] == 1
    (stored,) = shop.stored.values()
    assert (stored.type, stored.user_id, stored.item_id) == (type, "ada", "i1")
    assert (stored.price, stored.quantity) == (10.0, 2.0)
    assert stored.time.timestamp() == pytest.approx(now_us / 1e6, abs=1e-3)


def test_a_list_that_ga4_saw_is_left_out(client: TestClient) -> None:
    items = {"items": [ITEM, ITEM]}
    answer = ga4(
        client,
        {"name": "view_item_list", "params": items},
        {"name": "page_view"},
        {"name": "view_item"},
        {"name": "refund", "params": {**items, "transaction_id": "T"}},
        {"name": "purchase", "params": {**items, "transaction_id": "T"}},
    )
    assert answer["accepted"] == 2
    assert answer["left_out"] == {
        "view_item_list events": 1,
        "page_view events": 1,
        "events without items": 1,
        "returns: the night reads them from files": 2,
    }


def test_an_order_of_ga4_counts_once(client: TestClient) -> None:
    order = {"name": "purchase", "params": {"items": [ITEM], "transaction_id": "T-1"}}
    assert [ga4(client, order)["accepted"] for _ in range(2)] == [1, 0]


def test_an_item_of_ga4_may_name_the_answer(client: TestClient, shop: FakeShop) -> None:
    event = {"name": "select_item", "params": {"items": [{**ITEM, "request_id": "r9"}]}}
    assert ga4(client, event)["accepted"] == 1
    assert [each.request_id for each in shop.stored.values()] == ["r9"]
    response = client.post(
        "/events/ga4?item_key=sku",
        json={
            "client_id": "1",
            "events": [{"name": "view_item", "params": {"items": [{"sku": "i1"}]}}],
        },
    )
    assert response.json()["accepted"] == 1


# Segment


def track(event: str, **fields: Any) -> dict[str, Any]:
    return {
        "type": "track",
        "event": event,
        "messageId": f"m-{event}",
        "userId": "ada",
        "timestamp": "2026-01-01T10:00:00.000Z",
        "properties": {"product_id": "i1", "price": 10.5},
        **fields,
    }


def test_segments_calls(client: TestClient, shop: FakeShop) -> None:
    order = {"order_id": "o1", "products": [{"product_id": "i1", "quantity": 2}]}
    batch = [
        track("Product Viewed", userId=None, anonymousId="browser-1"),
        track("Product Clicked", properties={"product_id": "i1", "query_id": "q3"}),
        track("Product Added"),
        track("Order Completed", properties=order),
        track("Order Refunded", properties=order),
        {"type": "page", "messageId": "p", "userId": "ada"},
    ]
    answer = client.post("/events/segment", json={"batch": batch}).json()
    assert answer["accepted"] == 4
    assert answer["left_out"] == {
        "page calls": 1,
        "returns: the night reads them from files": 1,
    }
    stored = list(shop.stored.values())
    assert [each.type for each in stored] == ["view", "click", "cart", "purchase"]
    assert [each.user_id for each in stored] == ["browser-1", "ada", "ada", "ada"]
    assert (stored[1].request_id, stored[2].price, stored[3].quantity) == ("q3", 10.5, 2.0)
    again = client.post("/events/segment", json={"batch": batch}).json()
    assert (again["accepted"], again["duplicates"]) == (0, 4)


def test_one_call_of_segment(client: TestClient) -> None:
    headers = {"Content-Type": "text/plain"}
    content = '{"type": "track", "event": "Product Viewed", "userId": "u", "messageId": "m", '
    content += '"timestamp": "2026-01-01T00:00:00Z", "properties": {"sku": "i1"}}'
    response = client.post("/events/segment", content=content, headers=headers)
    assert response.json()["accepted"] == 1


def test_what_the_night_would_quarantine_is_named(client: TestClient) -> None:
    answer = client.post("/events/segment", json=track("Product Viewed", timestamp="soon")).json()
    assert answer["accepted"] == 0
    assert len(answer["left_out"]) == 1


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/events/ga4", {}),
        ("/events/ga4", {"events": []}),
        ("/events/ga4", {"events": [1]}),
        ("/events/ga4", {"events": [{"name": "view_item", "params": {"items": [1]}}]}),
        ("/events/ga4", {"events": [{"name": "view_item", "params": [1]}]}),
        ("/events/segment", {"batch": "x"}),
        ("/events/segment", [1]),
    ],
)
def test_bodies_of_another_shape_are_refused(client: TestClient, path: str, body: Any) -> None:
    response = client.post(path, json=body)
    assert response.status_code == 422
    assert response.json()["error"]["allowed"]
