"""Phrases in quotes, and words of which either is enough."""

import numpy as np
import pytest

from recsys.retrieval.text.bm25 import LexicalIndex
from recsys.retrieval.text.phrase_match import contains_phrase, unquoted
from recsys.understanding.query_parser import QueryParser
from tests.toy_searcher import QUERY_PARSER


@pytest.mark.parametrize(
    ("text", "phrases"),
    [
        ('"office chair" red', ("office chair",)),
        ("“office chair” and «desk lamp»", ("office chair", "desk lamp")),
        ("「办公椅」", ("办公椅",)),
        ('5" x 7" frame', ()),
        ('frame 5" or 7"', ()),
        ('"office chair', ()),
        ('"" chair', ()),
    ],
)
def test_quotes(text, phrases):
    assert unquoted(text)[1] == phrases
    assert QueryParser(None, None, [], str).parse(text).understanding.phrases == phrases


def test_quotes_are_not_searched_for():
    assert QUERY_PARSER.parse('"blue lamp"').understanding.normalised == "blue lamp"


@pytest.mark.parametrize(
    ("text", "phrase", "contains"),
    [
        ("Big Office-Chair, red", "office chair", True),
        ("Café crème", "cafe creme", True),
        ("chair for the office", "office chair", False),
        ("office chairs", "office chair", False),
        ("人体工学办公椅", "办公椅", True),
    ],
)
def test_a_phrase_in_a_text(text, phrase, contains):
    assert contains_phrase(text, phrase) is contains


TITLES = ["red shirt", "blue shirt", "green shirt", "red hat", "trick or treat bucket", "trick"]
INDEX = LexicalIndex.build({"title": TITLES}, {}, languages=())


@pytest.mark.parametrize(
    ("query", "rows"),
    [
        ("red or blue shirt", [0, 1]),
        ("red, blue or green shirt", [0, 1, 2]),
        ("red or blue or green shirt", [0, 1, 2]),
        ("red oder green shirt", [0, 2]),
        ("shirt red or zebra", [0]),
        ("trick or treat", [4, 5]),
        ("red blue shirt", []),
    ],
)
def test_either_word_is_enough(query, rows):
    assert np.flatnonzero(INDEX.coverage(query) > 0.999).tolist() == rows


def test_an_item_with_the_or_leads():
    assert int(INDEX.scores("trick or treat").argmax()) == 4
    assert INDEX.missing_terms("zebra or lion shirt") == ("zebra or lion",)
