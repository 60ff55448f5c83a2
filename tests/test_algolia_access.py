"""Keys of Algolia's clients, of trackers, and what a key of a page may do."""

from __future__ import annotations

from base64 import b64encode
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from serve.access import KeyAccess
from serve.keys import create_key, write_keys
from serve.metrics import _SECRETS
from serve.routes.api import build_api
from tests.fake_shop import FakeShop

QUERY = "/1/indexes/products/query"


@pytest.fixture
def keys(tmp_path: Path) -> tuple[TestClient, str, str]:
    """The application, and keys that may only search, and only send events."""
    made = [create_key(role, [role], 1_000) for role in ("read", "events")]
    write_keys(tmp_path / "keys.json", [key for _, key in made])
    client = TestClient(build_api(FakeShop(), KeyAccess(tmp_path / "keys.json")))
    return client, made[0][0], made[1][0]


def test_a_key_comes_in_a_header_or_in_the_url(keys: tuple[TestClient, str, str]) -> None:
    client, read, _ = keys
    headers = {"X-Algolia-API-Key": read, "X-Algolia-Application-Id": "nightshelf"}
    assert client.post(QUERY, json={}, headers=headers).status_code == 200
    url = f"{QUERY}?x-algolia-application-id=n&x-algolia-api-key={read}"
    assert client.post(url, json={}).status_code == 200
    for kind in ("text/plain", "application/x-www-form-urlencoded"):
        assert client.post(url, content="{}", headers={"Content-Type": kind}).status_code == 200


def test_without_a_key_of_the_role_nothing(keys: tuple[TestClient, str, str]) -> None:
    client, read, events = keys
    response = client.post(QUERY, json={})
    assert (response.status_code, response.json()["status"]) == (401, 401)
    assert set(response.json()) == {"message", "status", "request_id"}
    for path, secret in ((QUERY, events), ("/1/events", read), (f"{QUERY[:-5]}browse", read)):
        response = client.post(path, json={}, headers={"X-Algolia-API-Key": secret})
        assert (response.status_code, response.json()["status"]) == (403, 403)


def test_other_routes_take_no_key_of_algolias(keys: tuple[TestClient, str, str]) -> None:
    client, read, _ = keys
    assert client.get("/search?q=a", headers={"X-Algolia-API-Key": read}).status_code == 401
    assert client.get(f"/search?q=a&x-algolia-api-key={read}").status_code == 401


def test_trackers_have_their_own_places_for_a_key(keys: tuple[TestClient, str, str]) -> None:
    client, _, events = keys
    body = {"client_id": "1.2", "events": [{"name": "page_view"}]}
    assert client.post(f"/events/ga4?api_secret={events}", json=body).status_code == 200
    call = {"type": "track", "event": "Page Viewed", "userId": "u"}
    basic = b64encode(f"{events}:".encode()).decode()
    headers = {"Authorization": f"Basic {basic}"}
    assert client.post("/events/segment", json=call, headers=headers).status_code == 200
    headers = {"Authorization": "Basic nonsense"}
    assert client.post("/events/segment", json=call, headers=headers).status_code == 401


def test_no_log_line_has_a_key() -> None:
    query = "q=a&X-Algolia-API-Key=secret&b=c&api_secret=secret"
    assert "=secret" not in _SECRETS.sub(r"\1=...", query)
