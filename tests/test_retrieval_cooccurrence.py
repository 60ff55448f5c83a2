import time

import numpy as np
import pytest

from recsys.arrays import Histories, Requests
from recsys.retrieval.behaviour.cooccurrence import (
    SHRINKAGE,
    CoOccurrenceRetriever,
    co_occurrence_neighbours,
    likelihood_ratio,
)
from recsys.types import EVENT_TYPES, PURCHASE
from tests.contracts import RetrieverContract, answers


def log(*events, users=1):
    """Histories of (user, item, type, day), in order of users."""
    owners, items, types, days = zip(*events, strict=True)
    offsets = np.concatenate([[0], np.cumsum(np.bincount(owners, minlength=users))])
    kinds = np.array([EVENT_TYPES.index(kind) for kind in types], np.int8)
    return Histories(
        offsets=offsets, items=np.array(items, np.int32), types=kinds, days=np.array(days, float)
    )


class TestCoOccurrence(RetrieverContract):
    def make(self):
        others_IN = np.array(
            [[item for item in range(self.ITEMS) if item != row] for row in range(self.ITEMS)]
        )
        scores_IN = np.sort(np.random.default_rng(2).random(others_IN.shape))[:, ::-1]
        return CoOccurrenceRetriever(others_IN.astype(np.int32), scores_IN.astype(np.float32))


def test_cosine_of_a_worked_example():
    """0 and 1 share two baskets, 0 and 2 one; 3 is another day's basket of the same user."""
    events = [(0, 0, "purchase", 9.1), (0, 1, "purchase", 9.9), (0, 3, "purchase", 10.1)]
    events += [(1, 0, "purchase", 10.2), (1, 1, "purchase", 10.2), (1, 2, "purchase", 10.3)]
    known = log(*events, users=2)
    rows_IN, scores_IN = co_occurrence_neighbours([known], range(4), 4, 3, now_days=0.0)
    assert rows_IN.tolist() == [[1, 2, -1], [0, 2, -1], [0, 1, -1], [-1, -1, -1]]
    two, one = 2 + SHRINKAGE, 1 + SHRINKAGE
    np.testing.assert_allclose(scores_IN[0], [2 / two, 1 / np.sqrt(two * one), -np.inf], rtol=1e-6)


def test_a_basket_fades_and_a_view_says_less():
    old = log((0, 0, "purchase", 10.0), (0, 1, "purchase", 10.0))
    pair = [
        co_occurrence_neighbours([old], range(2), 2, 1, now_days=day)[1][0, 0]
        for day in (10.0, 40.0)
    ]
    np.testing.assert_allclose(pair, [1 / (1 + SHRINKAGE), 0.5 / (0.5 + SHRINKAGE)], rtol=1e-6)
    seen = log((0, 0, "purchase", 10.0), (0, 1, "view", 10.0))
    assert co_occurrence_neighbours([seen], range(2), 2, 1, now_days=10.0)[1][0, 0] < pair[0]


def test_two_of_a_thing_in_a_basket_count_once():
    one = log((0, 0, "purchase", 1.2), (0, 1, "purchase", 1.4))
    two = log((0, 0, "purchase", 1.2), (0, 0, "purchase", 1.3), (0, 1, "purchase", 1.4))
    scores = [
        co_occurrence_neighbours([known], range(2), 2, 1, now_days=1.0)[1] for known in (one, two)
    ]
    np.testing.assert_array_equal(*scores)


def test_the_likelihood_ratio_of_dunning_s_table():
    """Dunning 1993, table 1: "the swiss" is seen 110 times, 2442 + 110 begin so, 111 + 110 end so,
    of 31,777."""
    ratio = likelihood_ratio(np.array([110.0]), np.array([2552.0]), np.array([221.0]), 31_777.0)
    np.testing.assert_allclose(ratio, [270.72], atol=0.01)


def test_chance_is_no_likelihood():
    both, mine, theirs = (
        np.array([4.0, 2.0, 10.0]),
        np.array([20.0, 20, 10]),
        np.array([20.0, 20, 10]),
    )
    found = likelihood_ratio(both, mine, theirs, 100.0)
    assert found[:2].tolist() == [0, 0]
    np.testing.assert_allclose(found[2], 2 * (10 * np.log(10) + 90 * np.log(100 / 90)), rtol=1e-6)


def test_what_goes_with_everything_is_no_neighbour_by_likelihood():
    """Item 0 is in all four baskets, 1 and 2 together in two: only they say something of each
    other."""
    events = [
        (user, item, "purchase", 1.0)
        for user in range(4)
        for item in ([0, 1, 2] if user < 2 else [0])
    ]
    known = log(*events, users=4)
    rows_IN, scores_IN = co_occurrence_neighbours(
        [known], range(3), 3, 2, now_days=0.0, measure="likelihood"
    )
    assert rows_IN.tolist() == [[-1], [2], [1]] or rows_IN.tolist() == [[-1, -1], [2, -1], [1, -1]]
    np.testing.assert_allclose(scores_IN[1, 0], 2 * 4 * np.log(2), rtol=1e-5)
    with pytest.raises(ValueError, match="'lift'"):
        co_occurrence_neighbours([known], range(3), 3, 2, now_days=0.0, measure="lift")


