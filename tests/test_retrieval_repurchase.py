from dataclasses import replace

import numpy as np
import pytest

from recsys.arrays import Histories, Requests
from recsys.retrieval.behaviour.repurchase import (
    INTERVAL_POWER,
    ITEM_PRIOR,
    RepurchaseIntervals,
    RepurchaseRetriever,
    repurchase_factors,
    repurchase_intervals,
)
from recsys.types import PURCHASE
from tests.contracts import RetrieverContract, answers, shoppers


class TestBuyAgain(RetrieverContract):
    def make(self):
        return RepurchaseRetriever()

    def matches(self, requests):
        return self.bought(requests)


class TestBuyAgainWithPopularity(TestBuyAgain):
    def make(self):
        return RepurchaseRetriever(np.random.default_rng(5).random(self.ITEMS).astype(np.float32))


def purchases(items, days):
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


def test_often_before_once_and_lately_before_long_ago():
    requests = purchases([7, 3, 5, 7], [0.0, 1.0, 300.0, 301.0])
    assert answers(RepurchaseRetriever().retrieve(requests, 3)) == [[7, 5, 3]]


def test_popularity_settles_what_his_counts_leave_open():
    requests = purchases([0, 1, 2, 2], [1.0, 1.0, 1.0, 1.0])
    assert answers(RepurchaseRetriever().retrieve(requests, 3)) == [[2, 0, 1]]
    assert answers(RepurchaseRetriever(np.array([0, 3, 0], np.float32)).retrieve(requests, 3)) == [
        [2, 1, 0]
    ]


def test_what_was_only_seen_is_not_again():
    seen = Histories(
        offsets=np.array([0, 2]),
        items=np.array([4, 6], np.int32),
        types=np.array([0, PURCHASE], np.int8),
        days=np.zeros(2),
    )
    assert answers(RepurchaseRetriever().retrieve(Requests(size=1, histories=seen), 5)) == [[6]]


def test_no_history_no_candidates():
    assert RepurchaseRetriever().retrieve(Requests(size=2), 5).rows_BN.shape == (2, 0)
    assert RepurchaseRetriever().retrieve(
        Requests(size=2, histories=Histories.empty(2)), 5
    ).rows_BN.shape == (
        2,
        0,
    )


class TestBuyAgainInRhythm(TestBuyAgain):
    def make(self):
        random = np.random.default_rng(6)
        return RepurchaseRetriever(
            None,
            RepurchaseIntervals(*random.uniform(0.1, 60, (2, self.ITEMS)).astype(np.float32)),
            now_days=30.0,
        )


def test_an_interval_is_the_geometric_mean_of_gaps_shrunk_to_the_shop_s():
    """Item 0 after 2 and 8 days, item 1 after 4: the shop's mean is 4 days, and both come out at
    it; 2 was bought once.

    Two purchases of one day are one.
    """
    known = purchases([0, 1, 2, 0, 0, 1, 0], [0.0, 0.0, 1.0, 2.1, 2.9, 4.0, 10.0]).histories
    fitted = repurchase_intervals([known, Histories.empty(2)], 4)
    np.testing.assert_allclose(fitted.intervals_I, [4, 4, 4, 4], rtol=1e-6)
    shop_rate = 3 / 3
    expected = [
        (2 + ITEM_PRIOR * shop_rate) / (1 + ITEM_PRIOR),
        1,
        ITEM_PRIOR / (1 + ITEM_PRIOR),
        1,
    ]
    np.testing.assert_allclose(fitted.repeats_I, expected, rtol=1e-6)


def test_many_gaps_leave_the_shop_s_interval_behind():
    weekly, daily = np.arange(0, 700, 7.0), np.arange(700, 800.0)
    items = [0] * len(weekly) + [1] * len(daily)
    found_I = repurchase_intervals([purchases(items, [*weekly, *daily]).histories], 2).intervals_I
    assert 6 < found_I[0] < 7
    assert 1 < found_I[1] < 1.2


