"""Learning by day: a flip is followed, what stays is kept, and nobody moves it further than is
said."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.errors import InputError
from recsys.ranking.network import NetRanker
from recsys.training.influence import InfluenceBudget, OnlineConfig, is_held_out
from recsys.training.last_layer import OnlineLearner
from tests.toy_clicks import toy_log
from tests.toy_online import CURVES, examples, flow, network

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
FREE = OnlineConfig(user_votes=1000, origin_votes=1000, max_item_clicks=1000)


@pytest.fixture(scope="module")
def nightly(tmp_path_factory):
    return network(tmp_path_factory.mktemp("night"))


def right(learner, strength=1.5, requests=400):
    """The share of pairs of a list's items that the learner puts as people want them."""
    lists, _ = toy_log(requests, seed=99)
    scores, wanted = (
        learner.score(lists.features_BKF),
        np.sign(strength) * lists.features_BKF[:, :, 0],
    )
    one, other = np.triu_indices(10, 1)
    return float(
        ((scores[:, one] > scores[:, other]) == (wanted[:, one] > wanted[:, other])).mean()
    )


def told(learner):
    return learner.score(toy_log(50, seed=98)[0].features_BKF)


def test_before_it_learns_it_is_the_nightly_network(nightly) -> None:
    learner = OnlineLearner(nightly, OnlineConfig(), CURVES)
    np.testing.assert_allclose(
        told(learner), NetRanker(nightly).score(toy_log(50, seed=98)[0].features_BKF), atol=1e-5
    )
    assert right(learner) > 0.9


def test_a_flip_is_followed_within_500_events(nightly) -> None:
    """From noon on people want the opposite: after 500 events most pairs stand right again."""
    learner, events, calls = OnlineLearner(nightly, OnlineConfig(), CURVES), 0, 0
    assert right(learner, strength=-1.5) < 0.1
    while events < 500:
        lists = flow(50, seed=200 + calls, strength=-1.5)
        report = learner.learn(examples(lists))
        events, calls = events + int(lists.clicked_BK.sum()), calls + 1
    assert right(learner, strength=-1.5) > 0.8
    assert report.fallbacks == 0
    assert 0 < report.distance <= 1


def test_what_stays_is_kept(nightly) -> None:
    learner = OnlineLearner(nightly, OnlineConfig(), CURVES)
    before = right(learner)
    for call in range(12):
        report = learner.learn(examples(flow(100, seed=300 + call)))
    assert right(learner) > before - 0.02
    assert report.low <= 0
    assert report.fallbacks == 0


def test_the_weights_never_leave_the_ball(nightly) -> None:
    learner = OnlineLearner(nightly, replace(FREE, radius=0.1, learning_rate=0.5), CURVES)
    for call in range(3):
        report = learner.learn(examples(flow(100, seed=400 + call, strength=-3.0)))
    assert report.distance == pytest.approx(1)
    assert np.linalg.norm(learner.theta_H) <= learner.radius * (1 + 1e-9)


def test_no_step_is_longer_than_its_list_has_votes(nightly) -> None:
    """Wherever the weights are: votes are told from the list alone, and are at most 1."""
    learner, rng = OnlineLearner(nightly, FREE, CURVES), np.random.default_rng(0)
    for one in learner._list_examples(learner._lists_with_gain(examples(flow(60, seed=1)))):
        assert one.votes <= 1
        for size in (0.0, 1.0, 100.0):
            assert np.linalg.norm(
                one.gradient_H(size * rng.normal(size=len(learner.theta_H)))
            ) <= one.votes * (1 + 1e-6)


def test_the_slope_is_that_of_the_loss(nightly) -> None:
    learner = OnlineLearner(nightly, FREE, CURVES)
    one = next(learner._list_examples(learner._lists_with_gain(examples(flow(5, seed=1)))))
    at, small = np.full(len(learner.theta_H), 0.1), 1e-5 * np.eye(len(learner.theta_H))
    slope = [one.weight * (one.loss(at + step) - one.loss(at - step)) / 2e-5 for step in small]
    np.testing.assert_allclose(one.gradient_H(at), slope, atol=1e-6)


