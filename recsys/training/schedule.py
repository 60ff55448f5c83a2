"""How long and how fast a model is trained, and what came of it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from recsys.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """How long and how fast. The learning rate rises over the share `warmup` of the steps, then
    falls to 0.

    `batch_size` is of one step over all workers: with N workers each takes 1/N of it and the step
    is the same (an in-batch contrastive loss sees only its worker's share: multiply the size by N
    to keep as many negatives). `evaluations` validations are made an epoch; `patience` of them in a
    row that are no better stop the run, 0 never. Weight decay spares biases, norms and everything
    else of one dimension. `clip` bounds the gradient's norm. `average` keeps an exponential mean of
    the weights, this share of it old at each step (0.999 is common; less at first); it is what is
    validated and kept. `log_dir` takes TensorBoard logs and the checkpoint. `device` is this
    worker's GPU where there is one."""

    epochs: float
    batch_size: int
    learning_rate: float
    warmup: float = 0.1
    weight_decay: float = 0.01
    evaluations: int = 1
    patience: int = 3
    seed: int = 0
    device: str | None = None
    log_dir: Path | None = None
    clip: float = 1.0
    head_rate: float = 1.0
    average: float = 0.0

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "learning_rate", "evaluations", "clip", "head_rate"):
            if not getattr(self, name) > 0:
                raise InputError(f"{name} is {getattr(self, name)}: give more than 0")
        if self.seed < 0:
            raise InputError(f"seed is {self.seed}: give 0 or more")
        for name in ("warmup", "average"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"{name} is {getattr(self, name)}: give a share, 0 to 1")

    def steps_an_epoch(self, examples: int) -> int:
        """The incomplete last batch of an epoch is left out, unless it is the only one."""
        return max(1, examples // self.batch_size)

    def steps(self, examples: int) -> int:
        return max(1, round(self.epochs * self.steps_an_epoch(examples)))

    def rate(self, step: int, steps: int) -> float:
        """The share of the full learning rate at `step` of 0..steps-1."""
        rising = math.ceil(self.warmup * steps)
        return (
            (step + 1) / (rising + 1) if step < rising else (steps - step) / max(1, steps - rising)
        )


@dataclass(frozen=True, kw_only=True)
class FitResult:
    """`best` is the best validation, reached after `step` of the `steps` made; `start` is that of
    the given weights.

    `seconds` counts this process only, not what a resumed run did before.
    """

    best: float
    step: int
    steps: int
    seconds: float
    start: float
