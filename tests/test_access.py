"""Keys, roles and rates at every route; who is let in without keys; the command that makes them."""

import json
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from fastapi.routing import APIRoute
from fastapi.testclient import TestClient
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.config import Day
from recsys.errors import InputError
from serve import access, keys
from serve.access import KeyAccess, LocalAccess, TokenBucket, configured_access
from serve.keys import ApiKey
from serve.routes.api import build_api
from tests.fake_shop import FakeShop

#: What each role may ask: one request of every route.
ASKED = {
    "read": ["/search?q=a", "/recommend", "/similar/i1", "/suggest?q=a", "/items/i1"],
    "events": ["/events"],
    "admin": [
        "/explain?request_id=r1&item_id=i1",
        "/releases",
        "/releases/v2/promote",
        "/docs",
        "/openapi.json",
        "DELETE /users/u1",
        "PUT /users/u1/opt-out",
        "DELETE /users/u1/opt-out",
        "/receipts/token",
    ],
}


def asked(client: TestClient, url: str, key: str | None = None) -> Any:
    headers = {"Authorization": f"Bearer {key}".encode()} if key else {}
    if url == "/events":
        return client.post(
            url, json={"user_id": "u", "item_id": "i1", "type": "view"}, headers=headers
        )
    method, _, path = url.rpartition(" ")
    return client.request(
        method or ("POST" if path.endswith("promote") else "GET"), path, headers=headers
    )


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


def closed(path: Path) -> TestClient:
    return TestClient(build_api(FakeShop(), KeyAccess(path)))


@pytest.mark.parametrize("role", keys.ROLES)
def test_a_key_opens_what_its_role_may_and_nothing_else(
    role: str, path: Path, add: Callable[..., str]
) -> None:
    key = add(role)
    client = closed(path)
    for needed, urls in ASKED.items():
        for url in urls:
            expected = (
                (202 if url == "DELETE /users/u1" else 200) if role in (needed, "admin") else 403
            )
            assert asked(client, url, key).status_code == expected, url
            for wrong in (None, key[:-1], f"{key}x", " ", "é"):
                answer = asked(client, url, wrong)
                assert (answer.status_code, answer.headers["WWW-Authenticate"]) == (
                    401,
                    "Bearer",
                ), url
                assert "Authorization" in answer.json()["error"]["message"]
    assert client.get("/healthz").status_code == 200


def test_every_route_but_health_needs_a_role() -> None:
    def roles(route: APIRoute) -> list[str]:
        return [
            role
            for each in route.dependant.dependencies
            if (role := getattr(each.call, "role", None))
        ]

    api = build_api(FakeShop())
    found = {route.path: roles(route) for route in routes_of(api.routes)}
    assert len(found) >= 12
    assert [path for path, needed in found.items() if len(needed) != 1] == ["/healthz", "/"]
    asked_for = [
        url.rpartition(" ")[2].partition("?")[0] for urls in ASKED.values() for url in urls
    ]
    never = [
        each.path
        for each in routes_of(api.routes)
        if not any(map(each.path_regex.match, asked_for))
    ]
    assert never == ["/healthz", "/"]


def routes_of(routes: Any) -> list[APIRoute]:
    """Those of included routers too."""
    found: list[APIRoute] = []
    for route in routes:
        inner = getattr(getattr(route, "original_router", None), "routes", None)
        found += (
            routes_of(inner)
            if inner is not None
            else [route]
            if isinstance(route, APIRoute)
            else []
        )
    return found


def test_the_other_header_takes_a_key_too(path: Path, add: Callable[..., str]) -> None:
    key = add("read")
    assert closed(path).get("/recommend", headers={"X-API-Key": key}).status_code == 200
    assert closed(path).get("/recommend", headers={"X-API-Key": "x"}).status_code == 401


def test_keys_rotate_without_a_restart(path: Path, add: Callable[..., str]) -> None:
    old = add("read")
    client = closed(path)
    new = add("read")
    assert [asked(client, "/recommend", key).status_code for key in (old, new)] == [200, 200]
    ago = (datetime.now(UTC) - timedelta(seconds=1)).isoformat()
    first, second = keys.read_keys(path)
    keys.write_keys(path, [replace(first, not_after=ago), second])
    assert [asked(client, "/recommend", key).status_code for key in (old, new)] == [401, 200]
    keys.write_keys(path, keys.revoke_keys(keys.read_keys(path), "web"))
    assert [asked(client, "/recommend", key).status_code for key in (old, new)] == [401, 401]