@pytest.mark.parametrize("measure", ["cosine", "likelihood"])
def test_parts_and_blocks_add_up_to_the_whole(measure):
    random = np.random.default_rng(0)
    events = sorted(
        (int(u), int(i), "purchase", float(d)) for u, i, d in random.integers(0, 20, (600, 3))
    )
    whole = log(*events, users=20)
    rows_IN, scores_IN = co_occurrence_neighbours(
        [whole], range(20), 20, 8, now_days=20.0, measure=measure
    )
    parts = [whole.slice(0, 7), Histories.empty(3), whole.slice(7, 20)]
    blocks = [
        co_occurrence_neighbours(parts, block, 20, 8, now_days=20.0, measure=measure)
        for block in (range(0, 6), range(6, 20))
    ]
    np.testing.assert_array_equal(np.concatenate([rows for rows, _ in blocks]), rows_IN)
    np.testing.assert_allclose(
        np.concatenate([scores for _, scores in blocks]), scores_IN, rtol=1e-4, atol=1e-6
    )


def test_recent_and_strong_events_lead():
    source = CoOccurrenceRetriever(
        np.array([[2], [3], [-1], [-1]], np.int32), np.array([[1], [1], [-np.inf], [-np.inf]])
    )

    def best(*events):
        return answers(source.retrieve(Requests(size=1, histories=log(*events)), 1))[0]

    assert best((0, 0, "view", 1.0), (0, 1, "cart", 1.0)) == [3]
    assert best((0, 0, "view", 400.0), (0, 1, "view", 1.0)) == [2]


def test_no_history_no_candidates():
    source = CoOccurrenceRetriever(np.array([[1], [0]], np.int32), np.ones((2, 1), np.float32))
    assert source.retrieve(Requests(size=2), 5).rows_BN.shape == (2, 0)


@pytest.mark.slow
def test_one_request_takes_milliseconds():
    """92,000 items, 400 events of history: 3 ms were asked for; ten leave room for a busy
    machine."""
    random, items = np.random.default_rng(0), 92_000
    source = CoOccurrenceRetriever(
        random.integers(0, items, (items, 50)).astype(np.int32), np.ones((items, 50), np.float32)
    )
    rows = random.integers(0, items, 400).astype(np.int32)
    known = Histories(
        offsets=np.array([0, 400]),
        items=rows,
        types=np.full(400, PURCHASE, np.int8),
        days=np.arange(400.0),
    )
    seconds = []
    for _ in range(20):
        begun = time.perf_counter()
        source.retrieve(Requests(size=1, histories=known), 100, np.ones(items, bool))
        seconds.append(time.perf_counter() - begun)
    assert np.median(seconds) < 0.010


def test_shrinkage_is_five_and_a_history_halves_in_sixty_days():
    pair = log((0, 0, "purchase", 1.0), (0, 1, "purchase", 1.0))
    scores_IN = co_occurrence_neighbours([pair], range(2), 2, 1, now_days=1.0)[1]
    np.testing.assert_allclose(scores_IN, 1 / 6, rtol=1e-6)
    rows_IN = np.array([[2], [3], [-1], [-1]], np.int32)
    source = CoOccurrenceRetriever(rows_IN, np.array([[1], [1], [-np.inf], [-np.inf]]))
    history = log((0, 0, "cart", 1.0), (0, 1, "cart", 61.0))
    found = source.retrieve(Requests(size=1, histories=history), 2)
    assert found.rows_BN.tolist() == [[3, 2]]
    np.testing.assert_allclose(found.scores_BN, [[0.5, 0.25]], rtol=1e-6)


@pytest.mark.parametrize("measure", ["cosine", "likelihood"])
def test_one_account_is_one_buyer(measure):
    """It has 0 with 1 in two hundred baskets; three users have 0 with 2 in one each."""
    till = [(0, item, "purchase", day) for day in np.arange(200) / 1.0 for item in (0, 1)]
    others = [(user, item, "purchase", 199.0) for user in (1, 2, 3) for item in (0, 2)]
    rest = [(user, 3, "purchase", 199.0) for user in range(4, 40)]
    known = log(*till, *others, *rest, users=40)
    rows_IN, scores_IN = co_occurrence_neighbours(
        [known], range(4), 4, 3, now_days=200.0, measure=measure
    )
    assert rows_IN[0].tolist()[:2] == [2, 1]
    alone = log(*till[-2:], *others, *rest, users=40)
    expected = co_occurrence_neighbours([alone], range(4), 4, 3, now_days=200.0, measure=measure)
    if measure == "cosine":
        np.testing.assert_allclose(scores_IN[0], expected[1][0], rtol=0.05)
