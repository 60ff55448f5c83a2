"""What a text matches: words, codes, meaning; nothing for what fits nothing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.config import search_ranker
from recsys.pipeline.hits import FEATURES
from recsys.pipeline.searcher import HybridSearcher, SearchChoices
from recsys.retrieval.text.bm25 import LexicalIndex, LexicalRetriever
from recsys.retrieval.vectors.exact import ExactRetriever
from recsys.types import Mask
from recsys.understanding.query_parser import QueryParser
from tests.toy_searcher import (
    BY_TASTE,
    CHARGER,
    DRILL,
    ENCODER,
    EVERYTHING,
    IDS,
    LENIENT,
    QUERY_PARSER,
    THINGS,
    TITLES,
    VECTORS,
    FakeCrossEncoder,
    masks,
    rows_with,
    search,
    searcher,
    titles,
)


def test_words_find_what_has_them_and_the_best_has_all() -> None:
    hits = search("blue lamp")
    assert titles(hits)[0] == "blue lamp"
    assert rows_with("lamp") <= set(hits.rows_N.tolist()) <= rows_with("lamp") | rows_with("blue")
    assert hits.relaxed == ()
    assert not hits.no_good_match


def test_an_item_with_less_than_half_of_the_words_is_not_found_by_them() -> None:
    hits = search("cordless drill charger white", searcher(choices=SearchChoices(dense_k=1)))
    assert set(hits.rows_N.tolist()) == {DRILL, CHARGER}


@pytest.mark.parametrize(
    "text", ["SC-14100", "sc14100", "sc 14100", "#SC/14100", "SC-14100 under $20", "item00040"]
)
def test_a_code_comes_first_whatever_else_the_ranker_likes(text: str) -> None:
    hits = search(
        text,
        searcher(ranker=BY_TASTE, choices=replace(LENIENT, dense_k=50)),
        user_D=VECTORS[0],
    )
    assert hits.rows_N[0] == DRILL
    if text.startswith(("SC-", "sc14")):  # what its letters and digits are near to
        assert len(hits.rows_N) > 1
        assert hits.scores_N[0] < hits.scores_N[1]


@pytest.mark.parametrize("text", ["red chair SC-14100", "red chair item00040"])
def test_a_code_among_words_is_found_and_leaves_the_order_to_the_ranker(text: str) -> None:
    hits = search(
        text,
        searcher(ranker=BY_TASTE, choices=SearchChoices(min_term_coverage=0.1, dense_k=1)),
        user_D=VECTORS[0],
    )
    assert hits.rows_N[0] == 0
    assert DRILL in hits.rows_N[1:]


def test_an_id_is_found_though_no_text_has_it() -> None:
    hits = search("ITEM00007")
    assert hits.rows_N[0] == 7


def test_words_that_no_item_has_are_named() -> None:
    hits = search("zeppelin chair hovercraft red")
    assert hits.relaxed == ("no item has 'zeppelin', 'hovercraft': found without",)
    assert titles(hits)[0] == "red chair"
    assert search("chair lamp").relaxed == ("no item has all of the words: found by most of them",)


@pytest.mark.parametrize(
    "text",
    [
        "xqzvkj wwqplt",
        "🔨👍🏽",
        "\x00\x07\u200b",
        "!?",
        "سماعات لاسلكية",
        "qqqqqqqq" * 1250,
        "\ud800",
    ],
)
def test_what_fits_nothing_finds_nothing(text: str) -> None:
    hits = search(text, allowed_I=EVERYTHING)
    assert hits.no_good_match
    assert (len(hits.rows_N), hits.matched_I.any()) == (0, False)
    assert hits.features_NF.shape == hits.retrieved_NF.shape == (0, len(FEATURES))
    assert hits.scores_N.shape == (0,)


@pytest.mark.parametrize("text", ["", "   "])
def test_no_text_matches_everything(text: str) -> None:
    assert search(text, allowed_I=EVERYTHING).matched_I.all()


@pytest.mark.parametrize(
    "text",
    [
        "red chair'; DROP TABLE items; --",
        "red chair " * 1000,
        "\x00red\x00 \u200bchair🔨",
        "سماعات red chair",
        "ＲＥＤ chair",
    ],
)
def test_words_among_rubbish_find_their_items(text: str) -> None:
    assert titles(search(text))[0] == "red chair"


def test_no_words_but_near_enough_is_found_by_meaning_and_said() -> None:
    """Half a word beside another: no term is the catalogue's, the trigrams are."""
    over = searcher(choices=SearchChoices(dense_k=2), min_cosine=0.25)
    parsed = QueryParser(None, None, [], IDS.__getitem__).parse("xcarpetx")
    vector_D = ENCODER.encode_queries(["xcarpetx"])[0]
    hits = over.search(parsed, vector_D)
    assert {title.split()[-1] for title in titles(hits)} == {"carpet"}
    assert hits.relaxed == ("no item has 'xcarpetx': found without",)
    assert (
        searcher(choices=SearchChoices(dense_k=2), min_cosine=0.9)
        .search(parsed, vector_D)
        .no_good_match
    )


