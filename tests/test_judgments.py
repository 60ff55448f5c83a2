import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.datasets.judgments import JudgedPairs
from recsys.errors import InputError

#: "lamp" wants 4 and perhaps 1, "saw" wants 2 and not 1.
PAIRS = JudgedPairs.from_texts(
    ["saw", "lamp", "saw", "lamp"], np.array([2, 1, 1, 4]), np.array([1.0, 0.5, 0.0, 0.75])
)


def test_pairs_in_any_order_are_sorted_by_query():
    assert PAIRS.queries == ("saw", "lamp")
    assert PAIRS.query_P.tolist() == [0, 0, 1, 1]
    assert PAIRS.rows_P.tolist() == [2, 1, 1, 4]
    assert PAIRS.grades_P.tolist() == [1, 0, 0.5, 0.75]
    assert (PAIRS.query_P.dtype, PAIRS.rows_P.dtype, PAIRS.grades_P.dtype) == (
        np.int64,
        np.int64,
        np.float32,
    )


def test_what_each_query_has():
    assert PAIRS.offsets.tolist() == [0, 2, 4]
    saw, lamp = PAIRS.by_query()
    assert (saw[0].tolist(), saw[1].tolist()) == ([2, 1], [1, 0])
    assert (lamp[0].tolist(), lamp[1].tolist()) == ([1, 4], [0.5, 0.75])
    assert PAIRS.positives().tolist() == [0, 2, 3]
    offsets, rows = PAIRS.relevant()
    assert (offsets.tolist(), rows.tolist()) == ([0, 1, 2], [2, 4])


def test_a_query_without_pairs_has_none():
    pairs = JudgedPairs.from_unsorted(
        ["first", "none", "last", "none either"], [2, 0, 2], [7, 8, 9], [1, 0, 1]
    )
    assert pairs.offsets.tolist() == [0, 1, 1, 3, 3]
    assert [rows.tolist() for rows, _ in pairs.by_query()] == [[8], [], [7, 9], []]
    assert pairs.relevant()[0].tolist() == [0, 0, 0, 2, 2]


@given(
    st.lists(
        st.tuples(st.sampled_from("abcde"), st.integers(0, 5), st.sampled_from([0, 0.5, 0.75, 1])),
        min_size=1,
    )
)
def test_nothing_is_lost_and_the_order_within_a_query_stays(judged):
    texts, rows, grades = zip(*judged, strict=True)
    pairs = JudgedPairs.from_texts(texts, np.array(rows), np.array(grades))
    assert pairs.queries == tuple(dict.fromkeys(texts))
    for query, (rows_N, grades_N) in zip(pairs.queries, pairs.by_query(), strict=True):
        expected = [(row, grade) for text, row, grade in judged if text == query]
        assert list(zip(rows_N.tolist(), grades_N.tolist(), strict=True)) == expected


def test_no_pair_is_said():
    with pytest.raises(InputError, match="there are no judged pairs: give at least one"):
        JudgedPairs.from_texts([], np.array([], int), np.array([]))


@pytest.mark.parametrize("grade", [-0.1, 1.1, np.nan, np.inf])
def test_a_grade_out_of_range_is_said(grade):
    with pytest.raises(InputError, match=r"grades run from .* give 0 to 1"):
        JudgedPairs.from_texts(["saw", "saw"], np.array([0, 1]), np.array([0.5, grade]))


@pytest.mark.parametrize(("rows", "grades"), [(3, 2), (1, 2), (2, 3), (2, 1)])
def test_lengths_that_differ_are_said(rows, grades):
    with pytest.raises(
        InputError, match=f"2 queries, {rows} items and {grades} grades: give one of each a pair"
    ):
        JudgedPairs.from_texts(["saw", "lamp"], np.zeros(rows, int), np.zeros(grades))


@pytest.mark.parametrize("of", [[1, 0], [0, 2], [-1, 0]])
def test_pairs_that_are_not_sorted_by_a_query_there_is_are_said(of):
    with pytest.raises(
        InputError, match=r"2 queries have pairs of -?\d to \d, or in no order: number them from 0"
    ):
        JudgedPairs(("saw", "lamp"), np.array(of), np.array([0, 1]), np.array([0.5, 1], np.float32))


def test_a_place_without_a_query_is_said():
    with pytest.raises(InputError, match="1 queries have pairs of -1 to 1"):
        JudgedPairs.from_unsorted(["saw"], [1, -1], [0, 0], [1, 1])
