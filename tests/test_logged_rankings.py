"""Logged answers as arrays, from known logs; and what is counted without position bias."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.errors import InputError
from recsys.events.joins import label_examples
from recsys.ranking.examination import Examination
from recsys.ranking.logged_rankings import LoggedRankings, ips_ndcg, is_vector, split_by_user
from recsys.tables import LIVE_EVENTS
from recsys.types import FeatureTable, Impression, Interaction
from tests.toy_clicks import CURVE, NAMES, toy_lists, toy_log

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
SEARCH = Impression(
    request_id="r1",
    time=NOON,
    release="v1",
    surface="search",
    item_ids=("a", "b", "c"),
    features=FeatureTable(("bm25", "ann"), np.array(((3, 0), (2, 1), (1, 9)), np.float32)),
    user_id="u",
    query="tea",
    scores=(3, 2, 1),
    propensities=(0.5, 0.25, 0.25),
)
HOME = Impression(
    request_id="r2",
    time=NOON + timedelta(hours=1),
    release="v1",
    surface="home",
    item_ids=("d",),
    features=FeatureTable(("new",), np.array(((5,),), np.float32)),
    offset=10,
)
HALVES = Examination(np.array([1, 0.5, 0.25]), np.ones(3), np.ones(3))


def examples(*impressions, clicks=()):
    rows = [
        vars(
            Interaction(
                event_id=f"e{at}",
                user_id="u",
                item_id=item,
                type=kind,
                time=NOON,
                request_id=request,
            )
        )
        for at, (item, kind, request) in enumerate(clicks)
    ]
    return label_examples(impressions, [pa.RecordBatch.from_pylist(rows, LIVE_EVENTS)])


def test_a_log_becomes_a_row_a_request_and_a_place_an_item():
    lists = LoggedRankings.of(examples(SEARCH, HOME, clicks=[("b", "purchase", "r1")]))
    assert lists.names == ("bm25", "ann", "new")
    assert lists.positions_BK.tolist() == [[1, 2, 3], [11, 0, 0]]
    assert lists.items_BK.tolist() == [["a", "b", "c"], ["d", None, None]]
    assert lists.features_BKF.tolist() == [
        [[3, 0, 0], [2, 1, 0], [1, 9, 0]],
        [[0, 0, 5], [0, 0, 0], [0, 0, 0]],
    ]
    assert lists.gains_BK.tolist() == [[0, 1, 0], [0, 0, 0]]
    assert (lists.scores_BK[0].tolist(), lists.propensities_BK[0].tolist()) == (
        [3, 2, 1],
        [0.5, 0.25, 0.25],
    )
    assert [lists.users_B.tolist(), lists.surfaces_B.tolist()] == [["u", None], ["search", "home"]]
    assert lists.times_B.tolist() == [NOON.replace(tzinfo=None), NOON.replace(hour=13, tzinfo=None)]
    assert lists.has_gain_B.tolist() == [True, False]
    assert lists.where(~lists.has_gain_B).request_ids_B.tolist() == ["r2"]


def test_the_order_of_the_log_does_not_matter():
    log = examples(SEARCH, HOME, clicks=[("b", "cart", "r1")])
    turned = log.take(pa.array([2, 3, 0, 1]))
    for one, other in zip(
        vars(LoggedRankings.of(log)).values(), vars(LoggedRankings.of(turned)).values(), strict=True
    ):
        np.testing.assert_array_equal(one, other)


def test_features_are_taken_by_name():
    lists = LoggedRankings.of(examples(SEARCH, HOME), ("ann", "gone"))
    assert lists.names == ("ann", "gone")
    assert lists.features_BKF[0].tolist() == [[0, 0], [1, 0], [9, 0]]
    with pytest.raises(InputError, match="none of the features gone: it has bm25, ann, "):
        LoggedRankings.of(examples(SEARCH), ("gone",))
    vectors = [
        name for name in ("query.0", "query", "query.x", "taste.15", "my.0") if is_vector(name)
    ]
    assert vectors == ["query.0", "taste.15"]


def test_an_empty_log_has_no_lists():
    lists = LoggedRankings.of(examples())
    assert (len(lists), lists.positions_BK.shape) == (0, (0, 0))
    assert len(ips_ndcg(lists.scores_BK, lists, HALVES)) == 0


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_what_is_no_number_is_refused(wrong):
    impression = Impression(
        request_id="r",
        time=NOON,
        release="v",
        surface="home",
        item_ids=("a", "b"),
        features=FeatureTable(("x", "age"), np.array(((1, 2), (3, wrong)), np.float32)),
    )
    with pytest.raises(
        InputError, match=r"1 of 2 examples have a feature that is no finite number, age first"
    ):
        LoggedRankings.of(examples(impression))


def test_a_chance_is_above_nothing():
    with pytest.raises(InputError, match=r"a propensity is 0\.0, of 1 that are none"):
        LoggedRankings.of(
            examples(
                Impression(
                    request_id="r",
                    time=NOON,
                    release="v",
                    surface="home",
                    item_ids=("a",),
                    propensities=(0.0,),
                )
            )
        )


def test_a_click_far_down_stands_for_those_that_were_not_made():
    lists = toy_lists(np.zeros((1, 3, 1)), np.array([[0, 0, 1]]), names=["x"])
    assert lists.ips_weights(HALVES, 10).tolist() == [[1, 2, 4]]
    assert lists.ips_weights(HALVES, 3).tolist() == [[1, 2, 3]]
    assert lists.ips_weights(None, 10).tolist() == [[1, 1, 1]]
    with pytest.raises(InputError, match=r"clip is 0\.5"):
        lists.ips_weights(HALVES, 0.5)


def test_what_was_not_clicked_was_seen_by_bayes_rule():
    """One click where 1.75 places were looked at: g = 1 / 1.75. At place 2, .5 x (1 - g) / (1 - .5
    g) = .3."""
    lists = toy_lists(np.zeros((1, 3, 1)), np.array([[0, 0, 1]]), names=["x"])
    np.testing.assert_allclose(lists.examination_posterior_BK(HALVES), [[1, 0.3, 1]], atol=1e-6)
    lists, relevance_BK = toy_log(20_000, level=-1, strength=0)
    looked = Examination(CURVE, CURVE, CURVE)
    truth_K = CURVE * (1 - relevance_BK[0]) / (1 - CURVE * relevance_BK[0])
    unclicked = lists.examination_posterior_BK(looked)[~lists.clicked_BK]
    np.testing.assert_allclose(np.unique(unclicked.round(3))[::-1], truth_K, atol=0.01)


def test_ndcg_counts_clicks_by_how_rarely_they_could_be():
    """First clicks its top, which stays there; second clicks place 3 of four times the weight, put
    second."""
    lists = toy_lists(np.zeros((3, 3, 1)), np.array([[1, 0, 0], [0, 0, 1], [0, 0, 0]]), names=["x"])
    values_B = ips_ndcg(np.array([[3, 2, 1], [3, 1, 2], [1, 2, 3]]), lists, HALVES)
    np.testing.assert_allclose(values_B, [1 / 2.5, 4 / np.log2(3) / 2.5, np.nan])
    assert np.nanmean(ips_ndcg(lists.gains_BK, lists, HALVES)) == pytest.approx(1)
    with pytest.raises(InputError, match="scores are not finite"):
        ips_ndcg(np.full((3, 3), np.nan), lists, HALVES)


def test_ndcg_of_clicks_is_that_of_what_is_wanted():
    """Of 20,000 lists; raw clicks think the order shown, which puts the least wanted first, much
    better than it is."""
    lists, relevance_BK = toy_log(20_000)
    curve = Examination(CURVE, CURVE, CURVE)
    relevance = toy_lists(lists.features_BKF, relevance_BK)
    for feature in range(3):
        scores_BK = lists.features_BKF[:, :, feature]
        discounted = [ips_ndcg(scores_BK, clicks, by, 5) * _ideal(clicks, by, 5) for clicks, by in
                      ((relevance, None), (lists, curve))]  # fmt: skip
        assert np.nanmean(discounted[1]) * lists.has_gain_B.mean() / 0.75 == pytest.approx(
            discounted[0].mean(), rel=0.02
        )


def _ideal(lists, by, k):
    worth_BK = -np.sort(-lists.gains_BK * lists.ips_weights(by))[:, :k][lists.has_gain_B]
    return (worth_BK / np.log2(np.arange(2, k + 2))).sum(axis=1).mean()


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 1000), st.floats(0.1, 10))
def test_ndcg_asks_only_for_the_order(seed, scale):
    lists, _ = toy_log(20, seed)
    values_B = ips_ndcg(lists.scores_BK, lists, HALVES)
    np.testing.assert_array_equal(values_B, ips_ndcg(lists.scores_BK * scale - 1, lists, HALVES))
    assert 0 <= np.nanmean(values_B) <= 1 + 1e-9


def test_a_user_is_in_one_part_only():
    lists, _ = toy_log(2000)
    users = np.array([f"u{at % 200}" for at in range(2000)], object)
    lists = toy_lists(lists.features_BKF, lists.gains_BK, users=users)
    train, valid = split_by_user(lists, 0.2)
    assert not set(train.users_B) & set(valid.users_B)
    assert len(train) + len(valid) == 2000
    assert 0.1 < len(valid) / 2000 < 0.3
    nobody = split_by_user(
        toy_lists(lists.features_BKF, lists.gains_BK, users=np.full(2000, None, object))
    )
    assert 0.07 < len(nobody[1]) / 2000 < 0.13
    assert nobody[0].names == NAMES