@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 1000),
    spams=st.integers(1, 60),
    rate=st.sampled_from([0.05, 0.5]),
    forged=st.booleans(),
)
def test_one_source_moves_the_weights_by_no_more_than_is_said(
    nightly, seed, spams, rate, forged
) -> None:
    """Two streams, one of them with somebody's clicks on top, all from one address, as himself or
    as everybody."""
    choices = OnlineConfig(learning_rate=rate)
    without, with_spam = (
        OnlineLearner(nightly, choices, CURVES),
        OnlineLearner(nightly, choices, CURVES),
    )
    for learner in (without, with_spam):
        learner.remember(examples(flow(40, seed=7)))
    for call in range(3):
        honest = examples(flow(40, seed=call, users=15))
        spam = flow(spams, seed=1000 + seed + call, users=15)
        gains = np.zeros_like(spam.gains_BK)
        gains[np.arange(spams), spam.features_BKF[:, :, 0].argmin(axis=1)] = 1
        users = spam.users_B if forged else np.full(spams, "spammer", object)
        with_spam.learn(
            pa.concat_tables(
                [examples(replace(spam, gains_BK=gains, users_B=users), "bad"), honest]
            )
        )
        without.learn(honest)
    moved = float(np.linalg.norm(with_spam.theta_H - without.theta_H))
    assert with_spam.fallbacks == without.fallbacks == 0
    bound = choices.source_influence_bound if forged else choices.user_influence_bound
    assert moved <= bound * (1 + 1e-6)
    change = told(with_spam) - told(without)
    apart = float(np.ptp(change, axis=1).max())
    assert apart <= with_spam.influence_bound(examples(toy_log(50, seed=98)[0])) + 1e-4


def test_a_storm_of_clicks_without_the_guard_does_harm_and_with_it_none(nightly) -> None:
    """The test above can fail: the same spam, free to vote, turns the order over."""
    guarded, free = (
        OnlineLearner(nightly, OnlineConfig(), CURVES),
        OnlineLearner(nightly, FREE, CURVES),
    )
    spam = flow(400, seed=5)
    gains = np.zeros_like(spam.gains_BK)
    gains[np.arange(400), spam.features_BKF[:, :, 0].argmin(axis=1)] = 1
    spam = replace(spam, gains_BK=gains, users_B=np.full(400, "spammer", object))
    report = guarded.learn(examples(spam))
    free.learn(examples(spam))
    assert report.refused > 390
    assert right(guarded) > 0.9
    assert right(free) < 0.5


def test_the_held_out_are_never_learned_from(nightly) -> None:
    lists = flow(300, seed=1)
    held = np.array([is_held_out(request, 0.1) for request in lists.request_ids_B])
    assert 0.05 < held.mean() < 0.2
    learner = OnlineLearner(nightly, OnlineConfig(), CURVES)
    report = learner.learn(examples(lists.where(held)))
    assert (report.learned, report.distance) == (0, 0)
    assert report.holdout == int(lists.where(held).has_gain_B.sum())


def test_what_gets_worse_falls_back_and_is_counted(nightly) -> None:
    """Lists that teach say the opposite of those held out: somebody poisons the stream."""
    learner, fallbacks = OnlineLearner(nightly, replace(FREE, learning_rate=0.5), CURVES), 0
    for call in range(8):
        lists, bad = flow(150, seed=600 + call), flow(150, seed=600 + call, strength=-3.0)
        held = np.array([is_held_out(request, 0.1) for request in lists.request_ids_B])
        mixed = replace(
            bad,
            gains_BK=np.where(held[:, None], lists.gains_BK, bad.gains_BK),
            features_BKF=np.where(held[:, None, None], lists.features_BKF, bad.features_BKF),
        )
        report = learner.learn(examples(mixed))
        fallbacks += report.fell_back
        if report.fell_back:
            assert right(learner) > 0.9
    assert report.fallbacks == fallbacks >= 1


def test_the_same_stream_gives_the_same_weights(nightly) -> None:
    one, other = (
        OnlineLearner(nightly, OnlineConfig(), CURVES),
        OnlineLearner(nightly, OnlineConfig(), CURVES),
    )
    for learner in (one, other):
        learner.remember(examples(flow(40, seed=7)))
        for call in range(2):
            learner.learn(examples(flow(50, seed=call)))
    assert (one.theta_H == other.theta_H).all()


def test_what_is_remembered_pulls_back(nightly) -> None:
    """Against forgetting: with yesterday's lists beside them, today's move the weights less far."""
    with_past, without = (
        OnlineLearner(nightly, replace(FREE, replay=1.0), CURVES) for _ in range(2)
    )
    assert with_past.remember(examples(flow(800, seed=7))) > 300
    for call in range(4):
        for learner in (with_past, without):
            learner.learn(examples(flow(80, seed=call, strength=-1.5)))
    assert right(with_past) > right(without)


