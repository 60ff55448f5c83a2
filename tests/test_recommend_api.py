"""What /recommend takes beside filters: how diverse, and of what."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient

from serve.routes.api import build_api
from tests.test_api import FakeShop, refused, strict


@pytest.fixture
def shop() -> FakeShop:
    return FakeShop()


@pytest.fixture
def client(shop: FakeShop) -> Iterator[TestClient]:
    with TestClient(build_api(shop)) as client:
        yield client


def test_a_recommendation_takes_a_diversity_and_an_interest(
    client: TestClient, shop: FakeShop
) -> None:
    strict(client.get("/recommend?user_id=new&diversity=0.3&interest=%20running%20shoes&k=3"))
    assert (shop.queries[0].diversity, shop.queries[0].interest) == (0.3, "running shoes")
    strict(client.get("/recommend"))
    assert (shop.queries[1].diversity, shop.queries[1].interest) == (0.0, None)


def test_both_are_explained_where_the_api_is(client: TestClient) -> None:
    told = client.get("/openapi.json").json()["paths"]["/recommend"]["get"]["parameters"]
    described = {each["name"]: each.get("description", "") for each in told}
    assert "as little alike as can be" in described["diversity"]
    assert "in words" in described["interest"]


BAD_URLS = [
    *(
        (f"/recommend?diversity={bad}", "diversity")
        for bad in ("-0.1", "1.01", "nan", "inf", "much", "", "1e999")
    ),
    *(
        (f"/recommend?interest={bad}", "interest")
        for bad in ("", "%20", "a%00b", "x" * 31, "x" * 10_000)
    ),
    ("/recommend?diversity=0&diversity=1", "diversity"),
    ("/recommend?interest=shoes&interest=hats", "interest"),
    ("/search?q=chair&interest=shoes", "interest"),
    ("/search?q=chair&diversity=1", "diversity"),
    ("/similar/i1?diversity=1", "diversity"),
]


@pytest.mark.parametrize(("url", "name"), BAD_URLS)
def test_bad_ones_are_refused_by_name(client: TestClient, url: str, name: str) -> None:
    error = refused(client.get(url), 422, name)
    assert name in error["message"]
    assert error["allowed"]


def test_a_refusal_is_a_sentence(client: TestClient) -> None:
    assert client.get("/recommend?diversity=2").json()["error"]["message"] == (
        "diversity is '2': give a number from 0 to 1"
    )
    assert client.get("/recommend?interest=%20").json()["error"]["message"] == (
        "interest is ' ': give 1 to 30 characters, not all spaces, without control characters"
    )
