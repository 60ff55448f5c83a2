"""A search over rows: codes, words and meaning, the cross-encoder's window and time, and what fills
up."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.config import search_ranker
from recsys.encoders.hashing import HashingEncoder
from recsys.errors import InputError
from recsys.pipeline.searcher import CROSS_ENCODER, FEATURES, Hits, HybridSearcher, SearchChoices
from recsys.ranking.linear import LinearRanker
from recsys.retrieval.text.bm25 import LexicalIndex, LexicalRetriever
from recsys.retrieval.vectors.exact import ExactRetriever
from recsys.types import Floats, Mask
from recsys.understanding.codes import CodeIndex
from recsys.understanding.query_parser import ParsedQuery, QueryParser
from recsys.understanding.spelling import Speller

COLOURS = ["red", "blue", "green", "white", "black"]
THINGS = ["chair", "table", "lamp", "shelf", "clock", "mirror", "vase", "carpet"]
TITLES = [f"{colour} {thing}" for thing in THINGS for colour in COLOURS]
DRILL, BITS, CHARGER = len(TITLES), len(TITLES) + 1, len(TITLES) + 2
TITLES += [
    "cordless drill SC-14100",
    "drill bits, ten of them",
    "charger for every cordless drill: drill, drill, drill",
]
IDS = [f"item{row:05d}" for row in range(len(TITLES))]
POPULARITY = np.arange(len(TITLES), dtype=np.float32)

ENCODER = HashingEncoder(1024)
VECTORS = ENCODER.encode_items(TITLES)
INDEX = LexicalIndex.build({"title": TITLES}, {})
QUERY_PARSER = QueryParser(
    Speller(INDEX.terms, INDEX.frequencies, INDEX.rows_of_term),
    CodeIndex.build(IDS, TITLES),
    [],
    IDS.__getitem__,
)
#: Few by vector: what has none of the words is found by few texts.
NARROW = SearchChoices(dense_k=3)
BY_TASTE = search_ranker({"personal": 1.0, "lexical": 0.001})
EVERYTHING = np.ones(len(TITLES), bool)


@dataclass
class Reader:
    """Likes texts with a word; keeps what it read; its second call ends no earlier than `until`."""

    word: str = "blue"
    until: float = 0.0
    read: list[list[str]] = field(default_factory=list)

    def scores(self, queries: Sequence[str], texts: Sequence[str]) -> Floats:
        assert len(queries) == len(texts)
        self.read.append(list(texts))
        if len(self.read) == 2:
            time.sleep(max(0.0, self.until - time.perf_counter()))
        return np.array([0.9 if self.word in text else 0.1 for text in texts], np.float32)


def searcher(
    reader: Reader | None = None, choices: SearchChoices = NARROW, ranker: Any = None
) -> HybridSearcher:
    def texts_of(rows: Any) -> list[str]:
        return [TITLES[row] for row in rows]

    lexical, dense = LexicalRetriever(INDEX), ExactRetriever("dense", VECTORS)
    return HybridSearcher(
        lexical=lexical,
        dense=dense,
        item_vectors_ID=VECTORS,
        ranker=ranker or search_ranker(),
        text_of=texts_of,
        popularity_I=POPULARITY,
        cross_encoder=reader,
        choices=choices,
    )  # type: ignore[arg-type]


def asked(text: str) -> tuple[ParsedQuery, Floats]:
    understood = QUERY_PARSER.parse(text)
    normalised = understood.understanding.normalised
    return understood, ENCODER.encode_queries([normalised])[0] if normalised else np.zeros(
        1024, np.float32
    )


def find(text: str, over: HybridSearcher | None = None, **choices: Any) -> Hits:
    return (over or searcher()).search(*asked(text), **choices)


def titles(hits: Hits) -> list[str]:
    return [TITLES[row] for row in hits.rows_N]


def rows_with(word: str) -> set[int]:
    return {row for row, title in enumerate(TITLES) if word in title.split()}


# What is found


def test_words_find_what_has_them_and_the_best_has_all() -> None:
    hits = find("blue lamp")
    assert titles(hits)[0] == "blue lamp"
    assert rows_with("lamp") <= set(hits.rows_N.tolist()) <= rows_with("lamp") | rows_with("blue")
    assert hits.relaxed == ()
    assert not hits.no_good_match


def test_an_item_with_less_than_half_of_the_words_is_not_found_by_them() -> None:
    hits = find("cordless drill charger white", searcher(choices=SearchChoices(dense_k=1)))
    assert set(hits.rows_N.tolist()) == {DRILL, CHARGER}


@pytest.mark.parametrize(
    "text", ["SC-14100", "sc14100", "sc 14100", "#SC/14100", "SC-14100 under $20", "item00040"]
)
def test_a_code_comes_first_whatever_else_the_ranker_likes(text: str) -> None:
    hits = find(
        text, searcher(ranker=BY_TASTE, choices=SearchChoices(dense_k=50)), user_D=VECTORS[0]
    )
    assert hits.rows_N[0] == DRILL
    if text != IDS[DRILL]:  # of an id nothing but its item is found
        assert len(hits.rows_N) > 1
        assert hits.scores_N[0] < hits.scores_N[1]


@pytest.mark.parametrize("text", ["red chair SC-14100", "red chair item00040"])
def test_a_code_among_words_is_found_and_leaves_the_order_to_the_ranker(text: str) -> None:
    hits = find(
        text,
        searcher(ranker=BY_TASTE, choices=SearchChoices(min_term_coverage=0.1, dense_k=1)),
        user_D=VECTORS[0],
    )
    assert hits.rows_N[0] == 0
    assert DRILL in hits.rows_N[1:]


def test_an_id_is_found_though_no_text_has_it() -> None:
    hits = find("ITEM00007")
    assert (hits.rows_N[0], hits.total) == (7, len(hits.rows_N))


def test_words_that_no_item_has_are_named() -> None:
    hits = find("zeppelin chair hovercraft red")
    assert hits.relaxed == ("no item has 'zeppelin', 'hovercraft': found without",)
    assert titles(hits)[0] == "red chair"
    assert find("chair lamp").relaxed == ("no item has all of the words: found by most of them",)


@pytest.mark.parametrize(
    "text",
    [
        "xqzvkj wwqplt",
        "🔨👍🏽",
        "\x00\x07\u200b",
        "",
        "   ",
        "!?",
        "سماعات لاسلكية",
        "qqqqqqqq" * 1250,
        "\ud800",
    ],
)
def test_what_fits_nothing_finds_nothing(text: str) -> None:
    hits = find(text, allowed_I=EVERYTHING, fill=10)
    assert hits.no_good_match
    assert (len(hits.rows_N), hits.total, hits.matched_I.any()) == (0, 0, False)
    assert hits.features_NF.shape == hits.retrieved_NF.shape == (0, len(FEATURES))


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
    assert titles(find(text))[0] == "red chair"


def test_no_words_but_near_enough_is_found_by_meaning_and_said() -> None:
    """Half a word beside another: no term is the catalogue's, the trigrams are."""
    over = searcher(choices=SearchChoices(dense_k=2, min_margin=0.3))
    understood = QueryParser(None, None, [], IDS.__getitem__).parse("xcarpetx")
    vector_D = ENCODER.encode_queries(["xcarpetx"])[0]
    hits = over.search(understood, vector_D)
    assert {title.split()[-1] for title in titles(hits)} == {"carpet"}
    assert hits.relaxed == ("no item has 'xcarpetx': found without",)
    assert (
        searcher(choices=SearchChoices(dense_k=2, min_margin=0.9))
        .search(understood, vector_D)
        .no_good_match
    )


