import numpy as np
import pytest

from recsys.arrays import Histories, Requests
from recsys.retrieval.behaviour.popularity import (
    CategoryPopularityRetriever,
    PopularityRetriever,
    decayed_popularity,
)
from recsys.types import PURCHASE
from tests.contracts import ScorerContract, answers


class TestPopularity(ScorerContract):
    def make(self):
        return PopularityRetriever(
            np.random.default_rng(3).integers(0, 9, self.ITEMS).astype(np.float32)
        )


def test_events_are_weighted_and_fade():
    known = Histories(
        offsets=np.array([0, 2, 3]),
        items=np.array([0, 1, 1], np.int32),
        types=np.array([PURCHASE, 0, PURCHASE], np.int8),
        days=np.array([0, 10, 10.0]),
    )
    scores_I = decayed_popularity([known], 3, now_days=10.0, half_life_days=10.0)
    np.testing.assert_allclose(scores_I, [0.5, 1.1, 0])
    halves = decayed_popularity(
        [known.slice(0, 1), known.slice(1, 2)], 3, now_days=10.0, half_life_days=10.0
    )
    np.testing.assert_allclose(halves, scores_I)


def test_a_stranger_gets_the_best_ties_by_row_and_the_unsold_last():
    source = PopularityRetriever(np.array([0, 2, 5, 2, 0], np.float32))
    assert answers(source.retrieve(Requests(size=2), 9)) == [[2, 1, 3, 0, 4]] * 2


def test_scores_any_row():
    scores_BN = PopularityRetriever(np.array([0, 2, 5], np.float32)).score(
        Requests(size=1), np.array([[2, 0]], np.int32)
    )
    assert scores_BN.tolist() == [[5, 0]]


class TestCategoryPopularity(ScorerContract):
    """Four categories, of which the last has no items; every tenth item has none."""

    CATEGORIES = np.where(np.arange(60) % 10 == 9, -1, np.array([0, 1, 3])[np.arange(60) % 3])

    def make(self):
        return CategoryPopularityRetriever(
            np.random.default_rng(3).integers(0, 9, self.ITEMS), self.CATEGORIES
        )

    def matches(self, requests):
        known, left = requests.histories, super().matches(requests)
        touched = [
            set(self.CATEGORIES[known.slice(user, user + 1).items]) - {-1}
            for user in range(len(known))
        ]
        return [
            {row for row in rows if self.CATEGORIES[row] in mine}
            for rows, mine in zip(left, touched, strict=True)
        ]


def one(items, days):
    types = np.full(len(items), PURCHASE, np.int8)
    return Requests(
        size=1,
        histories=Histories(
            offsets=np.array([0, len(items)]),
            items=np.array(items, np.int32),
            types=types,
            days=np.array(days),
        ),
    )


def test_what_sells_in_the_categories_of_the_history():
    """Category 0 has rows 0 1 2, category 1 rows 3 4, category 2 row 5, none row 6. Two thirds of
    the taste are 0's."""
    source = CategoryPopularityRetriever(
        np.array([5, 3, 1, 2, 8, 99, 99], np.float32), np.array([0, 0, 0, 1, 1, 2, -1])
    )
    found = source.retrieve(one([0, 0, 3], [1.0, 1.0, 1.0]), 9)
    assert answers(found) == [[4, 1, 2]]
    np.testing.assert_allclose(found.scores_BN, [[8 / 3, 2, 2 / 3]], rtol=1e-6)
    scores_BN = source.score(one([0, 0, 3], [1.0, 1.0, 1.0]), np.array([[1, 5, 6]], np.int32))
    np.testing.assert_allclose(scores_BN, [[2, 0, 0]], rtol=1e-6)


def test_a_taste_fades():
    source = CategoryPopularityRetriever(np.ones(4, np.float32), np.array([0, 0, 1, 1]))
    assert answers(source.retrieve(one([0, 2], [0.0, 300.0]), 2)) == [[3, 1]]


def test_a_user_who_bought_the_best_of_a_category_gets_the_next():
    source = CategoryPopularityRetriever(np.arange(20, 0, -1), np.zeros(20, int))
    assert answers(source.retrieve(one(range(15), [1.0] * 15), 3)) == [[15, 16, 17]]


def test_no_category_and_no_history_no_candidates():
    nowhere = CategoryPopularityRetriever(np.ones(3, np.float32), np.full(3, -1))
    assert answers(nowhere.retrieve(one([0], [1.0]), 3)) == [[]]
    assert nowhere.score(one([0], [1.0]), np.array([[1]], np.int32)).tolist() == [[0]]
    source = CategoryPopularityRetriever(np.ones(3, np.float32), np.zeros(3, int))
    assert source.retrieve(Requests(size=2), 3).rows_BN.shape == (2, 0)
    assert source.score(Requests(size=1), np.array([[1]], np.int32)).tolist() == [[0]]
    with pytest.raises(ValueError, match="2 popularities for 3 categories"):
        CategoryPopularityRetriever(np.ones(2, np.float32), np.zeros(3, int))


def test_popularity_halves_in_a_week_and_an_interest_in_a_category_in_sixty_days():
    scores_I = decayed_popularity([one([0, 1], [93.0, 100.0]).histories], 2, now_days=100.0)
    np.testing.assert_allclose(scores_I, [0.5, 1])
    source = CategoryPopularityRetriever(np.ones(4, np.float32), np.array([0, 1, 0, 1]))
    scores = source.score(one([0, 1], [40.0, 100.0]), np.array([[2, 3]], np.int32))[0]
    np.testing.assert_allclose(scores, [1 / 3, 2 / 3], rtol=1e-6)


def test_one_account_is_one_buyer():
    till = one([0] * 200, np.linspace(90, 100, 200)).histories
    shoppers = [one([1], [99.0]).histories, one([1], [98.0]).histories]
    scores_I = decayed_popularity([till, *shoppers], 2, now_days=100.0)
    assert scores_I[0] == 1
    assert scores_I[1] > scores_I[0]