def test_parts_add_up_to_the_whole():
    known = shoppers(users=9)
    parts = repurchase_intervals([known.slice(0, 4), known.slice(4, 9)], 60)
    whole = repurchase_intervals([known], 60)
    np.testing.assert_allclose(parts.intervals_I, whole.intervals_I, rtol=1e-6)
    np.testing.assert_allclose(parts.repeats_I, whole.repeats_I, rtol=1e-6)


def test_a_log_without_repeats_and_an_empty_one():
    """As if one of the two purchases had been a second one: a rate of 1/2, shrunk to itself over
    one buyer."""
    for known, rate in (
        (purchases([0, 1], [3.0, 3.0]).histories, 2.5 / 6),
        (Histories.empty(1), 1),
    ):
        fitted = repurchase_intervals([known], 2)
        assert fitted.intervals_I.tolist() == [1, 1]
        np.testing.assert_allclose(fitted.repeats_I, rate, rtol=1e-6)


def test_buy_again_speaks_in_a_shop_where_nobody_has_yet_bought_twice():
    requests = purchases([0, 1], [3.0, 3.0])
    source = RepurchaseRetriever(None, repurchase_intervals([requests.histories], 3), now_days=4.0)
    assert (source.retrieve(requests, 2).scores_BN > 0.1).all()


def test_what_is_due_comes_before_what_was_bought_just_now_and_what_was_given_up():
    requests = purchases([0, 1, 2], [100.0, 170.0, 199.0])
    even = RepurchaseIntervals(np.full(3, 30, np.float32), np.ones(3, np.float32))
    factors = repurchase_factors(
        requests.histories, even, np.zeros(3, int), np.arange(3), now_days=200.0
    )
    np.testing.assert_allclose(
        factors, np.exp(-INTERVAL_POWER * np.log([100 / 30, 1, 1 / 30]) ** 2), rtol=1e-5
    )


def test_a_user_s_own_gaps_outweigh_the_item_s():
    often = purchases([0] * 30, np.arange(0, 60, 2.0)).histories
    monthly = RepurchaseIntervals(np.array([30.0], np.float32), np.ones(1, np.float32))
    soon, late = (
        repurchase_factors(often, monthly, np.zeros(1, int), np.zeros(1, int), day)[0]
        for day in (60.0, 88.0)
    )
    assert soon > late


def test_now_is_the_request_s_or_the_constructor_s():
    requests = purchases([0, 1], [0.0, 99.0])
    weekly = RepurchaseIntervals(np.array([100, 1], np.float32), np.ones(2, np.float32))
    scores = [
        source.retrieve(asked, 2).scores_BN.tolist()
        for source, asked in (
            (RepurchaseRetriever(None, weekly), replace(requests, now_days=130.0)),
            (RepurchaseRetriever(None, weekly, now_days=130.0), requests),
            (RepurchaseRetriever(None, weekly), requests),
        )
    ]
    assert scores[0] == scores[1] != scores[2]
    assert scores[2] == RepurchaseRetriever().retrieve(requests, 2).scores_BN.tolist(), (
        "no date, no rhythm"
    )


def test_what_nobody_buys_twice_comes_last():
    once = RepurchaseIntervals(np.full(2, 10, np.float32), np.array([0.01, 2], np.float32))
    assert answers(RepurchaseRetriever(None, once).retrieve(purchases([0, 1], [5.0, 5.0]), 2)) == [
        [1, 0]
    ]


def test_intervals_and_rates_are_of_the_same_items():
    with pytest.raises(ValueError, match="2 intervals and 3 repeat rates"):
        RepurchaseIntervals(np.ones(2, np.float32), np.ones(3, np.float32))


def test_who_only_looked_is_answered_with_nothing():
    seen = Histories(
        offsets=np.array([0, 1]),
        items=np.array([1], np.int32),
        types=np.zeros(1, np.int8),
        days=np.zeros(1),
    )
    source = RepurchaseRetriever(
        None, RepurchaseIntervals(np.ones(2, np.float32), np.ones(2, np.float32)), now_days=9.0
    )
    assert answers(source.retrieve(Requests(size=1, histories=seen), 5)) == [[]]


