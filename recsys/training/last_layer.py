"""Online learning of the neural ranker's last layer by projected stochastic gradient steps, with
bounds on anyone's influence that hold for any stream of lists.

Only the network's last layer is learned: score = w . h(x), with the hidden values h of the nightly
network. In the coordinates z = s * h, where s_j = |w_j| + SCALE_FLOOR * mean |w|, the day's change
is theta: score = w . h + theta . z. What the night found important is quick to learn, what it found
useless is slow.

A list's loss is the softmax cross-entropy of its clicks by inverse propensity, as at night, times a
weight that holds its gradient's norm at most at its votes (1 or less) and its curvature below 2 /
rate. It is convex, so that a gradient step and the projection into the ball bring no two thetas
further apart (Hardt, Recht & Singer, ICML 2016, lemma 3.7): a list that is in one stream and not in
another changes theta by what its own steps do, and nothing makes that grow. Votes depend on the
lists alone. Hence the bounds of `influence.OnlineConfig`, until the model falls back, which
held-out lists of many decide; two items whose z are d apart change their scores' difference by at
most d times what theta changes.

Legend: B requests, K places, F features, H hidden values.
"""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from recsys.experiments.hashing import seeded_rng
from recsys.intervals import cluster_ids, clustered_mean
from recsys.ranking.logged_rankings import LoggedRankings, PositionBias
from recsys.ranking.network import Network, load_network, save_network
from recsys.training.influence import InfluenceBudget, OnlineConfig, is_held_out
from recsys.training.ranker_net import list_tensors
from recsys.types import Floats

Values = NDArray[np.float64]
#: Added to each hidden value's scale, in mean weights. With .1 one of six drawn flips
#: was not followed in half a day; with all values alike (10 and more) a hundred features of noise
#: made the bound three times as wide.
SCALE_FLOOR = 1.0
#: Lists whose items are all nearer to each other than this count less.
MIN_DIAMETER = 0.1
_BLOCK = 128


@dataclass(frozen=True, kw_only=True)
class LearnReport:
    """What one call of `learn` did with the `lists` that have a gain, and the model's state after
    it.

    `distance` is how far from the nightly weights, 1 at the ball's edge. `difference` is the
    held-out loss above the nightly model's, with its 95 % interval over users; NaN where too few
    were held out."""

    lists: int
    learned: int
    refused: int
    holdout: int
    distance: float
    difference: float
    low: float
    high: float
    fell_back: bool
    fallbacks: int


@dataclass(frozen=True, kw_only=True)
class ListExample:
    """One list as a training example: the nightly network's scores base_K and z_KH; `targets_K` sum
    to 1. No gradient of it times `weight` is longer than `votes`, wherever theta is."""

    request: str
    user: str | None
    votes: float
    base_K: Values
    z_KH: Floats
    targets_K: Values
    offsets_K: Values
    weight: float

    def gradient_H(self, theta_H: Values) -> Values:
        """The gradient of the weighted loss."""
        logits_K = self.base_K + self.z_KH @ theta_H + self.offsets_K
        chances_K = np.exp(logits_K - logits_K.max())
        return self.weight * ((chances_K / chances_K.sum() - self.targets_K) @ self.z_KH)

    def loss(self, theta_H: Values) -> float:
        """The cross-entropy without the weight."""
        logits_K = self.base_K + self.z_KH @ theta_H + self.offsets_K
        return float(np.logaddexp.reduce(logits_K) - self.targets_K @ logits_K)


