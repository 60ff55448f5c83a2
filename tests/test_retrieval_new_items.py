import numpy as np
import pytest

from recsys.arrays import Histories, Requests
from recsys.retrieval.behaviour.new_items import NewItemRetriever, first_days, new_item_mask
from recsys.types import PURCHASE
from tests.contracts import ScorerContract, answers, shoppers


class TestArrivals(ScorerContract):
    NEW = np.arange(60) % 4 > 0

    def make(self):
        random = np.random.default_rng(7)
        items_ID = random.normal(size=(self.ITEMS, 8)).astype(np.float32)
        return NewItemRetriever(items_ID, random.random(self.ITEMS).astype(np.float32), self.NEW)

    def requests(self):
        """The third shopper has no vector."""
        histories = shoppers(items=self.ITEMS)
        vectors_BD = np.random.default_rng(8).normal(size=(len(histories), 8)).astype(np.float32)
        vectors_BD[2] = 0
        return Requests(size=len(histories), texts=None, vectors_BD=vectors_BD, histories=histories)

    def matches(self, requests):
        return [left & set(np.flatnonzero(self.NEW).tolist()) for left in super().matches(requests)]


class TestArrivalsForStrangers(TestArrivals):
    def requests(self):
        histories = shoppers(items=self.ITEMS)
        return Requests(size=len(histories), histories=histories)


def bought(items, days):
    types = np.full(len(items), PURCHASE, np.int8)
    return Histories(
        offsets=np.array([0, len(items)]),
        items=np.array(items, np.int32),
        types=types,
        days=np.array(days, float),
    )


def test_first_seen_is_the_first_event_or_the_day_it_was_added():
    parts = [bought([0, 1, 0], [5, 6, 7]), bought([1, -1], [4, 1])]
    assert first_days(parts, 3).tolist() == [5, 4, np.inf]
    added_I = np.array([2, np.nan, 9])
    assert first_days(parts, 3, added_I).tolist() == [2, 4, 9]


def test_new_is_what_came_within_the_days_before_now_or_was_never_touched():
    days_I = np.array([0, 90, 100, 101, np.inf])
    assert new_item_mask(days_I, now_days=100.0, within_days=10.0).tolist() == [
        False,
        False,
        True,
        False,
        True,
    ]
    assert new_item_mask(days_I, now_days=100.0, within_days=10.1).tolist() == [
        False,
        True,
        True,
        False,
        True,
    ]


def test_a_young_log_does_not_know_what_is_new():
    assert not new_item_mask(np.array([95.0, 99]), now_days=100.0, within_days=30.0).any()
    assert new_item_mask(np.array([95.0, np.inf]), now_days=100.0, within_days=30.0).tolist() == [
        False,
        True,
    ]
    assert new_item_mask(np.full(2, np.inf), now_days=100.0).all(), (
        "before the first event all are untouched"
    )


def test_by_the_user_s_vector_and_by_popularity_without_one():
    source = NewItemRetriever(
        np.eye(3, dtype=np.float32), np.array([9, 1, 2], np.float32), np.array([False, True, True])
    )
    requests = Requests(
        size=2, texts=None, vectors_BD=np.array([[1, 0.8, 0.1], [0, 0, 0]], np.float32)
    )
    assert answers(source.retrieve(requests, 3)) == [[1, 2], [2, 1]]
    np.testing.assert_allclose(
        source.score(requests, np.array([[0, 1], [0, 1]], np.int32)), [[0, 0.8], [0, 1]]
    )


def test_bad_days_and_lengths_are_said():
    with pytest.raises(ValueError, match="no item is new within 0 days"):
        new_item_mask(np.zeros(1), 1.0, 0)
    with pytest.raises(ValueError, match="2 vectors, 3 popularities and 2 flags"):
        NewItemRetriever(np.eye(2, dtype=np.float32), np.ones(3, np.float32), np.ones(2, bool))


def test_an_item_is_new_for_thirty_days():
    days_I = np.array([0.0, 69.9, 70.1, 100.0])
    assert new_item_mask(days_I, now_days=100.0).tolist() == [False, False, True, True]