def test_constants_of_the_repurchase_score():
    """An event fades by half in 90 days; popularity 1.0 and 0 differ by (1.05 / 0.05)^0.1; a gap of
    30 days by two users of one item, with five of the shop's mean; an own gap of 10 with two."""
    faded = RepurchaseRetriever().retrieve(purchases([0, 1], [10.0, 100.0]), 2)
    np.testing.assert_allclose(faded.scores_BN, [[1, 0.5]], rtol=1e-6)
    popular = RepurchaseRetriever(np.array([1.0, 0.0], np.float32))
    scores = popular.retrieve(purchases([0, 1], [100.0, 100.0]), 2).scores_BN[0]
    np.testing.assert_allclose(scores[0] / scores[1], 21**0.1, rtol=1e-5)
    log = purchases([0, 0, 1, 1], [0.0, 30.0, 0.0, 3.0]).histories
    fitted = repurchase_intervals([log], 2)
    shop = np.log(90) / 2
    np.testing.assert_allclose(
        fitted.intervals_I[0], np.exp((np.log(30) + 5 * shop) / 6), rtol=1e-5
    )
    np.testing.assert_allclose(fitted.repeats_I, [1, 1])
    often = purchases([0, 0], [50.0, 60.0]).histories
    shop_wide = RepurchaseIntervals(np.array([40.0], np.float32), np.array([2.0], np.float32))
    factors = repurchase_factors(often, shop_wide, np.zeros(1, int), np.zeros(1, int), 160.0)
    interval = (np.log(10) + 2 * np.log(40)) / 3
    expected = 2**0.15 * np.exp(-0.05 * (np.log(100) - interval) ** 2)
    np.testing.assert_allclose(factors, expected, rtol=1e-5)


# Bought once

TELEVISION, SOAP, NEW_TELEVISION, VASE = range(4)


def shop_of_televisions_and_soap(buyers=31, days_ago=60.0):
    """So many bought a television, nobody twice; ten people buy soap every month; now is day
    300."""
    televisions = [purchases([TELEVISION], [300 - days_ago]).histories] * buyers
    soap = [purchases([SOAP] * 5, 150 + 30.0 * np.arange(5)).histories] * 10
    return [*televisions, *soap]


def again(user, fitted, now=300.0):
    return answers(RepurchaseRetriever(None, fitted, now_days=now).retrieve(user, 5))[0]


def test_what_is_bought_once_is_never_offered_to_its_buyer_again():
    fitted = repurchase_intervals(shop_of_televisions_and_soap(), 4, now_days=300.0)
    user = purchases([TELEVISION, SOAP, VASE], [250.0, 260.0, 270.0])
    for now in (271.0, 300.0, 2000.0):
        assert set(again(user, fitted, now)) == {SOAP, VASE}


def test_few_buyers_and_recent_ones_prove_nothing():
    user = purchases([TELEVISION], [250.0])
    for shop in (
        shop_of_televisions_and_soap(buyers=10),
        shop_of_televisions_and_soap(days_ago=2.0),
    ):
        assert again(user, repurchase_intervals(shop, 4, now_days=300.0)) == [TELEVISION]


def test_a_new_television_is_one_of_its_category():
    user, categories = purchases([NEW_TELEVISION], [250.0]), np.array([0, 1, 0, -1])
    shop = [*shop_of_televisions_and_soap(), user.histories]
    assert again(user, repurchase_intervals(shop, 4, now_days=300.0)) == [NEW_TELEVISION]
    assert again(user, repurchase_intervals(shop, 4, categories, 300.0)) == []


def test_who_bought_televisions_again_is_offered_them():
    fitted = repurchase_intervals(shop_of_televisions_and_soap(), 4, now_days=300.0)
    assert again(purchases([TELEVISION] * 3, [100.0, 160.0, 220.0]), fitted) == [TELEVISION]
    twice_a_day = purchases([TELEVISION] * 2, [220.1, 220.2])
    assert again(twice_a_day, fitted) == []


def test_a_shop_where_nobody_buys_twice_does_not_offer_it():
    shop = [purchases([item], [100.0]).histories for item in range(4) for _ in range(20)]
    assert again(purchases([2], [250.0]), repurchase_intervals(shop, 4, now_days=300.0)) == []
