"""A ranker that crosses features and vectors: DCN-v2 (Wang et al., WWW 2021), low-rank crosses beside a small MLP.

Loads torch with the module, so it is imported where a trained model is. Legend: B requests, N candidates, F features,
S of them scalars, X what enters the network, H hidden.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from recsys.errors import InputError
from recsys.ranking.lists import is_vector
from recsys.types import Floats

#: Blocks that lie in one space: their elementwise products enter beside them.
PAIRS = (("query", "item"), ("user", "taste"))
SHAPE, WEIGHTS = "network.json", "weights.safetensors"
#: Points of the Gauss-Legendre quadrature of the integrated gradients.
POINTS = 16
#: A feature further from its mean than this many standard deviations counts as this far.
FURTHEST = 8.0


@dataclass(frozen=True)
class Shape:
    """What a network is built by: `crosses` layers of rank `rank`, and an MLP of `hidden` units a layer."""

    crosses: int = 2
    rank: int = 16
    hidden: tuple[int, ...] = (32, 16)
    dropout: float = 0.0


class Network(nn.Module):
    """Scores candidates by features named so; `mean_S` and `std_S` are of the scalars' signed logarithms.

    Scalars enter as sign(x) log(1 + |x|), normalised. Vectors of unit length enter so that a number of them is about
    1, with the elementwise products of query and item, and of user and taste; all zeros are no vector, and a product
    with it is 0. Raises InputError where two blocks of a pair are not equally long.
    """

    def __init__(self, names: Sequence[str], shape: Shape = Shape()) -> None:
        super().__init__()
        self.names, self.shape = tuple(names), shape
        raise NotImplementedError

    @torch.no_grad()
    def normalise_by(self, features_NF: Floats) -> None:
        """Takes the mean and the standard deviation of these examples' scalars."""
        raise NotImplementedError

    def entering(self, features_BNF: Tensor) -> Tensor:
        """[B, N, F]: each feature as the network takes it, 0 at what integrated gradients begin from."""
        raise NotImplementedError

    def scored(self, entering_BNF: Tensor) -> Tensor:
        """[B, N] of what `entering` gave."""
        raise NotImplementedError

    def forward(self, features_BNF: Tensor) -> Tensor:
        return self.scored(self.entering(features_BNF))


def save(network: Network, folder: Path) -> None:
    """Writes what `load` and `NetRanker` open."""
    raise NotImplementedError


def load(folder: str | Path) -> Network:
    """The network in eval mode, on the CPU."""
    raise NotImplementedError


class NetRanker:
    """Scores by the network in a folder, on the CPU with `threads` threads of this process. `Ranker`, `Explained`."""

    def __init__(self, folder: str | Path, threads: int = 1) -> None:
        torch.set_num_threads(threads)
        self.network = load(folder)
        self.feature_names = self.network.names

    def score(self, features_BNF: Floats) -> Floats:
        raise NotImplementedError

    def contributions(self, features_BNF: Floats) -> Floats:
        raise NotImplementedError


_ = (json, asdict, np, load_file, save_file, is_vector, InputError)