def test_a_price_alone_finds_everything_and_gives_nothing_up() -> None:
    hits = find("under $20")
    assert (hits.total, hits.relaxed, hits.no_good_match) == (len(TITLES), (), False)


@pytest.mark.parametrize(
    ("typed", "meant"), [("blue lmap", "blue lamp"), ("cordles drill", "cordless drill")]
)
def test_a_typo_finds_what_the_right_word_finds(typed: str, meant: str) -> None:
    assert find(typed).rows_N.tolist() == find(meant).rows_N.tolist()


def test_of_more_than_are_ranked_the_best_by_words_are_and_all_are_counted() -> None:
    narrow = searcher(choices=SearchChoices(dense_k=1, max_candidates=4))
    hits = find("red", narrow)
    near = hits.rows_N[hits.retrieved_NF[:, 1]].tolist()
    assert sorted(hits.rows_N.tolist()) == sorted({20, 25, 30, 35, *near}), (
        "of equals the popular ones"
    )
    assert len(near) == 1
    assert hits.total == int(hits.matched_I.sum()) == len(THINGS)


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
        assert find(text, empty).no_good_match


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
masks = st.none() | st.lists(st.booleans(), min_size=len(TITLES), max_size=len(TITLES)).map(
    np.array
)


@given(texts, masks, st.integers(0, 60))
@settings(deadline=None, max_examples=150)
def test_any_text_gives_each_found_row_once_in_falling_order(
    text: str, allowed_I: Mask | None, fill: int
) -> None:
    hits = find(text, searcher(Reader()), allowed_I=allowed_I, fill=fill)
    passing = hits.matched_I & (EVERYTHING if allowed_I is None else allowed_I)
    assert sorted(hits.rows_N[: hits.total].tolist()) == np.flatnonzero(passing).tolist()
    assert len(set(hits.rows_N.tolist())) == len(hits.rows_N)
    assert hits.no_good_match == (not hits.matched_I.any())
    assert np.isfinite(hits.scores_N).all()
    if not QUERY_PARSER.parse(text).understanding.exact:
        assert (np.diff(hits.scores_N[: hits.total]) <= 0).all()


