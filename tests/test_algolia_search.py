"""Algolia's search API over a real release: what answers hold, what they refuse, what is logged."""

# ruff: noqa: F811 (fixtures are imported, and named again as parameters)

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.testclient import TestClient

from serve.replicas import ShopReplica
from serve.routes.api import build_api
from tests.front_end_shop import ITEMS, ORIGIN, outfitters_shop, until  # noqa: F401

INDEX = "/1/indexes/products"


@pytest.fixture(scope="module")
def client(outfitters_shop: ShopReplica) -> Iterator[TestClient]:
    return TestClient(build_api(outfitters_shop))  # without its lifespan, which closes the shop


def search(client: TestClient, text: str = "", index: str = "products", **parameters: Any) -> Any:
    body = {"query": text, **parameters}
    response = client.post(f"/1/indexes/{index}/query", json=body)
    assert response.status_code == 200, response.text
    return response.json()


def ids(result: Any) -> list[str]:
    return [hit["objectID"] for hit in result["hits"]]


def test_a_hit_is_a_record_with_highlights(client: TestClient) -> None:
    (hit, *_) = search(client, "green mug", filters="brand:Globex")["hits"]
    assert (
        hit.items()
        >= {
            "objectID": "i30",
            "title": "green mug",
            "name": "green mug",
            "brand": "Globex",
            "price": 40.0,
            "list_price": None,
            "currency": "EUR",
            "in_stock": False,
            "category": "Home > Kitchen > Mugs",
            "categories": {
                "lvl0": ["Home"],
                "lvl1": ["Home > Kitchen"],
                "lvl2": ["Home > Kitchen > Mugs"],
            },
            "group_id": "mug-Globex",
            "attributes": {"colour": "green", "width": 150.0, "washable": False},
        }.items()
    )
    assert hit["_highlightResult"]["title"] == {
        "value": "<em>green mug</em>",
        "matchLevel": "full",
        "matchedWords": ["green", "mug"],
        "fullyHighlighted": True,
    }
    assert hit["_highlightResult"]["brand"]["matchLevel"] == "none"
    assert hit["_highlightResult"]["attributes"]["colour"]["matchLevel"] == "partial"


def test_an_empty_query_is_everything_in_pages(client: TestClient) -> None:
    pages = [search(client, hitsPerPage=20, page=page) for page in range(4)]
    assert [len(page["hits"]) for page in pages] == [20, 20, 8, 0]
    assert {(page["nbHits"], page["nbPages"]) for page in pages} == {(ITEMS, 3)}
    assert len({each for page in pages for each in ids(page)}) == ITEMS
    part = search(client, offset=20, length=5)
    assert ids(part) == ids(pages[1])[:5]
    assert (part["offset"], part["length"], "page" in part) == (20, 5, False)


def test_facets_count_what_all_filters_leave(client: TestClient) -> None:
    result = search(client, facets=["brand", "categories.lvl1"], facetFilters=[["brand:Acme"]])
    assert result["facets"] == {
        "brand": {"Acme": 24},
        "categories.lvl1": {
            "Clothing > Tops": 8,
            "Home > Kitchen": 8,
            "Clothing > Bottoms": 4,
            "Home > Lighting": 4,
        },
    }
    every = search(client, facets="*", hitsPerPage=0)
    assert every["facets"].keys() == {
        *("brand", "price", "in_stock", "categories.lvl0", "categories.lvl1", "categories.lvl2"),
        *("attributes.colour", "attributes.width", "attributes.washable"),
    }
    assert every["facets"]["in_stock"] == {"true": 32, "false": 16}
    assert every["facets_stats"]["price"] == {"min": 10.0, "max": 57.0, "avg": 33.5, "sum": 1608.0}
    assert every["hits"] == []


def test_values_of_a_facet_are_limited_and_sorted(client: TestClient) -> None:
    by_name = search(client, facets=["colour"], sortFacetValuesBy="alpha", maxValuesPerFacet=2)[
        "facets"
    ]
    assert list(by_name["colour"]) == ["black", "blue"]
    price = search(client, "mug", facets=["price"], maxValuesPerFacet=3)["facets"]["price"]
    assert len(price) == 3


@pytest.mark.parametrize(
    ("index", "first", "last"),
    [
        ("products_price_asc", "i00", "i47"),
        ("products_price_desc", "i47", "i00"),
        ("products_newest", "i00", "i47"),
    ],
)
def test_an_index_is_an_order(client: TestClient, index: str, first: str, last: str) -> None:
    found = ids(search(client, index=index, hitsPerPage=100))
    assert (found[0], found[-1]) == (first, last)


def test_distinct_shows_one_variant_of_a_product(client: TestClient) -> None:
    result = search(client, "mug", distinct=True, facets=["brand"])
    assert result["nbHits"] == len(result["hits"]) == 2
    assert result["hits"][0]["variants"]["count"] == 4
    assert result["facets"]["brand"] == {"Acme": 1, "Globex": 1}


