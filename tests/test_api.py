"""The HTTP routes over a shop of three items: good answers, and a table of bad input for every
route."""

import json
import math
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from fastapi.testclient import TestClient
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.types import Filters, Interaction, Query
from serve.limits import MAX_BODY_BYTES, MAX_PARAMETERS, MAX_URL_BYTES
from serve.routes.api import build_api
from serve.routes.requests import MAX_EVENTS, MAX_OFFSET, MAX_SELECTED
from tests.fake_shop import FakeShop


@pytest.fixture
def shop() -> FakeShop:
    return FakeShop()


@pytest.fixture
def client(shop: FakeShop) -> Iterator[TestClient]:
    with TestClient(build_api(shop), follow_redirects=False) as client:
        yield client


def strict(response: Any) -> Any:
    """The body, which must be JSON without NaN."""
    return json.loads(
        response.content, parse_constant=lambda name: pytest.fail(f"{name} in {response.text}")
    )


def test_an_answer_names_its_release_request_and_reasons(
    client: TestClient, shop: FakeShop
) -> None:
    response = client.get(
        "/search?q=%20red%20chair&user_id=u1&k=2&category=home&min_price=1&max_price=1&in_stock=true"
    )
    body = strict(response)
    assert body["release"] == "v1"
    assert body["request_id"] == response.headers["X-Request-Id"] == shop.queries[0].request_id
    assert body["items"][0] == {
        "item_id": "i1",
        "title": "red chair",
        "brand": "acme",
        "category": "home",
        "price": 10.0,
        "in_stock": True,
        "score": 0.5,
        "sources": {"dense": 0.5},
        "highlights": [],
    }
    assert (shop.queries[0].text, shop.queries[0].user_id, shop.queries[0].k) == (
        "red chair",
        "u1",
        2,
    )
    assert shop.queries[0].filters.min_price == 1


def test_a_search_takes_several_values_an_order_a_page_and_facets(
    client: TestClient, shop: FakeShop
) -> None:
    url = "/search?q=a&category=b&category=c&brand=d&brand=e&sort=-price&offset=20&collapse=true&facets=1&k=2"
    assert client.get(url).status_code == 200
    query = shop.queries[0]
    assert query.filters == Filters(category=("b", "c"), brand=("d", "e"))
    assert (query.sort, query.offset, query.collapse, query.facets) == ("-price", 20, True, True)
    strict(client.get("/recommend?brand=d&brand=e"))
    assert shop.queries[1].filters == Filters(brand=("d", "e"))
    strict(client.get("/search?q=a"))
    assert shop.queries[2] == Query(request_id=shop.queries[2].request_id, text="a")


def test_suggestions_keep_the_space_that_ends_a_word(client: TestClient) -> None:
    body = strict(client.get("/suggest?q=red%20&k=2"))
    assert body["release"] == "v1"
    assert body["suggestions"][0] == {"text": "red chair", "kind": "brand", "weight": 1.5}
    assert len(body["suggestions"]) == 2


def test_an_explanation_has_numbers_that_add_up_and_a_sentence(client: TestClient) -> None:
    told = strict(client.get("/explain?request_id=r1&item_id=i1"))
    assert (told["explained"], told["place"], told["ranker"], told["lost"]) == (
        "r1",
        1,
        "net@m1",
        None,
    )
    assert told["base"] + sum(
        part["contribution"] for part in told["contributions"]
    ) == pytest.approx(told["score"])
    assert told["summary"] == (
        "Place 1 with 0.5 of net@m1, brought by dense; most of it from log_price (+0.4), taste vector (-0.1)."
    )
    lost = strict(client.get("/explain?request_id=r1&item_id=i9"))
    assert (lost["shown"], lost["lost"]["stage"], lost["summary"]) == (
        False, "filter", "Not shown: it does not pass brand."
    )  # fmt: skip


