"""Where filters leave too few matches, the nearest others follow."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.config import search_ranker
from recsys.pipeline.searcher import HybridSearcher, SearchChoices
from recsys.retrieval.text.bm25 import LexicalIndex, LexicalRetriever
from recsys.retrieval.vectors.exact import ExactRetriever
from recsys.types import Mask
from tests.toy_searcher import (
    COLOURS,
    POPULARITY,
    THINGS,
    TITLES,
    FakeCrossEncoder,
    encode,
    masks,
    search,
    searcher,
    titles,
)


def test_where_filters_leave_too_little_the_nearest_follow_uncounted_and_told() -> None:
    allowed_I = np.array([title.startswith("red") for title in TITLES])
    hits = search("blue lamp", allowed_I=allowed_I, fill=4)
    assert titles(hits)[0] == "red lamp"
    assert (len(hits.rows_N), hits.total) == (4, 1)
    assert not hits.matched_I[hits.rows_N[1:]].any()
    assert allowed_I[hits.rows_N].all()
    assert hits.relaxed == (
        "the filters leave 1 of what was found: the nearest that pass them follow",
    )
    assert search("blue lamp", allowed_I=allowed_I, fill=1).relaxed == ()
    assert search("blue lamp", fill=40).total == search("blue lamp").total


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
        FakeCrossEncoder(), SearchChoices(dense_k=1), search_ranker({"lexical": 1.0, "dense": 0.3})
    )
    short, long = (
        search(text, over, allowed_I=allowed_I, fill=fill) for fill in sorted([one, other])
    )
    assert short.rows_N.tolist() == long.rows_N[: len(short.rows_N)].tolist()
    assert short.total == long.total
    assert short.scores_N[: short.total].tolist() == long.scores_N[: short.total].tolist()


def searcher_of(few: list[str], nearness: list[float]) -> HybridSearcher:
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
    over = searcher_of(["lamp", "tall lamp", "chair", "desk", "rug"], [0.1, 0.2, 0.8, 0.9, -2.0])
    for fill in (0, 3):
        hits = over.search(
            encode("lamp")[0], np.ones(5, np.float32), allowed_I=np.arange(5) < 3, fill=fill
        )
        assert hits.rows_N.tolist() == [1, 0, 2][: len(hits.rows_N)]
        assert (hits.total, len(hits.rows_N)) == (2, max(2, fill))


def test_what_fills_up_is_in_the_order_of_nearness_whatever_words_it_has() -> None:
    """Lamps have less than half of the query; the ranker would put one before the vase, once the
    page has both."""
    over = searcher_of(["lamp", "lamp shade", "vase", "chair", "rug"], [0.1, 0.05, 0.15, 0.9, -1.2])
    for fill in (1, 2, 3):
        hits = over.search(
            encode("lamp chair")[0], np.ones(5, np.float32), allowed_I=np.arange(5) < 3, fill=fill
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
    hits = search(text, allowed_I=allowed_I, fill=fill)
    if allowed_I is not None:
        assert len(hits.rows_N) == max(hits.total, min(fill, int(allowed_I.sum())))