class OnlineLearner:
    """Learns from `tables.EXAMPLES` as they come, starting from the nightly network in `folder`.
    Also a `Ranker`.

    The same examples in the same calls give the same weights: what is left to chance, the request
    ids decide. `examination` is what the nightly network was trained with; without one clicks count
    alike in all places."""

    def __init__(
        self, folder: str | Path, choices: OnlineConfig, examination: PositionBias | None = None
    ) -> None:
        self.choices, self.examination = choices, examination
        self.nightly: Network = load_network(folder)
        self.feature_names = self.nightly.names
        weights_H = self.nightly.out.weight.detach().numpy()[0].astype(np.float64)
        self.scale_H = np.abs(weights_H) + SCALE_FLOOR * np.abs(weights_H).mean()
        self.radius = choices.radius * float(np.linalg.norm(weights_H / self.scale_H))
        self.theta_H, self.fallback_H = np.zeros(len(weights_H)), np.zeros(len(weights_H))
        self.budget, self.fallbacks = InfluenceBudget(choices), 0
        self._reservoir: dict[int, ListExample] = {}
        self._holdout: deque[tuple[ListExample, float]] = deque(maxlen=choices.holdout_window)

    def learn(self, examples: pa.Table) -> LearnReport:
        """One gradient step for each list that has a gain and votes left, in order; held-out lists
        are only evaluated, each when it comes.

        Raises InputError where the log has none of the network's features, or one that is no finite
        number."""
        lists = self._lists_with_gain(examples)
        sources = _origins(examples)
        counts = {"learned": 0, "refused": 0, "holdout": 0}
        for at, one in enumerate(self._list_examples(lists)):
            share = self._admitted_share(one, lists.where(np.array([at])), sources)
            counts[self._process(one, share)] += 1
        difference, low, high = self._difference()
        fell_back = self._check(difference, low, high)
        distance = float(np.linalg.norm(self.theta_H)) / self.radius
        return LearnReport(
            lists=len(lists),
            **counts,
            distance=distance,
            difference=difference,
            low=low,
            high=high,
            fell_back=fell_back,
            fallbacks=self.fallbacks,
        )

    def remember(self, examples: pa.Table) -> int:
        """Fills the replay reservoir with lists of earlier days; returns its size. They spend no
        votes and are not learned now. A list's slot is the hash of its request, and the later list
        replaces the earlier."""
        lists = self._lists_with_gain(examples)
        for one in self._list_examples(lists):
            if not is_held_out(one.request, self.choices.holdout):
                self._reservoir[_slot(one.request, self.choices.reservoir)] = one
        return len(self._reservoir)

    def forget(self, users: Collection[str]) -> None:
        """Drops these users' lists; what the weights learned from them stays until the next nightly
        network."""
        self.budget.forget(users)
        self._reservoir = {
            slot: one for slot, one in self._reservoir.items() if one.user not in users
        }
        self._holdout = deque(
            (pair for pair in self._holdout if pair[0].user not in users),
            self.choices.holdout_window,
        )

    def score(self, features_BNF: Floats) -> Floats:
        """[B, N] of the network as it is now."""
        base_BN, hidden_BNH = self._hidden(
            torch.from_numpy(np.ascontiguousarray(features_BNF, np.float32))
        )
        return (base_BN + hidden_BNH @ (self.scale_H * self.theta_H).astype(np.float32)).astype(
            np.float32
        )

    def influence_bound(self, examples: pa.Table) -> float:
        """The most by which one source can have changed the difference of two scores in any of
        these lists, in a day: `OnlineConfig.source_influence_bound` times the largest distance of
        two of one list's items."""
        distances = [_diameter(one.z_KH) for one in self._list_examples(self._lists(examples))]
        return self.choices.source_influence_bound * max(distances, default=0.0)

    def snapshot(self, folder: Path) -> None:
        """Writes the network as it is now: what `NetRanker` opens."""
        network = copy.deepcopy(self.nightly)
        with torch.no_grad():
            network.out.weight += torch.from_numpy((self.scale_H * self.theta_H).astype(np.float32))
        save_network(network, folder)

    def state(self) -> dict[str, Any]:
        """What a snapshot cannot say, as JSON has it. Held-out lists and the reservoir begin anew
        after a restart."""
        return {"fallbacks": self.fallbacks, "votes": self.budget.state()}

    def restore(self, folder: str | Path, state: Mapping[str, Any]) -> None:
        """Resumes from a snapshot of the same nightly network and its state."""
        weights_H = load_network(folder).out.weight.detach().numpy()[0].astype(np.float64)
        nightly_H = self.nightly.out.weight.detach().numpy()[0]
        self.theta_H = self._project((weights_H - nightly_H) / self.scale_H)
        self.fallback_H = self.theta_H.copy()
        self.fallbacks, self.budget = (
            int(state["fallbacks"]),
            InfluenceBudget(self.choices, state["votes"]),
        )

    # Steps

    def _admitted_share(
        self, one: ListExample, alone: LoggedRankings, origins: Mapping[tuple[str, str], str | None]
    ) -> float:
        """The share of the list's votes that its sources' budgets admit; 0 where its numbers
        overflow in the network."""
        if not np.isfinite([one.votes, *one.base_K]).all():
            return 0.0
        items = alone.items_BK[alone.clicked_BK].tolist()
        moment = alone.times_B[0].astype(datetime).replace(tzinfo=UTC)
        return self.budget.admitted(
            one.votes, one.user, {origins[one.request, item] for item in items}, items, moment
        )

    def _process(self, one: ListExample, share: float) -> str:
        """What became of a list. Held-out lists spend votes too: nobody can flood the holdout."""
        if not share > 0:
            return "refused"
        if is_held_out(one.request, self.choices.holdout):
            self._holdout.append(
                (one, one.loss(self.theta_H) - one.loss(np.zeros_like(self.theta_H)))
            )
            return "holdout"
        self._learn(one, share)
        return "learned"

    def _learn(self, one: ListExample, share: float) -> None:
        """A step on the list, and one on a list replayed from the reservoir."""
        self._step(one, share)
        older = self._reservoir.get(
            int(seeded_rng(one.request, "replay").integers(self.choices.reservoir))
        )
        if older is not None and older.votes > 0:
            self._step(older, share * self.choices.replay * min(1.0, one.votes / older.votes))

    def _step(self, one: ListExample, share: float) -> None:
        rate = self.choices.learning_rate * share
        self.theta_H = self._project(self.theta_H - rate * one.gradient_H(self.theta_H))

    def _project(self, theta_H: Values) -> Values:
        """Projection into the ball."""
        return theta_H * min(1.0, self.radius / max(float(np.linalg.norm(theta_H)), 1e-12))

    # Evaluation on held-out lists

    def _difference(self) -> tuple[float, float, float]:
        """The recent held-out lists' loss above the nightly model's, each as the model was when the
        list came."""
        if len(self._holdout) < self.choices.min_holdout:
            return (float("nan"),) * 3
        lists = [one for one, _ in self._holdout]
        estimate = clustered_mean(
            np.array([difference for _, difference in self._holdout]),
            cluster_ids([one.user for one in lists], [one.request for one in lists]),
        )
        return estimate.value, *estimate.interval

    def _check(self, difference: float, low: float, high: float) -> bool:
        """Whether the model fell back. Where it is significantly worse than the nightly model, it
        becomes the last one that was not, or the nightly one where that is worse too on these
        lists."""
        if difference <= 0:
            self.fallback_H = self.theta_H.copy()
        if not low > 0:
            return False
        nightly_H = np.zeros_like(self.theta_H)
        lists = [one for one, _ in self._holdout]
        better = sum(one.loss(self.fallback_H) for one in lists) < sum(
            one.loss(nightly_H) for one in lists
        )
        self.theta_H = self.fallback_H.copy() if better else nightly_H
        self.fallback_H = self.theta_H.copy()
        self._holdout.clear()
        self.fallbacks += 1
        return True

    # Lists

    def _lists(self, examples: pa.Table) -> LoggedRankings:
        return LoggedRankings.of(examples, self.feature_names)

    def _lists_with_gain(self, examples: pa.Table) -> LoggedRankings:
        lists = self._lists(examples)
        return lists.where(lists.has_gain_B)

    def _list_examples(self, lists: LoggedRankings) -> Iterator[ListExample]:
        for start in range(0, len(lists), _BLOCK):
            block = lists.where(np.arange(start, min(start + _BLOCK, len(lists))))
            inputs = list_tensors(block, self.feature_names, self.examination, self.choices.clip)
            base_BK, hidden_BKH = self._hidden(inputs.features)
            targets_BK, offsets_BK = (
                part.numpy().astype(np.float64) for part in (inputs.targets, inputs.offsets)
            )
            for at, mask_K in enumerate(block.present_BK):
                z_KH = hidden_BKH[at][mask_K] * self.scale_H.astype(np.float32)
                who = block.request_ids_B[at], block.users_B[at]
                base_K = base_BK[at][mask_K].astype(np.float64)
                yield self._list_example(
                    who, base_K, z_KH, targets_BK[at][mask_K], offsets_BK[at][mask_K]
                )

    def _list_example(
        self,
        who: tuple[str, str | None],
        base_K: Values,
        z_KH: Floats,
        weighed_K: Values,
        offsets_K: Values,
    ) -> ListExample:
        """The loss is divided by what bounds its slope, the diameter, and its curvature, a quarter
        of the diameter's square, which times the rate must stay below 2. The slope is a mean of the
        items less that of the clicked ones: no longer than from there to the furthest."""
        total = float(weighed_K.sum())
        targets_K, diameter = weighed_K / max(total, 1e-12), _diameter(z_KH)
        steepness = max(MIN_DIAMETER, diameter, self.choices.learning_rate * diameter**2 / 8)
        weight = min(total / self.choices.clip, 1.0) / steepness
        z_KH = z_KH - z_KH.mean(axis=0)
        furthest = float(np.linalg.norm(z_KH - targets_K @ z_KH, axis=1).max(initial=0.0))
        return ListExample(
            request=who[0],
            user=who[1],
            votes=weight * furthest,
            base_K=base_K,
            z_KH=z_KH,
            targets_K=targets_K,
            offsets_K=offsets_K,
            weight=weight,
        )

    @torch.inference_mode()
    def _hidden(self, features_BKF: torch.Tensor) -> tuple[Floats, Floats]:
        """The nightly network's scores, and the inputs of its last layer."""
        entered: list[torch.Tensor] = []
        hook = self.nightly.out.register_forward_pre_hook(
            lambda _, inputs: entered.append(inputs[0])
        )
        try:
            scores_BK = self.nightly(features_BKF)
        finally:
            hook.remove()
        return scores_BK.numpy(), entered[0].numpy()


def _origins(examples: pa.Table) -> dict[tuple[str, str], str | None]:
    """Where the first interaction with each item of each request came from."""
    return {
        (request, item): origin
        for request, item, origin in zip(
            *(examples[name].to_pylist() for name in ("request_id", "item_id", "origin")),
            strict=True,
        )
    }


def _slot(request: str, slots: int) -> int:
    """By hash: which other lists came does not change where this one goes."""
    return int(seeded_rng(request, "reservoir").integers(slots))


def _diameter(z_KH: Floats) -> float:
    """The largest distance of two rows."""
    squares_K = np.square(z_KH, dtype=np.float64).sum(axis=1)
    apart_KK = squares_K[:, None] + squares_K - 2 * (z_KH.astype(np.float64) @ z_KH.T)
    return float(np.sqrt(max(apart_KK.max(initial=0.0), 0.0)))
