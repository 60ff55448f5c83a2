"""Who is in which experiment, and in which arm of it: by hash, without state.

Layers as Tang et al. 2010 have them: experiments of one layer exclude each other, layers are
independent."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Literal, get_args

from recsys.errors import InputError
from recsys.experiments.chance import point

Kind = Literal["ab", "interleave"]
Surface = Literal["search", "recommend"]
#: The arm of every request of an interleaved experiment: its list is shared by both arms' rankers.
INTERLEAVED = "interleaved"


@dataclass(frozen=True)
class Experiment:
    """A comparison of arms, the first of which is the control.

    `arms` maps each arm to its share of the experiment's units (positive; kept normalised to sum
    1), `rankers` an arm to the ranker that it is served by; an arm without one keeps the live
    ranker. `share` (0..1] is how much of the layer's traffic takes part. `kind` "interleave" shows
    every unit one list drafted by its two arms. Raises InputError where the fields cannot be meant.
    """

    name: str
    arms: Mapping[str, float]
    layer: str = ""
    rankers: Mapping[str, str] = field(default_factory=dict)
    surfaces: tuple[Surface, ...] = ("search", "recommend")
    kind: Kind = "ab"
    seed: int = 0
    share: float = 1.0

    def __post_init__(self) -> None:
        if wrong := "; ".join(_wrong(self)):
            raise InputError(f"experiment {self.name!r}: {wrong}")
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
        """The name of the ranker that the arm is served by; "" is the live one."""
        return self.rankers.get(arm, "")

    def arm(self, unit_id: str) -> str:
        """The arm of a unit that takes part."""
        if self.kind == "interleave":
            return INTERLEAVED
        return (
            _slot(point("arm", self.layer, self.name, self.seed, unit_id), self.arms)
            or list(self.arms)[-1]
        )


def assigned(experiments: Sequence[Experiment], surface: str, unit_id: str) -> dict[str, str]:
    """The arm of each experiment that the unit is in on this surface, by the experiment's name.

    `unit_id` is the user, or the request where there is none: a user always gets the same arm. Each
    experiment takes its `share` of its layer in the order in which they are given, so put a new one
    behind those that run."""
    layers: dict[str, dict[str, Experiment]] = {}
    for experiment in experiments:
        layers.setdefault(experiment.layer, {})[experiment.name] = experiment
    found = {}
    for layer, members in layers.items():
        chosen = _slot(
            point("layer", layer, unit_id), {name: each.share for name, each in members.items()}
        )
        if chosen and surface in members[chosen].surfaces:
            found[chosen] = members[chosen].arm(unit_id)
    return found


def validate(experiments: Sequence[Experiment], known_rankers: Collection[str]) -> None:
    """Raises InputError that lists what is wrong with them together, or names a ranker that is not
    there."""
    names, wrong = [each.name for each in experiments], []
    wrong += [
        f"two are named {name!r}: names are how the log knows them" for name in _repeated(names)
    ]
    for layer in dict.fromkeys(each.layer for each in experiments):
        taken = sum(each.share for each in experiments if each.layer == layer)
        if taken > 1 + 1e-9:
            wrong.append(
                f"those of layer {layer!r} want {taken:g} of its traffic: their shares may sum to 1"
            )
    known = ", ".join(sorted(known_rankers)) or "no ranker"
    for each in experiments:
        wrong += [
            f"arm {arm!r} of {each.name!r} wants the ranker {ranker!r}: known are {known}"
            for arm, ranker in each.rankers.items()
            if ranker not in known_rankers
        ]
    if wrong:
        raise InputError(f"the experiments cannot run: {'; '.join(wrong)}")


def _slot(at: float, shares: Mapping[str, float]) -> str | None:
    """Whose share the point falls into, None behind the last one."""
    edges = accumulate(shares.values())
    return next((name for name, edge in zip(shares, edges, strict=True) if at < edge), None)


def _wrong(experiment: Experiment) -> list[str]:
    """What cannot be meant, as sentences."""
    arms, wrong = experiment.arms, []
    if not experiment.name:
        wrong.append("it has no name: give one, the log knows it by that")
    if len(arms) < 2:
        wrong.append(f"it has {len(arms)} arms: give two or more to compare")
    bad = {arm: share for arm, share in arms.items() if not (math.isfinite(share) and share > 0)}
    wrong += [
        f"arm {arm!r} has the share {share}: give a positive number" for arm, share in bad.items()
    ]
    wrong += [
        f"an arm is named {arm!r}: that name is taken" for arm in arms if arm in ("", INTERLEAVED)
    ]
    wrong += [
        f"a ranker is named for {arm!r}, which is no arm"
        for arm in experiment.rankers
        if arm not in arms
    ]
    if not 0 < experiment.share <= 1:
        wrong.append(
            f"its share of the layer is {experiment.share}: give a number above 0, at most 1"
        )
    if experiment.kind not in get_args(Kind):
        wrong.append(f"its kind is {experiment.kind!r}: use one of {', '.join(get_args(Kind))}")
    if experiment.kind == "interleave" and len(arms) != 2:
        wrong.append(f"{len(arms)} arms cannot share a list: interleave two")
    unknown = [surface for surface in experiment.surfaces if surface not in get_args(Surface)]
    if unknown or not experiment.surfaces:
        wrong.append(
            f"its surfaces are {list(experiment.surfaces)}: use {' and '.join(get_args(Surface))}"
        )
    return wrong


def _repeated(names: Sequence[str]) -> list[str]:
    return [name for name in dict.fromkeys(names) if names.count(name) > 1]
