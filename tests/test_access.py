"""Keys, roles and rates at every route."""

import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from fastapi.routing import APIRoute
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st

from recsys.config import Day
from recsys.errors import InputError
from serve import access, keys
from serve.access import RELOAD_S, KeyAccess, TokenBucket, configured_access
from serve.routes.api import build_api
from tests.fake_shop import FakeShop
from tests.toy_pictures import picture

#: One request of every route, by the role that it needs.
REQUESTS = {
    "read": [
        *("/search?q=a", "/recommend", "/similar/i1", "/complements/i1"),
        *("/suggest?q=a", "/items/i1"),
        *("POST /1/indexes/*/queries", "POST /1/indexes/*/objects"),
        *("POST /1/indexes/products/query", "/1/indexes/products", "/1/indexes/products/i1"),
        "POST /1/indexes/products/facets/brand/query",
        "POST /search/photo",
        f"/pictures/{'0' * 32}.webp",
    ],
    "events": ["/events", "POST /1/events", "POST /events/ga4", "POST /events/segment"],
    "catalogue": [
        *("PUT /items/i1", "PATCH /items/i1", "DELETE /items/i1", "POST /items"),
        "POST /1/indexes/products/browse",
    ],
    "admin": [
        "/explain?request_id=r1&item_id=i1",
        "/releases",
        "/releases/v2/promote",
        "/docs",
        "/docs/assets/docs.js",
        "/openapi.json",
        "DELETE /users/u1",
        "PUT /users/u1/opt-out",
        "DELETE /users/u1/opt-out",
        "/receipts/token",
    ],
}

_PRODUCT = {"indexName": "products", "objectID": "i1"}
#: Bodies of the front-ends and trackers of others.
OTHERS = {
    "POST /1/indexes/*/queries": {"requests": [_PRODUCT]},
    "POST /1/indexes/*/objects": {"requests": [_PRODUCT]},
    "POST /1/events": {"events": [{"eventType": "instantsearch"}]},
    "POST /events/ga4": {"client_id": "1", "events": [{"name": "page_view"}]},
    "POST /events/segment": {"type": "page"},
}


def send(client: TestClient, url: str, key: str | None = None) -> Any:
    headers = {"Authorization": f"Bearer {key}".encode()} if key else {}
    if url == "/events":
        return client.post(
            url, json={"user_id": "u", "item_id": "i1", "type": "view"}, headers=headers
        )
    method, _, path = url.rpartition(" ")
    method = method or ("POST" if path.endswith("promote") else "GET")
    item = {"item_id": "i1", "title": "Mug"}
    bodies = {"POST /items": [item], "PUT /items/i1": item, "PATCH /items/i1": item, **OTHERS}
    if url == "POST /search/photo":
        photo = picture((255, 0, 0))
        headers |= {"Content-Type": b"image/png"}
        return client.request(method, path, headers=headers, content=photo)
    body = bodies.get(url)
    return client.request(method, path, headers=headers, json=body)


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keys.json"


@pytest.fixture
def add(path: Path) -> Callable[..., str]:
    """Makes a key for some roles, adds it to the file and returns the secret."""

    def make(
        *roles: str, rate: float = 1000, not_after: str | None = None, client: str = "web"
    ) -> str:
        secret, key = keys.create_key(client, roles, rate, not_after)
        keys.write_keys(path, [*(keys.read_keys(path) if path.exists() else []), key])
        return secret

    return make


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access, "RELOAD_S", 0.0)


def client_of_keys(path: Path) -> TestClient:
    return TestClient(build_api(FakeShop(), KeyAccess(path)))


@pytest.mark.parametrize("role", keys.ROLES)
def test_a_key_opens_what_its_role_may_and_nothing_else(
    role: str, path: Path, add: Callable[..., str]
) -> None:
    key = add(role)
    client = client_of_keys(path)
    for needed, urls in REQUESTS.items():
        for url in urls:
            expected = (
                (202 if url == "DELETE /users/u1" else 200) if role in (needed, "admin") else 403
            )
            assert send(client, url, key).status_code == expected, url
            for wrong in (None, key[:-1], f"{key}x", " ", "é"):
                answer = send(client, url, wrong)
                assert (answer.status_code, answer.headers["WWW-Authenticate"]) == (
                    401,
                    "Bearer",
                ), url
                assert "Authorization" in answer.text
    assert client.get("/healthz").status_code == 200


