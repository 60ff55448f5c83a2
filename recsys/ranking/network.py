"""A ranker that crosses features and vectors: DCN-v2 (Wang et al., WWW 2021), low-rank crosses
beside a small MLP.

Loads torch with the module, so it is imported where a trained model is. Legend: B requests, N
candidates, F features, S of them scalars, X numbers of the first layer, H hidden."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from recsys.errors import InputError, NotFoundError
from recsys.ranking.logged_rankings import is_vector
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
    """What a network is built by: `crosses` layers of rank `rank`, and an MLP of `hidden` units a
    layer."""

    crosses: int = 2
    rank: int = 16
    hidden: tuple[int, ...] = (32, 16)
    dropout: float = 0.0


class Network(nn.Module):
    """A DCN-v2 over the features `names`; `mean_S` and `std_S` are of the scalars' signed
    logarithms.

    Scalars enter as sign(x) log(1 + |x|), normalised. Vectors of unit length enter so that a number
    of them is about 1, with the elementwise products of query and item, and of user and taste; all
    zeros are no vector, and a product with it is 0. Raises InputError where two blocks of a pair
    are not equally long."""

    mean_S: Tensor
    std_S: Tensor

    def __init__(self, names: Sequence[str], shape: Shape = Shape()) -> None:
        super().__init__()
        self.names, self.shape = tuple(names), shape
        self.scalars = [at for at, name in enumerate(self.names) if not is_vector(name)]
        self.blocks = [_paired(self.names, *pair) for pair in PAIRS]
        self.register_buffer("mean_S", torch.zeros(len(self.scalars)))
        self.register_buffer("std_S", torch.ones(len(self.scalars)))
        width = len(self.names) + sum(len(one) for one, _ in self.blocks)
        self.crosses = nn.ModuleList([Cross(width, shape.rank) for _ in range(shape.crosses)])
        self.deep, hidden = nn.Sequential(), width
        for units in shape.hidden:
            # SiLU and not ReLU: integrated gradients of a smooth function need few points.
            self.deep.extend([nn.Linear(hidden, units), nn.SiLU(), nn.Dropout(shape.dropout)])
            hidden = units
        self.out = nn.Linear(width + hidden, 1)

    @torch.no_grad()
    def fit_normalisation(self, features_NF: Floats) -> None:
        """Sets the mean and the standard deviation to those of these examples' scalars."""
        logs_NS = _signed_log(
            torch.from_numpy(np.asarray(features_NF[:, self.scalars], np.float32))
        )
        self.mean_S.copy_(logs_NS.mean(dim=0))
        # A scalar that never varied has no scale: it must not dominate the day it does vary.
        std_S = logs_NS.std(dim=0, correction=0)
        self.std_S.copy_(torch.where(std_S > 1e-4, std_S, 1.0))

    def inputs(self, features_BNF: Tensor) -> Tensor:
        """[B, N, F]: each feature as the network takes it, 0 at what integrated gradients begin
        from."""
        inputs_BNF = features_BNF.clone()
        logs_BNS = (_signed_log(features_BNF[..., self.scalars]) - self.mean_S) / self.std_S
        inputs_BNF[..., self.scalars] = logs_BNS.clamp(-FURTHEST, FURTHEST)
        for pair in self.blocks:
            for block in pair:
                inputs_BNF[..., block] *= math.sqrt(len(block))
        return inputs_BNF

    def score_inputs(self, inputs_BNF: Tensor) -> Tensor:
        """[B, N] the scores of what `inputs` gave."""
        products = [
            inputs_BNF[..., one] * inputs_BNF[..., other] for one, other in self.blocks if one
        ]
        first_BNX = torch.cat([inputs_BNF, *products], dim=-1)
        crossed_BNX = first_BNX
        for cross in self.crosses:
            crossed_BNX = cross(first_BNX, crossed_BNX)
        return self.out(torch.cat([crossed_BNX, self.deep(first_BNX)], dim=-1))[..., 0]

    def forward(self, features_BNF: Tensor) -> Tensor:
        return self.score_inputs(self.inputs(features_BNF))


class Cross(nn.Module):
    """x0 * (U V^T x + b) + x: one more order of products of features (equation 2 of Wang et
    al.)."""

    def __init__(self, width: int, rank: int) -> None:
        super().__init__()
        self.down, self.up = nn.Linear(width, rank, bias=False), nn.Linear(rank, width)

    def forward(self, first_BNX: Tensor, crossed_BNX: Tensor) -> Tensor:
        return torch.addcmul(crossed_BNX, first_BNX, self.up(self.down(crossed_BNX)))


