"""Words of asking are taken off; what is asked for stays."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.understanding.carrier_phrases import strip_carrier_phrases
from recsys.understanding.query_parser import QueryParser


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("购买一款好用的耳机", "耳机"),
        ("我想买一个儿童保温杯", "儿童保温杯"),
        ("请问有没有适合妈妈的羊毛被", "妈妈的羊毛被"),
        ("耳机推荐", "耳机"),
        ("蓝牙耳机哪个好？", "蓝牙耳机"),
        ("i am looking for a cordless drill", "cordless drill"),
        ("where can I buy paint", "paint"),
        ("do you have shower heads?", "shower heads"),
    ],
)
def test_what_is_asked_for_is_left(text: str, wanted: str) -> None:
    assert strip_carrier_phrases(text) == wanted


@pytest.mark.parametrize(
    "text",
    ["一个人的好天气", "买", "推荐", "耳机", "need for speed", "find my iphone case", "i", ""],
)
def test_what_is_no_request_stays(text: str) -> None:
    assert strip_carrier_phrases(text) == text


def test_a_search_is_for_what_is_asked() -> None:
    understood = (
        QueryParser(None, None, [], str).parse("购买一款好用的耳机，100元以下").understanding
    )
    assert understood.normalised == "耳机"
    assert understood.facts == {"max_price": 100.0}


@given(st.text())
def test_nothing_is_added_and_something_is_left(text: str) -> None:
    rest = strip_carrier_phrases(text)
    assert rest in text
    assert any(map(str.isalnum, rest)) == any(map(str.isalnum, text))