# What fills up


def test_where_filters_leave_too_little_the_nearest_follow_uncounted_and_told() -> None:
    allowed_I = np.array([title.startswith("red") for title in TITLES])
    hits = find("blue lamp", allowed_I=allowed_I, fill=4)
    assert titles(hits)[0] == "red lamp"
    assert (len(hits.rows_N), hits.total) == (4, 1)
    assert not hits.matched_I[hits.rows_N[1:]].any()
    assert allowed_I[hits.rows_N].all()
    assert hits.relaxed == (
        "the filters leave 1 of what was found: the nearest that pass them follow",
    )
    assert find("blue lamp", allowed_I=allowed_I, fill=1).relaxed == ()
    assert find("blue lamp", fill=40).total == find("blue lamp").total


some_words = st.lists(
    st.sampled_from([*COLOURS, *THINGS, "drill", "zeppelin"]), min_size=1, max_size=4
).map(" ".join)
few_rows = st.sets(st.integers(0, len(TITLES) - 1), max_size=12).map(
    lambda rows: np.isin(range(len(TITLES)), [*rows])
)


@given(some_words, masks | few_rows, st.integers(0, 60), st.integers(0, 60))
@settings(deadline=None, max_examples=200)
def test_a_shorter_list_is_the_beginning_of_a_longer_one(
    text: str, allowed_I: Mask | None, one: int, other: int
) -> None:
    """Though what fills up may have more of the words, and be nearer, than what was found and
    passes."""
    over = searcher(
        Reader(), SearchChoices(dense_k=1), search_ranker({"lexical": 1.0, "dense": 0.3})
    )
    short, long = (
        find(text, over, allowed_I=allowed_I, fill=fill) for fill in sorted([one, other])
    )
    assert short.rows_N.tolist() == long.rows_N[: len(short.rows_N)].tolist()
    assert short.total == long.total
    assert short.scores_N[: short.total].tolist() == long.scores_N[: short.total].tolist()


