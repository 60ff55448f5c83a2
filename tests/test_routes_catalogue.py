"""The routes that change the catalogue: what they take, what they say of each item, and limits."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.testclient import TestClient

from serve.routes.api import build_api
from tests.fake_shop import FakeShop, error_of, strict_json

LINES = {"Content-Type": "application/x-ndjson"}


@pytest.fixture
def shop() -> FakeShop:
    return FakeShop()


@pytest.fixture
def client(shop: FakeShop) -> Iterator[TestClient]:
    with TestClient(build_api(shop)) as client:
        yield client


def changed(response: Any) -> tuple[str, str]:
    body = strict_json(response)
    assert response.status_code == 200, body
    assert set(body) == {"request_id", "release", "item_id", "status", "number", "version"}
    return body["item_id"], body["status"]


def posted(response: Any) -> list[tuple[int, str, str]]:
    """Each row's index, item and status."""
    body = strict_json(response)
    assert response.status_code == 200, body
    rows = [(each["index"], each["item_id"], each["status"]) for each in body["items"]]
    for status in ("accepted", "unchanged", "stale", "missing", "invalid"):
        assert body[status] == sum(row[2] == status for row in rows)
    return rows


def test_an_item_is_put_patched_deleted_and_put_again(client: TestClient, shop: FakeShop) -> None:
    assert changed(client.put("/items/new", json={"title": "Mug", "price": 4})) == (
        "new",
        "accepted",
    )
    assert changed(client.patch("/items/new", json={"price": 3}))[1] == "accepted"
    assert changed(client.patch("/items/new", json={"price": 3.0}))[1] == "unchanged"
    assert shop.states["new"].values()["title"] == "Mug"
    assert changed(client.delete("/items/new"))[1] == "accepted"
    assert changed(client.delete("/items/new"))[1] == "unchanged"
    error_of(client.patch("/items/new", json={"price": 3}), 404, "item_id")
    assert changed(client.put("/items/new", json={"title": "Cup"}))[1] == "accepted"
    assert shop.states["new"].values()["title"] == "Cup"
    assert shop.states["new"].values()["price"] is None


def test_an_id_with_a_slash_is_one_item(client: TestClient, shop: FakeShop) -> None:
    for item_id in ("a/b", "x/y z/ü?"):
        path = f"/items/{item_id.replace('?', '%3F')}"
        assert changed(client.put(path, json={"title": "t"})) == (item_id, "accepted")
    assert changed(client.patch("/items/a%2Fb", json={"price": 1})) == ("a/b", "accepted")
    assert set(shop.states) == {"a/b", "x/y z/ü?"}


def test_a_patch_of_an_item_that_never_was_is_404_and_says_why(client: TestClient) -> None:
    for response in (
        client.patch("/items/ghost", json={"price": 1}),
        client.delete("/items/ghost"),
    ):
        message = error_of(response, 404, "item_id")["message"]
        assert "'ghost' is neither in release v1 nor was it put since" in message
        assert "PUT it whole" in message


def test_an_older_version_changes_nothing_and_is_told_so(
    client: TestClient, shop: FakeShop
) -> None:
    client.put("/items/i1", json={"title": "new", "if_version": 7})
    late = client.patch("/items/i1", json={"title": "old", "if_version": 6})
    assert changed(late) == ("i1", "stale")
    assert (late.json()["number"], late.json()["version"]) == (1, 7)
    assert changed(client.delete("/items/i1?if_version=6"))[1] == "stale"
    assert changed(client.delete("/items/i1?updated_at=2026-01-01T00:00:00Z"))[1] == "accepted"
    error_of(client.delete("/items/i1?if_version=x"), 422, "if_version")
    error_of(client.delete("/items/i1?version=1"), 422, "version")


@pytest.mark.parametrize(
    ("body", "field", "message"),
    [
        ({"price": "cheap"}, "price", "price is 'cheap': it must be a number"),
        ({"prise": 1}, "prise", "field 'prise' is unknown: an item has title"),
        ({"item_id": "i2", "price": 1}, "item_id", "item_id is 'i2': give 'i1' as the request"),
        ({"op": "delete"}, "op", "op is 'delete': give 'patch'"),
        ({"if_version": 1.5, "price": 1}, "if_version", "give a whole number"),
        ({"updated_at": "2999-01-01T00:00:00Z", "price": 1}, "updated_at", "ahead of this host's"),
        ([{"price": 1}], "body", "an object with the item's fields"),
        ({}, "item", "names no field"),
    ],
)
def test_a_body_that_is_no_change_is_422(
    client: TestClient, body: Any, field: str, message: str
) -> None:
    assert message in error_of(client.patch("/items/i1", json=body), 422, field)["message"]


