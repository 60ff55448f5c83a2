import numpy as np

from recsys.retrieval.popularity import Popularity, popularity
from recsys.types import PURCHASE, Histories, Requests
from tests.contracts import ScorerContract, answers


class TestPopularity(ScorerContract):
    def make(self):
        return Popularity(np.random.default_rng(3).integers(0, 9, self.ITEMS).astype(np.float32))


def test_events_are_weighted_and_fade():
    known = Histories(
        np.array([0, 2, 3]),
        np.array([0, 1, 1], np.int32),
        np.array([PURCHASE, 0, PURCHASE], np.int8),
        np.array([0, 10, 10.0]),
    )
    scores_I = popularity([known], 3, now_days=10.0, half_life_days=10.0)
    np.testing.assert_allclose(scores_I, [0.5, 1.1, 0])
    halves = popularity([known.slice(0, 1), known.slice(1, 2)], 3, now_days=10.0, half_life_days=10.0)
    np.testing.assert_allclose(halves, scores_I)


def test_a_stranger_gets_the_best_ties_by_row_and_the_unsold_last():
    source = Popularity(np.array([0, 2, 5, 2, 0], np.float32))
    assert answers(source.retrieve(Requests(2), 9)) == [[2, 1, 3, 0, 4]] * 2


def test_scores_any_row():
    scores_BN = Popularity(np.array([0, 2, 5], np.float32)).score(Requests(1), np.array([[2, 0]], np.int32))
    assert scores_BN.tolist() == [[5, 0]]
