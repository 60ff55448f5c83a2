"""Changes over HTTP to replicas with a real release: what they accept is what they answer with."""

# ruff: noqa: F811 (fixtures are imported, and named again as parameters)

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from fastapi.testclient import TestClient

from serve.routes.api import build_api
from tests.serving import eventually, home, make_shop  # noqa: F401


def item(client: TestClient, item_id: str) -> Any:
    return client.get(f"/items/{item_id}").json()


def test_a_change_by_one_replica_is_answered_by_both(
    home: Path, make_shop: Callable[..., Any]
) -> None:
    with ExitStack() as stack:
        clients = [stack.enter_context(TestClient(build_api(make_shop()))) for _ in range(2)]
        one, other = clients
        assert {each["source"] for each in item(one, "i01")["sources"].values()} == {"release"}
        answer = one.patch("/items/i01", json={"price": 1.25, "in_stock": False})
        assert answer.json()["status"] == "accepted"
        for client in clients:
            eventually(lambda client=client: item(client, "i01")["item"]["price"] == 1.25)
            body = item(client, "i01")
            assert (body["item"]["in_stock"], body["sources"]["price"]["source"]) == (
                False,
                "change",
            )
            assert body["sources"]["price"]["number"] == answer.json()["number"]
            assert body["sources"]["title"]["source"] == "release"

        assert other.delete("/items/i01").json()["status"] == "accepted"
        for client in clients:
            eventually(lambda client=client: client.get("/items/i01").status_code == 404)
            message = item(client, "i01")["error"]["message"]
            assert "deleted at" in message, message
        assert one.patch("/items/i01", json={"price": 1}).status_code == 404
        whole = {"title": "blue kettle", "price": 5, "category": "kitchen"}
        assert one.put("/items/i01", json=whole).json()["status"] == "accepted"
        assert one.put("/items/new/1", json=whole).json()["status"] == "accepted"
        for client in clients:
            eventually(lambda client=client: client.get("/items/i01").is_success)
            assert item(client, "i01")["item"]["title"] == "blue kettle"
            eventually(lambda client=client: client.get("/items/new/1").is_success)
            assert item(client, "new/1")["sources"]["title"]["source"] == "change"


def test_a_hidden_item_is_marked_and_a_bad_one_stops_no_other(
    home: Path, make_shop: Callable[..., Any]
) -> None:
    with TestClient(build_api(make_shop())) as client:
        rows = [
            {"item_id": "i02", "op": "patch", "hidden": True},
            {"item_id": "i03", "op": "patch", "price": "cheap"},
            {"item_id": "ghost", "op": "patch", "price": 1},
        ]
        answer = client.post("/items", json=rows).json()
        assert [row["status"] for row in answer["items"]] == ["accepted", "invalid", "missing"]
        eventually(lambda: item(client, "i02")["item"]["hidden"])
