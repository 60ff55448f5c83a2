"""Rankers of biased clicks: people want by `wanted`, the ranker of the day put what they want least
on top."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from recsys.errors import InputError
from recsys.intervals import two_way_bootstrap_mean
from recsys.ranking.examination import Examination, intervention_harvesting
from recsys.ranking.logged_rankings import ips_ndcg, split_by_user
from recsys.ranking.network import NetRanker, Network, load_network
from recsys.ranking.trees import TreeRanker
from recsys.training.lambdamart import LambdaMartObjective, TreeRecipe, train_trees
from recsys.training.ranker_net import (
    ListTensors,
    NetRecipe,
    list_tensors,
    listwise_ips_loss,
    perturb,
    ranker_loss,
    score_lists,
    train_net,
)
from tests.toy_clicks import CURVE, toy_lists, toy_log, toy_vector_log

TRUE = Examination(CURVE, CURVE, CURVE)
TREES = TreeRecipe(rounds=40, patience=40)
NET = NetRecipe(epochs=4)


def trees(train, valid, examination, folder, recipe=TREES):
    train_trees(train, valid, examination, folder, recipe=recipe)
    return TreeRanker(folder)


def net(train, valid, examination, folder, recipe=NET):
    train_net(train, valid, examination, folder, recipe=recipe)
    return NetRanker(folder)


@pytest.mark.parametrize("learn", [trees, net])
def test_clicks_alone_teach_the_wrong_order(learn, tmp_path):
    """Their nDCG by what is wanted, over three logs: both estimates of the curve beat them, clear
    of zero."""
    unseen, relevance_BK = toy_log(500, 99)
    wanted = toy_lists(unseen.features_BKF, relevance_BK)
    gained_SB = []
    for seed in range(3):
        lists, _ = toy_log(5000, seed, epsilon=0.3)
        train, valid = split_by_user(lists)
        raw, ips = (
            ips_ndcg(learn(train, valid, by, tmp_path).score(unseen.features_BKF), wanted, None)
            for by in (None, intervention_harvesting(lists, draws=0))
        )
        assert ips.mean() > 0.97 > 0.95 > raw.mean()
        gained_SB.append(ips - raw)
    assert two_way_bootstrap_mean(np.array(gained_SB))[0] > 0.01


@pytest.mark.parametrize("learn", [trees, net])
def test_the_same_seed_the_same_ranker(learn, tmp_path):
    lists, _ = toy_log(1500)
    train, valid = split_by_user(lists)
    recipe = NET if learn is net else TREES
    rankers = (
        learn(train, valid, TRUE, tmp_path / str(seed), replace(recipe, seed=seed))
        for seed in (0, 0, 1)
    )
    one, other, third = (ranker.score(lists.features_BKF) for ranker in rankers)
    np.testing.assert_array_equal(one, other)
    assert learn is trees or not np.array_equal(one, third)


@pytest.mark.parametrize("learn", [train_trees, train_net])
def test_a_log_without_clicks_teaches_nothing(learn, tmp_path):
    lists, _ = toy_log(50)
    silent = toy_lists(lists.features_BKF, 0 * lists.gains_BK)
    with pytest.raises(
        InputError, match="nobody clicked anything in the 50 requests of the train part"
    ):
        learn(silent, lists, TRUE, tmp_path)
    with pytest.raises(InputError, match="in the 0 requests of the valid part"):
        learn(lists, lists.where(np.zeros(50, bool)), TRUE, tmp_path)


def test_a_small_log_still_grows_trees(tmp_path):
    lists, _ = toy_log(60)
    assert np.ptp(trees(lists, lists, None, tmp_path).score(lists.features_BKF)) > 0


def test_a_click_s_lambdas_by_hand():
    """Place 3 of 3 was clicked, all score 0. By hand, clip 10: weights 1, 2, 4, and of those
    unclicked, by Bayes' rule with one click where 1.75 places were looked at, 1 and .3 were
    seen."""
    lists = toy_lists(np.zeros((1, 3, 1)), np.array([[0, 0, 1.0]]), names=["x"])
    curve = Examination(np.array([1, 0.5, 0.25]), np.ones(3), np.ones(3))
    slopes_N, bends_N = LambdaMartObjective(lists, curve, 10)(np.zeros(3), None)
    first, second = 4 * 1 * (1 - 1 / 2) / 2, 4 * (2 * 0.3) * (1 / np.log2(3) - 1 / 2) / 2
    np.testing.assert_allclose(slopes_N, [first, second, -first - second], rtol=1e-5)
    np.testing.assert_allclose(bends_N, [first / 2, second / 2, (first + second) / 2], rtol=1e-5)


@pytest.mark.parametrize("clip", [1, 3, 100])
def test_of_equally_wanted_items_no_place_wins(clip):
    """The lambdas' mean at each place, and the loss's slope there, are 0 to their noise; not those
    of raw clicks."""
    lists, _ = toy_log(40_000, level=0, strength=0)
    order_BK = np.argsort(
        np.random.default_rng(0).random(lists.gains_BK.shape), axis=1
    )  # so that ranks are no places
    scores_BK = -1e-6 * np.argsort(order_BK, axis=1)
    for by, fair in ((TRUE, True), (None, False)):
        slopes_BK = LambdaMartObjective(lists, by, clip)(scores_BK.ravel(), None)[0].reshape(
            scores_BK.shape
        )
        off_K = np.abs(slopes_BK.mean(axis=0)) / (slopes_BK.std(axis=0) / np.sqrt(len(lists)))
        assert (off_K.max() < 4) == fair
    held = list_tensors(lists, lists.names, TRUE, clip)
    flat = torch.zeros(held.targets.shape, requires_grad=True)
    (slopes,) = torch.autograd.grad(listwise_ips_loss(flat, held), flat)
    assert (slopes.mean(dim=0) / (slopes.std(dim=0) / len(lists) ** 0.5)).abs().max() < 4


def test_pads_take_no_part():
    lists, _ = toy_log(30)
    padded_arrays = {
        name: np.concatenate([array, np.zeros_like(array[:, :3])], axis=1)
        for name, array in vars(lists).items()
        if name.endswith(("_BK", "_BKF"))
    }
    wide = replace(lists, **padded_arrays)
    narrow, padded = (list_tensors(one, lists.names, TRUE) for one in (lists, wide))
    scores = torch.randn(30, 13, generator=torch.Generator().manual_seed(0))
    assert listwise_ips_loss(scores, padded) == pytest.approx(
        listwise_ips_loss(scores[:, :10], narrow).item()
    )
    for one in (lists, wide):
        slopes_N, _ = LambdaMartObjective(one, TRUE, 10)(np.zeros(300), None)
        assert len(slopes_N) == 300


def test_the_network_learns_from_vectors(tmp_path):
    lists, _ = toy_vector_log(5000)
    unseen, relevance_BK = toy_vector_log(500, 9)
    train, valid = split_by_user(lists)
    ranker = net(train, valid, TRUE, tmp_path, NetRecipe(epochs=10))
    values_B = ips_ndcg(
        ranker.score(unseen.features_BKF),
        toy_lists(unseen.features_BKF, relevance_BK, names=unseen.names),
        None,
    )
    assert values_B.mean() > 0.95
    by_trees = trees(train, valid, TRUE, tmp_path / "trees")
    assert by_trees.feature_names == ("wanted",), "trees see no vectors"


def test_an_attack_raises_the_loss_and_training_for_it_less(tmp_path):
    lists, _ = toy_vector_log(2000, weight=1.0)
    held = list_tensors(lists, lists.names, TRUE)
    raised = []
    for epsilon in (0.0, 0.1):
        net(
            *split_by_user(lists),
            TRUE,
            tmp_path,
            replace(NET, epochs=6, adversarial=epsilon, patience=0),
        )
        network = load_network(tmp_path)
        with torch.no_grad():
            losses = [
                listwise_ips_loss(network(t.features), t).item()
                for t in (held, perturb(network, held, 0.1))
            ]
            assert ranker_loss(network, held, 0.1).item() == pytest.approx(
                np.mean(losses), rel=1e-5
            )
        raised.append(losses[1] - losses[0])
    assert raised[0] > 1.5 * raised[1] > 0


def test_an_attack_moves_vectors_by_its_length_and_nothing_else():
    lists, _ = toy_vector_log(20)
    held = list_tensors(lists, lists.names, None)
    silent = held.features.clone()
    silent[..., 1:9] = 0
    torch.manual_seed(0)
    moved = perturb(
        Network(lists.names), ListTensors(silent, held.targets, held.offsets, held.blocks), 0.25
    )
    by = (moved.features - silent).double()
    assert by[..., 0].abs().max() == 0, "a scalar is no vector"
    assert by[..., 1:9].abs().max() == 0, "no vector stays none"
    assert by[..., 17:25].norm(dim=-1).max().item() == pytest.approx(0.25, rel=1e-5)


def test_scores_come_block_by_block():
    lists, _ = toy_log(2500)
    network = Network(lists.names).eval()
    held = list_tensors(lists, lists.names, None)
    with torch.no_grad():
        np.testing.assert_allclose(
            score_lists(network, held), network(held.features).numpy(), atol=1e-5
        )
