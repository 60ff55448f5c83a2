import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.arrays import Requests
from recsys.metrics import tail
from recsys.retrieval.behaviour.long_tail import LongTailRetriever
from tests.contracts import ScorerContract, answers, shoppers


class TestTail(ScorerContract):
    TAIL = np.arange(60) % 3 > 0

    def make(self):
        return LongTailRetriever(
            np.random.default_rng(4).normal(size=(self.ITEMS, 8)).astype(np.float32), self.TAIL
        )

    def requests(self):
        histories = shoppers(items=self.ITEMS)
        vectors_BD = np.random.default_rng(5).normal(size=(len(histories), 8)).astype(np.float32)
        return Requests(size=len(histories), texts=None, vectors_BD=vectors_BD, histories=histories)

    def matches(self, requests):
        return [
            left & set(np.flatnonzero(self.TAIL).tolist()) for left in super().matches(requests)
        ]


def test_the_tail_of_a_worked_example():
    """Of 20 interactions the tail's fifth is 4: the items with 1, 1 and 2, and the one without
    any."""
    counts_I = np.array([10, 1, 6, 0, 2, 1], np.float32)
    assert np.flatnonzero(tail(counts_I)).tolist() == [1, 3, 4, 5]
    assert np.flatnonzero(tail(counts_I, 0.19)).tolist() == [1, 3, 5]
    assert np.flatnonzero(tail(counts_I, 0)).tolist() == [3]
    assert tail(counts_I, 1).all()


def test_a_shop_without_events_is_all_tail_and_one_without_items_has_none():
    assert tail(np.zeros(3, np.float32)).all()
    assert tail(np.zeros(0, np.float32)).shape == (0,)


@given(st.lists(st.integers(0, 50), min_size=1, max_size=30), st.floats(0, 1))
def test_a_tail_is_small_and_nobody_in_it_is_more_popular_than_outside(counts, share):
    counts_I = np.array(counts, np.float32)
    tail_I = tail(counts_I, share)
    assert counts_I[tail_I].sum() <= share * counts_I.sum() * (1 + 1e-6)
    assert counts_I[tail_I].max(initial=0) < counts_I[~tail_I].min(initial=np.inf)
    assert tail_I[counts_I == 0].all()


def test_a_share_is_a_part_and_masks_fit():
    with pytest.raises(ValueError, match=r"share of 1\.5"):
        tail(np.ones(2, np.float32), 1.5)
    with pytest.raises(ValueError, match="2 item vectors and a tail over 3"):
        LongTailRetriever(np.ones((2, 4), np.float32), np.ones(3, bool))


def test_the_head_is_left_out_however_near_and_scores_nothing():
    source = LongTailRetriever(np.eye(3, dtype=np.float32), np.array([False, True, True]))
    requests = Requests(size=1, texts=None, vectors_BD=np.array([[1, 0.5, 0.1]], np.float32))
    assert answers(source.retrieve(requests, 3)) == [[1, 2]]
    np.testing.assert_allclose(source.score(requests, np.array([[0, 1]], np.int32)), [[0, 0.5]])


def test_no_vector_no_candidates():
    source = LongTailRetriever(np.eye(2, dtype=np.float32), np.ones(2, bool))
    assert answers(source.retrieve(Requests(size=1), 2)) == [[]]
    assert answers(
        source.retrieve(Requests(size=1, texts=None, vectors_BD=np.zeros((1, 2), np.float32)), 2)
    ) == [[]]
