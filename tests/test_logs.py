"""Log lines: what happened, and only where the setup wants it who asked what."""

from dataclasses import replace

import pytest
from fastapi.testclient import TestClient

from serve.routes.api import build_api
from tests.fake_shop import FakeShop, event


@pytest.fixture
def shop() -> FakeShop:
    return FakeShop()


def make_requests(shop: FakeShop) -> str:
    """Requests that name a user or a text, good, bad and, last, failing: the id of that one."""
    client = TestClient(build_api(shop))
    for url in (
        "/search?q=pregnancy&user_id=u77",
        "/recommend?user_id=u77&interest=pregnancy",
        "/suggest?q=pregnancy",
    ):
        assert client.get(url).is_success
        assert client.get(f"{url}&k=0").status_code == 422
        assert client.get(f"{url}&pregnancy=u77").status_code == 422
    assert client.get("/items/pregnancy").status_code == 404
    assert client.get("/search?q=a", headers={"X-Request-Id": "u77 pregnancy"}).is_success
    assert client.post("/events", json=event(user_id="u77", request_id="pregnancy")).is_success
    assert client.post("/events", json=event(user_id="u77", type="pregnancy")).status_code == 422
    assert client.post("/events", content=b"u77 pregnancy").status_code == 400
    shop.broken = True
    return str(client.get("/search?q=pregnancy&user_id=u77").json()["request_id"])


def test_the_log_says_what_happened_but_not_who_asked_what(
    shop: FakeShop, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    failed = make_requests(shop)
    ours = [record for record in caplog.records if record.name == "ray.serve"]
    record = next(record for record in ours if getattr(record, "route", "") == "/search")
    assert (record.status, record.release, record.milliseconds > 0) == (200, "v1", True)
    assert any(
        failed in record.getMessage() and "ZeroDivisionError" in record.getMessage()
        for record in ours
    )
    # httpx is the client of this test, and logs its own URLs
    lines = [str(vars(record)) for record in caplog.records if not record.name.startswith("http")]
    assert len(lines) > 10
    assert not any(word in line for line in lines for word in ("pregnancy", "u77"))


def test_the_log_says_who_asked_what_where_the_setup_wants_it(
    shop: FakeShop, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "ray.serve")
    shop.day = replace(shop.day, log_queries=True)
    make_requests(shop)
    lines = [str(vars(record)) for record in caplog.records if record.name == "ray.serve"]
    assert any("pregnancy" in line and "u77" in line and "/search" in line for line in lines)
    assert any("u77" in line and "/events" in line for line in lines)
    assert any("secret detail" in line for line in lines)
