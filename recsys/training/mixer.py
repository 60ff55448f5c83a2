"""Learns `ranking.mixer.Mixer` from what users did next: sources fitted to a log before a date,
truth from after it.

Legend: B requests of a block, N candidates, F features, V views, G groups (new to the user, had
before)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from recsys.arrays import Histories
from recsys.metrics import hit_mask
from recsys.ranking.merge import CandidateTable
from recsys.ranking.mixer import AGAIN, VIEWS, Mixer, views
from recsys.types import Floats, Ints, Mask, Rows

#: Who asks gets for histories rows_BN (-1 pads) and features_BNF: every source's best, merged.
Ask = Callable[[Histories], CandidateTable]
BLOCK = 256


@dataclass(frozen=True)
class MixerRecipe:
    """How the mixer is learned.

    `new_share` is the weight of the lists without what the user has had, beside the lists of
    everything; with weights of their own for both, hits moved by less than .001 from .1 to .8.
    `strength` pulls the weights, the bias apart, to where they start; it matters less the more
    requests there are. A start of `scale` times the fixed weights is about as sure as the outcomes
    are."""

    new_share: float = 0.5
    strength: float = 3.0
    scale: float = 5.0
    steps: int = 60


@dataclass(frozen=True)
class MixerExample:
    """A block of requests: rows_BN (-1 pads), features_BNF, and which candidates the user then
    took."""

    rows_BN: Rows
    features_BNF: Floats
    labels_BN: Mask


def mixer_examples(
    ask: Ask, histories: Histories, truth: tuple[Ints, Ints], block: int = BLOCK
) -> Iterator[MixerExample]:
    """One example a block of histories. `truth` is offsets [U + 1] and item rows, as `metrics`
    takes it."""
    offsets, items = truth
    for low in range(0, len(histories), block):
        high = min(low + block, len(histories))
        table = ask(histories.slice(low, high))
        mine = items[offsets[low] : offsets[high]]
        labels_BN = hit_mask(table.rows_BN, offsets[low : high + 1] - offsets[low], mine)
        yield MixerExample(table.rows_BN, table.features_BNF, labels_BN)


def fit_mixer(
    made: Iterable[MixerExample],
    names: Sequence[str],
    start: Mapping[str, float],
    recipe: MixerRecipe = MixerRecipe(),
    again: Sequence[str] = AGAIN,
) -> Mixer:
    """The weights of the least listwise loss: softmax cross-entropy over each request's candidates
    (ListNet, Cao et al. 2007, its top-one form), every request's positives sharing a weight of 1;
    beside it the same over its new candidates alone. Convex, so it has no seed. Requests without a
    positive teach nothing; without any, `start` (weights as of `LinearRanker`) is what comes back,
    `recipe.scale` times as sharp."""
    first = Mixer.of({name: weight * recipe.scale for name, weight in start.items()}, names, again)
    blocks = [_tensors(example, first) for example in made]
    origin = torch.from_numpy(np.append(first.weights_GFV.ravel(), np.float32(first.bias)))
    learned = origin.clone().requires_grad_()
    optimizer = torch.optim.LBFGS(
        [learned], max_iter=recipe.steps, history_size=20, line_search_fn="strong_wolfe"
    )
    requests = max(1, sum(len(block.views) for block in blocks))

    def step() -> Tensor:
        optimizer.zero_grad()
        missed = sum((block.loss(learned, recipe.new_share) for block in blocks), torch.zeros(()))
        loss = (missed + recipe.strength * (learned - origin)[:-1].square().sum()) / requests
        loss.backward()
        return loss

    optimizer.step(step)
    weights = learned.detach().numpy()
    return Mixer(
        first.feature_names,
        weights[:-1].reshape(first.weights_GFV.shape),
        float(weights[-1]),
        first.again,
    )


@dataclass(frozen=True)
class _Block:
    """An example as tensors: views [B, N, F * V]; masks and labels [B, N]."""

    views: Tensor
    mask: Tensor
    labels: Tensor
    again: Tensor

    def loss(self, learned: Tensor, new_share: float) -> Tensor:
        """Summed over the requests."""
        weights_VG = learned[:-1].view(2, -1).T
        scores_BNG = self.views @ weights_VG
        scores = torch.where(self.again, scores_BNG[..., 1] + learned[-1], scores_BNG[..., 0])
        everything, new = self.mask, self.mask & ~self.again
        return (1 - new_share) * _listwise(scores, self.labels, everything) + new_share * _listwise(
            scores, self.labels, new
        )


def _listwise(scores: Tensor, labels: Tensor, listed: Tensor) -> Tensor:
    """Summed cross-entropy of each list's softmax with its positives, all of one weight."""
    positive = labels & listed
    logs = functional.log_softmax(torch.where(listed, scores, -1e9), dim=1)
    return -(torch.where(positive, logs, 0.0).sum(dim=1) / positive.sum(dim=1).clamp(min=1)).sum()


def _tensors(example: MixerExample, first: Mixer) -> _Block:
    size, candidates = example.rows_BN.shape
    seen = views(example.features_BNF).reshape(
        size, candidates, len(first.feature_names) * len(VIEWS)
    )
    masks = (example.rows_BN >= 0, example.labels_BN, first.is_again(example.features_BNF))
    return _Block(torch.from_numpy(seen), *(torch.from_numpy(mask) for mask in masks))