def test_snippets_are_cut_around_the_match(client: TestClient) -> None:
    result = search(client, "patience", attributesToSnippet=["description:4"], hitsPerPage=1)
    snippet = result["hits"][0]["_snippetResult"]["description"]
    assert snippet["value"].startswith("…")
    assert "<em>patience</em>" in snippet["value"]
    assert len(snippet["value"].split()) == 4
    other = search(
        client,
        "mug",
        attributesToSnippet=["description:3"],
        snippetEllipsisText="...",
        highlightPreTag="[",
        highlightPostTag="]",
    )["hits"][0]["_snippetResult"]["description"]["value"]
    assert "[mug]" in other
    assert "..." in other


def test_what_is_retrieved(client: TestClient) -> None:
    (hit, *_) = search(
        client, attributesToRetrieve=["title", "attributes.colour"], attributesToHighlight=[]
    )["hits"]
    assert hit.keys() == {"objectID", "title", "attributes"}
    assert hit["attributes"].keys() == {"colour"}
    (hit, *_) = search(client, attributesToRetrieve=["*", "-description"])["hits"]
    assert "brand" in hit
    assert "description" not in hit
    assert search(client, responseFields=["nbHits", "page"]).keys() == {"nbHits", "page"}


def test_what_is_not_supported_is_named(client: TestClient) -> None:
    body = {"query": "mug", "aroundLatLng": "1,2", "typoTolerance": True, "facets": ["size"]}
    response = client.post(f"{INDEX}/query", json={**body, "hitsPerPage": 1000})
    names = response.headers["X-Nightshelf-Unsupported"].split(", ")
    assert names == ["aroundLatLng", "hitsPerPage>100", "facets->size"]
    assert response.json()["hitsPerPage"] == 100
    assert "X-Nightshelf-Unsupported" not in client.post(f"{INDEX}/query", json={}).headers


def test_parameters_as_in_a_url_are_the_same(client: TestClient) -> None:
    params = (
        "query=mug&hitsPerPage=3&facetFilters=%5B%5B%22brand%3AAcme%22%5D%5D&facets=%5B%22*%22%5D"
    )
    queries = [
        {"indexName": "products", "params": params},
        {
            "indexName": "products",
            "query": "mug",
            "hitsPerPage": 3,
            "facetFilters": [["brand:Acme"]],
            "facets": ["*"],
        },
    ]
    response = client.post("/1/indexes/*/queries", json={"requests": queries})
    one, two = response.json()["results"]
    assert ids(one) == ids(two)
    assert len(ids(one)) == 3
    assert one["facets"] == two["facets"]
    assert client.get(f"{INDEX}?{params}").json()["hits"] == one["hits"]


def test_a_strategy_stops_at_the_first_full_page(client: TestClient) -> None:
    queries = [
        {"indexName": "products", "query": text, "hitsPerPage": 4}
        for text in ("zzzzqqqq", "mug", "lamp")
    ]
    body = {"requests": queries, "strategy": "stopIfEnoughMatches"}
    results = client.post("/1/indexes/*/queries", json=body).json()["results"]
    assert [each.get("processed", True) for each in results] == [True, True, False]
    assert [len(each["hits"]) for each in results] == [0, 4, 0]


def test_facet_values_are_searched(client: TestClient) -> None:
    response = client.post(f"{INDEX}/facets/colour/query", json={"facetQuery": "bl"})
    assert response.json()["facetHits"] == [
        {"value": "blue", "highlighted": "<em>bl</em>ue", "count": 12},
        {"value": "black", "highlighted": "<em>bl</em>ack", "count": 12},
    ]
    within = {"params": "facetQuery=kit&facetFilters=brand:Acme&maxFacetHits=1"}
    response = client.post(f"{INDEX}/facets/categories.lvl1/query", json=within)
    assert [each["value"] for each in response.json()["facetHits"]] == ["Home > Kitchen"]
    query = {"type": "facet", "indexName": "products", "facet": "brand", "params": {}}
    body = {"requests": [{**query, "facetQuery": "glo"}]}
    (result,) = client.post("/1/indexes/*/queries", json=body).json()["results"]
    assert result["facetHits"][0]["count"] == 24


def test_objects_are_items(client: TestClient) -> None:
    assert client.get(f"{INDEX}/i07").json()["title"] == "black shirt"
    named = client.get(f"{INDEX}/i07?attributesToRetrieve=title,price").json()
    assert named == {"objectID": "i07", "title": "black shirt", "price": 17.0}
    requests = [{"indexName": "products", "objectID": each} for each in ("i01", "i99")]
    body = client.post("/1/indexes/*/objects", json={"requests": requests}).json()
    assert [each and each["objectID"] for each in body["results"]] == ["i01", None]
    assert "i99" in body["message"]


def test_browsing_goes_through_everything(client: TestClient) -> None:
    seen, body = list[str](), {"hitsPerPage": 20}
    while True:
        page = client.post(f"{INDEX}/browse", json=body).json()
        seen += ids(page)
        if "cursor" not in page:
            break
        body["cursor"] = page["cursor"]
    assert len(seen) == len(set(seen)) == ITEMS


