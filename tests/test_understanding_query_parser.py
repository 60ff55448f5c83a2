import unicodedata

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.retrieval.text.analysis import index_terms
from recsys.types import QueryUnderstanding
from recsys.understanding.codes import CodeIndex
from recsys.understanding.normalisation import MAX_CHARACTERS
from recsys.understanding.query_parser import MAX_IDENTIFIERS, QueryParser
from recsys.understanding.spelling import Speller

TITLES = (
    ["Everbilt strap SC-141"]
    + ["cordless drill under desk"] * 30
    + ["table lamp", "dishwasher white"] * 20
    + ["无线耳机 X9", "小米手机壳"] * 9
    + ["bulb A19"] * 150
)
IDS = [f"item{row}" for row in range(len(TITLES))]


@pytest.fixture(scope="module")
def shop():
    rows = {}
    for row, title in enumerate(TITLES):
        for term in set(index_terms(title)):
            rows.setdefault(term, []).append(row)
    terms = sorted(rows)
    postings = [np.array(rows[term], dtype=np.int32) for term in terms]
    speller = Speller(terms, np.array([len(posting) for posting in postings]), postings.__getitem__)
    return QueryParser(
        speller, CodeIndex.build(IDS, TITLES), ["Everbilt", "Drlll", "小米"], IDS.__getitem__
    )


def test_everything_at_once(shop):
    assert shop.parse("  Cordlss DRILL, under $20 white").understanding == QueryUnderstanding(
        text="  Cordlss DRILL, under $20 white",
        normalised="cordless drill, white",
        language="en",
        corrections=(("cordlss", "cordless"),),
        facts={"max_price": 20.0, "colour": "white"},
        price_currency="$",
    )


@pytest.mark.parametrize("text", ["SC-141", "#sc-141", "sc 141", "sc-141 under $20"])
def test_a_code_alone_is_exact(shop, text):
    found = shop.parse(text)
    assert found.understanding.exact
    assert found.understanding.identifiers == ("item0",)
    assert found.code_rows.tolist() == [0]
    assert found.code_rows.dtype == np.int32
    assert found.understanding.corrections == ()


def test_a_code_among_words(shop):
    found = shop.parse("strp Everbilt item17")
    assert (found.understanding.exact, found.code_rows.tolist()) == (False, [17])
    assert found.understanding.normalised == "strap everbilt item17"
    assert shop.parse("cordless drill").code_rows.size == 0


def test_a_code_of_many_items_names_some(shop):
    found = shop.parse("a19")
    assert len(found.code_rows) == 150
    assert found.understanding.identifiers == tuple(
        IDS[row] for row in found.code_rows[:MAX_IDENTIFIERS]
    )


def test_a_brand_is_not_corrected(shop):
    assert shop.parse("drlll").understanding == QueryUnderstanding(
        text="drlll", normalised="drlll", language="en", facts={"brand": "Drlll"}
    )
    assert shop.parse("drlil").understanding.normalised == "drill"


def test_a_price_word_with_a_typo(shop):
    found = shop.parse("drill undr $20").understanding
    assert (found.normalised, dict(found.facts)) == ("drill", {"max_price": 20.0})


@pytest.mark.parametrize(
    ("text", "normalised", "language"),
    [
        ("", "", "none"),
        ("\x00\x07\u200b\ud800", "", "none"),
        ("🔨👍🏽 !?", "!?", "none"),
        ("سماعات \u200fلاسلكية", "سماعات لاسلكية", "other"),
        ("小米 Phone 手机壳", "小米 phone 手机壳", "mixed"),
        ("购买20元以下的耳机", "耳机", "zh"),
        (
            "<script>alert(1)</script>'; DROP TABLE items; --",
            "<script>alert(1)</script>'; drop table items; --",
            "en",
        ),
        ("under $20", "", "en"),
    ],
)
def test_odd_texts(shop, text, normalised, language):
    found = shop.parse(text).understanding
    assert (found.text, found.normalised, found.language) == (text, normalised, language)
    assert found.identifiers == ()


@pytest.mark.parametrize(
    "text", ["drlil lamp ", "dishwashr" * 2, "a", "$1-", "耳机", "9", "under "]
)
def test_ten_thousand_characters_are_cheap(shop, text):
    from time import process_time

    shop.parse(text)
    began = process_time()
    found = shop.parse((text * 10_000)[:10_000]).understanding
    assert process_time() - began < 0.2
    assert len(found.normalised) <= MAX_CHARACTERS


def test_without_parts():
    bare = QueryParser(None, None, [], IDS.__getitem__)
    assert bare.parse("Drlil  X").understanding == QueryUnderstanding(
        text="Drlil  X", normalised="drlil x", language="en"
    )


PIECES = ["drlil", "cordlss ", "tablelamp", "dish washer", " under $20", "SC-141", " sc 141",
          "20元以下", "的耳机",
          "İ", "ß", "ﬁ", "\u0301", "\x00", "🔨", "1½", " ", "-", "xl", "小米", "a19",
          "undr $5 "]  # fmt: skip


@given(st.lists(st.one_of(st.sampled_from(PIECES), st.text(max_size=3)), max_size=8).map("".join))
@settings(deadline=None, max_examples=300)
def test_any_text_is_understood_and_its_normal_text_stays(shop, text):
    found = shop.parse(text)
    normalised = found.understanding.normalised
    assert shop.parse(normalised).understanding.normalised == normalised
    assert not any(unicodedata.category(character)[0] == "C" for character in normalised)
    assert len(normalised) <= MAX_CHARACTERS
    assert (found.code_rows.size > 0) == bool(found.understanding.identifiers)
