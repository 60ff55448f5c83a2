"""One training loop for every model: shuffling, AdamW steps, validation, early stopping on the best
weights, checkpoints.

What is learned is the caller's `loss(model, positions)` and `validate(model)`; this file knows
neither texts nor labels. Under an initialised `torch.distributed` every worker calls `fit` with the
same arguments (data parallelism)."""

from __future__ import annotations

import copy
import gc
import math
import random
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from tqdm import tqdm

from recsys.errors import InputError, RecsysError
from recsys.training.adapters import allocators, orthogonality
from recsys.training.schedule import FitResult, Schedule
from recsys.training.workers import from_first, rank, share_weights, workers
from recsys.types import Ints

Positions = Ints
Loss = Callable[[nn.Module, Positions], Tensor]
Validate = Callable[[nn.Module], float]
Say = Callable[[str], None]
CHECKPOINT = "checkpoint.pt"
#: Parameters whose names begin so take `head_rate` times the learning rate.
HEAD = "head."
LOG_INTERVAL_S = 30.0


def fit(
    model: nn.Module,
    examples: int,
    loss: Loss,
    validate: Validate,
    schedule: Schedule,
    *,
    say: Say = lambda _: None,
    resume: bool = False,
) -> FitResult:
    """Trains `model` in place and leaves it on its device, in eval mode, with the weights of the
    best validation.

    `loss` gets positions 0..examples-1 of one batch (int64; each once an epoch, in an order given
    by the seed) and returns a mean over them. It must reach the weights through `model(...)`,
    several calls a step are fine: under several workers `model` is wrapped. `validate` gets the
    bare model without gradients, on the first worker alone; higher is better. The weights as given
    count as the first validation, so a run never returns worse ones. Both run under bf16 autocast
    on a GPU, in fp32 on a CPU.

    Same seed, same number of threads and a CPU give the same weights; every step draws its own seed
    from (seed, step, worker), so a resumed run equals an unbroken one (AdaLoRA excepted: its
    importance scores begin anew). `resume` goes on from `log_dir`'s checkpoint, written at each
    validation, where there is one, and refuses one of another schedule. Raises InputError for no
    examples or a batch that the workers cannot share, RecsysError where the loss is no number any
    more."""
    if examples < 1:
        raise InputError("there are 0 examples to train on: give at least one")
    if schedule.batch_size % workers():
        raise InputError(
            f"a batch of {schedule.batch_size} cannot be shared by {workers()} workers: "
            "give a multiple"
        )
    if examples < workers():
        raise InputError(
            f"{examples} examples cannot be shared by {workers()} workers: train with fewer"
        )
    run = _Run(model, examples, loss=loss, validate=validate, schedule=schedule, say=say)
    return run.run(resume)


