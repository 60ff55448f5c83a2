"""The user model's hyperparameters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch

from recsys.errors import InputError
from recsys.training.schedule import Schedule


@dataclass(frozen=True, kw_only=True)
class UserModelRecipe:
    """How the network is built and trained.

    Up to `full_below` items the softmax is over all of them; above, over the target and `negatives`
    sampled anew for each batch, half of them uniformly and half by popularity. `shrinkage` is that
    of residuals, in events; `residual_dropout` is the share of items without theirs in each batch,
    so that content suffices for cold items (DropoutNet, Volkovs, Yu & Poutanen 2017)."""

    schedule: Schedule
    dim: int = 256
    layers: int = 2
    heads: int = 2
    length: int = 50
    dropout: float = 0.5
    shrinkage: float = 2.0
    residual_dropout: float = 0.2
    full_below: int = 50_000
    negatives: int = 4_096

    def __post_init__(self) -> None:
        for name in ("dim", "layers", "heads", "length", "negatives"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name)}: give 1 or more")
        for name in ("dropout", "residual_dropout"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"{name} is {getattr(self, name)}: give a share, 0 to 1")
        if not self.shrinkage >= 0:
            raise InputError(f"shrinkage is {self.shrinkage}: give 0 events or more")
        if self.dim % self.heads:
            raise InputError(
                f"{self.dim} dimensions cannot be shared by {self.heads} heads: "
                "give a multiple as dim"
            )

    def with_values(self, values: Mapping[str, float]) -> UserModelRecipe:
        """This recipe with other numbers for fields of it, or of its schedule, by name.

        The seed is not among them: it identifies a run. InputError for a name that is no such
        field, and for a fraction where a whole number belongs."""
        own, of_schedule = _numbers(self), _numbers(self.schedule)
        kinds = own | of_schedule
        if unknown := sorted(set(values) - set(kinds)):
            raise InputError(
                f"a recipe of the user model has no {', '.join(unknown)}: "
                f"its numbers are {', '.join(kinds)}"
            )
        numbers = {
            name: _whole(name, value) if kinds[name] == "int" else float(value)
            for name, value in values.items()
        }
        schedule: Any = {name: value for name, value in numbers.items() if name in of_schedule}
        changed: Any = {name: value for name, value in numbers.items() if name in own}
        return replace(self, schedule=replace(self.schedule, **schedule), **changed)

    def values(self) -> dict[str, float]:
        """What `with_values` can change, as it is."""
        return {
            name: getattr(part, name) for part in (self, self.schedule) for name in _numbers(part)
        }

    @classmethod
    def for_machine(cls, seed: int = 0, log_dir: Path | None = None) -> UserModelRecipe:
        """For this machine."""
        return (cls.on_gpu if torch.cuda.is_available() else cls.on_cpu)(seed, log_dir)

    @classmethod
    def on_gpu(cls, seed: int = 0, log_dir: Path | None = None) -> UserModelRecipe:
        return cls(
            schedule=Schedule(
                epochs=60,
                batch_size=512,
                learning_rate=1e-3,
                warmup=0.05,
                patience=8,
                seed=seed,
                log_dir=log_dir,
            )
        )

    @classmethod
    def on_cpu(cls, seed: int = 0, log_dir: Path | None = None) -> UserModelRecipe:
        """Half as wide, and a sampled softmax from a few thousand items on."""
        schedule = Schedule(
            epochs=30,
            batch_size=128,
            learning_rate=1e-3,
            warmup=0.05,
            patience=5,
            seed=seed,
            log_dir=log_dir,
        )
        return cls(schedule=schedule, dim=128, full_below=2_000, negatives=1_024)


def _numbers(part: UserModelRecipe | Schedule) -> dict[str, str]:
    """Its fields that are numbers, but for the seed, and which kind of number: int or float."""
    kinds = {
        field.name: str(field.type) for field in fields(part) if field.type in ("int", "float")
    }
    return {name: kind for name, kind in kinds.items() if name != "seed"}


def _whole(name: str, value: float) -> int:
    if not float(value).is_integer():
        raise InputError(f"{name} is {value}: give a whole number")
    return int(value)
