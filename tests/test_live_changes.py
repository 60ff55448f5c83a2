"""A replica over a real release and a real log of changes: when a change is seen, what a swap and a
roll-back do to it, and which state a further page is of."""

# ruff: noqa: F811 (fixtures are imported, and named again as parameters)

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from recsys.catalogue.sqlite import SqliteCatalogueLog
from recsys.errors import StoreDownError
from recsys.storage.artifacts import ArtifactStore
from serve.routes.api import build_api
from tests.serving import eventually, home, make_shop  # noqa: F401

pytestmark = pytest.mark.ray


@pytest.fixture
def shop(home: Path, make_shop: Callable[[], Any]) -> Any:
    return make_shop()


@pytest.fixture
def client(shop: Any) -> TestClient:
    return TestClient(build_api(shop))


def search(client: TestClient, q: str, **params: Any) -> dict[str, Any]:
    answer = client.get("/search", params={"q": q, **params})
    assert answer.status_code == 200, answer.text
    return answer.json()


def ids(answer: dict[str, Any]) -> list[str]:
    return [item["item_id"] for item in answer["items"]]


def test_a_price_a_title_and_a_new_item_are_seen(client: TestClient) -> None:
    assert client.patch("/items/i00", json={"price": 2.5}).status_code == 200
    assert client.put("/items/new/1", json={"title": "green hammock"}).status_code == 200
    eventually(lambda: ids(search(client, "hammock")) == ["new/1"])
    cheapest = search(client, "red", sort="price")["items"][0]
    assert (cheapest["item_id"], cheapest["price"]) == ("i00", 2.5)
    assert client.get("/items/new/1").json()["item"]["title"] == "green hammock"
    assert client.delete("/items/new/1").status_code == 200
    eventually(lambda: not ids(search(client, "hammock")))


def test_an_answer_names_its_snapshot(client: TestClient) -> None:
    before = search(client, "red")["snapshot"]
    release, number = before.split("@")
    assert (release, number) == (search(client, "red")["release"], "0")
    client.patch("/items/i00", json={"price": 2.5})
    eventually(lambda: search(client, "red")["snapshot"] == f"{release}@1")


def test_a_further_page_is_of_the_state_of_the_first(client: TestClient) -> None:
    first = search(client, "red", k=3, sort="price")
    for item_id in ids(first):
        client.delete(f"/items/{item_id}")
    eventually(lambda: search(client, "red")["total"] == first["total"] - 3)
    params = {"k": 3, "sort": "price", "offset": 3}
    second = search(client, "red", snapshot=first["snapshot"], **params)
    assert (second["snapshot"], second["total"]) == (first["snapshot"], first["total"])
    assert not set(ids(first)) & set(ids(second))
    assert ids(second)[0] == ids(search(client, "red", k=1, sort="price"))[0]
    newest = search(client, "red", snapshot="2001-01-01@7", **params)
    assert newest["snapshot"] != first["snapshot"]
    assert client.get("/search", params={"q": "red", "snapshot": "x"}).status_code == 422


def test_a_change_stays_when_a_release_is_rolled_back_and_forward(
    home: Path, client: TestClient
) -> None:
    first, second = ArtifactStore(str(home)).versions()
    client.patch("/items/i00", json={"price": 2.5, "title": "red hammock"})
    client.patch("/items/i02", json={"hidden": True})
    for version in (first, second, first):
        assert client.post(f"/releases/{version}/promote").status_code == 200
        answer = search(client, "hammock")
        assert (answer["release"], ids(answer)) == (version, ["i00"])
        assert answer["items"][0]["price"] == 2.5
        assert "i02" not in ids(search(client, "red", k=40))


def test_a_replica_that_starts_later_knows_all_changes(
    client: TestClient, make_shop: Callable[[], Any]
) -> None:
    client.patch("/items/i00", json={"price": 2.5})
    other = TestClient(build_api(make_shop()))
    assert search(other, "red", sort="price")["items"][0]["price"] == 2.5


def test_changes_are_applied_again_once_their_log_is_back(
    shop: Any, client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def down(*_: Any) -> Any:
        raise StoreDownError("the log is down: start it")

    with monkeypatch.context() as patch:
        patch.setattr(SqliteCatalogueLog, "states", down)
        client.patch("/items/i00", json={"price": 2.5})
        eventually(lambda: bool(shop.live._log_error))
        assert search(client, "red")["snapshot"].endswith("@0")
    eventually(lambda: search(client, "red")["snapshot"].endswith("@1"))


def test_a_release_without_its_changes_is_not_served(
    home: Path, shop: Any, client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def down(*_: Any) -> Any:
        raise StoreDownError("the log is down: start it")

    first, second = ArtifactStore(str(home)).versions()
    monkeypatch.setattr(SqliteCatalogueLog, "states", down)
    assert client.post(f"/releases/{first}/promote").status_code >= 400
    assert search(client, "red")["release"] == second
