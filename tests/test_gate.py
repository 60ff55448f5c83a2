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
from tests.toy_clicks import CURVE, logged

WANTED = WeightedSum({"wanted": 1.0})
SHOWN = WeightedSum({"shown": 1.0})
AGAINST = WeightedSum({"wanted": -1.0})
CURVES = Examination(*(CURVE.astype(np.float32) for _ in range(3)))


@pytest.fixture(scope="module")
def day():
    lists, _ = logged(3000, seed=3)
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
    verdict = judge(WANTED, SHOWN, day, CURVES)
    assert verdict.passed
    assert verdict.rows[0].low > 0
    assert "better" in verdict.reason


def test_the_same_passes_and_says_not_worse(day) -> None:
    verdict = judge(SHOWN, SHOWN, day, CURVES)
    assert verdict.passed
    assert (verdict.rows[0].low, verdict.rows[0].high) == (0, 0)
    assert "not worse" in verdict.reason


def test_a_worse_one_is_refused_with_the_numbers(day) -> None:
    verdict = judge(AGAINST, WANTED, day, CURVES)
    assert not verdict.passed
    assert verdict.reason.startswith("overall: worse: -0.")


def test_worse_for_cold_users_alone_is_refused_and_says_so(day) -> None:
    cold_B = day.features_BKF[:, 0, 2] > 1.0  # a sixth of the day
    known = [f"warm{at}" for at in range(3000)]
    users = np.array([None if cold else known[at] for at, cold in enumerate(cold_B)], object)
    day = replace(day, users_B=users)
    verdict = judge(ForSome(1.0), SHOWN, day, CURVES, slices=day_slices(day, known))
    assert verdict.rows[0].passed
    assert not verdict.passed
    assert verdict.reason.startswith("cold users: worse")
    assert "overall" not in verdict.reason


def test_a_small_log_is_no_evidence(day) -> None:
    verdict = judge(WANTED, SHOWN, day.where(np.arange(50)), CURVES)
    assert not verdict.passed
    assert "too few to tell: it takes 200" in verdict.reason


def test_an_empty_log_is_refused(day) -> None:
    verdict = judge(WANTED, SHOWN, day.where(np.zeros(len(day), bool)), CURVES)
    assert not verdict.passed
    assert verdict.to_dict()["rows"][0]["difference"] is None


def test_a_small_slice_is_named_and_does_not_block(day) -> None:
    few_B = np.arange(len(day)) < 30
    verdict = judge(WANTED, SHOWN, day, CURVES, slices={"left-handed": few_B})
    assert verdict.passed
    assert "too few requests to tell of left-handed" in verdict.reason


def test_a_judged_set_counts_beside_the_day(day) -> None:
    rng = np.random.default_rng(0)
    order = rng.permuted(np.tile(np.arange(10), (len(day), 1)), axis=1)
    features = np.take_along_axis(day.features_BKF, order[:, :, None], axis=1)
    judged = replace(
        day, features_BKF=features, gains_BK=(features[:, :, 1] > 0).astype(np.float32)
    )
    verdict = judge(WANTED, SHOWN, day, CURVES, judged)
    assert verdict.rows[0].passed
    assert verdict.reason.startswith("judged set: worse")


def test_without_a_live_ranker_the_logs_own_scores_count(day) -> None:
    told, logged_ones = judge(WANTED, SHOWN, day, CURVES), judge(WANTED, None, day, CURVES)
    assert told.rows[0] == logged_ones.rows[0]  # what was shown was sorted by `shown`


def test_slices_by_feature_tail_and_surface(day) -> None:
    few = day.where(np.arange(4))
    items = np.full((4, 10), "common", object)
    items[1, 2] = items[2, 0] = "rare"
    gains = np.zeros((4, 10), np.float32)
    gains[1, 2] = gains[2, 1] = 1
    few = replace(
        few.named(("known_user", "wanted")),
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
    """As the docstring of `GateCriteria` has it: 2,000 requests, another order of the same worth."""
    passed = 0
    for seed in range(6):
        lists, _ = logged(
            2000, seed=seed, strength=0.0
        )  # nobody wants anything: all orders are worth the same
        passed += judge(
            WeightedSum({"noise": 1.0}), WeightedSum({"wanted": 1.0}), lists, CURVES
        ).passed
    assert passed >= 4


def test_the_page_and_the_manifest_say_the_same(day) -> None:
    verdict = judge(AGAINST, WANTED, day, CURVES, slices={"<odd>": np.arange(len(day)) < 5})
    html = render_page("trees", verdict)
    assert "trees: refused" in html
    assert "&lt;odd&gt;" in html
    told = json.loads(json.dumps(verdict.to_dict(), allow_nan=False))
    assert told["passed"] is False
    assert told["rows"][0]["slice"] == "overall"


def test_a_bar_without_a_margin_is_refused() -> None:
    with pytest.raises(InputError, match="give margins above 0"):
        GateCriteria(margin=0)
