"""What comes in over HTTP is what the types have."""

import math
from dataclasses import replace
from typing import get_args

import pytest

from recsys.config import Day
from recsys.errors import InputError
from recsys.types import EVENT_TYPES, SORTS, Filters, Query
from serve.routes.errors import RequestError
from serve.routes.requests import (
    FilterParams,
    InteractionEvent,
    PageParams,
    RecommendParams,
    SearchParams,
    SuggestParams,
    build_query,
    check_bounds,
)
from serve.routes.responses import JsonResponse

DAY = Day(max_k=20, max_query_characters=5)


def test_every_event_type_and_sort_is_known() -> None:
    assert get_args(InteractionEvent.model_fields["type"].annotation) == EVENT_TYPES
    assert get_args(SearchParams.model_fields["sort"].annotation) == SORTS


def test_a_page_becomes_a_query() -> None:
    assert build_query("r", PageParams(k=3), DAY) == Query(request_id="r", k=3)
    assert build_query("r", FilterParams(user_id="u", brand=["a", "b"]), DAY) == Query(
        request_id="r", k=10, user_id="u", text=None, filters=Filters(category=(), brand=("a", "b"))
    )
    search = SearchParams(q=" red ", k=2, sort="newest", offset=4, collapse=True, facets=True)
    assert build_query("r", search, DAY) == Query(
        request_id="r",
        k=2,
        user_id=None,
        text="red",
        filters=Filters(),
        sort="newest",
        offset=4,
        collapse=True,
        facets=True,
    )


def test_a_recommendation_says_how_diverse_and_of_what() -> None:
    params = RecommendParams(user_id="u", diversity=0.25, interest=" shoes ")
    assert build_query("r", params, DAY) == Query(
        request_id="r", k=10, user_id="u", diversity=0.25, interest="shoes"
    )


def test_the_shops_diversity_is_for_recommendations_that_do_not_say() -> None:
    day = replace(DAY, diversity=0.5)
    assert build_query("r", RecommendParams(), day).diversity == 0.5
    assert build_query("r", RecommendParams(diversity=0), day).diversity == 0
    assert build_query("r", SearchParams(q="a"), day).diversity == 0


@pytest.mark.parametrize("name", ["diversity", "tail_share"])
def test_a_day_is_checked_when_it_is_made(name: str) -> None:
    with pytest.raises(InputError, match=f"{name} of the day is 1.5: give a number from 0 to 1"):
        replace(DAY, **{name: 1.5})  # type: ignore[arg-type]


@pytest.mark.parametrize("bad", [-0.1, 1.1, math.nan])
def test_a_query_is_checked_when_it_is_made(bad: float) -> None:
    with pytest.raises(ValueError, match=f"diversity is {bad}: give a number from 0 to 1"):
        Query(request_id="r", diversity=bad)
    with pytest.raises(ValueError, match="interest is ' ': say in words"):
        Query(request_id="r", interest=" ")


def test_an_interest_too_long_is_a_sentence() -> None:
    with pytest.raises(RequestError, match=r"^interest is 'x{6}': give 1 to 5 characters"):
        check_bounds(RecommendParams(interest="xxxxxx"), DAY)


@pytest.mark.parametrize("params", [SearchParams(q="x" * 10_000), SuggestParams(q="x" * 10_000)])
def test_a_text_too_long_is_a_sentence(params: SearchParams | SuggestParams) -> None:
    with pytest.raises(RequestError, match=r"^q is 'x{100}\.\.\.': give 1 to 5 characters"):
        check_bounds(params, DAY)


@pytest.mark.parametrize(
    ("content", "body"),
    [
        ({"a": 0.5, "b": ["é", None, True]}, '{"a":0.5,"b":["é",null,true]}'),
        ([math.nan, math.inf, -math.inf], "[null,null,null]"),
        (["\ud800", "ok"], '["?","ok"]'),
        (["\ud800", math.nan, 2**70], f'["?",null,{2**70}]'),
        ([2**70], f"[{2**70}]"),
    ],
)
def test_json_is_utf_8_without_nan_whatever_the_content(content: object, body: str) -> None:
    assert JsonResponse(content).body.decode() == body
