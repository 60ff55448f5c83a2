"""Without keys: requests of this machine are answered, and no others, whoever passes them on."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi.testclient import TestClient

from recsys.config import Day
from serve.access import LocalAccess, configured_access
from serve.routes.api import build_api
from tests.fake_shop import FakeShop
from tests.test_access import REQUESTS, send

LOCAL = ("127.0.0.1", 5000)
STRANGERS: list[tuple[tuple[str, int], dict[str, str], str]] = [
    (("192.0.2.7", 5000), {}, "its own machine alone"),
    (("testclient", 5000), {}, "its own machine alone"),
    (("192.0.2.7", 5000), {"X-Forwarded-For": "127.0.0.1"}, "its own machine alone"),
    (LOCAL, {"X-Forwarded-For": "127.0.0.1"}, "passed on"),
    (LOCAL, {"Forwarded": "for=127.0.0.1"}, "passed on"),
    (LOCAL, {"X-Real-IP": "127.0.0.1"}, "passed on"),
    (LOCAL, {"Via": "1.1 proxy"}, "passed on"),
    (LOCAL, {"Host": "rebound.example"}, "another host"),
    (LOCAL, {"Host": "["}, "another host"),
    (LOCAL, {"Origin": "https://evil.example"}, "another site"),
    (LOCAL, {"Origin": "null"}, "another site"),
    (LOCAL, {"Origin": "http://["}, "another site"),
    (LOCAL, {"Sec-Fetch-Site": "cross-site"}, "another site"),
]


def without_keys(address: tuple[str, int] = LOCAL, **choices: Any) -> TestClient:
    api = build_api(FakeShop(), LocalAccess(**choices))
    return TestClient(api, base_url="http://127.0.0.1:8000", client=address)


def test_without_keys_this_machine_may_everything_and_a_line_says_so(
    caplog: pytest.LogCaptureFixture,
) -> None:
    for address in (LOCAL, ("::1", 5000)):
        client = without_keys(address)
        assert all(send(client, url).is_success for urls in REQUESTS.values() for url in urls)
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
    [
        ("0", "0.0.0.0", 200),
        ("0", None, 200),
        ("1", "127.0.0.1", 200),
        ("1", "localhost", 200),
        ("1", "::1", 200),
        ("1", "0.0.0.0", 403),
        ("1", "10.0.0.1", 403),
        ("1", "shop.example", 403),
        ("1", "", 403),
        ("1", None, 403),
    ],
)
def test_behind_haproxy_addresses_are_not_believed(
    proxy: str, host: str | None, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_SERVE_ENABLE_HA_PROXY", proxy)
    monkeypatch.delenv("NIGHTSHELF_KEYS", raising=False)
    api = build_api(FakeShop(), configured_access(http_host=host))
    assert (
        TestClient(api, base_url="http://127.0.0.1", client=LOCAL).get("/recommend").status_code
        == status
    )


def test_the_day_names_no_other_sites() -> None:
    assert Day().cors_origins == ()
    assert not Day().log_queries
