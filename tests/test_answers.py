"""The body of a search's answer: what it says of the query, of what it found, and of the next
page."""

import json
from dataclasses import replace
from typing import Any

import numpy as np

from recsys.types import FacetCount, Item, Query, QueryUnderstanding, Ranking, ScoredItem
from serve.routes.answers import item_answer, search_answer
from serve.routes.requests import MAX_OFFSET
from serve.routes.responses import JsonResponse

CORRECTED = (("blu", "blue"), ("char", "chair"))
MEANT = QueryUnderstanding(
    text="blu char",
    normalised="blue chair",
    language="en",
    corrections=CORRECTED,
    identifiers=("i1",),
    exact=True,
    facts={"max_price": 9.5},
    intent="home",
    intent_probability=0.75,
)
SCORED = (
    ScoredItem(
        item=Item(item_id="i1", title="blue chair"),
        score=0.5,
        sources={},
        highlights=((0, 4), (5, 10)),
    ),
    ScoredItem(item=Item(item_id="i2"), score=0.1, sources={}),
)
RANKING = Ranking(request_id="r", release="v1", items=SCORED)


def body(ranking: Ranking, offset: int = 0) -> Any:
    """As a client reads it."""
    return json.loads(
        JsonResponse(
            search_answer(ranking, Query(request_id="r", k=2, text="a", offset=offset))
        ).body
    )


def test_a_search_tells_what_it_understood() -> None:
    assert body(RANKING)["query"] is None
    assert body(replace(RANKING, understanding=MEANT))["query"] == {
        "normalised": "blue chair",
        "language": "en",
        "corrections": [
            {"typed": "blu", "taken_for": "blue"},
            {"typed": "char", "taken_for": "chair"},
        ],
        "identifiers": ["i1"],
        "exact": True,
        "facts": {"max_price": 9.5},
        "intent": "home",
        "intent_probability": 0.75,
    }


def test_a_search_tells_what_it_found_and_what_it_gave_up() -> None:
    values = {"brand": (FacetCount("acme", 3, True), FacetCount("globex", 2))}
    answer = body(
        replace(RANKING, total=7, facets=values, relaxed=("without blue",), skipped=("rerank",))
    )
    assert answer["facets"]["brand"][1] == {
        "value": "globex",
        "count": 2,
        "selected": False,
        "unit": None,
    }
    assert (answer["total"], answer["relaxed"], answer["skipped"]) == (
        7,
        ["without blue"],
        ["rerank"],
    )
    assert [item["highlights"] for item in answer["items"]] == [[[0, 4], [5, 10]], []]


def test_numbers_of_numpy_are_numbers() -> None:
    scored = replace(SCORED[1], highlights=((np.int64(0), np.int64(1)),))
    meant = replace(MEANT, facts={"max_price": np.float32(2.5)}, intent_probability=np.float32(0.5))
    facets = {"price": (FacetCount("0-1", np.int64(2)),)}
    answer = body(
        Ranking(
            request_id="r",
            release="v1",
            items=(scored,),
            understanding=meant,
            total=np.int64(9),
            facets=facets,
        )
    )
    assert (answer["total"], answer["query"]["facts"], answer["query"]["intent_probability"]) == (
        9,
        {"max_price": 2.5},
        0.5,
    )


def test_the_last_page_has_no_next() -> None:
    assert body(RANKING)["next_offset"] is None
    five, many = replace(RANKING, total=5), replace(RANKING, total=5000)
    assert [body(five, offset)["next_offset"] for offset in (0, 2, 3)] == [2, 4, None]
    assert [body(many, MAX_OFFSET - back)["next_offset"] for back in (2, 1)] == [MAX_OFFSET, None]
    assert body(replace(five, items=()), 2)["next_offset"] is None


def test_nothing_worth_showing_is_an_answer() -> None:
    nothing = Ranking(
        request_id="r",
        release="v1",
        items=(),
        understanding=QueryUnderstanding(text="\U0001f600", normalised=""),
        total=0,
        no_good_match=True,
    )
    answer = body(nothing)
    assert (
        answer["no_good_match"],
        answer["items"],
        answer["total"],
        answer["query"]["language"],
    ) == (
        True,
        [],
        0,
        "none",
    )


def test_an_item_says_its_categories_currency_and_the_price_before_a_reduction() -> None:
    categories = ("Tea / Green", "Cold drinks")
    item = Item(
        item_id="i1",
        category=categories[0],
        categories=categories,
        price=3.99,
        list_price=5.0,
        currency="EUR",
        gtin="4006381333931",
    )
    details = item_answer("r", "v1", item)["item"]
    assert (details["category"], details["categories"]) == (categories[0], list(categories))
    prices = details["price"], details["list_price"], details["currency"]
    assert prices == (3.99, 5.0, "EUR")
    assert (details["gtin"], details["mpn"]) == ("4006381333931", None)
    plain = item_answer("r", "v1", Item(item_id="i2", category="Tea"))["item"]
    assert (plain["categories"], plain["list_price"], plain["currency"]) == (["Tea"], None, None)