def _signed_log(values: Tensor) -> Tensor:
    return values.sign() * values.abs().log1p()


def _paired(names: tuple[str, ...], one: str, other: str) -> tuple[list[int], list[int]]:
    """Where the numbers of both blocks stand, in their order; empty where a block is not there at
    all."""
    first, second = _columns_of(names, one), _columns_of(names, other)
    if first.keys() != second.keys():
        raise InputError(
            f"the features have {len(first)} numbers of {one} and {len(second)} of {other}: "
            "give vectors of one space, with all numbers of both or of none"
        )
    numbers = sorted(first)
    return [first[number] for number in numbers], [second[number] for number in numbers]


def _columns_of(names: tuple[str, ...], block: str) -> dict[int, int]:
    """The column of each number of a block: 3 of `query.3`."""
    return {
        int(name.split(".")[1]): column
        for column, name in enumerate(names)
        if name.startswith(f"{block}.") and is_vector(name)
    }


def save_network(network: Network, folder: Path) -> None:
    """Writes what `load_network` and `NetRanker` open."""
    folder.mkdir(parents=True, exist_ok=True)
    state = network.state_dict()
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
    save_file(tensors, folder / WEIGHTS)
    content = {"feature_names": network.names, "shape": asdict(network.shape)}
    (folder / SHAPE).write_text(json.dumps(content, indent=2) + "\n")


def load_network(folder: str | Path) -> Network:
    """The network in eval mode, on the CPU. Raises NotFoundError where the folder has none."""
    folder = Path(folder)
    if not (folder / SHAPE).exists():
        raise NotFoundError(
            f"{folder} has no network: name a folder that training.ranker_net.train_net wrote"
        )
    content = json.loads((folder / SHAPE).read_text())
    shape = Shape(**{**content["shape"], "hidden": tuple(content["shape"]["hidden"])})
    network = Network(content["feature_names"], shape)
    network.load_state_dict(load_file(folder / WEIGHTS))
    return network.eval()


class NetRanker:
    """Scores by the network in a folder, on the CPU with `threads` threads of this process.
    `Ranker` and `ExplainableRanker`.

    An item's score does not depend on the other candidates, to rounding.
    """

    def __init__(self, folder: str | Path, threads: int = 1) -> None:
        torch.set_num_threads(threads)
        self.network = load_network(folder)
        for weights in self.network.parameters():
            weights.requires_grad_(False)
        self.feature_names = self.network.names

    @torch.inference_mode()
    def score(self, features_BNF: Floats) -> Floats:
        return self.network(self._checked(features_BNF)).numpy()

    def contributions(self, features_BNF: Floats) -> Floats:
        """[B, N, F + 1]: integrated gradients (Sundararajan et al., ICML 2017), last what is not of
        the features.

        The path is straight, in what enters the network, from the mean of every scalar's logarithm
        and no vectors: the base is the score of that, and the error of the quadrature, so that the
        sum is the score."""
        inputs_BNF = self.network.inputs(self._checked(features_BNF))
        points, weights = np.polynomial.legendre.leggauss(POINTS)
        slopes_BNF = torch.zeros_like(inputs_BNF)
        for point, weight in zip((points + 1) / 2, weights / 2, strict=True):
            on_path_BNF = (inputs_BNF * point).requires_grad_()
            (slope_BNF,) = torch.autograd.grad(
                self.network.score_inputs(on_path_BNF).sum(), on_path_BNF
            )
            slopes_BNF += weight * slope_BNF
        parts_BNF = (slopes_BNF * inputs_BNF).numpy()
        base_BN = self.score(features_BNF) - parts_BNF.sum(axis=2)
        return np.concatenate([parts_BNF, base_BN[:, :, None]], axis=2)

    def _checked(self, features_BNF: Floats) -> Tensor:
        if features_BNF.shape[-1] != len(self.feature_names):
            raise InputError(
                f"{features_BNF.shape[-1]} features came for a network of "
                f"{len(self.feature_names)}: give {', '.join(self.feature_names[:5])} "
                "and so on, in its order"
            )
        return torch.from_numpy(np.ascontiguousarray(features_BNF, np.float32))
