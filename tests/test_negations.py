"""What a query excludes, from items whose texts say what they have and what they are without."""

import numpy as np
import pytest

from recsys.retrieval.text.bm25 import LexicalIndex
from recsys.retrieval.text.negations import parse_negations
from recsys.understanding.query_parser import QueryParser
from recsys.understanding.spelling import Speller


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("gum without sugar", ["sugar"]),
        ("without added sugar or salt", ["sugar", "salt"]),
        ("gum w/o sugar", ["sugar"]),
        ("sugar-free gum", ["sugar"]),
        ("shirt not red", ["red"]),
        ("bonbons ohne zucker", ["zucker"]),
        ("zuckerfreie bonbons", ["zucker"]),
        ("hemd nicht rot", ["rot"]),
        ("eau sans sucre", ["sucre"]),
        ("robe pas rouge", ["rouge"]),
        ("yogur sin azúcar", ["azúcar"]),
        ("yogurt senza lattosio", ["lattosio"]),
        ("sok bez cukru", ["cukru"]),
        ("godis utan socker", ["socker"]),
        ("drop zonder suiker", ["suiker"]),
        ("suco sem açúcar", ["açúcar"]),
        ("сок без сахара", ["сахара"]),
        ("不含酒精的洗手液", ["酒精"]),
        ("chair without arm rests", ["arm rests"]),
        ("no 5 chanel", []),
        ("no. 8 screw", []),
        ("toys not for kids", []),
        ("freezer cordless freestanding", []),
        ("comic sans", []),
    ],
)
def test_negations(text, words):
    assert [each.word for each in parse_negations(text)] == words


TITLES = [
    "Chewing gum mint, sugar",  # 0
    "Chewing gum mint, sugar-free",  # 1
    "Chewing gum mint",  # 2
    "No Nonsense tights black",  # 3
    "Tights red",  # 4
    "Tights blue",  # 5
    "Redwood tights",  # 6
    "Kaugummi ohne Zucker",  # 7
    "Kaugummi zuckerfrei",  # 8
    "Kaugummi Zucker",  # 9
]
INDEX = LexicalIndex.build({"title": TITLES}, {}, languages=())
PARSER = QueryParser(Speller(INDEX.terms, INDEX.frequencies, INDEX.rows_of_term), None, [], str)


@pytest.mark.parametrize(
    ("query", "normalised", "excluded", "rows"),
    [
        ("chewing gum without sugar", "chewing gum without sugar", ("sugar",), [0]),
        ("sugar-free chewing gum", "sugar-free chewing gum", (), []),
        ("tights not red", "tights", ("red",), [4]),
        ("tights without red", "tights", ("red",), [4]),
        ("no nonsense tights", "no nonsense tights", (), []),
        ("no zebra tights", "no zebra tights", (), []),
        ("tights without zebra", "tights", ("zebra",), []),
        ("kaugummi ohne zucker", "kaugummi ohne zucker", ("zucker",), [9]),
        ("tights free standing", "tights free standing", (), []),
        ("tights", "tights", (), []),
    ],
)
def test_what_is_excluded(query, normalised, excluded, rows):
    understanding = PARSER.parse(query).understanding
    assert (understanding.normalised, understanding.excluded) == (normalised, excluded)
    assert [row for words in excluded for row in INDEX.rows_to_exclude(words).tolist()] == rows


@pytest.mark.parametrize("query", ["gum without sugar", "gum sugar free", "gum w/o sugar"])
def test_an_item_that_says_so_has_all_the_words(query):
    assert np.flatnonzero(INDEX.coverage(query) > 0.999).tolist() == [1]