def seed_everything(seed: int) -> None:
    """Python's, NumPy's and torch's generators; `fit` does it for its steps, the maker of new
    weights before that."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def _mix_seed(*numbers: int) -> int:
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0])


class _Run:
    """The state of one call of `fit`."""

    def __init__(
        self,
        model: nn.Module,
        examples: int,
        *,
        loss: Loss,
        validate: Validate,
        schedule: Schedule,
        say: Say,
    ) -> None:
        self.examples, self.loss, self.validate = examples, loss, validate
        self.schedule, self.say = schedule, say
        self.device = torch.device(
            schedule.device or ("cuda" if torch.cuda.is_available() else "cpu")
        )
        if self.device.type == "cuda" and self.device.index is None:
            self.device = torch.device("cuda", torch.cuda.current_device())
        self.model = model.to(self.device)
        self.averaged = copy.deepcopy(model) if schedule.average else model  # validated and saved
        self.steps = schedule.steps(examples)
        self.every = max(1, round(schedule.steps_an_epoch(examples) / schedule.evaluations))
        self.optimizer = _optimizer(model, schedule, fused=self.device.type == "cuda")
        self.allocators = allocators(model)
        self.step, self.stale, self.begun = 0, 0, time.perf_counter()
        self.logged_at = self.begun
        self.best, self.best_step, self.start = -math.inf, 0, -math.inf
        self.best_state: dict[str, Tensor] = {}
        self.losses: list[Tensor] = []
        self.board: Any = None

    def run(self, resume: bool) -> FitResult:
        resumed = resume and self._load()
        self.board = self._open_board()
        if not resumed:
            self._evaluate()
        wrapped, batches, patience = self._wrapped(), self._batches(), self.schedule.patience
        with self._bar() as bar:
            while self.step < self.steps and not (patience and self.stale >= patience):
                self._train(wrapped, next(batches))
                bar.update(self.schedule.batch_size)
                self._log_progress()
                if self.step % self.every == 0 or self.step == self.steps:
                    self._evaluate()
                    bar.set_postfix(best=f"{self.best:.4f}")
        self._restore()
        if self.board:
            self.board.close()
        if workers() > 1:
            # The wrapper is a cycle that keeps the process group's threads past its end: gloo
            # aborts at exit then.
            del wrapped
            gc.collect()
        return FitResult(
            best=self.best,
            step=self.best_step,
            steps=self.step,
            seconds=time.perf_counter() - self.begun,
            start=self.start,
        )

    def _log_progress(self) -> None:
        """Without a progress bar, a line every LOG_INTERVAL_S seconds."""
        if (
            time.perf_counter() - self.logged_at > LOG_INTERVAL_S
            and rank() == 0
            and not sys.stderr.isatty()
        ):
            self.logged_at = time.perf_counter()
            self.say(f"step {self.step:,} of {self.steps:,}  {self.logged_at - self.begun:.0f} s")

    def _train(self, model: nn.Module, positions: Positions) -> None:
        """One step on this worker's share of the batch."""
        seed_everything(_mix_seed(self.schedule.seed, self.step, rank()))
        share = self.schedule.rate(self.step, self.steps)
        for group in self.optimizer.param_groups:
            group["lr"] = share * group["full_lr"]
        model.train()
        with self._precision():
            loss = self.loss(model, positions)
        for allocator in self.allocators:
            loss = loss + orthogonality(allocator)
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), self.schedule.clip)
        self.optimizer.step()
        for allocator in self.allocators:
            allocator.update_and_allocate(self.step)
        self.optimizer.zero_grad(set_to_none=True)
        self._average()
        self.losses.append(loss.detach().float())
        self.step += 1

    @torch.no_grad()
    def _average(self) -> None:
        """Step n moves the mean by 9 / (10 + n) where that is more: it forgets the weights as
        given."""
        if self.averaged is not self.model:
            share = max(1 - self.schedule.average, 9 / (10 + self.step))
            for mean, weights in zip(
                self.averaged.parameters(), self.model.parameters(), strict=True
            ):
                mean.lerp_(weights, share)

    def _batches(self) -> Iterator[Positions]:
        """This worker's share of each batch, from the present step on."""
        size, an_epoch = self.schedule.batch_size, self.schedule.steps_an_epoch(self.examples)
        for epoch in range(self.step // an_epoch, math.ceil(self.steps / an_epoch)):
            order = np.random.default_rng([self.schedule.seed, epoch]).permutation(self.examples)
            first_step = self.step - epoch * an_epoch
            for at in range(first_step * size, an_epoch * size, size):
                batch = order[at : at + size]
                shared = len(batch) - len(batch) % workers()
                yield batch[:shared][rank() :: workers()]

    def _evaluate(self) -> None:
        """Validates on the first worker, broadcasts the result, keeps the weights if they are the
        best so far."""
        self.averaged.eval()
        loss = torch.stack(self.losses).mean().item() if self.losses else 0.0
        self.losses.clear()
        if not math.isfinite(loss):
            raise RecsysError(
                f"the loss is {loss} after {self.step} steps: lower the learning rate"
            )
        with torch.no_grad(), self._precision():
            value = from_first(float(self.validate(self.averaged)) if rank() == 0 else 0.0)
        self.start = value if self.step == 0 else self.start
        better = value > self.best
        self.stale = 0 if better else self.stale + 1
        if better:
            self.best, self.best_step = value, self.step
        if rank() == 0:
            if better:
                self.best_state = {
                    name: _copied(tensor) for name, tensor in self.averaged.state_dict().items()
                }
            self._log(loss, value)
            self._save()

    def _log(self, loss: float, value: float) -> None:
        rate = self.optimizer.param_groups[0]["lr"]
        self.say(
            f"step {self.step:,} of {self.steps:,}  loss {loss:.4f}  "
            f"validation {value:.4f}  best {self.best:.4f}"
        )
        if self.board:
            for name, number in (("loss", loss), ("validation", value), ("learning_rate", rate)):
                self.board.add_scalar(name, number, self.step)

    def _restore(self) -> None:
        """The best weights, on every worker."""
        if rank() == 0:
            self.model.load_state_dict(self.best_state)
        share_weights(self.model)
        self.model.eval()

    def _save(self) -> None:
        if self.schedule.log_dir is None:
            return
        state = {
            "recipe": self._recipe(),
            "model": self.model.state_dict(),
            "kept": self.averaged.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "numbers": [self.step, self.stale, self.best, self.best_step, self.start],
            "best": self.best_state,
        }
        path = Path(self.schedule.log_dir) / CHECKPOINT
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save(state, path.with_suffix(".new"))
        path.with_suffix(".new").replace(path)

    def _load(self) -> bool:
        """Resumes from the checkpoint, which only the first worker has to see; False where there is
        none."""
        path = Path(self.schedule.log_dir or ".") / CHECKPOINT
        exists = self.schedule.log_dir is not None and path.exists()
        state = from_first(
            torch.load(path, map_location="cpu", weights_only=True)
            if exists and rank() == 0
            else None
        )
        if state is None:
            return False
        if state["recipe"] != self._recipe():
            raise InputError(
                f"{path} is of another schedule or number of examples: "
                "remove it, or train without resume"
            )
        self.averaged.load_state_dict(state["kept"])
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step, self.stale, self.best, self.best_step, self.start = state["numbers"]
        self.best_state = state["best"]
        if rank() == 0:
            self.say(f"resumed after step {self.step:,} of {self.steps:,}")
        return True

    def _recipe(self) -> dict[str, Any]:
        """What a checkpoint must agree with to be resumed."""
        chosen = {
            k: v
            for k, v in asdict(self.schedule).items()
            if k not in ("log_dir", "device", "patience")
        }
        return {**chosen, "examples": self.examples}

    def _wrapped(self) -> nn.Module:
        if workers() == 1:
            return self.model
        # Buffers stay: two forward calls a step would otherwise write over what the backward pass
        # needs.
        ids = [self.device.index] if self.device.type == "cuda" else None
        return DistributedDataParallel(
            self.model, ids, broadcast_buffers=False, find_unused_parameters=True
        )

    def _precision(self) -> AbstractContextManager[Any]:
        """bf16 on a GPU alone: CPUs without AMX emulate it, several times slower than fp32."""
        return (
            torch.autocast("cuda", torch.bfloat16) if self.device.type == "cuda" else nullcontext()
        )

    def _bar(self) -> tqdm:
        quiet = True if rank() else None  # None: where stderr is no terminal
        batch_size = self.schedule.batch_size
        return tqdm(
            total=self.steps * batch_size,
            initial=self.step * batch_size,
            unit=" examples",
            unit_scale=True,
            file=sys.stderr,
            disable=quiet,
        )

    def _open_board(self) -> Any:
        if self.schedule.log_dir is None or rank():
            return None
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            self.say("no TensorBoard logs: pip install tensorboard")
            return None
        return SummaryWriter(str(self.schedule.log_dir), purge_step=self.step)


def _optimizer(model: nn.Module, schedule: Schedule, fused: bool) -> torch.optim.Optimizer:
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, weights in model.named_parameters():
        if weights.requires_grad:
            decay = schedule.weight_decay if weights.ndim > 1 else 0.0
            rate = schedule.learning_rate * (schedule.head_rate if name.startswith(HEAD) else 1.0)
            groups.setdefault((decay, rate), []).append(weights)
    if not groups:
        raise InputError("the model has no weights to train: all are frozen")
    return torch.optim.AdamW(
        [
            {"params": g, "weight_decay": decay, "lr": rate, "full_lr": rate}
            for (decay, rate), g in groups.items()
        ],
        fused=fused,
    )


def _copied(tensor: Tensor) -> Tensor:
    return tensor.detach().to("cpu", copy=True)