def test_completions_are_an_index(client: TestClient) -> None:
    result = search(client, "gre", index="products_query_suggestions", hitsPerPage=3)
    assert result["hits"][0]["query"].startswith("green")
    highlighted = result["hits"][0]["_highlightResult"]["query"]["value"]
    assert highlighted.startswith("<em>gre")


@pytest.mark.parametrize(
    ("path", "body", "status", "words"),
    [
        ("/1/indexes/other/query", {}, 404, "Index other does not exist"),
        (f"{INDEX}/query", {"filters": "brand:"}, 400, "filters"),
        (f"{INDEX}/query", {"filters": "size:XL"}, 400, "colour, width, washable"),
        (f"{INDEX}/query", {"page": -1}, 400, "page is -1"),
        (f"{INDEX}/query", {"hitsPerPage": "many"}, 400, "hitsPerPage"),
        (f"{INDEX}/query", {"query": ["a"]}, 400, "query"),
        (f"{INDEX}/query", {"query": "a" * 501}, 400, "at most 500"),
        (f"{INDEX}/query", {"facets": [1]}, 400, "facets"),
        (f"{INDEX}/query", {"clickAnalytics": "yes"}, 400, "clickAnalytics"),
        (f"{INDEX}/browse", {"cursor": "x"}, 400, "cursor"),
        (f"{INDEX}/facets/size/query", {}, 400, "size"),
        ("/1/indexes/*/queries", {"requests": []}, 400, "1 to 50"),
        ("/1/indexes/*/queries", {"requests": [1]}, 400, "indexName"),
        ("/1/indexes/*/queries", {"requests": [{"query": "a"}]}, 400, "indexName"),
        ("/1/indexes/*/queries", {"requests": [{}], "strategy": "best"}, 400, "strategy"),
        ("/1/indexes/*/objects", {"requests": [{"indexName": "products"}]}, 400, "objectID"),
        ("/1/nothing", {}, 404, ""),
    ],
)
def test_refusals_have_algolias_shape(
    client: TestClient, path: str, body: Any, status: int, words: str
) -> None:
    response = client.post(path, json=body)
    assert response.status_code == status, response.text
    assert response.json()["status"] == status
    assert words in response.json()["message"]


@pytest.mark.parametrize("body", ["", "[", "[1]", '"a"'])
def test_a_body_that_is_no_object(client: TestClient, body: str) -> None:
    response = client.post("/1/indexes/*/queries", content=body)
    assert (response.status_code, response.json()["status"]) == (400, 400)
    assert client.post(f"{INDEX}/query", content=body).status_code == (400 if body else 200)


def test_only_pages_of_results_are_impressions(
    client: TestClient, outfitters_shop: ShopReplica
) -> None:
    log = outfitters_shop.events
    main = search(client, "red shirt", userToken="visitor-1", clickAnalytics=True, hitsPerPage=3)
    counts = search(client, "red shirt", hitsPerPage=0, facets=["brand"], clickAnalytics=True)
    silent = search(client, "red shirt", analytics=False, clickAnalytics=True)
    impression = until(lambda: log.impression(main["queryID"]))
    assert impression.item_ids == tuple(ids(main))
    assert (impression.user_id, impression.query) == ("visitor-1", "red shirt")
    assert "queryID" not in counts
    assert "queryID" not in silent
    assert search(client, "shirt").get("queryID") is None


def test_a_page_of_everything_is_explained(
    client: TestClient, outfitters_shop: ShopReplica
) -> None:
    result = search(client, clickAnalytics=True, filters="NOT brand:Acme", hitsPerPage=2)
    until(lambda: outfitters_shop.events.impression(result["queryID"]))
    parameters = {"request_id": result["queryID"], "item_id": ids(result)[0]}
    response = client.get("/explain", params=parameters)
    assert response.status_code == 200, response.text
    parameters["item_id"] = "i00"
    assert "none_of" in client.get("/explain", params=parameters).text


def test_global_privacy_control_leaves_the_visitor_out(
    client: TestClient, outfitters_shop: ShopReplica
) -> None:
    body = {"query": "lamp", "userToken": "visitor-2", "clickAnalytics": True}
    response = client.post(f"{INDEX}/query", json=body, headers={"Sec-GPC": "1"})
    impression = until(lambda: outfitters_shop.events.impression(response.json()["queryID"]))
    assert impression.user_id is None


def test_a_page_of_another_origin_may_call_and_read_what_is_unsupported(
    client: TestClient,
) -> None:
    headers = {
        "Origin": ORIGIN,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "x-algolia-api-key,x-algolia-application-id",
    }
    assert client.options("/1/indexes/*/queries", headers=headers).status_code == 200
    response = client.post(f"{INDEX}/query", json={}, headers={"Origin": ORIGIN})
    assert response.headers["Access-Control-Allow-Origin"] == ORIGIN
    assert "X-Nightshelf-Unsupported" in response.headers["Access-Control-Expose-Headers"]
