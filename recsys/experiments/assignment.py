"""Assignment of users to experiments and their arms: by hash, without state.

Layers as Tang et al. 2010 have them: experiments of one layer exclude each other, layers are
independent."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Literal, get_args

from recsys.errors import InputError
from recsys.experiments.hashing import uniform_hash

ExperimentKind = Literal["ab", "interleave"]
Surface = Literal["search", "recommend"]
#: The arm of every request of an interleaved experiment: its list is shared by both arms' rankers.
INTERLEAVED = "interleaved"


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """A comparison of arms, the first of which is the control.

    `arms` maps each arm to its share of the experiment's units (positive; normalised to sum 1),
    `rankers` an arm to the ranker that serves it; an arm without one keeps the live ranker. `share`
    (0..1] is how much of the layer's traffic takes part. `kind` "interleave" shows every unit one
    list drafted by its two arms. Raises InputError where the fields contradict each other."""

    name: str
    arms: Mapping[str, float]
    layer: str = ""
    rankers: Mapping[str, str] = field(default_factory=dict)
    surfaces: tuple[Surface, ...] = ("search", "recommend")
    kind: ExperimentKind = "ab"
    seed: int = 0
    share: float = 1.0

    def __post_init__(self) -> None:
        if problems := "; ".join([*_arm_problems(self), *_field_problems(self)]):
            raise InputError(f"experiment {self.name!r}: {problems}")
        total = sum(self.arms.values())
        object.__setattr__(self, "arms", {arm: share / total for arm, share in self.arms.items()})
        object.__setattr__(self, "rankers", dict(self.rankers))
        object.__setattr__(self, "surfaces", tuple(self.surfaces))
        object.__setattr__(self, "layer", self.layer or self.name)

    @property
    def control(self) -> str:
        """The first arm."""
        return next(iter(self.arms))

    def ranker(self, arm: str) -> str:
        """The name of the ranker that serves the arm; "" is the live one."""
        return self.rankers.get(arm, "")

    def arm(self, unit_id: str) -> str:
        """The arm of a unit that takes part."""
        if self.kind == "interleave":
            return INTERLEAVED
        point = uniform_hash("arm", self.layer, self.name, self.seed, unit_id)
        return _interval_of(point, self.arms) or list(self.arms)[-1]


def assign_arms(experiments: Sequence[Experiment], surface: str, unit_id: str) -> dict[str, str]:
    """The arm of each experiment that the unit is in on this surface, by the experiment's name.

    `unit_id` is the user, or the request where there is none: a user always gets the same arm. Each
    experiment takes its `share` of its layer in the order in which they are given, so put a new one
    behind those that run."""
    layers: dict[str, dict[str, Experiment]] = {}
    for experiment in experiments:
        layers.setdefault(experiment.layer, {})[experiment.name] = experiment
    arms = {}
    for layer, members in layers.items():
        shares = {name: each.share for name, each in members.items()}
        name = _interval_of(uniform_hash("layer", layer, unit_id), shares)
        if name and surface in members[name].surfaces:
            arms[name] = members[name].arm(unit_id)
    return arms


def validate_experiments(experiments: Sequence[Experiment], rankers: Collection[str]) -> None:
    """Raises InputError that lists where experiments contradict each other, or name a ranker that
    is none of `rankers`."""
    names = [each.name for each in experiments]
    problems = [
        f"two are named {name!r}: names are how the log knows them"
        for name in dict.fromkeys(names)
        if names.count(name) > 1
    ]
    for layer in dict.fromkeys(each.layer for each in experiments):
        total = sum(each.share for each in experiments if each.layer == layer)
        if total > 1 + 1e-9:
            problems.append(
                f"those of layer {layer!r} want {total:g} of its traffic: their shares may sum to 1"
            )
    available = ", ".join(sorted(rankers)) or "no ranker"
    problems += [
        f"arm {arm!r} of {each.name!r} wants the ranker {ranker!r}: known are {available}"
        for each in experiments
        for arm, ranker in each.rankers.items()
        if ranker not in rankers
    ]
    if problems:
        raise InputError(f"the experiments cannot run: {'; '.join(problems)}")


def _interval_of(point: float, shares: Mapping[str, float]) -> str | None:
    """Whose share the point falls into, None behind the last one."""
    edges = accumulate(shares.values())
    return next((name for name, edge in zip(shares, edges, strict=True) if point < edge), None)


def _arm_problems(experiment: Experiment) -> list[str]:
    arms, problems = experiment.arms, []
    if not experiment.name:
        problems.append("it has no name: give one, the log knows it by that")
    if len(arms) < 2:
        problems.append(f"it has {len(arms)} arms: give two or more to compare")
    problems += [
        f"arm {arm!r} has the share {share}: give a positive number"
        for arm, share in arms.items()
        if not (math.isfinite(share) and share > 0)
    ]
    problems += [
        f"an arm is named {arm!r}: that name is taken" for arm in arms if arm in ("", INTERLEAVED)
    ]
    problems += [
        f"a ranker is named for {arm!r}, which is no arm"
        for arm in experiment.rankers
        if arm not in arms
    ]
    return problems


def _field_problems(experiment: Experiment) -> list[str]:
    problems, kinds, surfaces = [], get_args(ExperimentKind), get_args(Surface)
    if not 0 < experiment.share <= 1:
        problems.append(
            f"its share of the layer is {experiment.share}: give a number above 0, at most 1"
        )
    if experiment.kind not in kinds:
        problems.append(f"its kind is {experiment.kind!r}: use one of {', '.join(kinds)}")
    if experiment.kind == "interleave" and len(experiment.arms) != 2:
        problems.append(f"{len(experiment.arms)} arms cannot share a list: interleave two")
    if set(experiment.surfaces) - set(surfaces) or not experiment.surfaces:
        problems.append(
            f"its surfaces are {list(experiment.surfaces)}: use {' and '.join(surfaces)}"
        )
    return problems