def by_hand(few: list[str], nearness: list[float]) -> HybridSearcher:
    """A catalogue whose items are so near to the vector of ones, 0 on the average."""
    vectors, index = np.diag(nearness).astype(np.float32), LexicalIndex.build({"title": few}, {})
    lexical, dense = LexicalRetriever(index), ExactRetriever("dense", vectors)
    ranker, choices = search_ranker({"lexical": 1.0, "dense": 1.0}), SearchChoices(dense_k=1)
    return HybridSearcher(
        lexical=lexical,
        dense=dense,
        item_vectors_ID=vectors,
        ranker=ranker,
        text_of=lambda rows: [],
        popularity_I=POPULARITY,
        cross_encoder=None,
        choices=choices,
    )


def test_what_fills_up_is_no_measure_for_what_was_found() -> None:
    """The tall lamp is the nearer of two; beside a chair that is nearer by far they would be alike
    near."""
    over = by_hand(["lamp", "tall lamp", "chair", "desk", "rug"], [0.1, 0.2, 0.8, 0.9, -2.0])
    for fill in (0, 3):
        hits = over.search(
            asked("lamp")[0], np.ones(5, np.float32), allowed_I=np.arange(5) < 3, fill=fill
        )
        assert hits.rows_N.tolist() == [1, 0, 2][: len(hits.rows_N)]
        assert (hits.total, len(hits.rows_N)) == (2, max(2, fill))


def test_what_fills_up_is_in_the_order_of_nearness_whatever_words_it_has() -> None:
    """Lamps have less than half of the query; the ranker would put one before the vase, once the
    page has both."""
    over = by_hand(["lamp", "lamp shade", "vase", "chair", "rug"], [0.1, 0.05, 0.15, 0.9, -1.2])
    for fill in (1, 2, 3):
        hits = over.search(
            asked("lamp chair")[0], np.ones(5, np.float32), allowed_I=np.arange(5) < 3, fill=fill
        )
        assert (hits.rows_N.tolist(), hits.total) == ([2, 0, 1][:fill], 0)


@given(
    st.sampled_from(["red chair", "cordless drill", "zeppelin lamp", "SC-14100"]),
    masks,
    st.integers(0, 60),
)
@settings(deadline=None, max_examples=50)
def test_a_filtered_search_gives_as_many_as_pass(
    text: str, allowed_I: Mask | None, fill: int
) -> None:
    hits = find(text, allowed_I=allowed_I, fill=fill)
    if allowed_I is not None:
        assert len(hits.rows_N) == max(hits.total, min(fill, int(allowed_I.sum())))


# The cross-encoder


READS = search_ranker({"lexical": 1.0, "dense": 1.0, "cross_encoder": 5.0})


def order_of(reader: Reader | None, **choices: Any) -> list[str]:
    return titles(find("red lamp", searcher(reader, SearchChoices(dense_k=3, **choices), READS)))


@pytest.mark.parametrize("window", [1, 5, 7])
def test_the_cross_encoder_orders_the_best_window_and_no_more(window: int) -> None:
    unread, reader = order_of(None), Reader("green")
    read = order_of(reader, rerank_depth=window)
    assert sum(map(len, reader.read)) == window
    assert sorted(read[:window]) == sorted(unread[:window])
    assert read[window:] == unread[window:]
    if window == 7:
        assert (unread[0], read[0]) == ("red lamp", "green lamp")


def test_what_is_read_is_read_in_order_and_some_at_once() -> None:
    unread, reader = order_of(None), Reader()
    order_of(reader, rerank_depth=7, rerank_batch=3)
    assert [len(texts) for texts in reader.read] == [3, 3, 1]
    assert [text for texts in reader.read for text in texts] == unread[:7]


