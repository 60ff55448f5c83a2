"""Rankers learned from the feature log, without the bias of where things were shown.

What was clicked counts by inverse propensity, what was not clicked as far as it was seen
(`LoggedRankings.ips_weights`, `LoggedRankings.seen_BK`). Legend: B requests, K places, F features, N shown items, P
pairs of one request's items."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from recsys.errors import InputError
from recsys.metrics import mean
from recsys.ranking import trees
from recsys.ranking.features import BLOCKS
from recsys.ranking.logged_rankings import CLIP, LoggedRankings, PositionBias, ips_ndcg, is_vector
from recsys.ranking.network import Network, Shape, save
from recsys.training.loop import FitResult, Schedule, fit, seed_everything
from recsys.training.workers import from_first, rank
from recsys.types import Floats, Ints

Say = Callable[[str], None]
_PAD = -1e9
_BLOCK = 1024


@dataclass(frozen=True, kw_only=True)
class TreeRecipe:
    """How the trees are grown. `clip` bounds a click's weight, see `LoggedRankings.ips_weights`; `patience`
    rounds without a better validation end it."""

    rounds: int = 300
    patience: int = 30
    learning_rate: float = 0.1
    leaves: int = 15
    smallest_leaf: int = 50
    clip: float = CLIP
    seed: int = 0
    # One: two on a busy machine of two cores took ten times as long, threads of OpenMP waiting for
    # each other.
    threads: int = 1


@dataclass(frozen=True, kw_only=True)
class NetRecipe:
    """How the network is taught. `adversarial` is the length of the vectors' perturbation, see
    `perturb`."""

    shape: Shape = field(default_factory=Shape)
    epochs: float = 8
    batch_size: int = 256
    learning_rate: float = 3e-3
    weight_decay: float = 0.01
    patience: int = 3
    clip: float = CLIP
    adversarial: float = 0.0
    seed: int = 0


@dataclass(frozen=True)
class ListTensors:
    """Lists as the loss takes them: `features` [B, K, F], the others [B, K].

    `targets` are gains by inverse propensity, 0 at pads. `offsets` are logarithms of how much of
    its share each place has after clipping: 0 where the clip does not bite, -1e9 at pads. `blocks`
    are the columns of each vector."""

    features: Tensor
    targets: Tensor
    offsets: Tensor
    blocks: tuple[tuple[int, ...], ...] = ()

    def __len__(self) -> int:
        return len(self.targets)

    def at(self, places: Ints, device: torch.device | None = None) -> ListTensors:
        """These requests, on this device."""
        chosen = torch.from_numpy(np.asarray(places, np.int64))
        features, targets, offsets = (
            part[chosen].to(device) for part in (self.features, self.targets, self.offsets)
        )
        return ListTensors(features, targets, offsets, self.blocks)


def list_tensors(
    lists: LoggedRankings,
    names: Sequence[str],
    examination: PositionBias | None,
    clip: float = CLIP,
) -> ListTensors:
    """The lists with the features `names` (see `LoggedRankings.named`), on the CPU; raw clicks without an
    examination."""
    weights_BK = lists.ips_weights(examination, clip)
    shares_BK = lists.looked_BK(examination) * weights_BK
    offsets_BK = np.where(lists.there_BK, np.log(np.maximum(shares_BK, 1e-30)), _PAD).astype(
        np.float32
    )
    if examination is None:
        offsets_BK = np.where(lists.there_BK, 0, _PAD).astype(np.float32)
    columns = (
        [at for at, name in enumerate(names) if is_vector(name) and name.split(".")[0] == b]
        for b in BLOCKS
    )
    arrays = (lists.named(names).features_BKF, lists.gains_BK * weights_BK, offsets_BK)
    features, targets, offsets = (
        torch.from_numpy(np.ascontiguousarray(array, np.float32)) for array in arrays
    )
    return ListTensors(
        features, targets, offsets, tuple(tuple(block) for block in columns if block)
    )


def listwise_ips_loss(scores_BK: Tensor, lists: ListTensors) -> Tensor:
    """Mean over the requests with a click of the softmax cross-entropy of their clicks, by inverse
    propensity.

    The weights are of a request's clicks and not shared out: its least is where exp(score) goes
    with the relevance, wherever things stood (Ai et al., SIGIR 2018). The offsets keep that so
    under a clip, which takes as much from a place's clicks as from its part as a negative."""
    logs_BK = functional.log_softmax(scores_BK + lists.offsets, dim=1)
    teaching = (lists.targets > 0).any(dim=1).sum().clamp(min=1)
    return -(lists.targets * logs_BK).sum() / teaching


def ranker_loss(network: nn.Module, lists: ListTensors, adversarial: float = 0.0) -> Tensor:
    """`listwise_ips_loss` of what the network says; with `adversarial` the mean of it and of that
    with the vectors `perturb` (adversarial training, Goodfellow et al. 2015; for vectors of items
    Tang et al., TKDE 2019)."""
    loss = listwise_ips_loss(network(lists.features), lists)
    if not adversarial or not lists.blocks:
        return loss
    moved = perturb(network, lists, adversarial)
    return (loss + listwise_ips_loss(network(moved.features), moved)) / 2