def test_every_route_but_health_needs_a_role() -> None:
    def roles(route: APIRoute) -> list[str]:
        calls = [each.call for each in route.dependant.dependencies]
        return [role for call in calls if (role := getattr(call, "role", None))]

    no_pages = FakeShop(day=Day(storefront=False))
    routes = routes_of(build_api(no_pages).routes)
    assert len(routes) >= 17
    assert [route.path for route in routes if len(roles(route)) != 1] == ["/healthz", "/"]
    urls = [url for urls in REQUESTS.values() for url in urls]
    paths = [url.rpartition(" ")[2].partition("?")[0] for url in urls]
    untested = [route.path for route in routes if not any(map(route.path_regex.match, paths))]
    assert untested == ["/healthz", "/"]


def test_every_page_but_its_assets_judges_the_visitor() -> None:
    routes = routes_of(build_api(FakeShop(day=Day(storefront=True))).routes)
    pages = [route for route in routes if route.path.startswith("/shop")]
    assert len(pages) >= 10
    open_to_all = [
        route.path
        for route in pages
        if not any(
            "check_visitor" in each.call.__code__.co_names for each in route.dependant.dependencies
        )
    ]
    assert open_to_all == ["/shop/assets/{digest}/{name}"]


def routes_of(routes: Any) -> list[APIRoute]:
    """Those of included routers too."""
    flat: list[APIRoute] = []
    for route in routes:
        inner = getattr(getattr(route, "original_router", None), "routes", None)
        if inner is not None:
            flat += routes_of(inner)
        elif isinstance(route, APIRoute):
            flat.append(route)
    return flat


def test_keys_rotate_without_a_restart(path: Path, add: Callable[..., str]) -> None:
    old = add("read")
    client = client_of_keys(path)
    new = add("read")
    assert [send(client, "/recommend", key).status_code for key in (old, new)] == [200, 200]
    ago = (datetime.now(UTC) - timedelta(seconds=1)).isoformat()
    first, second = keys.read_keys(path)
    keys.write_keys(path, [replace(first, not_after=ago), second])
    assert [send(client, "/recommend", key).status_code for key in (old, new)] == [401, 200]
    keys.write_keys(path, keys.revoke_keys(keys.read_keys(path), "web"))
    assert [send(client, "/recommend", key).status_code for key in (old, new)] == [401, 401]


def test_a_damaged_file_locks_nobody_out_and_lets_nobody_in(
    path: Path, add: Callable[..., str], caplog: pytest.LogCaptureFixture
) -> None:
    key = add("read")
    client = client_of_keys(path)
    for damage in (b"{", b'{"keys": [{"client": "x"}]}', b"[]"):
        path.write_bytes(damage)
        assert send(client, "/recommend", key).status_code == 200
        assert send(client, "/recommend").status_code == 401
        with pytest.raises(InputError, match="keys file"):
            KeyAccess(path)
    path.unlink()
    assert send(client, "/recommend", key).status_code == 200
    assert "stay valid" in caplog.text
    with pytest.raises(InputError, match="make_key"):
        KeyAccess(path)


def test_a_rate_is_kept_and_says_when_to_come_back(path: Path, add: Callable[..., str]) -> None:
    slow, other = add("read", rate=2), add("read", rate=1000)
    client = client_of_keys(path)
    statuses = [send(client, "/recommend", slow).status_code for _ in range(4)]
    assert statuses[:2] == [200, 200]
    assert statuses[-1] == 429
    refused = send(client, "/recommend", slow)
    assert (refused.status_code, refused.headers["Retry-After"]) == (429, "1")
    assert send(client, "/recommend", other).status_code == 200
    until = time.monotonic() + 5
    while send(client, "/recommend", slow).status_code == 429:
        assert time.monotonic() < until


def test_the_rate_of_a_key_is_used_up_by_refusals_too(path: Path, add: Callable[..., str]) -> None:
    key = add("events", rate=2)
    client = client_of_keys(path)
    statuses = [client.get("/recommend", headers=bearer(key)).status_code for _ in range(3)]
    assert statuses == [403, 403, 429]


