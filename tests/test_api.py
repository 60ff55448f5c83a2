"""The application as a whole: releases, health, documentation, wrong methods, failures inside."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient

from serve.routes.api import build_api
from tests.fake_shop import FakeShop, error_of, strict_json


@pytest.fixture
def shop() -> FakeShop:
    return FakeShop()


@pytest.fixture
def client(shop: FakeShop) -> Iterator[TestClient]:
    with TestClient(build_api(shop), follow_redirects=False) as client:
        yield client


def test_wrong_methods_are_refused(client: TestClient) -> None:
    response = client.post("/search?q=a")
    error_of(response, 405, None)
    assert response.headers["Allow"] == "GET"
    error_of(client.get("/events"), 405, None)


def test_promote_swaps_or_says_why_not(client: TestClient, shop: FakeShop) -> None:
    assert strict_json(client.post("/releases/v2/promote"))["release"] == "v2"
    assert strict_json(client.get("/recommend"))["release"] == "v2"
    assert "v1, v2" in error_of(client.post("/releases/v9/promote"), 404, "version")["message"]
    assert (
        "space" in error_of(client.post("/releases/other-space/promote"), 409, "version")["message"]
    )
    error_of(client.post("/releases/v2/promote?force=1"), 422, "force")
    assert shop.release == "v2"


def test_health_tells_what_is_live_and_what_was_refused(client: TestClient, shop: FakeShop) -> None:
    health = strict_json(client.get("/healthz"))
    assert (health["release"], health["space"], health["refused"]) == ("v1", "s", {"v0": "damaged"})
    assert health["age_s"] > 0
    shop.release = None
    assert client.get("/healthz").status_code == 503
    error_of(client.get("/recommend"), 503, None)


def test_releases_and_docs_are_there(client: TestClient) -> None:
    assert len(strict_json(client.get("/releases"))["releases"]) == 2
    assert client.get("/").headers["location"].endswith("shop/")
    assert client.get("/docs").status_code == 200
    assert "item_ids" in client.get("/openapi.json").text


def test_a_failure_inside_tells_only_the_request_id(
    shop: FakeShop, caplog: pytest.LogCaptureFixture
) -> None:
    shop.broken = True
    response = TestClient(build_api(shop), raise_server_exceptions=False).get(
        "/recommend?user_id=u77"
    )
    error_of(response, 500, None)
    assert "secret" not in response.text
    assert response.headers["X-Request-Id"] in caplog.text
