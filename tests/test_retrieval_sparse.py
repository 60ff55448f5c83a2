import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.arrays import Histories
from recsys.retrieval.behaviour.sparse import (
    EVENT_WEIGHTS,
    decayed_interests,
    is_bought,
    pad_lists,
    ragged_top_k,
)
from recsys.types import EVENT_TYPES, PURCHASE

scores = st.dictionaries(st.integers(0, 30), st.sampled_from([-1.5, 0.0, 0.25, 2.0]), max_size=12)


@settings(max_examples=100, deadline=None)
@given(st.lists(scores, min_size=1, max_size=5), st.integers(1, 8), st.randoms())
def test_best_of_is_a_sort_of_each_request(requests, k, shuffled):
    entries = [(owner, *entry) for owner, scored in enumerate(requests) for entry in scored.items()]
    shuffled.shuffle(entries)
    entries.sort(key=lambda entry: entry[0])
    owners, items, values = (np.array([e[at] for e in entries]) for at in range(3))
    rows_BK, scores_BK = ragged_top_k(
        owners.astype(int), items.astype(int), values.astype(np.float32), len(requests), k
    )
    for scored, rows, best in zip(requests, rows_BK, scores_BK, strict=True):
        wanted = sorted(scored.items(), key=lambda entry: (-entry[1], entry[0]))[:k]
        assert list(zip(rows[rows >= 0].tolist(), best[rows >= 0].tolist(), strict=True)) == wanted
        assert (best[rows < 0] == -np.inf).all()


def test_interests_fade_from_each_user_s_own_last_event():
    types = np.array([PURCHASE, 0, 0, PURCHASE], np.int8)
    known = Histories(
        offsets=np.array([0, 3, 3, 4]),
        items=np.array([1, 1, 2, 0], np.int32),
        types=types,
        days=np.array([0.0, 10, 10, 99]),
    )
    wanted_BI = [[0, 0.5 + 0.1, 0.1], [0, 0, 0], [1, 0, 0]]
    np.testing.assert_allclose(
        decayed_interests(known, 3, half_life_days=10).toarray(), wanted_BI, rtol=1e-6
    )


def test_is_bought_looks_at_purchases_of_this_user():
    known = Histories(
        offsets=np.array([0, 2, 3]),
        items=np.array([4, 0, 1], np.int32),
        types=np.array([PURCHASE, 0, PURCHASE], np.int8),
        days=np.zeros(3),
    )
    assert is_bought(known, np.array([0, 0, 1, 1]), np.array([4, 0, 1, 4])).tolist() == [
        True,
        False,
        True,
        False,
    ]
    # One past user 0's items would be user 1's first if keys ran into each other.
    assert not is_bought(known, np.array([0, 1]), np.array([6, 0])).any()


def test_a_purchase_says_ten_times_a_view_five_times_a_click_twice_a_cart():
    weights = dict(zip(EVENT_TYPES, EVENT_WEIGHTS.tolist(), strict=True))
    assert weights == {"view": 0.1, "click": 0.2, "cart": 0.5, "purchase": 1.0}


def test_lists_are_padded_to_a_width():
    rows, scores = pad_lists(np.array([[3]], np.int32), np.array([[0.5]], np.float32), 3)
    assert (rows.tolist(), scores.tolist()) == ([[3, -1, -1]], [[0.5, -np.inf, -np.inf]])
    assert (rows.dtype, scores.dtype) == (np.int32, np.float32)
