import numpy as np
import pytest

from recsys.arrays import Histories, Requests
from recsys.retrieval.behaviour import successors
from recsys.retrieval.behaviour.successors import (
    SuccessorRetriever,
    cold_item_proxies,
    successor_neighbours,
    successor_weights,
)
from recsys.types import PURCHASE
from tests.contracts import RetrieverContract


def log(*users):
    offsets = np.concatenate([[0], np.cumsum([len(user) for user in users])]).astype(np.int64)
    items = np.array([item for user in users for item in user], np.int32)
    return Histories(
        offsets=offsets,
        items=items,
        types=np.full(len(items), PURCHASE, np.int8),
        days=np.arange(len(items), dtype=float),
    )


#: Tea leads to cups, cups to spoons; item 5 is nobody's, and like the spoon.
TEA, CUP, SPOON, SAW, NAIL, NEW = range(6)
SHOP = log([TEA, CUP, SPOON], [TEA, CUP], [CUP, SPOON], [SAW, NAIL])
CONTENT = (
    np.array([[-1, -1]] * 5 + [[SPOON, -1]], np.int32),
    np.array([[-np.inf, -np.inf]] * 5 + [[0.9, -np.inf]], np.float32),
)


class TestFollows(RetrieverContract):
    def make(self):
        others_IN = np.array(
            [[item for item in range(self.ITEMS) if item != row] for row in range(self.ITEMS)]
        )
        scores_IN = np.sort(np.random.default_rng(2).random(others_IN.shape))[:, ::-1]
        return SuccessorRetriever(others_IN.astype(np.int32), scores_IN.astype(np.float32))


def test_what_came_next_leads():
    rows_IN, scores_IN = successor_neighbours([SHOP], range(6), 6, 3)
    assert rows_IN[TEA].tolist()[:2] == [CUP, SPOON]
    assert rows_IN[SAW].tolist() == [NAIL, -1, -1]
    assert (scores_IN[NEW] == -np.inf).all()


def test_parts_and_blocks_add_up():
    whole = successor_weights([SHOP], range(6), 6).toarray()
    parts = [SHOP.slice(0, 1), SHOP.slice(1, 4)]
    blocks = [successor_weights(parts, block, 6).toarray() for block in (range(0, 4), range(4, 6))]
    np.testing.assert_allclose(np.concatenate(blocks), whole, rtol=1e-6)


def test_items_like_a_new_one_stand_in_for_it():
    counts_I = np.bincount(SHOP.items, minlength=6)
    new = cold_item_proxies(*CONTENT, counts_I)
    assert new.toarray()[NEW].tolist() == [0, 0, 1, 0, 0, 0]
    rows_IN, scores_IN = successor_neighbours([SHOP], range(6), 6, 4, new)
    spoon, none = (scores_IN[TEA][rows_IN[TEA] == item][0] for item in (SPOON, NEW))
    assert none == pytest.approx(spoon)
    assert NEW not in rows_IN[SAW]


def test_shares_of_stand_ins_are_by_likeness_and_only_of_items_with_events():
    rows_IN = np.array([[-1] * 6] * 6 + [[0, 1, 2, 3, 4, 5]], np.int32)
    likeness_IN = np.full((7, 6), -np.inf, np.float32)
    likeness_IN[6] = [3, 3, 2, 1, 1, 1]
    shares = cold_item_proxies(rows_IN, likeness_IN, np.array([1, 0, 1, 1, 1, 1, 0])).toarray()
    np.testing.assert_allclose(shares[6], [3 / 7, 0, 2 / 7, 1 / 7, 1 / 7, 0, 0], rtol=1e-6)
    assert successors.PROXIES == 4
    assert not shares[1].any()


def test_what_was_done_last_counts_most():
    rows_IN = np.array([[2], [3], [-1], [-1]], np.int32)
    scores_IN = np.array([[1.0], [1.0], [-np.inf], [-np.inf]], np.float32)
    found = SuccessorRetriever(rows_IN, scores_IN).retrieve(
        Requests(size=1, texts=None, vectors_BD=None, histories=log([0, 1])), 2
    )
    assert found.rows_BN.tolist() == [[3, 2]]
    np.testing.assert_allclose(found.scores_BN, [[1, 0.5]])


def test_weights_of_a_pair_by_distance_and_direction():
    """A pair forward counts 1 / sqrt(distance), one back 0.3 of that; all items are as frequent."""
    weights_II = successor_weights([log([0, 1, 2, 3, 4])], range(5), 5).toarray()
    np.testing.assert_allclose(weights_II[0, 4] / weights_II[0, 1], 0.5, rtol=1e-6)
    np.testing.assert_allclose(weights_II[1, 0] / weights_II[0, 1], 0.3, rtol=1e-6)


def test_frequent_items_are_damped():
    """Item 1 is there 12 times, 2 twice: (12 + 4)^-0.5 and so on, against the mean of 4 more."""
    histories = log([0, 1], [0, 2], [1], [1], [1], [1], [1], [1], [1], [1], [1], [1], [1], [2])
    weights_II = successor_weights([histories], range(3), 3).toarray()
    np.testing.assert_allclose(weights_II[0, 1] / weights_II[0, 2], (16 / 6) ** -0.1, rtol=1e-5)
    np.testing.assert_allclose(weights_II[1, 0] / weights_II[2, 0], (16 / 6) ** -0.5, rtol=1e-5)


def test_pairs_count_up_to_fifty_events_apart():
    weights_II = successor_weights([log(list(range(52)))], range(52), 52).toarray()
    assert weights_II[0, 50] > 0 == weights_II[0, 51]
