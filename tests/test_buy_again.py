import numpy as np

from recsys.retrieval.buy_again import BuyAgain
from recsys.types import PURCHASE, Histories, Requests
from tests.contracts import RetrieverContract, answers


class TestBuyAgain(RetrieverContract):
    def make(self):
        return BuyAgain()

    def matches(self, requests):
        return self.bought(requests)


class TestBuyAgainWithPopularity(TestBuyAgain):
    def make(self):
        return BuyAgain(np.random.default_rng(5).random(self.ITEMS).astype(np.float32))


def purchases(items, days):
    types = np.full(len(items), PURCHASE, np.int8)
    return Requests(1, histories=Histories(np.array([0, len(items)]), np.array(items, np.int32), types, np.array(days)))


def test_often_before_once_and_lately_before_long_ago():
    requests = purchases([7, 3, 5, 7], [0.0, 1.0, 300.0, 301.0])
    assert answers(BuyAgain().retrieve(requests, 3)) == [[7, 5, 3]]


def test_popularity_settles_what_his_counts_leave_open():
    requests = purchases([0, 1, 2, 2], [1.0, 1.0, 1.0, 1.0])
    assert answers(BuyAgain().retrieve(requests, 3)) == [[2, 0, 1]]
    assert answers(BuyAgain(np.array([0, 3, 0], np.float32)).retrieve(requests, 3)) == [[2, 1, 0]]


def test_what_was_only_seen_is_not_again():
    seen = Histories(np.array([0, 2]), np.array([4, 6], np.int32), np.array([0, PURCHASE], np.int8), np.zeros(2))
    assert answers(BuyAgain().retrieve(Requests(1, histories=seen), 5)) == [[6]]


def test_no_history_no_candidates():
    assert BuyAgain().retrieve(Requests(2), 5).rows_BN.shape == (2, 0)
    assert BuyAgain().retrieve(Requests(2, histories=Histories.empty(2)), 5).rows_BN.shape == (2, 0)