def test_a_snapshot_is_a_network_and_is_taken_up_again(nightly, tmp_path) -> None:
    learner = OnlineLearner(nightly, OnlineConfig(), CURVES)
    learner.learn(examples(flow(80, seed=1, strength=-1.5)))
    learner.snapshot(tmp_path)
    np.testing.assert_allclose(
        NetRanker(tmp_path).score(toy_log(50, seed=98)[0].features_BKF), told(learner), atol=1e-4
    )
    again = OnlineLearner(nightly, OnlineConfig(), CURVES)
    again.restore(tmp_path, learner.state())
    np.testing.assert_allclose(again.theta_H, learner.theta_H, atol=1e-4)
    assert again.budget.state() == learner.budget.state()


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_list_whose_numbers_overflow_teaches_nothing(nightly) -> None:
    learner = OnlineLearner(nightly, OnlineConfig(), CURVES)
    with torch.no_grad():
        learner.nightly.crosses[0].up.bias.fill_(float("inf"))
    report = learner.learn(examples(flow(20, seed=1)))
    assert (report.learned, report.holdout, report.distance) == (0, 0, 0)
    assert report.refused == report.lists > 0


def test_a_log_of_another_surface_is_refused(nightly) -> None:
    lists = flow(5, seed=1)
    with pytest.raises(InputError, match="none of the features"):
        OnlineLearner(nightly, OnlineConfig(), CURVES).learn(
            examples(replace(lists, names=("a", "b", "c")))
        )


def test_a_guard_lets_a_user_spend_what_he_has_and_no_more() -> None:
    budget = InfluenceBudget(OnlineConfig(user_votes=1.0, origin_votes=5.0))
    shares = [budget.admitted(0.4, "u", ["o"], [f"i{at}"], NOON) for at in range(4)]
    assert shares == pytest.approx([1, 1, 0.5, 0])
    assert budget.admitted(0.4, "v", ["o"], ["i"], NOON) == 1
    assert budget.admitted(0.4, "u", ["o"], ["j"], NOON + timedelta(days=1)) == 1


def test_a_guard_counts_an_address_whatever_names_it_uses() -> None:
    budget = InfluenceBudget(OnlineConfig(user_votes=1.0, origin_votes=1.0))
    assert sum(
        budget.admitted(0.4, f"u{at}", ["o"], ["i"], NOON) for at in range(10)
    ) * 0.4 == pytest.approx(1)
    assert budget.admitted(0.4, "u0", ["elsewhere"], ["i"], NOON) == 1
    assert budget.admitted(0.4, "u9", ["elsewhere"], ["i"], NOON) == 1  # nothing of his was used up


def test_without_addresses_users_pay_alone_and_nobody_is_one_source() -> None:
    budget = InfluenceBudget(OnlineConfig(user_votes=1.0, origin_votes=1.0))
    assert [budget.admitted(0.6, f"u{at}", [None], ["i"], NOON) for at in range(3)] == [1, 1, 1]
    assert budget.admitted(0.8, "u0", [None], ["j"], NOON) == pytest.approx(0.5)
    assert [budget.admitted(1.0, None, [None], ["i"], NOON) for _ in range(2)] == [1, 0]


def test_one_item_over_and_over_counts_so_often() -> None:
    budget = InfluenceBudget(OnlineConfig(max_item_clicks=2, user_votes=100, origin_votes=100))
    assert [budget.admitted(0.1, "u", ["o"], ["i"], NOON) for _ in range(3)] == [1, 1, 0]


def test_a_guard_goes_on_from_what_it_told() -> None:
    budget = InfluenceBudget(OnlineConfig(user_votes=1.0))
    budget.admitted(1.0, "u", ["o"], ["i"], NOON)
    assert (
        InfluenceBudget(OnlineConfig(user_votes=1.0), budget.state()).admitted(
            1.0, "u", ["o"], ["j"], NOON
        )
        == 0
    )


@pytest.mark.parametrize(
    "wrong",
    [
        {"radius": 0},
        {"user_votes": 0},
        {"holdout": 1},
        {"min_holdout": 200},
        {"max_item_clicks": 0},
    ],
)
def test_wrong_choices_are_refused_with_the_next_step(wrong) -> None:
    with pytest.raises(InputError, match=r"give|raise"):
        OnlineConfig(**wrong)


def test_the_guard_forgets_what_somebody_spent() -> None:
    budget = InfluenceBudget(OnlineConfig())
    for user in ("him", "her"):
        budget.admitted(0.5, user, [None], ["i01"], NOON)
    budget.forget({"him"})
    assert {key.split("\x1f")[1] for key in budget.state()["votes"]} == {"her"}
