"""A declared interest as a source, and how much it counts."""

from __future__ import annotations

import numpy as np
import pytest

from recsys.arrays import Requests
from recsys.interfaces import Retriever
from recsys.ranking.linear import LinearRanker
from recsys.retrieval.interest import DeclaredInterest, InterestRanker
from tests.contracts import ScorerContract


class TestDeclaredInterest(ScorerContract):
    def make(self) -> Retriever:
        rng = np.random.default_rng(0)
        return DeclaredInterest(
            rng.permutation(self.ITEMS).astype(np.int32), rng.random(self.ITEMS, np.float32) + 0.1
        )


def interest(rows: list[int], scores: list[float]) -> DeclaredInterest:
    return DeclaredInterest(np.array(rows, np.int32), np.array(scores, np.float32))


def test_what_the_search_found_is_retrieved_by_its_score_and_nothing_else_is() -> None:
    source = interest([7, 2, 9, 4], [0.5, 0.9, 0.0, -0.2])
    assert source.retrieve(Requests(size=2), 5).rows_BN.tolist() == [[2, 7], [2, 7]]
    scores_BN = source.score(Requests(size=1), np.array([[7, 3, 9, 2, 8, 10, -1]], np.int32))
    np.testing.assert_allclose(scores_BN, [[0.5, 0, 0, 0.9, 0, 0, 0]])
    assert (len(source), len(interest([4], [-1]))) == (2, 0)


def test_nothing_found_is_no_candidate() -> None:
    nothing = interest([], [])
    assert nothing.retrieve(Requests(size=1), 3).rows_BN.shape == (1, 0)
    assert nothing.score(Requests(size=1), np.array([[3, -1]], np.int32)).tolist() == [[0, 0]]


@pytest.mark.parametrize(("events", "weight"), [(0, 3.0), (5, 1.75), (20, 1.0)])
def test_an_interest_fades_as_the_user_shows_what_he_wants(events: int, weight: float) -> None:
    """The best seller (10 sold), the best match (which sold 2), another match."""
    features_BNF = np.array([[[10, 0.0], [2, 0.8], [0, 0.4]]], np.float32)
    ranker = InterestRanker(LinearRanker({"popularity": 0.05}), events)
    assert ranker.feature_names == ("popularity", "interest")
    np.testing.assert_allclose(
        ranker.score(features_BNF), [[1, 0.2 + weight, weight / 2]], rtol=1e-6
    )


def test_without_other_scores_the_interest_alone_counts() -> None:
    features_BNF = np.array([[[0, 0.5], [0, 1.0]]], np.float32)
    assert InterestRanker(LinearRanker({"popularity": 1.0}), 0).score(features_BNF).tolist() == [
        [1.5, 3.0]
    ]
