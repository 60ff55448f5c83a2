"""GET routes over a shop of three items: good answers, and a table of bad input for every route."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient

from recsys.errors import FilterError
from recsys.types import AttributeFilter, Filters, Query
from serve.routes.api import build_api
from serve.routes.requests import MAX_OFFSET, MAX_SELECTED
from tests.fake_shop import FakeShop, error_of, strict_json


@pytest.fixture
def shop() -> FakeShop:
    return FakeShop()


@pytest.fixture
def client(shop: FakeShop) -> Iterator[TestClient]:
    with TestClient(build_api(shop), follow_redirects=False) as client:
        yield client


def test_an_answer_names_its_release_request_and_reasons(
    client: TestClient, shop: FakeShop
) -> None:
    response = client.get(
        "/search?q=%20red%20chair&user_id=u1&k=2"
        "&category=home&min_price=1&max_price=1&in_stock=true"
    )
    body = strict_json(response)
    assert body["release"] == "v1"
    assert body["request_id"] == response.headers["X-Request-Id"] == shop.queries[0].request_id
    assert body["items"][0] == {
        "item_id": "i1",
        "title": "red chair",
        "brand": "acme",
        "category": "home",
        "categories": ["home"],
        "price": 10.0,
        "list_price": None,
        "currency": None,
        "in_stock": True,
        "attributes": {},
        "score": 0.5,
        "sources": {"dense": 0.5},
        "highlights": [],
        "variants": None,
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
    filters = "category=b&category=c&brand=d&brand=e"
    page = "sort=-price&offset=20&collapse=true&facets=1&k=2"
    assert client.get(f"/search?q=a&{filters}&{page}").status_code == 200
    query = shop.queries[0]
    assert query.filters == Filters(category=("b", "c"), brand=("d", "e"))
    assert (query.sort, query.offset, query.collapse, query.facets) == ("-price", 20, True, True)
    strict_json(client.get("/recommend?brand=d&brand=e"))
    assert shop.queries[1].filters == Filters(brand=("d", "e"))
    strict_json(client.get("/search?q=a"))
    assert shop.queries[2] == Query(request_id=shop.queries[2].request_id, text="a")


def test_suggestions_keep_the_space_that_ends_a_word(client: TestClient) -> None:
    body = strict_json(client.get("/suggest?q=red%20&k=2"))
    assert body["release"] == "v1"
    assert body["suggestions"][0] == {"text": "red chair", "kind": "brand", "weight": 1.5}
    assert len(body["suggestions"]) == 2


def test_an_explanation_has_numbers_that_add_up_and_a_sentence(client: TestClient) -> None:
    body = strict_json(client.get("/explain?request_id=r1&item_id=i1"))
    assert (body["explained"], body["place"], body["ranker"], body["lost"]) == (
        "r1",
        1,
        "net@m1",
        None,
    )
    assert body["base"] + sum(
        part["contribution"] for part in body["contributions"]
    ) == pytest.approx(body["score"])
    assert body["summary"] == (
        "Place 1 with 0.5 of net@m1, retrieved by dense; "
        "most of it from log_price (+0.4), taste vector (-0.1)."
    )
    lost = strict_json(client.get("/explain?request_id=r1&item_id=i9"))
    assert (lost["shown"], lost["lost"]["stage"], lost["summary"]) == (
        False, "filter", "Not shown: it does not pass brand."
    )  # fmt: skip


def test_nan_never_leaves(client: TestClient) -> None:
    item = strict_json(client.get("/recommend"))["items"][1]
    assert item["price"] is None
    assert item["sources"] == {"lexical": 1.0}


def test_ids_with_slashes_are_found(client: TestClient) -> None:
    assert strict_json(client.get("/items/a%2Fb"))["item"]["title"] == "lamp"
    assert len(strict_json(client.get("/similar/a/b?k=1"))["items"]) == 1
    assert len(strict_json(client.get("/complements/a/b?k=1"))["items"]) == 1


def test_every_request_has_an_id_of_its_own(client: TestClient) -> None:
    headers = {"X-Request-Id": "mine"}
    assert (
        len(
            {strict_json(client.get("/recommend", headers=headers))["request_id"] for _ in range(3)}
        )
        == 3
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
    ("/complements/nowhere", "item_id", 404),
    ("/similar/", "item_id", 422),
    ("/explain?item_id=i1", "request_id", 422),
    ("/explain?request_id=r1&item_id=", "item_id", 422),
    ("/explain?request_id=r1&item_id=i1&k=3", "k", 422),
    ("/explain?request_id=r9&item_id=i1", None, 404),
    ("/healthz?deep=1", "deep", 422),
    ("/releases?all=1", "all", 422),
    ("/nothing", None, 404),
]


@pytest.mark.parametrize(("url", "name", "status"), BAD_URLS)
def test_bad_urls_are_refused_by_name(
    client: TestClient, url: str, name: str | None, status: int
) -> None:
    error = error_of(client.get(url), status, name)
    if status == 422:
        assert name in error["message"]
        assert error["allowed"]


def test_a_refusal_lists_what_is_allowed(client: TestClient) -> None:
    assert client.get("/similar/i1?q=2").json()["error"]["message"] == (
        "parameter 'q' is unknown or repeated: give only k, each once"
    )
    names = client.get("/search?q=a&page=2").json()["error"]["allowed"]
    assert names == (
        "only k, user_id, category, brand, min_price, max_price, in_stock, "
        "q, sort, offset, collapse, facets, snapshot, each once but category and brand"
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


def test_a_recommendation_takes_a_diversity_and_an_interest(
    client: TestClient, shop: FakeShop
) -> None:
    strict_json(client.get("/recommend?user_id=new&diversity=0.3&interest=%20running%20shoes&k=3"))
    assert (shop.queries[0].diversity, shop.queries[0].interest) == (0.3, "running shoes")
    strict_json(client.get("/recommend"))
    assert (shop.queries[1].diversity, shop.queries[1].interest) == (0.0, None)


def test_both_are_explained_where_the_api_is(client: TestClient) -> None:
    body = client.get("/openapi.json").json()["paths"]["/recommend"]["get"]["parameters"]
    described = {each["name"]: each.get("description", "") for each in body}
    assert "as little alike as can be" in described["diversity"]
    assert "in words" in described["interest"]


BAD_RECOMMENDATIONS = [
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


@pytest.mark.parametrize(("url", "name"), BAD_RECOMMENDATIONS)
def test_bad_ones_are_refused_by_name(client: TestClient, url: str, name: str) -> None:
    error = error_of(client.get(url), 422, name)
    assert name in error["message"]
    assert error["allowed"]


def test_a_refusal_is_a_sentence(client: TestClient) -> None:
    assert client.get("/recommend?diversity=2").json()["error"]["message"] == (
        "diversity is '2': give a number from 0 to 1"
    )
    assert client.get("/recommend?interest=%20").json()["error"]["message"] == (
        "interest is ' ': give 1 to 30 characters, not all spaces, without control characters"
    )


def test_attributes_are_filtered_by_in_brackets(client: TestClient, shop: FakeShop) -> None:
    conditions = "filter[colour]=red&filter[colour]=blue&filter[shoe%20size][lte]=42"
    for path in ("/search?q=a&", "/recommend?"):
        assert client.get(f"{path}{conditions}").status_code == 200
        assert shop.queries[-1].filters == Filters(
            attributes=(
                AttributeFilter("colour", "eq", "red"),
                AttributeFilter("colour", "eq", "blue"),
                AttributeFilter("shoe size", "lte", "42"),
            )
        )


@pytest.mark.parametrize(
    ("parameters", "field"),
    [
        ("filter[colour=red", "filter[colour"),
        ("filter[]=red", "filter[]"),
        ("filter[width][most]=3", "filter[width][most]"),
        ("filter[colour]=", "filter[colour]"),
        ("filter[colour]=%00", "filter[colour]"),
        (f"filter[colour]={'x' * 257}", "filter[colour]"),
        ("&".join(["filter[colour]=red"] * 51), "filter"),
    ],
)
def test_a_filter_that_is_none_is_refused(client: TestClient, parameters: str, field: str) -> None:
    error_of(client.get(f"/search?q=a&{parameters}"), 422, field)


def test_filters_of_attributes_belong_to_search_and_recommend(client: TestClient) -> None:
    error_of(client.get("/similar/i1?filter[colour]=red"), 422, "filter[colour]")


def test_an_attribute_that_the_release_does_not_have_is_refused_with_those_it_has(
    client: TestClient, shop: FakeShop, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(query: Query) -> None:
        raise FilterError("filter[x] names no attribute", "filter[x]", "1", "one of colour")

    monkeypatch.setattr(shop, "search", refuse)
    error = error_of(client.get("/search?q=a&filter[x]=1"), 422, "filter[x]")
    assert error["allowed"] == "one of colour"


def test_the_description_has_the_filter(client: TestClient) -> None:
    paths = client.get("/openapi.json").json()["paths"]
    for path in ("/search", "/recommend"):
        parameters = {each["name"]: each for each in paths[path]["get"]["parameters"]}
        assert parameters["filter"]["style"] == "deepObject"


def test_tabs_and_line_ends_come_with_what_is_pasted(client: TestClient, shop: FakeShop) -> None:
    assert client.get("/search?q=red%09chair%0D%0A").status_code == 200
    assert shop.queries[-1].text.split() == ["red", "chair"]
    error_of(client.get("/search?q=%09%0A"), 422, "q")
    error_of(client.get("/search?q=red%00chair"), 422, "q")
