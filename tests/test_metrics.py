import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import ndcg_score

from recsys import metrics

#: Three users: two of their three items are hits, none of their one, no truth.
ROWS_UK = np.array([[4, 9, 2, -1], [1, 2, 3, -1], [5, -1, -1, -1]])
OFFSETS, ITEMS = np.array([0, 3, 4, 4]), np.array([2, 4, 7, 9])


def test_worked_example():
    nan = np.nan
    np.testing.assert_allclose(metrics.hits_at_k(ROWS_UK, OFFSETS, ITEMS, 2), [1 / 2, 0, nan])
    np.testing.assert_allclose(metrics.hits_at_k(ROWS_UK, OFFSETS, ITEMS, 10), [2 / 3, 0, nan])
    np.testing.assert_allclose(metrics.recall_at_k(ROWS_UK, OFFSETS, ITEMS, 1), [1 / 3, 0, nan])
    ideal = 1 + 1 / np.log2(3) + 1 / 2
    np.testing.assert_allclose(
        metrics.ndcg_at_k(ROWS_UK, OFFSETS, ITEMS, 10), [(1 + 1 / 2) / ideal, 0, nan]
    )
    np.testing.assert_allclose(
        metrics.reciprocal_rank(ROWS_UK[:, 1:], OFFSETS, ITEMS), [1 / 2, 0, nan]
    )
    assert metrics.coverage(ROWS_UK, 12) == 6 / 12
    assert metrics.mean(np.array([1.0, 0.5, nan])) == 0.75


def test_a_user_is_never_given_anothers_hits():
    """Keys of (user, item) must not run into each other."""
    rows_UK, offsets, items = np.array([[1], [0]]), np.array([0, 1, 2]), np.array([5, 3])
    assert not metrics.hit_mask(rows_UK, offsets, items).any()
    pad_UK = np.array([[0], [-1]])
    assert not metrics.hit_mask(pad_UK, np.array([0, 1, 2]), np.array([9, 9])).any()


def test_no_answer_and_no_user():
    np.testing.assert_array_equal(
        metrics.reciprocal_rank(ROWS_UK[:, :0], OFFSETS, ITEMS), [0, 0, np.nan]
    )
    np.testing.assert_array_equal(
        metrics.ndcg_at_k(ROWS_UK[:, :0], OFFSETS, ITEMS, 10), [0, 0, np.nan]
    )
    assert np.isnan(metrics.mean(np.array([np.nan])))


def test_truth_of_other_users_is_refused():
    with pytest.raises(
        ValueError, match="3 answers need 4 truth offsets ending in 4, not 3 ending in 4"
    ):
        metrics.hit_mask(ROWS_UK, OFFSETS[1:], ITEMS)


@settings(max_examples=50, deadline=None)
@given(st.permutations(range(8)), st.sets(st.integers(0, 11), min_size=1), st.integers(1, 10))
def test_laws(answer, truth, k):
    rows_UK, offsets, items = np.array([answer]), np.array([0, len(truth)]), np.array(sorted(truth))
    hits = len(set(answer[:k]) & truth)
    assert metrics.hits_at_k(rows_UK, offsets, items, k) == hits / min(k, len(truth))
    assert metrics.recall_at_k(rows_UK, offsets, items, k) == hits / len(truth)
    assert 0 <= metrics.ndcg_at_k(rows_UK, offsets, items, k)[0] <= 1 + 1e-9
    perfect = np.array([sorted(truth) + [-1] * (12 - len(truth))])
    np.testing.assert_allclose(metrics.ndcg_at_k(perfect, offsets, items, k), 1)


@settings(max_examples=50, deadline=None)
@given(
    st.permutations(range(8)),
    st.sets(st.integers(0, 11), min_size=1),
    st.integers(1, 8),
    st.integers(1, 7),
)
def test_an_item_moved_up(answer, truth, k, place):
    """A hit one place higher never costs; the order within the first k is nothing to hits and
    recall."""
    offsets, items = np.array([0, len(truth)]), np.array(sorted(truth))
    before, after = np.array([answer]), np.array([answer])
    after[0, [place - 1, place]] = after[0, [place, place - 1]]
    gain = int(answer[place] in truth) - int(answer[place - 1] in truth)
    for value in (metrics.ndcg_at_k, metrics.hits_at_k, metrics.recall_at_k):
        assert gain * (value(after, offsets, items, k) - value(before, offsets, items, k))[0] >= 0
    if gain and place < k:
        assert (
            gain
            * (
                metrics.ndcg_at_k(after, offsets, items, k)
                - metrics.ndcg_at_k(before, offsets, items, k)
            )
            > 0
        )
    if place != k:
        assert metrics.hits_at_k(after, offsets, items, k) == metrics.hits_at_k(
            before, offsets, items, k
        )
    first = next((at + 1 for at, item in enumerate(answer) if item in truth), np.inf)
    assert metrics.reciprocal_rank(before, offsets, items) == 1 / first


