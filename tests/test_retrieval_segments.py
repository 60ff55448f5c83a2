"""BM25 over two segments answers as one index of all items would."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.retrieval.text.bm25 import LexicalIndex
from recsys.retrieval.text.segments import SegmentedIndex

WORDS = ["red", "chair", "chairs", "armchair", "brûlée", "brulee", "3m", "5", "手机壳", "x-200"]
titles = st.lists(
    st.lists(st.sampled_from(WORDS), max_size=4).map(" ".join), min_size=1, max_size=6
)
queries = st.lists(st.sampled_from([*WORDS, "ch", "sofa", "chairs red"]), min_size=1, max_size=3)


def index(texts: list[str]) -> LexicalIndex:
    return LexicalIndex.build({"title": texts}, {"title": 3}, ["english"])


def segmented(first: list[str], later: list[str]) -> SegmentedIndex:
    return SegmentedIndex(index(first), {"title": later}, {"title": 3})


@settings(max_examples=150, deadline=None)
@given(titles, titles, queries.map(" ".join))
def test_it_covers_what_one_index_of_all_covers(
    first: list[str], later: list[str], query: str
) -> None:
    parts, whole = segmented(first, later), index(first + later)
    assert parts.items == whole.items
    np.testing.assert_allclose(parts.coverage(query), whole.coverage(query), atol=1e-6)
    assert ((parts.scores(query) > 0) == (whole.scores(query) > 0)).all()
    assert parts.missing_terms(query) == whole.missing_terms(query)


def test_weights_are_those_of_one_index_but_for_the_base_s_frequencies() -> None:
    first = ["red chair", "red table", "blue lamp"] * 50
    parts, whole = (
        segmented(first, ["red chair", "green hammock"]),
        index([*first, "red chair", "green hammock"]),
    )
    for query in ("red chair", "green", "hammock red"):
        np.testing.assert_allclose(parts.scores(query), whole.scores(query), rtol=0.03)


@pytest.mark.parametrize(("text", "rows"), [("red chair", [0, 2]), ("red", [0, 1, 2]), ("x", [])])
def test_rows_with_all_terms(text: str, rows: list[int]) -> None:
    assert segmented(["red chair", "red table"], ["red chair"]).rows_with(text).tolist() == rows


def test_terms_that_only_the_later_items_have() -> None:
    assert list(segmented(["red chair"], ["red hammock", "sofa"]).new_terms) == ["hammock", "sofa"]