def test_a_damaged_file_locks_nobody_out_and_lets_nobody_in(
    path: Path, add: Callable[..., str], caplog: pytest.LogCaptureFixture
) -> None:
    key = add("read")
    client = closed(path)
    for damage in (b"{", b'{"keys": [{"client": "x"}]}', b"[]"):
        path.write_bytes(damage)
        assert asked(client, "/recommend", key).status_code == 200
        assert asked(client, "/recommend").status_code == 401
        with pytest.raises(InputError, match="keys file"):
            KeyAccess(path)
    path.unlink()
    assert asked(client, "/recommend", key).status_code == 200
    assert "stay valid" in caplog.text
    with pytest.raises(InputError, match="make_key"):
        KeyAccess(path)


def test_a_rate_is_kept_and_says_when_to_come_back(path: Path, add: Callable[..., str]) -> None:
    slow, other = add("read", rate=2), add("read", rate=1000)
    client = closed(path)
    statuses = [asked(client, "/recommend", slow).status_code for _ in range(4)]
    assert statuses[:2] == [200, 200]
    assert statuses[-1] == 429
    refused = asked(client, "/recommend", slow)
    assert (refused.status_code, refused.headers["Retry-After"]) == (429, "1")
    assert asked(client, "/recommend", other).status_code == 200
    until = time.monotonic() + 5
    while asked(client, "/recommend", slow).status_code == 429:
        assert time.monotonic() < until


@given(st.floats(0.01, 1e4), st.lists(st.floats(0, 10), max_size=50))
def test_no_bucket_lets_more_pass_than_its_rate(rate: float, pauses: list[float]) -> None:
    clock = [0.0]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(access.time, "monotonic", lambda: clock[0])
        bucket, passed = TokenBucket(rate), 0
        for pause in pauses:
            clock[0] += pause
            passed += bucket.take() == 0
    assert passed <= max(1, rate) + rate * clock[0] + 1e-6


# Without keys

HERE = ("127.0.0.1", 5000)
STRANGERS: list[tuple[tuple[str, int], dict[str, str], str]] = [
    (("192.0.2.7", 5000), {}, "its own machine alone"),
    (("testclient", 5000), {}, "its own machine alone"),
    (("192.0.2.7", 5000), {"X-Forwarded-For": "127.0.0.1"}, "its own machine alone"),
    (HERE, {"X-Forwarded-For": "127.0.0.1"}, "passed on"),
    (HERE, {"Forwarded": "for=127.0.0.1"}, "passed on"),
    (HERE, {"Host": "rebound.example"}, "another host"),
    (HERE, {"Host": "["}, "another host"),
    (HERE, {"Origin": "https://evil.example"}, "another site"),
    (HERE, {"Origin": "null"}, "another site"),
    (HERE, {"Origin": "http://["}, "another site"),
    (HERE, {"Sec-Fetch-Site": "cross-site"}, "another site"),
]


def without_keys(address: tuple[str, int] = HERE, **choices: Any) -> TestClient:
    api = build_api(FakeShop(), LocalAccess(**choices))
    return TestClient(api, base_url="http://127.0.0.1:8000", client=address)


def test_without_keys_this_machine_may_everything_and_a_line_says_so(
    caplog: pytest.LogCaptureFixture,
) -> None:
    for address in (HERE, ("::1", 5000)):
        client = without_keys(address)
        assert all(asked(client, url).is_success for urls in ASKED.values() for url in urls)
    assert client.get("/recommend", headers={"Origin": "http://localhost:3000"}).status_code == 200
    assert "NO KEYS" in caplog.text


