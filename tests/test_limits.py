"""Limits at the door: sizes and content type of every request, headers of every response, CORS."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from fastapi.testclient import TestClient

from serve.routes.api import build_api
from tests.fake_shop import FakeShop, error_of, event


@pytest.fixture
def shop() -> FakeShop:
    return FakeShop()


@pytest.fixture
def client(shop: FakeShop) -> Iterator[TestClient]:
    with TestClient(build_api(shop), follow_redirects=False) as client:
        yield client


def url_of(length: int) -> str:
    path = "/suggest?q="
    return path + "x" * (length + 1 - len(path))  # the "?" is not counted


def test_a_url_has_16_kib_at_most(client: TestClient) -> None:
    assert error_of(client.get(url_of(16_384)), 422, "q")
    assert error_of(client.get(url_of(16_385)), 414, "url")["allowed"] == "at most 16,384"


def test_a_url_has_200_parameters_at_most(client: TestClient) -> None:
    assert error_of(client.get("/items/i1?" + "&".join(["a=b"] * 200)), 422, "a")
    error = error_of(client.get("/items/i1?" + "&".join(["a=b"] * 201)), 422, "url")
    assert error["allowed"] == "at most 200"


def padded_event(length: int) -> bytes:
    return json.dumps(event()).encode().ljust(length)


def chunks(body: bytes) -> Iterator[bytes]:
    """Sent without a Content-Length."""
    yield from (body[at : at + 65_536] for at in range(0, len(body), 65_536))


@pytest.mark.parametrize("sized", [bytes, chunks])
def test_a_body_has_1_mib_at_most_whether_its_length_is_declared_or_not(
    client: TestClient, shop: FakeShop, sized: Any
) -> None:
    json_type = {"Content-Type": "application/json"}
    for length, status in ((1_048_576, 200), (1_048_577, 413)):
        response = client.post("/events", content=sized(padded_event(length)), headers=json_type)
        assert response.status_code == status
    error = error_of(response, 413, "body")
    assert error["value"] == "over 1,048,576 bytes"
    assert list(shop.stored) == ["e1"]


@pytest.mark.parametrize("length", ["1048577", "9" * 30])
def test_a_declared_length_is_refused_before_the_body_is_read(
    client: TestClient, length: str
) -> None:
    response = client.post("/events", content=b"{}", headers={"Content-Length": length})
    error_of(response, 413, "body")


def test_a_body_is_json_by_its_content_type(client: TestClient) -> None:
    for kind in ("text/plain", "application/x-www-form-urlencoded", "application/jsonp"):
        response = client.post("/events", content=b"{}", headers={"Content-Type": kind})
        assert error_of(response, 415, "content-type")["allowed"] == "application/json"
    for kind in ("application/json; charset=utf-8", "Application/JSON"):
        assert client.post("/events", json=event(), headers={"Content-Type": kind}).is_success


def test_paths_cannot_climb(client: TestClient) -> None:
    error_of(client.post("/releases/..%2Fv1/promote"), 404, None)
    error_of(client.post("/releases/%2e%2e/promote"), 422, "version")


@pytest.mark.parametrize(
    "path", ["/recommend", "/recommend?k=0", "/docs", f"/items/{'x' * 17_000}"]
)
def test_answers_are_neither_stored_nor_sniffed_nor_framed(client: TestClient, path: str) -> None:
    headers = client.get(path).headers
    assert headers["Cache-Control"] == "no-store"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]


PAGE, OTHER_PAGE = {"Origin": "https://shop.example"}, {"Origin": "https://other.example"}


def test_no_page_of_another_site_reads_answers(client: TestClient) -> None:
    for path in ("/recommend", "/recommend?k=0", "/docs"):
        assert "Access-Control-Allow-Origin" not in client.get(path, headers=PAGE).headers


def test_a_page_that_the_setup_names_may(shop: FakeShop) -> None:
    shop.day = replace(shop.day, cors_origins=("https://shop.example",))
    client = TestClient(build_api(shop))
    allowed = client.get("/recommend", headers=PAGE).headers
    assert allowed["Access-Control-Allow-Origin"] == "https://shop.example"
    exposed = allowed["Access-Control-Expose-Headers"].split(", ")
    assert exposed == ["X-Request-Id", "Retry-After", "X-Nightshelf-Unsupported"]
    other = client.get("/recommend", headers=OTHER_PAGE).headers
    assert "Access-Control-Allow-Origin" not in other
    for method, status in (("POST", 200), ("DELETE", 200), ("PATCH", 400)):
        preflight = client.options(
            "/events", headers={**PAGE, "Access-Control-Request-Method": method}
        )
        assert preflight.status_code == status
