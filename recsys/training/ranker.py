"""Rankers learned from the feature log, without the bias of where things were shown.

Legend: B requests, K places, F features, P pairs of one request's items.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from recsys.ranking.examination import Examination
from recsys.ranking.lists import CLIP, Lists
from recsys.ranking.network import Network, Shape
from recsys.training.loop import Fitted
from recsys.types import Ints

Say = Callable[[str], None]


@dataclass(frozen=True)
class TreeRecipe:
    """How the trees are grown. `clip` bounds a click's weight, see `Lists.ips_weights`."""

    rounds: int = 300
    patience: int = 30
    learning_rate: float = 0.1
    leaves: int = 15
    smallest_leaf: int = 50
    clip: float = CLIP
    seed: int = 0
    threads: int = 2


@dataclass(frozen=True)
class NetRecipe:
    """How the network is taught. `adversarial` is the length of the vectors' perturbation, see `perturbed`."""

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
class Tensors:
    """Lists as the loss takes them, all [B, K] but the features.

    `targets` are gains by inverse propensity, 0 at pads. `offsets` are logarithms of how much of its share each place
    has after clipping: 0 where the clip does not bite, -1e9 at pads.
    """

    features: Tensor
    targets: Tensor
    offsets: Tensor

    def __len__(self) -> int:
        return len(self.targets)

    def at(self, places: Ints) -> Tensors:
        """These requests."""
        chosen = torch.from_numpy(places)
        return Tensors(self.features[chosen], self.targets[chosen], self.offsets[chosen])


def tensors(lists: Lists, names: Sequence[str], examination: Examination | None, clip: float = CLIP) -> Tensors:
    """The lists with the features `names` (see `Lists.named`), on the CPU; raw clicks without an examination."""
    raise NotImplementedError


def listwise_ips_loss(scores_BK: Tensor, lists: Tensors) -> Tensor:
    """Mean over the requests with a click of the softmax cross-entropy of their clicks, by inverse propensity."""
    raise NotImplementedError


def loss_of(network: Network, lists: Tensors, adversarial: float = 0.0) -> Tensor:
    """`listwise_ips_loss` of what the network says; with `adversarial` the mean of it and of that with the vectors
    `perturbed`."""
    raise NotImplementedError


def perturbed(network: Network, lists: Tensors, epsilon: float) -> Tensors:
    """The lists with their vectors moved to where the loss rises fastest (FGSM, Goodfellow et al. 2015)."""
    raise NotImplementedError


def train_net(
    train: Lists,
    valid: Lists,
    examination: Examination | None,
    folder: Path,
    recipe: NetRecipe = NetRecipe(),
    say: Say = lambda _: None,
) -> Fitted:
    """Teaches a `Network` and saves it to `folder` for `NetRanker`; the validation is the mean of `ips_ndcg`."""
    raise NotImplementedError


def train_trees(
    train: Lists,
    valid: Lists,
    examination: Examination | None,
    folder: Path,
    recipe: TreeRecipe = TreeRecipe(),
    say: Say = lambda _: None,
) -> Fitted:
    """Grows LambdaMART trees and saves them to `folder` for `TreeRanker`; the validation is the mean of `ips_ndcg`."""
    raise NotImplementedError