def test_a_retry_is_due_after_the_whole_seconds_that_a_token_takes(
    path: Path, add: Callable[..., str]
) -> None:
    key = add("read", rate=0.3)
    client = client_of_keys(path)
    assert client.get("/recommend", headers=bearer(key)).status_code == 200
    refusal = client.get("/recommend", headers=bearer(key))
    assert (refusal.status_code, refusal.headers["Retry-After"]) == (429, "4")
    assert "more than 0.3 requests a second" in refusal.json()["error"]["message"]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Its one number is the time in `access`, in seconds."""
    now = [1000.0]
    monkeypatch.setattr(access.time, "monotonic", lambda: now[0])
    return now


def test_a_bucket_refills_at_its_rate_up_to_one_second_s_worth(clock: list[float]) -> None:
    bucket = TokenBucket(4)
    assert [bucket.take() for _ in range(5)] == [0, 0, 0, 0, 0.25]
    clock[0] += 0.125
    assert bucket.take() == 0.125
    clock[0] += 0.125
    assert [bucket.take() for _ in range(2)] == [0, 0.25]
    clock[0] += 3600
    assert [bucket.take() for _ in range(5)] == [0, 0, 0, 0, 0.25]


def test_a_slow_bucket_holds_one_request(clock: list[float]) -> None:
    bucket = TokenBucket(0.25)
    assert [bucket.take() for _ in range(2)] == [0, 4]
    clock[0] += 3600
    assert [bucket.take() for _ in range(2)] == [0, 4]


def test_the_file_is_checked_once_a_second(
    path: Path, add: Callable[..., str], clock: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(access, "RELOAD_S", RELOAD_S)
    add("read")
    client = client_of_keys(path)
    new = bearer(add("read"))
    clock[0] += 0.99
    assert client.get("/recommend", headers=new).status_code == 401
    clock[0] += 0.01
    assert client.get("/recommend", headers=new).status_code == 200


def test_a_reload_keeps_what_a_key_has_used_unless_its_rate_changed(
    path: Path, add: Callable[..., str]
) -> None:
    key = bearer(add("read", rate=0.001))
    client = client_of_keys(path)
    assert client.get("/recommend", headers=key).status_code == 200
    add("read")
    assert client.get("/recommend", headers=key).status_code == 429
    slow, other = keys.read_keys(path)
    keys.write_keys(path, [replace(slow, rate=0.002), other])
    assert client.get("/recommend", headers=key).status_code == 200


def test_a_key_is_compared_in_constant_time_with_every_key_of_the_file(
    path: Path, add: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that neither a near miss nor the place of a match in the file shows in the time."""
    secrets, compared = [add("read", client=f"c{at}") for at in range(3)], list[str]()

    def compare_digest(one: str, other: str) -> bool:
        compared.append(one)
        return one == other

    client = client_of_keys(path)
    monkeypatch.setattr(access.hmac, "compare_digest", compare_digest)
    for secret in (*secrets, "wrong"):
        compared.clear()
        client.get("/recommend", headers=bearer(secret))
        assert compared == [keys.hash_secret(each) for each in secrets]


def test_a_key_comes_as_bearer_or_in_its_own_header(path: Path, add: Callable[..., str]) -> None:
    key = add("read")
    client = client_of_keys(path)
    for headers, status in (
        ({"X-API-Key": key}, 200),
        ({"X-API-Key": "x"}, 401),
        ({"Authorization": f"bearer  {key} "}, 200),
        ({"Authorization": f"Basic {key}"}, 401),
        ({"Authorization": f"Basic {key}", "X-API-Key": key}, 200),
        ({"Authorization": "Bearer wrong", "X-API-Key": key}, 401),
        ({"X-API-Key": f"Bearer {key}"}, 401),
    ):
        assert client.get("/recommend", headers=headers).status_code == status


@pytest.mark.parametrize(("seconds", "status"), [(60, 200), (-1, 401)])
def test_a_key_ends_at_its_time(
    path: Path, add: Callable[..., str], seconds: float, status: int
) -> None:
    ends = (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat()
    key = add("read", not_after=ends)
    assert client_of_keys(path).get("/recommend", headers=bearer(key)).status_code == status


@given(st.floats(0.01, 1e4), st.lists(st.floats(0, 10), max_size=50))
def test_no_bucket_lets_more_pass_than_its_rate(rate: float, pauses: list[float]) -> None:
    clock = [0.0]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(access.time, "monotonic", lambda: clock[0])
        bucket, passes = TokenBucket(rate), 0
        for pause in pauses:
            clock[0] += pause
            passes += bucket.take() == 0
    assert passes <= max(1, rate) + rate * clock[0] + 1e-6


def test_with_keys_it_does_not_matter_where_http_listens(
    path: Path, add: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    key = add("read")
    monkeypatch.setenv("NIGHTSHELF_KEYS", str(path))
    monkeypatch.setenv("RAY_SERVE_ENABLE_HA_PROXY", "1")
    client = TestClient(build_api(FakeShop(), configured_access()), client=("192.0.2.7", 5000))
    assert client.get("/recommend", headers=bearer(key)).status_code == 200
    assert client.get("/recommend").status_code == 401