def test_a_deadline_that_has_passed_reads_nothing_and_says_so() -> None:
    reader = Reader("green")
    hits = find("red lamp", searcher(reader, ranker=READS), deadline=time.perf_counter())
    assert reader.read == []
    assert titles(hits) == order_of(None)
    assert hits.skipped == (f"cross_encoder: read 0 of the best {len(hits.rows_N)}",)
    assert not hits.features_NF[:, CROSS_ENCODER].any()


def test_a_slow_cross_encoder_stops_in_between_and_the_unread_stay_in_their_order() -> None:
    deadline, choices = (
        time.perf_counter() + 0.5,
        SearchChoices(dense_k=3, rerank_depth=7, rerank_batch=2),
    )
    reader = Reader("nothing has this", deadline)
    hits = find("red lamp", searcher(reader, choices, READS), deadline=deadline)
    assert hits.skipped == ("cross_encoder: read 4 of the best 7",)
    assert [text for texts in reader.read for text in texts] == order_of(None)[:4]
    assert titles(hits) == order_of(None)
    assert (hits.features_NF[:, CROSS_ENCODER] > 0).tolist() == [True] * 4 + [False] * (
        len(hits.rows_N) - 4
    )


def test_time_enough_skips_nothing() -> None:
    assert (
        find(
            "red lamp", searcher(Reader(), ranker=READS), deadline=time.perf_counter() + 60
        ).skipped
        == ()
    )
    assert find("red lamp", deadline=0.0).skipped == ()


def test_what_only_fills_up_is_not_read() -> None:
    allowed_I, reader = np.array([title.startswith("red") for title in TITLES]), Reader()
    find("blue lamp", searcher(reader), allowed_I=allowed_I, fill=4)
    assert reader.read == [["red lamp"]]


# Scores


@pytest.mark.parametrize(
    "text", ["red lamp", "cordless drill", "zeppelin chair", "SC-14100", "green chair item00007"]
)
@pytest.mark.parametrize("reader", [None, Reader()])
def test_a_judged_row_scores_as_it_does_when_found(text: str, reader: Reader | None) -> None:
    over = searcher(reader, ranker=READS)
    hits = find(text, over)
    some = hits.rows_N[::-2]
    assert over.score_rows(*asked(text), some) == pytest.approx(hits.scores_N[::-2], rel=1e-5)


def test_a_row_that_is_not_found_can_be_judged() -> None:
    over = searcher(Reader(), ranker=READS)
    hits = find("red lamp", over)
    others = np.flatnonzero(~hits.matched_I).astype(np.int32)
    assert len(others)
    assert over.score_rows(*asked("red lamp"), others).max() < hits.scores_N[0]
    assert len(over.score_rows(*asked("red lamp"), others[:0])) == 0


def test_features_and_sources_are_those_of_their_rows() -> None:
    hits = find("red lamp", user_D=VECTORS[CHARGER])
    vector_D = asked("red lamp")[1]
    lexical_I = INDEX.scores("red lamp")
    for row, features, brought in zip(
        hits.rows_N, hits.features_NF, hits.retrieved_NF, strict=True
    ):
        above_mean = (VECTORS[row] - VECTORS.mean(axis=0)) @ vector_D
        expected = [lexical_I[row], above_mean, VECTORS[row] @ VECTORS[CHARGER], 0.0]
        assert features == pytest.approx(expected, abs=1e-6)
        assert brought[0] == (lexical_I[row] > 0)
        assert brought.any()
    assert hits.retrieved_NF[:, 1].sum() == NARROW.dense_k


def test_a_ranker_of_other_features_is_refused() -> None:
    with pytest.raises(
        InputError,
        match=r"the search ranker weighs lexical, dense: make one of lexical, dense, pers",
    ):
        searcher(ranker=LinearRanker({"lexical": 1.0, "dense": 1.0}))