def perturb(network: nn.Module, lists: ListTensors, epsilon: float) -> ListTensors:
    """The lists with each vector moved to where the loss rises fastest: every number by epsilon /
    sqrt(length), so that it is by `epsilon` of a unit vector (the fast gradient sign method,
    Goodfellow et al. 2015).

    What is no vector, all zeros, stays that.
    """
    with torch.enable_grad():
        features = lists.features.detach().clone().requires_grad_()
        (slopes,) = torch.autograd.grad(listwise_ips_loss(network(features), lists), features)
    moved = lists.features.clone()
    for block in lists.blocks:
        at = list(block)
        there = (lists.features[..., at] != 0).any(dim=-1, keepdim=True)
        moved[..., at] += there * slopes[..., at].sign() * (epsilon / math.sqrt(len(at)))
    return ListTensors(moved, lists.targets, lists.offsets, lists.blocks)


def train_net(
    train: LoggedRankings,
    valid: LoggedRankings,
    examination: PositionBias | None,
    folder: Path,
    *,
    recipe: NetRecipe = NetRecipe(),
    say: Say = lambda _: None,
) -> FitResult:
    """Teaches a `Network` and saves it to `folder` for `NetRanker`; the validation is the mean of
    `ips_ndcg`.

    Raises InputError where nothing in `train` or in `valid` was clicked.
    """
    train, valid = _teaching(train, "train"), _teaching(valid, "valid")
    seed_everything(recipe.seed)
    network = Network(train.names, recipe.shape)
    network.normalise_by(train.features_BKF[train.there_BK])
    taught, judged = (
        list_tensors(lists, train.names, examination, recipe.clip) for lists in (train, valid)
    )

    def loss(model: nn.Module, places: Ints) -> Tensor:
        return ranker_loss(
            model, taught.at(places, next(model.parameters()).device), recipe.adversarial
        )

    def validate(model: nn.Module) -> float:
        return mean(ips_ndcg(score_lists(model, judged), valid, examination, clip=recipe.clip))

    schedule = Schedule(
        epochs=recipe.epochs,
        batch_size=recipe.batch_size,
        learning_rate=recipe.learning_rate,
        weight_decay=recipe.weight_decay,
        patience=recipe.patience,
        seed=recipe.seed,
    )
    fitted = fit(network, len(taught), loss, validate, schedule, say=say)
    if rank() == 0:
        save(network, folder)
    from_first(None)  # nobody opens it before it is there
    return fitted


@torch.no_grad()
def score_lists(network: nn.Module, lists: ListTensors) -> Floats:
    """[B, K] float32: what the network says of each place."""
    device = next(network.parameters()).device
    blocks = (lists.features[at : at + _BLOCK].to(device) for at in range(0, len(lists), _BLOCK))
    return np.concatenate([network(block).float().cpu().numpy() for block in blocks])


def train_trees(
    train: LoggedRankings,
    valid: LoggedRankings,
    examination: PositionBias | None,
    folder: Path,
    *,
    recipe: TreeRecipe = TreeRecipe(),
    say: Say = lambda _: None,
) -> FitResult:
    """Grows LambdaMART trees and saves them to `folder` for `TreeRanker`; the validation is the
    mean of `ips_ndcg`.

    The trees see no vectors: one number of them says nothing. Raises InputError as `train_net`.
    """
    import lightgbm

    started = time.perf_counter()
    names = tuple(name for name in train.names if not is_vector(name))
    train, valid = (
        _teaching(lists, part).named(names) for lists, part in ((train, "train"), (valid, "valid"))
    )

    def validation(scores_N: NDArray[Any], _: Any) -> tuple[str, float, bool]:
        scores_BK = _spread(scores_N, valid)
        return "ips_ndcg", mean(ips_ndcg(scores_BK, valid, examination, clip=recipe.clip)), True

    data, history = _dataset(train), dict[str, dict[str, list[float]]]()
    booster = lightgbm.train(
        _parameters(recipe, len(data.data))
        | {"objective": LambdaMartObjective(train, examination, recipe.clip)},
        data,
        recipe.rounds,
        valid_sets=[_dataset(valid, data)],
        feval=validation,
        callbacks=[
            lightgbm.early_stopping(recipe.patience, verbose=False),
            lightgbm.record_evaluation(history),
        ],
    )
    trees.save(booster, names, folder)
    told = history["valid_0"]["ips_ndcg"]
    start = mean(ips_ndcg(np.zeros_like(valid.gains_BK), valid, examination, clip=recipe.clip))
    seconds = time.perf_counter() - started
    say(
        f"trees {booster.best_iteration} of {len(told)}  validation {max(told):.4f}  {seconds:.0f} s"
    )
    return FitResult(
        best=max(told), step=booster.best_iteration, steps=len(told), seconds=seconds, start=start
    )


