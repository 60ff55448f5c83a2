"""The gate: what is better or as good passes; what is worse, anywhere it can be told, is refused
with a sentence."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from recsys.errors import InputError
from recsys.learning.gate import GateCriteria, day_slices, judge, render_page
from recsys.ranking.examination import Examination
from recsys.ranking.linear import WeightedSum
from tests.toy_clicks import CURVE, toy_lists, toy_log

WANTED = WeightedSum({"wanted": 1.0})
SHOWN = WeightedSum({"shown": 1.0})
AGAINST = WeightedSum({"wanted": -1.0})
CURVES = Examination(*(CURVE.astype(np.float32) for _ in range(3)))


@pytest.fixture(scope="module")
def day():
    lists, _ = toy_log(3000, seed=3)
    return replace(lists, users_B=np.array([f"u{at // 2}" for at in range(3000)], object))


class ForSome(WeightedSum):
    """Ranks as WANTED, but where the feature `noise` of the first item is above the bound, against
    it."""

    def __init__(self, bound):
        super().__init__({"wanted": 1.0, "noise": 0.0})
        self.bound = bound

    def score(self, features_BNF):
        scores_BN = super().score(features_BNF)
        return np.where(features_BNF[:, :1, 1] > self.bound, -scores_BN, scores_BN)


def test_a_better_one_passes(day) -> None:
    verdict = judge(WANTED, SHOWN, day, examination=CURVES)
    assert verdict.passed
    assert verdict.rows[0].low > 0
    assert "better" in verdict.reason


def test_the_same_passes_and_says_not_worse(day) -> None:
    verdict = judge(SHOWN, SHOWN, day, examination=CURVES)
    assert verdict.passed
    assert (verdict.rows[0].low, verdict.rows[0].high) == (0, 0)
    assert "not worse" in verdict.reason


def test_a_worse_one_is_refused_with_the_numbers(day) -> None:
    verdict = judge(AGAINST, WANTED, day, examination=CURVES)
    assert not verdict.passed
    assert verdict.reason.startswith("overall: worse: -0.")


def test_worse_for_cold_users_alone_is_refused_and_says_so(day) -> None:
    cold_B = day.features_BKF[:, 0, 2] > 1.0  # a sixth of the day
    known = [f"warm{at}" for at in range(3000)]
    users = np.array([None if cold else known[at] for at, cold in enumerate(cold_B)], object)
    day = replace(day, users_B=users)
    verdict = judge(ForSome(1.0), SHOWN, day, examination=CURVES, slices=day_slices(day, known))
    assert verdict.rows[0].passed
    assert not verdict.passed
    assert verdict.reason.startswith("cold users: worse")
    assert "overall" not in verdict.reason


def test_a_small_log_is_no_evidence(day) -> None:
    verdict = judge(WANTED, SHOWN, day.where(np.arange(50)), examination=CURVES)
    assert not verdict.passed
    assert "too few to tell: it takes 200" in verdict.reason


def test_an_empty_log_is_refused(day) -> None:
    verdict = judge(WANTED, SHOWN, day.where(np.zeros(len(day), bool)), examination=CURVES)
    assert not verdict.passed
    assert verdict.to_dict()["rows"][0]["difference"] is None


def test_a_small_slice_is_named_and_does_not_block(day) -> None:
    few_B = np.arange(len(day)) < 30
    verdict = judge(WANTED, SHOWN, day, examination=CURVES, slices={"left-handed": few_B})
    assert verdict.passed
    assert "too few requests to tell of left-handed" in verdict.reason


def test_a_judged_set_counts_beside_the_day(day) -> None:
    rng = np.random.default_rng(0)
    order = rng.permuted(np.tile(np.arange(10), (len(day), 1)), axis=1)
    features = np.take_along_axis(day.features_BKF, order[:, :, None], axis=1)
    judged = replace(
        day, features_BKF=features, gains_BK=(features[:, :, 1] > 0).astype(np.float32)
    )
    verdict = judge(WANTED, SHOWN, day, examination=CURVES, judged=judged)
    assert verdict.rows[0].passed
    assert verdict.reason.startswith("judged set: worse")


def test_without_a_live_ranker_the_logs_own_scores_count(day) -> None:
    told, logged_ones = (
        judge(WANTED, SHOWN, day, examination=CURVES),
        judge(WANTED, None, day, examination=CURVES),
    )
    assert told.rows[0] == logged_ones.rows[0]  # what was shown was sorted by `shown`


def test_slices_by_feature_tail_and_surface(day) -> None:
    few = day.where(np.arange(4))
    items = np.full((4, 10), "common", object)
    items[1, 2] = items[2, 0] = "rare"
    gains = np.zeros((4, 10), np.float32)
    gains[1, 2] = gains[2, 1] = 1
    few = replace(
        few.with_features(("known_user", "wanted")),
        items_BK=items,
        gains_BK=gains,
        surfaces_B=np.array(["search", "recommend", "search", "search"], object),
    )
    few.features_BKF[1:, :, 0] = 1
    found = day_slices(few, tail_items=["rare"])
    assert found["cold users"].tolist() == [True, False, False, False]
    assert found["tail items"].tolist() == [False, True, False, False]
    assert found["surface search"].tolist() == [True, False, True, True]


def test_a_ranker_just_as_good_passes_two_times_of_three_or_more() -> None:
    """As the docstring of `GateCriteria` has it: 2,000 requests, another order of the same
    worth."""
    passed = 0
    for seed in range(6):
        lists, _ = toy_log(
            2000, seed=seed, strength=0.0
        )  # nobody wants anything: all orders are worth the same
        passed += judge(
            WeightedSum({"noise": 1.0}), WeightedSum({"wanted": 1.0}), lists, examination=CURVES
        ).passed
    assert passed >= 4


def test_the_page_and_the_manifest_say_the_same(day) -> None:
    verdict = judge(
        AGAINST, WANTED, day, examination=CURVES, slices={"<odd>": np.arange(len(day)) < 5}
    )
    html = render_page("trees", verdict)
    assert "trees: refused" in html
    assert "&lt;odd&gt;" in html
    told = json.loads(json.dumps(verdict.to_dict(), allow_nan=False))
    assert told["passed"] is False
    assert told["rows"][0]["slice"] == "overall"


def test_a_bar_without_a_margin_is_refused() -> None:
    with pytest.raises(InputError, match="give margins above 0"):
        GateCriteria(margin=0)


# Exact cases: two users of `each` requests with two clicked items. For user 0 the candidate's order
# is better by `loss` of nDCG@10, for user 1 it is worse by as much, so that a quarter of the
# bootstrap's draws is all of the one or all of the other: the interval is -loss to +loss.

SECOND = 1 / np.log2(3)


def opposed(loss, each=100):
    """Features: `live` and `new` rank the two items, in opposite orders."""
    swap = 1 - SECOND
    lower_gain = (swap - loss) / (swap + loss * SECOND)
    gains = np.tile(np.float32([1, lower_gain]), (2 * each, 1))
    features = np.zeros((2 * each, 2, 2), np.float32)
    features[:each, 0, 1] = features[:each, 1, 0] = 1
    features[each:, 0, 0] = features[each:, 1, 1] = 1
    users = np.repeat(np.array(["better", "worse"], object), each)
    return toy_lists(features, gains, names=("live", "new"), users=users)


def equal(requests):
    """As many users, for whom both rankers rank alike."""
    return toy_lists(
        np.zeros((requests, 2, 2)), np.tile([1.0, 0.5], (requests, 1)), names=("live", "new")
    )


def both(first, second):
    """The requests of the one and then of the other, users apart."""
    arrays = {
        name: np.concatenate([value, getattr(second, name)])
        for name, value in vars(first).items()
        if name != "names"
    }
    return replace(first, **arrays)


LIVE, NEW = WeightedSum({"live": 1.0}), WeightedSum({"new": 1.0})


def test_the_interval_of_an_exact_case_is_the_loss() -> None:
    row = judge(NEW, LIVE, opposed(0.03)).rows[0]
    assert (row.low, row.high) == pytest.approx((-0.03, 0.03), abs=1e-6)
    assert (row.requests, row.users) == (200, 2)


@pytest.mark.parametrize(("loss", "passed"), [(0.019, True), (0.021, False)])
def test_overall_two_hundredths_are_the_margin(loss, passed) -> None:
    verdict = judge(NEW, LIVE, opposed(loss))
    assert verdict.passed is passed
    assert ("it may be worse by more than 0.02" in verdict.reason) is not passed


@pytest.mark.parametrize(("loss", "passed"), [(0.049, True), (0.051, False)])
def test_in_a_slice_five_hundredths_are_the_margin(loss, passed) -> None:
    """A thousand others, for whom nothing changes, keep the whole day above its margin."""
    day = both(opposed(loss), equal(1000))
    verdict = judge(NEW, LIVE, day, slices={"few": np.arange(len(day)) < 200})
    assert [row.passed for row in verdict.rows] == [True, passed]
    assert verdict.passed is passed
    assert verdict.reason.startswith("overall: " if passed else "few: it may be worse by more than")


def test_every_slice_is_tested() -> None:
    day = both(both(opposed(0.051), opposed(0.049)), equal(2000))
    at = np.arange(len(day))
    slices = {"first": at < 200, "second": (at >= 200) & (at < 400)}
    for order in (("first", "second"), ("second", "first")):
        verdict = judge(NEW, LIVE, day, slices={name: slices[name] for name in order})
        passed = {row.slice: row.passed for row in verdict.rows}
        assert passed == {"overall": True, "first": False, "second": True}
        assert not verdict.passed


@pytest.mark.parametrize(("loss", "passed"), [(0.049, True), (0.051, False)])
def test_a_judged_set_has_a_slices_margin_and_no_position_bias(loss, passed) -> None:
    verdict = judge(NEW, LIVE, equal(200), examination=CURVES, judged=opposed(loss))
    assert [row.passed for row in verdict.rows] == [True, passed]
    assert verdict.passed is passed


def test_two_hundred_requests_are_enough_and_one_less_is_not() -> None:
    assert judge(NEW, LIVE, equal(200)).passed
    few = judge(NEW, LIVE, equal(199))
    assert few.rows[0].passed is None
    assert not few.passed
    day, clearly_worse = both(opposed(0.3), equal(9000)), np.arange(9200) < 199
    assert judge(NEW, LIVE, day, slices={"few": clearly_worse}).passed
    assert not judge(NEW, LIVE, day, slices={"few": np.arange(9200) < 200}).passed


def test_what_stands_below_the_tenth_place_does_not_count() -> None:
    gains, features = np.zeros((200, 12)), np.zeros((200, 12, 2))
    features[:, :, :] = -np.arange(12)[None, :, None]
    gains[:, 10] = 1
    features[:, 11, 1] = -9.5  # new: what was clicked moves from place 11 to 12
    lists = toy_lists(features, gains, names=("live", "new"))
    assert judge(NEW, LIVE, lists).passed
    gains[:, 9], gains[:, 10] = 1, 0
    features[:, 11, 1] = -8.5  # new: from place 10 to 11
    assert not judge(NEW, LIVE, toy_lists(features, gains, names=("live", "new"))).passed


def test_the_interval_holds_ninety_five_percent() -> None:
    """Two hundred users, half of them .3 better and half .3 worse: 1.96 standard errors of .3 /
    sqrt(200) to either side."""
    day = replace(opposed(0.3), users_B=np.array([f"u{at}" for at in range(200)], object))
    row = judge(NEW, LIVE, day).rows[0]
    assert (row.low, row.high) == pytest.approx((-0.0416, 0.0416), abs=0.003)
    assert row.users == 200


def test_no_click_counts_more_than_ten_times() -> None:
    """The second place is looked at once in a hundred times; one click there, one at the first."""
    curve = Examination(*(np.float32([1, 0.01]) for _ in range(3)))
    lists = toy_lists(np.zeros((2, 2, 2)), np.eye(2), names=("live", "new"))
    row = judge(LIVE, LIVE, lists, examination=curve).rows[0]
    assert row.live == pytest.approx((1 + 10 * SECOND) / 11)


def test_the_page_gives_the_numbers_of_what_was_measured() -> None:
    page = render_page("trees", judge(NEW, LIVE, opposed(0.021)))
    for number in ("-0.0210", "+0.0210"):
        assert number in page
    empty = render_page("trees", judge(NEW, LIVE, equal(3).where(np.zeros(3, bool))))
    assert "nan" not in empty
    assert "trees: refused" in empty