def test_what_is_no_json_is_400(client: TestClient) -> None:
    for method, path in (("PUT", "/items/i1"), ("PATCH", "/items/i1"), ("POST", "/items")):
        kind = {"Content-Type": "application/json"}
        for content in (b"{", b"", b"\xff", b"[" * 100_000):
            error_of(client.request(method, path, content=content, headers=kind), 400, "body")


def test_of_a_thousand_items_three_are_bad(client: TestClient, shop: FakeShop) -> None:
    rows: list[Any] = [{"item_id": f"n{at}", "title": "t", "price": at} for at in range(1000)]
    rows[3] = rows[3] | {"price": "cheap"}
    rows[500] = rows[500] | {"prise": 4}
    rows[999] = 7
    response = client.post("/items", json={"items": rows})
    bad = [row for row in posted(response) if row[2] != "accepted"]
    assert bad == [(3, "n3", "invalid"), (500, "n500", "invalid"), (999, "", "invalid")]
    assert response.json()["items"][3]["reason"] == "price is 'cheap': it must be a number"
    assert len(shop.states) == 997


def test_rows_are_changes_of_each_kind_in_order(client: TestClient) -> None:
    rows = [
        {"item_id": "a", "title": "Mug"},
        {"item_id": "a", "op": "patch", "price": 3, "if_version": 2},
        {"item_id": "a", "op": "patch", "price": 4, "if_version": 1},
        {"item_id": "ghost", "op": "patch", "price": 4},
        {"item_id": "i1", "op": "delete"},
        {"item_id": "i1", "op": "delete"},
    ]
    expected = ["accepted", "accepted", "stale", "missing", "accepted", "unchanged"]
    response = client.post("/items", json=rows)
    assert [status for _, _, status in posted(response)] == expected
    reasons = [row["reason"] for row in response.json()["items"]]
    assert reasons[:2] == [None, None]
    assert "changed later" in reasons[2]
    assert "PUT it whole" in reasons[3]


def test_lines_are_rows_and_a_bad_one_stops_no_other(client: TestClient) -> None:
    lines = [json.dumps({"item_id": "a", "title": "Mug"}), "", "{half", '{"item_id": "b"}']
    rows = posted(client.post("/items", content="\r\n".join(lines).encode(), headers=LINES))
    assert rows == [(0, "a", "accepted"), (1, "", "invalid"), (2, "b", "accepted")]


@pytest.mark.parametrize("body", [[], {}, {"items": []}, {"item_id": "a"}, "x", [{}] * 1001])
def test_a_list_has_1_to_1000_items(client: TestClient, body: Any) -> None:
    assert "1 to 1,000 items" in error_of(client.post("/items", json=body), 422, "body")["allowed"]


def test_many_items_may_have_16_mib_and_one_has_1(client: TestClient) -> None:
    text = "x" * (15 << 20)
    assert posted(client.post("/items", json=[{"item_id": "a", "description": text}]))
    item = {"description": text}
    assert error_of(client.put("/items/a", json=item), 413, "body")["value"] == (
        "over 1,048,576 bytes"
    )
    for content in (b" " * (50 << 20), iter([b" " * (1 << 20)] * 50)):
        kind = {"Content-Type": "application/json"}
        error = error_of(client.post("/items", content=content, headers=kind), 413, "body")
        assert error["message"] == (
            "body is 'over 16,777,216 bytes': give fewer events or items a call, or a smaller photo"
        )


def test_a_body_has_a_type_that_is_read(client: TestClient) -> None:
    for method, path in (("PUT", "/items/a"), ("PATCH", "/items/a"), ("POST", "/items")):
        response = client.request(
            method, path, content=b"{}", headers={"Content-Type": "text/plain"}
        )
        error_of(response, 415, "content-type")
    assert client.put("/items/a", content=b"{}", headers=LINES).status_code == 415


def test_an_item_says_where_each_field_is_from(client: TestClient, shop: FakeShop) -> None:
    sources = strict_json(client.get("/items/i1"))["sources"]
    assert {each["source"] for each in sources.values()} == {"release"}
    client.patch("/items/i1", json={"price": 3, "hidden": True})
    sources = strict_json(client.get("/items/i1"))["sources"]
    assert sources["price"] == {
        "source": "change",
        "number": 1,
        "time": "2026-01-03T00:00:00+00:00",
    }
    assert sources["hidden"]["source"] == "change"
    assert sources["title"] == {"source": "release", "number": None, "time": None}
    shop.log_is_down = True
    assert strict_json(client.get("/items/i1"))["sources"] is None