def test_coverage_counts_an_item_once():
    assert metrics.coverage(np.array([[0, 1], [1, 0], [-1, -1]]), 4) == 2 / 4


#: Two queries: judged 3 2 0 1 in the order of the candidates, and judged 0 0.
SCORES_P, GAINS_P = (
    np.array([0.1, 0.9, 0.5, 0.2, 0.7, 0.1]),
    np.array([3.0, 2.0, 0.0, 1.0, 0.0, 0.0]),
)
GRADED = np.array([0, 4, 6])


def test_graded_ndcg_worked_example():
    """Ranked 2 0 1 3 where 3 2 1 0 is best: log2 of 2, 3, 4, 5 discount the places."""
    at_2 = 2 / (3 + 2 / np.log2(3))
    at_9 = (2 + 1 / 2 + 3 / np.log2(5)) / (3 + 2 / np.log2(3) + 1 / 2)
    np.testing.assert_allclose(metrics.graded_ndcg(SCORES_P, GAINS_P, GRADED, 2), [at_2, np.nan])
    np.testing.assert_allclose(metrics.graded_ndcg(SCORES_P, GAINS_P, GRADED, 9), [at_9, np.nan])
    assert np.isnan(metrics.graded_ndcg(SCORES_P[:0], GAINS_P[:0], np.array([0, 0]), 10)).all()


def test_graded_ndcg_keeps_ties_in_the_order_given():
    tied = metrics.graded_ndcg(np.zeros(4), np.array([0.0, 0.0, 0.0, 1.0]), np.array([0, 4]), 10)
    np.testing.assert_allclose(tied, 1 / np.log2(5))


graded = st.lists(
    st.tuples(st.integers(0, 99), st.integers(0, 7)),
    min_size=2,
    max_size=9,
    unique_by=lambda it: it[0],
)


@settings(max_examples=50, deadline=None)
@given(st.lists(graded, min_size=1, max_size=4), st.integers(1, 10))
def test_graded_ndcg_is_that_of_scikit_learn(users, k):
    """Which calls it 0 where ours is NaN, and averages over ties: here there are none."""
    scores_P, gains_P = np.array([pair for user in users for pair in user], float).T
    ours_U = metrics.graded_ndcg(scores_P, gains_P, np.cumsum([0, *map(len, users)]), k)
    theirs_U = [
        ndcg_score([[gain for _, gain in user]], [[score for score, _ in user]], k=k)
        for user in users
    ]
    np.testing.assert_allclose(np.nan_to_num(ours_U), theirs_U)
    assert np.isnan(ours_U).tolist() == [not any(gain for _, gain in user) for user in users]


def test_exposure_and_gini_worked_example():
    """Shown 0, 1 and 3 times: (-2 x 0 + 0 x 1 + 2 x 3) / (3 x 4)."""
    rows_UK = np.array([[2, 1], [2, -1], [2, -1]])
    assert metrics.exposure(rows_UK, 3).tolist() == [0, 1, 3]
    assert metrics.gini(metrics.exposure(rows_UK, 3)) == 6 / 12
    assert np.isnan(metrics.gini(np.zeros(3, int)))


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 9), min_size=2, max_size=9).filter(any))
def test_gini_is_the_mean_difference_of_all_pairs(exposures):
    """Its definition: the mean absolute difference of two items over twice the mean."""
    exposure_I = np.array(exposures)
    pairs = np.abs(exposure_I[:, None] - exposure_I).mean() / (2 * exposure_I.mean())
    np.testing.assert_allclose(metrics.gini(exposure_I), pairs)
    assert metrics.gini(exposure_I[::-1]) == metrics.gini(exposure_I)


def test_the_tail_has_a_fifth_of_the_interactions():
    counts_I = np.array([1, 60, 0, 9, 20, 10])
    assert metrics.tail(counts_I).tolist() == [True, False, True, True, False, True]
    assert metrics.tail(counts_I, 0.4).tolist() == [True, False, True, True, True, True]
    assert not metrics.tail(np.array([5, 5, 5, 5, 5])).any()
    assert (
        metrics.share_of_places(np.array([[1, 0, 3], [1, -1, -1]]), metrics.tail(counts_I)) == 2 / 4
    )
    assert np.isnan(metrics.share_of_places(np.array([[-1]]), metrics.tail(counts_I)))


def test_novelty_counts_bits():
    """Of 4 events and 4 items: p is 4/8 for the item with 3, 1/8 for one with none."""
    counts_I = np.array([3, 1, 0, 0])
    assert metrics.novelty(np.array([[0, -1], [0, 2]]), counts_I) == (1 + 1 + 3) / 3
    assert np.isnan(metrics.novelty(np.array([[-1]]), counts_I))