@pytest.mark.parametrize(("address", "headers", "reason"), STRANGERS)
def test_without_keys_strangers_are_refused(
    address: tuple[str, int], headers: dict[str, str], reason: str
) -> None:
    client = without_keys(address)
    for path in ("/recommend", "/docs", "/releases"):
        answer = client.get(path, headers=headers)
        assert answer.status_code == 403
        assert reason in answer.json()["error"]["message"]
    assert client.post("/releases/v2/promote", headers=headers).status_code == 403
    assert client.get("/healthz", headers=headers).status_code == 200


def test_a_page_that_the_setup_names_may_ask() -> None:
    client = without_keys(origins=("https://shop.example",))
    assert client.get("/recommend", headers={"Origin": "https://shop.example"}).status_code == 200


def test_where_no_address_is_seen_everybody_is_a_stranger() -> None:
    answer = without_keys(sees_clients=False).get("/recommend")
    assert (answer.status_code, "beyond its own machine" in answer.text) == (403, True)


@pytest.mark.parametrize(
    ("proxy", "host", "status"),
    [("0", "0.0.0.0", 200), ("1", "127.0.0.1", 200), ("1", "0.0.0.0", 403), ("1", None, 403)],
)
def test_behind_haproxy_addresses_are_not_believed(
    proxy: str, host: str | None, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_SERVE_ENABLE_HA_PROXY", proxy)
    monkeypatch.delenv("NIGHTSHELF_KEYS", raising=False)
    api = build_api(FakeShop(), configured_access(http_host=host))
    assert (
        TestClient(api, base_url="http://127.0.0.1", client=HERE).get("/recommend").status_code
        == status
    )


# The file and the command

BAD_KEYS: list[dict[str, Any]] = [
    {"client": ""},
    {"client": "a b"},
    {"client": None},
    {"sha256": "x"},
    {"roles": ()},
    {"roles": ("root",)},
    {"rate": 0},
    {"rate": True},
    {"rate": float("nan")},
    {"rate": "fast"},
    {"not_after": "tomorrow"},
    {"not_after": "2026-01-01"},
    {"not_after": 5},
]


@pytest.mark.parametrize("bad", BAD_KEYS)
def test_a_key_that_cannot_be_meant_is_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=r"give|anew"):
        ApiKey(**{"client": "web", "sha256": "0" * 64, "roles": ("read",), **bad})


@settings(deadline=None)
@given(
    st.recursive(
        st.none() | st.integers() | st.text(), lambda s: st.lists(s) | st.dictionaries(st.text(), s)
    )
)
def test_no_file_breaks_the_reader(tmp_path_factory: pytest.TempPathFactory, sent: Any) -> None:
    path = tmp_path_factory.getbasetemp() / "any.json"
    for body in (sent, {"keys": sent}, {"keys": [{"client": sent, "sha256": sent, "roles": sent}]}):
        path.write_text(json.dumps(body))
        try:
            keys.read_keys(path)
        except InputError:
            continue
        assert body in ({"keys": []}, {"keys": {}}, {"keys": ""})


def command(path: Path, *words: str) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "jobs.make_key", "--file", str(path), *words]
    return subprocess.run(line, capture_output=True, text=True, check=False)


def test_the_command_makes_lists_rotates_and_revokes(path: Path) -> None:
    made = command(path, "--client", "web", "--roles", "read", "events", "--rate", "50")
    key = made.stdout.strip()
    assert len(key) == 43
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert key not in path.read_text()
    assert [path.name] == [each.name for each in path.parent.iterdir()]
    assert asked(closed(path), "/recommend", key).status_code == 200
    second = command(path, "--client", "web", "--old-until", "2020-01-01T00:00:00Z").stdout.strip()
    client = closed(path)
    assert [asked(client, "/recommend", each).status_code for each in (key, second)] == [401, 200]
    listed = command(path, "--list").stdout
    assert "read,events" in listed
    assert "50/s" in listed
    assert command(path, "--client", "nobody", "--revoke", "").returncode == 1
    assert command(path, "--client", "web", "--revoke", "").returncode == 0
    assert asked(client, "/recommend", second).status_code == 401
    refused = command(path, "--client", "a b")
    assert (refused.returncode, "give 1 to 64" in refused.stderr) == (1, True)


def test_the_day_names_no_other_sites() -> None:
    assert Day().cors_origins == ()
    assert not Day().log_queries