def test_a_price_alone_finds_everything_and_gives_nothing_up() -> None:
    hits = search("under $20")
    assert (len(hits.rows_N), hits.relaxed, hits.no_good_match) == (len(TITLES), (), False)


@pytest.mark.parametrize(
    ("typed", "meant"), [("blue lmap", "blue lamp"), ("cordles drill", "cordless drill")]
)
def test_a_typo_finds_what_the_right_word_finds(typed: str, meant: str) -> None:
    assert search(typed).rows_N.tolist() == search(meant).rows_N.tolist()


def test_of_more_than_are_ranked_the_best_by_words_are_and_the_others_follow() -> None:
    narrow = searcher(choices=SearchChoices(dense_k=1, max_candidates=4))
    hits = search("red", narrow)
    near = hits.rows_N[hits.retrieved_NF[:, 1]].tolist()
    assert len(near) == 1
    ranked = {20, 25, 30, 35, *near}  # of equals the popular ones
    assert set(hits.rows_N[: len(ranked)].tolist()) == ranked
    rest = hits.rows_N[len(ranked) :].tolist()
    assert rest == sorted({0, 5, 10, 15} - ranked, reverse=True)
    assert len(hits.rows_N) == int(hits.matched_I.sum()) == len(THINGS)
    assert (np.diff(hits.scores_N) <= 0).all()
    assert not hits.features_NF[len(ranked) :, 1:].any()


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # bm25s takes a mean of nothing
def test_an_empty_catalogue_finds_nothing() -> None:
    index, none = LexicalIndex.build({"title": []}, {}), np.empty((0, 1024), np.float32)
    lexical, dense = LexicalRetriever(index), ExactRetriever("dense", none)
    empty = HybridSearcher(
        lexical=lexical,
        dense=dense,
        item_vectors_ID=none,
        ranker=search_ranker(),
        text_of=lambda rows: [],
        popularity_I=np.empty(0, np.float32),
    )
    for text in ("red chair", "", "under $20"):
        assert search(text, empty).no_good_match


PIECES = [
    "red",
    "chair",
    " ",
    "blue lamp ",
    "SC-14100",
    "item00007",
    "under $20 ",
    "xqzv",
    "🔨",
    "'; --",
    "耳机",
    "\x00",
]
texts = st.text(max_size=30) | st.lists(
    st.sampled_from(PIECES) | st.text(max_size=3), max_size=6
).map("".join)


@given(texts, masks, st.sampled_from([1, 5_000]))
@settings(deadline=None, max_examples=150)
def test_any_text_gives_each_found_row_once_in_falling_order(
    text: str, allowed_I: Mask | None, max_candidates: int
) -> None:
    choices = SearchChoices(dense_k=3, max_candidates=max_candidates)
    hits = search(text, searcher(FakeCrossEncoder(), choices), allowed_I=allowed_I)
    passing = hits.matched_I & (EVERYTHING if allowed_I is None else allowed_I)
    assert sorted(hits.rows_N.tolist()) == np.flatnonzero(passing).tolist()
    assert hits.no_good_match == (not hits.matched_I.any())
    assert np.isfinite(hits.scores_N).all()
    if not QUERY_PARSER.parse(text).understanding.exact:
        assert (np.diff(hits.scores_N) <= 0).all()


def test_a_phrase_in_quotes_comes_first() -> None:
    plain, quoted = search("drill cordless charger"), search('"every cordless" drill charger')
    assert set(titles(quoted)) == set(titles(search("every cordless drill charger")))
    assert "every cordless" in titles(quoted)[0]
    assert plain.relaxed == ()
    by_taste = searcher(ranker=BY_TASTE)
    assert (
        "drill bits" in titles(search('"drill bits" cordless', by_taste, user_D=VECTORS[DRILL]))[0]
    )


def test_an_excluded_word_is_not_found_and_said() -> None:
    hits = search("lamp without blue")
    assert "blue lamp" not in titles(hits)
    assert rows_with("lamp") - rows_with("blue") <= set(hits.rows_N.tolist())
    assert hits.relaxed == ("items with 'blue' are left out: the text says so",)
