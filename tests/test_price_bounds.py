"""Which price bounds of a text a search uses, and what it says of the others."""

import pytest

from recsys.pipeline.price_bounds import usable_bounds
from recsys.types import Filters
from recsys.understanding.query_parser import QueryParser


def bounds_of(text, currency="USD", **own):
    understanding = QueryParser(None, None, [], str).parse(text).understanding
    return usable_bounds(understanding, Filters(**own), currency)


@pytest.mark.parametrize(
    ("text", "bounds"),
    [
        ("chair under $50", {"max_price": 50}),
        ("chair under 50 dollars", {"max_price": 50}),
        ("chair from $20 to $50", {"min_price": 20, "max_price": 50}),
        ("chair between 20 and 50 usd", {"min_price": 20, "max_price": 50}),
        ("chair", {}),
    ],
)
def test_bounds_in_the_shops_currency(text, bounds):
    assert bounds_of(text) == (bounds, ())


@pytest.mark.parametrize(
    ("text", "words", "own"),
    [
        ("chair under 50 €", "at most 50 is in €, prices here are in USD", {}),
        ("chair unter 50 euro", "at most 50 is in euro, prices here are in USD", {}),
        ("chair over $100 under $50", "nothing costs at least 100 and at most 50", {}),
        ("chair under $50", "at most 50 contradicts the request's own bounds", {"min_price": 80}),
    ],
)
def test_bounds_that_are_not_used(text, words, own):
    bounds, [sentence] = bounds_of(text, **own)
    assert bounds == {}
    assert sentence.startswith(words)


def test_the_requests_own_bounds_count_without_a_word():
    assert bounds_of("chair under $50", max_price=20) == ({}, ())


def test_a_shop_without_a_currency_takes_any():
    assert bounds_of("chair under 50 €", currency="") == ({"max_price": 50}, ())