def test_an_address_is_kept_as_a_hash_under_the_shops_key_or_not_at_all(
    client: TestClient, shop: FakeShop, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.post("/events", json=event(event_id="e1"))
    monkeypatch.setenv("NIGHTSHELF_ORIGIN_KEY", "one")
    client.post("/events", json=[event(event_id="e2"), event(event_id="e3")])
    monkeypatch.setenv("NIGHTSHELF_ORIGIN_KEY", "other")
    client.post("/events", json=event(event_id="e4"))
    origins = [shop.stored[f"e{at}"].origin for at in (1, 2, 3, 4)]
    assert origins[0] is None
    assert origins[1] == origins[2] != origins[3]
    assert not any("testclient" in str(origin) for origin in origins)


def test_nan_never_leaves(client: TestClient) -> None:
    item = strict(client.get("/recommend"))["items"][1]
    assert item["price"] is None
    assert item["sources"] == {"lexical": 1.0}


def test_ids_with_slashes_are_found(client: TestClient) -> None:
    assert strict(client.get("/items/a%2Fb"))["item"]["title"] == "lamp"
    assert len(strict(client.get("/similar/a/b?k=1"))["items"]) == 1


def test_every_request_has_an_id_of_its_own(client: TestClient) -> None:
    sent = {"X-Request-Id": "mine"}
    assert (
        len({strict(client.get("/recommend", headers=sent))["request_id"] for _ in range(3)}) == 3
    )


BAD_PAGES = [
    ("k=0", "k"),
    ("k=21", "k"),
    ("k=ten", "k"),
    ("k=1.5", "k"),
    ("k=", "k"),
    ("k=" + "9" * 5000, "k"),
    ("k=1&k=2", "k"),
    ("limit=3", "limit"),
]
BAD_FILTERS = [
    *BAD_PAGES,
    ("min_price=-1", "min_price"),
    ("min_price=nan", "min_price"),
    ("max_price=inf", "max_price"),
    ("max_price=1e999", "max_price"),
    ("max_price=cheap", "max_price"),
    ("min_price=5&max_price=4", "min_price"),
    ("in_stock=maybe", "in_stock"),
    ("user_id=", "user_id"),
    ("user_id=a%00b", "user_id"),
    ("user_id=" + "u" * 257, "user_id"),
    ("category=%0a", "category"),
    ("category=home&category=", "category"),
    ("&".join(["category=a"] * (MAX_SELECTED + 1)), "category"),
    ("in_stock=true&in_stock=true", "in_stock"),
    ("brand=%20", "brand"),
]
BAD_SEARCHES = [
    "sort=best",
    "sort=",
    "sort=price&sort=price",
    "offset=-1",
    f"offset={MAX_OFFSET + 1}",
    "offset=1.5",
]
BAD_SEARCHES += ["collapse=maybe", "facets=2", "facets=brand"]
BAD_URLS = [
    *((f"/search?q=chair&{bad}", name, 422) for bad, name in BAD_FILTERS),
    *(
        (f"/recommend?{bad}", name, 422)
        for bad, name in [*BAD_FILTERS, ("q=chair", "q"), ("sort=price", "sort")]
    ),
    *((f"/search?q=chair&{bad}", bad.split("=")[0], 422) for bad in BAD_SEARCHES),
    *((f"/suggest?q={q}", "q", 422) for q in ("", "%20%20", "x" * 31, "a%00b", "a&q=b")),
    *((f"/suggest?q=a&{bad}", name, 422) for bad, name in [*BAD_PAGES, ("category=a", "category")]),
    ("/suggest", "q", 422),
    *(
        (f"/similar/i1?{bad}", name, 422)
        for bad, name in [*BAD_PAGES, ("category=home", "category")]
    ),
    *(
        (f"/search?q={q}", "q", 422)
        for q in ("", "%20%20", "x" * 31, "x" * 10_000, "a%00b", "%1b[31m")
    ),
    ("/search", "q", 422),
    ("/items/i1?k=3", "k", 422),
    ("/items/nowhere", "item_id", 404),
    ("/items/%0a", "item_id", 422),
    ("/items/", "item_id", 422),
    ("/similar/nowhere", "item_id", 404),
    ("/similar/", "item_id", 422),
    ("/explain?item_id=i1", "request_id", 422),
    ("/explain?request_id=r1&item_id=", "item_id", 422),
    ("/explain?request_id=r1&item_id=i1&k=3", "k", 422),
    ("/explain?request_id=r9&item_id=i1", None, 404),
    ("/healthz?deep=1", "deep", 422),
    ("/releases?all=1", "all", 422),
    ("/nothing", None, 404),
]


def refused(response: Any, status: int, name: str | None) -> Any:
    body = strict(response)
    assert response.status_code == status, body
    assert set(body) == {"error", "request_id"}
    assert set(body["error"]) == {"message", "field", "value", "allowed"}
    assert body["error"]["field"] == name
    assert len(response.content) < 2000
    return body["error"]


@pytest.mark.parametrize(("url", "name", "status"), BAD_URLS)
def test_bad_urls_are_refused_by_name(
    client: TestClient, url: str, name: str | None, status: int
) -> None:
    error = refused(client.get(url), status, name)
    if status == 422:
        assert name in error["message"]
        assert error["allowed"]


def test_a_refusal_lists_what_is_allowed(client: TestClient) -> None:
    assert client.get("/similar/i1?q=2").json()["error"]["message"] == (
        "parameter 'q' is unknown or repeated: give only k, each once"
    )
    names = client.get("/search?q=a&page=2").json()["error"]["allowed"]
    assert names == (
        "only k, user_id, category, brand, min_price, max_price, in_stock, q, sort, offset, collapse, facets, "
        "each once but category and brand"
    )
    assert client.get("/search?q=a&sort=best").json()["error"]["message"] == (
        "sort is 'best': give one of relevance, price, -price, newest, popularity"
    )
    assert client.get("/recommend?k=21").json()["error"] == {
        "message": "k is 21: give a whole number from 1 to 20",
        "field": "k",
        "value": 21,
        "allowed": "a whole number from 1 to 20",
    }


def event(**changes: Any) -> dict[str, Any]:
    return {"event_id": "e1", "user_id": "u1", "item_id": "i1", "type": "cart", **changes}


def without(name: str) -> dict[str, Any]:
    return {key: value for key, value in event().items() if key != name}


def test_events_come_alone_in_lists_or_wrapped(client: TestClient, shop: FakeShop) -> None:
    first = strict(client.post("/events", json=event()))
    assert (first["accepted"], first["duplicates"], first["event_ids"]) == (1, 0, ["e1"])
    again = strict(client.post("/events", json=[event(), event(event_id="e2")]))
    assert (again["accepted"], again["duplicates"]) == (1, 1)
    unknown = strict(
        client.post("/events", json={"events": [event(event_id="e3", item_id="gone")]})
    )
    assert (unknown["accepted"], unknown["quarantined"]) == (0, 1)
    assert sorted(shop.stored) == ["e1", "e2"]


def test_an_event_without_id_gets_one_and_the_time(client: TestClient, shop: FakeShop) -> None:
    ids = strict(client.post("/events", json=[without("event_id")] * 2))["event_ids"]
    assert len(set(ids)) == 2
    assert set(ids) == set(shop.stored)
    assert abs(shop.stored[ids[0]].time - datetime.now(UTC)) < timedelta(seconds=10)


def test_an_event_keeps_all_it_says(client: TestClient, shop: FakeShop) -> None:
    said = event(
        time="2026-01-01T02:00:00+02:00", request_id="r", quantity=2, price=1.5, type="purchase"
    )
    client.post("/events", json=said)
    at = datetime(2026, 1, 1, tzinfo=UTC)
    assert shop.stored["e1"] == Interaction(
        event_id="e1",
        user_id="u1",
        item_id="i1",
        type="purchase",
        time=at,
        request_id="r",
        quantity=2.0,
        price=1.5,
    )


def test_clients_may_send_their_own_impressions(client: TestClient, shop: FakeShop) -> None:
    shown = {"type": "impression", "request_id": "r9", "item_ids": ["i1", "i2"], "user_id": "u1"}
    assert strict(client.post("/events", json=[shown, event()]))["accepted"] == 2
    assert (shop.impressions[0].request_id, shop.impressions[0].item_ids) == ("r9", ("i1", "i2"))


LATER = (datetime.now(UTC) + timedelta(minutes=30)).isoformat()
BAD_EVENTS = [
    *((without(name), name) for name in ("user_id", "item_id", "type")),
    *((event(type=bad), "type") for bad in ("stare", "", None, 3, ["view"])),
    *(
        (event(user_id=bad), "user_id")
        for bad in ("", " ", "a\x00", "a\nb", "\ud800", None, 7, {}, "u" * 257)
    ),
    *((event(event_id=bad), "event_id") for bad in ("", "\x1b", 1)),
    *((event(price=bad), "price") for bad in (-1, math.nan, math.inf, "free", [])),
    *((event(quantity=bad), "quantity") for bad in (0, -1, math.nan)),
    *(
        (event(time=bad), "time")
        for bad in (LATER, "today", "2026-01-01T00:00:00", 0, 1e300, None, "0001-01-01T00:00Z")
    ),
    (event(time="9999-12-31T23:59:59-23:59"), "time"),
    (event(colour="red"), "colour"),
    ([event(), "x"], "events[1]"),
    ([], "body"),
    ({"events": []}, "body"),
    ("view", "body"),
    (None, "body"),
    ([event()] * (MAX_EVENTS + 1), "body"),
    ({"type": "impression", "item_ids": ["i1"]}, "request_id"),
    ({"type": "impression", "request_id": "r", "item_ids": []}, "item_ids"),
    ({"type": "impression", "request_id": "r", "item_ids": ["\x00"]}, "item_ids"),
]


@pytest.mark.parametrize(("sent", "name"), BAD_EVENTS)
def test_bad_events_are_refused_whole(
    client: TestClient, shop: FakeShop, sent: Any, name: str
) -> None:
    refused(client.post("/events", content=json.dumps(sent)), 422, name)
    assert not shop.stored


def test_what_is_too_long_or_of_another_kind_is_refused_at_the_door(client: TestClient) -> None:
    refused(client.get("/recommend?user_id=" + "u" * MAX_URL_BYTES), 414, "url")
    refused(client.get("/search?" + "&".join(["q=a"] * (MAX_PARAMETERS + 1))), 422, "url")
    refused(
        client.post("/events", content=b"{}", headers={"Content-Length": "9" * 30}), 413, "body"
    )
    refused(
        client.post("/events", content=b"a=b", headers={"Content-Type": "text/plain"}),
        415,
        "content-type",
    )
    assert client.post(
        "/events", json=event(), headers={"Content-Type": "application/json; charset=utf-8"}
    ).is_success
    refused(client.post("/releases/..%2Fv1/promote"), 404, None)
    refused(client.post("/releases/%2e%2e/promote"), 422, "version")


def test_answers_are_neither_kept_nor_framed_nor_shared_with_other_sites(
    client: TestClient, shop: FakeShop
) -> None:
    page = {"Origin": "https://shop.example"}
    for path in ("/recommend", "/recommend?k=0", "/docs"):
        headers = client.get(path, headers=page).headers
        assert (headers["Cache-Control"], headers["X-Content-Type-Options"]) == (
            "no-store",
            "nosniff",
        )
        assert "frame-ancestors" in headers["Content-Security-Policy"]
        assert "Access-Control-Allow-Origin" not in headers
    shop.day = replace(shop.day, cors_origins=("https://shop.example",))
    open_to_one = TestClient(build_api(shop))
    assert (
        open_to_one.get("/recommend", headers=page).headers["Access-Control-Allow-Origin"]
        == page["Origin"]
    )
    other = open_to_one.get("/recommend", headers={"Origin": "https://other.example"})
    assert "Access-Control-Allow-Origin" not in other.headers


@pytest.mark.parametrize(
    "body", [b"", b"{", b"\xff\xfe", b"[" * 200_000, b"9" * 5000, b'{"a":', b"\x00"]
)
def test_what_is_no_json_is_refused(client: TestClient, body: bytes) -> None:
    refused(client.post("/events", content=body), 400, "body")


def test_a_body_over_the_limit_is_refused(client: TestClient) -> None:
    refused(client.post("/events", content=b" " * (MAX_BODY_BYTES + 1)), 413, "body")


def test_wrong_methods_are_refused(client: TestClient) -> None:
    response = client.post("/search?q=a")
    refused(response, 405, None)
    assert response.headers["Allow"] == "GET"
    refused(client.get("/events"), 405, None)


def test_promote_swaps_or_says_why_not(client: TestClient, shop: FakeShop) -> None:
    assert strict(client.post("/releases/v2/promote"))["release"] == "v2"
    assert strict(client.get("/recommend"))["release"] == "v2"
    assert "v1, v2" in refused(client.post("/releases/v9/promote"), 404, "version")["message"]
    assert (
        "space" in refused(client.post("/releases/other-space/promote"), 409, "version")["message"]
    )
    refused(client.post("/releases/v2/promote?force=1"), 422, "force")
    assert shop.release == "v2"


def test_health_tells_what_is_live_and_what_was_refused(client: TestClient, shop: FakeShop) -> None:
    health = strict(client.get("/healthz"))
    assert (health["release"], health["space"], health["refused"]) == ("v1", "s", {"v0": "damaged"})
    assert health["age_s"] > 0
    shop.release = None
    assert client.get("/healthz").status_code == 503
    refused(client.get("/recommend"), 503, None)


def test_releases_and_docs_are_there(client: TestClient) -> None:
    assert len(strict(client.get("/releases"))["releases"]) == 2
    assert client.get("/").headers["location"].endswith("docs")
    assert client.get("/docs").status_code == 200
    assert "item_ids" in client.get("/openapi.json").text


def test_a_failure_inside_tells_only_the_request_id(
    shop: FakeShop, caplog: pytest.LogCaptureFixture
) -> None:
    shop.broken = True
    response = TestClient(build_api(shop), raise_server_exceptions=False).get(
        "/recommend?user_id=u77"
    )
    refused(response, 500, None)
    assert "secret" not in response.text
    assert response.headers["X-Request-Id"] in caplog.text


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*event(), "events"]), inner)
    ),
    max_leaves=9,
)


@settings(max_examples=100, deadline=None)
@given(JSON, st.sampled_from(["time", "price", "item_id", "events", "request_id", "type"]))
def test_no_body_breaks_the_server(sent: Any, name: str) -> None:
    client = TestClient(build_api(replace(FakeShop(), stored={})))
    for body in (sent, event(**{name: sent})):
        response = client.post("/events", content=json.dumps(body))
        assert response.status_code < 500
        strict(response)