def _parameters(recipe: TreeRecipe, examples: int) -> dict[str, Any]:
    """A small log may have small leaves: a twentieth of it."""
    return {
        "learning_rate": recipe.learning_rate,
        "num_leaves": recipe.leaves,
        "min_data_in_leaf": max(1, min(recipe.smallest_leaf, examples // 20)),
        "lambda_l2": 1.0,
        "seed": recipe.seed,
        "num_threads": recipe.threads,
        "deterministic": True,
        "force_row_wise": True,
        "metric": "None",
        "verbose": -1,
    }


class LambdaMartObjective:
    """LambdaMART's objective (Burges 2010) of clicks without position bias, as LightGBM calls it.

    A pair is an item i with more gain than j of its request. It counts |delta nDCG| of exchanging
    the two as they are ranked now, times the weights of both places, times how likely j was seen.
    In the position-based model a pair's mean is then r_i (1 - r_j) times something that is the same
    for both, wherever they stood, with any clip: what is clicked little as nobody looked there
    loses no more than it wins (Joachims et al. 2017; Wang et al., WSDM 2018; Hu et al., WWW 2019,
    who estimate one weight a place for clicks and one for none)."""

    def __init__(
        self, lists: LoggedRankings, examination: PositionBias | None, clip: float
    ) -> None:
        self.lists = lists
        gains_BK = lists.gains_BK
        requests_C, clicked_C = np.nonzero(lists.clicked_BK)
        worse_CK = (gains_BK[requests_C] < gains_BK[requests_C, clicked_C, None]) & lists.there_BK[
            requests_C
        ]
        which_P, worse_P = np.nonzero(worse_CK)
        owner_P, better_P = requests_C[which_P], clicked_C[which_P]
        weights_BK = lists.ips_weights(examination, clip) * lists.seen_BK(examination)
        discounts_K = _discounts(gains_BK.shape[1])
        ideal_B = -np.sort(-gains_BK, axis=1) @ discounts_K
        self.weight_P = gains_BK[owner_P, better_P] - gains_BK[owner_P, worse_P]
        self.weight_P *= (
            weights_BK[owner_P, better_P] * weights_BK[owner_P, worse_P] / ideal_B[owner_P]
        )
        row_BK = np.cumsum(lists.there_BK.ravel()).reshape(gains_BK.shape) - 1
        self.better_P, self.worse_P = row_BK[owner_P, better_P], row_BK[owner_P, worse_P]

    def __call__(self, scores_N: NDArray[Any], _: Any) -> tuple[NDArray[Any], NDArray[Any]]:
        """[N] slopes and curvatures, of the items of the lists from place to place."""
        order_BK = np.argsort(-_spread(scores_N, self.lists), axis=1, kind="stable")
        discounts_BK = np.empty(order_BK.shape)
        np.put_along_axis(discounts_BK, order_BK, _discounts(order_BK.shape[1])[None], axis=1)
        discounts_N = discounts_BK[self.lists.there_BK]
        moved_P = self.weight_P * np.abs(discounts_N[self.better_P] - discounts_N[self.worse_P])
        wrong_P = 1 / (
            1 + np.exp(np.clip(scores_N[self.better_P] - scores_N[self.worse_P], -50, 50))
        )
        slopes_P, bends_P = moved_P * wrong_P, moved_P * wrong_P * (1 - wrong_P)
        rows = len(scores_N)
        slopes_N = np.bincount(self.worse_P, slopes_P, rows) - np.bincount(
            self.better_P, slopes_P, rows
        )
        return slopes_N, np.bincount(self.worse_P, bends_P, rows) + np.bincount(
            self.better_P, bends_P, rows
        )


def _discounts(places: int) -> NDArray[np.float64]:
    return 1 / np.log2(np.arange(2, 2 + places))


def _spread(values_N: NDArray[Any], lists: LoggedRankings) -> NDArray[Any]:
    """[B, K] of one value an item; -inf at pads."""
    values_BK = np.full(lists.positions_BK.shape, -np.inf)
    values_BK[lists.there_BK] = values_N
    return values_BK


def _dataset(lists: LoggedRankings, reference: Any = None) -> Any:
    import lightgbm

    features_NF = lists.features_BKF[lists.there_BK]
    names = [
        f"f{at}" for at in range(features_NF.shape[1])
    ]  # LightGBM refuses names that JSON would have to quote
    return lightgbm.Dataset(
        features_NF,
        lists.gains_BK[lists.there_BK],
        reference,
        feature_name=names,
        params={"verbose": -1},
    )


def _teaching(lists: LoggedRankings, part: str) -> LoggedRankings:
    taught = lists.where(lists.teaches_B)
    if not len(taught):
        raise InputError(
            f"nobody clicked anything in the {len(lists):,} requests of the {part} part: "
            "a ranker cannot learn from them, so wait for more traffic"
        )
    return taught
