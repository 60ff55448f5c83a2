"""The neural ranker: listwise softmax cross-entropy of clicks by inverse propensity (Ai et al.,
SIGIR 2018), optionally with adversarial perturbation of its vectors.

Legend: B requests, K places, F features."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from recsys.errors import InputError
from recsys.metrics import mean
from recsys.ranking.features import BLOCKS
from recsys.ranking.logged_rankings import CLIP, LoggedRankings, PositionBias, ips_ndcg, is_vector
from recsys.ranking.network import Network, Shape, save_network
from recsys.training.loop import Say, fit, seed_everything
from recsys.training.schedule import FitResult, Schedule
from recsys.training.workers import from_first, rank
from recsys.types import Floats, Ints

_PAD = -1e9
_BLOCK = 1024


@dataclass(frozen=True, kw_only=True)
class NetRecipe:
    """How the network is trained. `adversarial` is the length of the vectors' perturbation, see
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

    def schedule(self) -> Schedule:
        """Of the training loop."""
        return Schedule(
            epochs=self.epochs,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            weight_decay=self.weight_decay,
            patience=self.patience,
            seed=self.seed,
        )


def train_net(
    train: LoggedRankings,
    valid: LoggedRankings,
    examination: PositionBias | None,
    folder: Path,
    *,
    recipe: NetRecipe = NetRecipe(),
    say: Say = lambda _: None,
) -> FitResult:
    """Trains a `Network` and saves it to `folder` for `NetRanker`; the validation is the mean of
    `ips_ndcg`.

    Raises InputError where nothing in `train` or in `valid` was clicked.
    """
    train, valid = clicked_lists(train, "train"), clicked_lists(valid, "valid")
    seed_everything(recipe.seed)
    network = Network(train.names, recipe.shape)
    network.fit_normalisation(train.features_BKF[train.present_BK])
    train_tensors, valid_tensors = (
        list_tensors(lists, train.names, examination, recipe.clip) for lists in (train, valid)
    )

    def loss(model: nn.Module, positions: Ints) -> Tensor:
        batch = train_tensors.at(positions, next(model.parameters()).device)
        return ranker_loss(model, batch, recipe.adversarial)

    def validate(model: nn.Module) -> float:
        scores_BK = score_lists(model, valid_tensors)
        return mean(ips_ndcg(scores_BK, valid, examination, clip=recipe.clip))

    fitted = fit(network, len(train_tensors), loss, validate, recipe.schedule(), say=say)
    if rank() == 0:
        save_network(network, folder)
    from_first(None)  # no worker opens it before it is written
    return fitted


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

    def at(self, positions: Ints, device: torch.device | None = None) -> ListTensors:
        """These requests, on this device."""
        chosen = torch.from_numpy(np.asarray(positions, np.int64))
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
    """The lists with the features `names` (see `LoggedRankings.named`), on the CPU; raw clicks
    without an examination."""
    weights_BK = lists.ips_weights(examination, clip)
    shares_BK = lists.examination_BK(examination) * weights_BK
    offsets_BK = np.where(lists.present_BK, np.log(np.maximum(shares_BK, 1e-30)), _PAD).astype(
        np.float32
    )
    if examination is None:
        offsets_BK = np.where(lists.present_BK, 0, _PAD).astype(np.float32)
    columns = (
        [at for at, name in enumerate(names) if is_vector(name) and name.split(".")[0] == b]
        for b in BLOCKS
    )
    arrays = (lists.with_features(names).features_BKF, lists.gains_BK * weights_BK, offsets_BK)
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

    Missing vectors, all zeros, stay zeros.
    """
    with torch.enable_grad():
        features = lists.features.detach().clone().requires_grad_()
        (slopes,) = torch.autograd.grad(listwise_ips_loss(network(features), lists), features)
    moved = lists.features.clone()
    for block in lists.blocks:
        at = list(block)
        is_vector_BK1 = (lists.features[..., at] != 0).any(dim=-1, keepdim=True)
        moved[..., at] += is_vector_BK1 * slopes[..., at].sign() * (epsilon / math.sqrt(len(at)))
    return ListTensors(moved, lists.targets, lists.offsets, lists.blocks)


@torch.no_grad()
def score_lists(network: nn.Module, lists: ListTensors) -> Floats:
    """[B, K] float32: what the network says of each place."""
    device = next(network.parameters()).device
    blocks = (lists.features[at : at + _BLOCK].to(device) for at in range(0, len(lists), _BLOCK))
    return np.concatenate([network(block).float().cpu().numpy() for block in blocks])


def clicked_lists(lists: LoggedRankings, part: str) -> LoggedRankings:
    """The requests with a click. Raises InputError where there are none."""
    clicked = lists.where(lists.has_gain_B)
    if not len(clicked):
        raise InputError(
            f"nobody clicked anything in the {len(lists):,} requests of the {part} part: "
            "a ranker cannot learn from them, so wait for more traffic"
        )
    return clicked
