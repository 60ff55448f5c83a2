"""Hyperparameter search by Ray Tune: at random (Bergstra & Bengio 2012) or on a grid.

Every trial runs to its end, none is stopped for being behind: what a search costs is known before
it."""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from ray import tune
from ray.tune.search.basic_variant import BasicVariantGenerator

from recsys.errors import InputError, RecsysError

Values = Mapping[str, float]
Say = Callable[[str], None]


@dataclass(frozen=True)
class Trial:
    """Values and what came of them. `score` is NaN where the trial failed, for the reason in
    `error`."""

    values: Values
    score: float
    seconds: float
    error: str = ""


def search_parameters(
    function: Callable[..., float],
    arguments: Mapping[str, Any],
    space: Mapping[str, Sequence[float]],
    trials: int | None,
    *,
    seed: int = 0,
    first: Sequence[Values] = (),
    cpus: float = 1.0,
    gpus: float = 0.0,
    say: Say = lambda _: None,
) -> list[Trial]:
    """What `function(values, **arguments)` gives for `trials` draws from `space`: highest score
    first, failures last.

    `space` has the choices of each parameter; `trials` of None is its whole grid. The points in
    `first` come before the draws and are counted among them. Same seed, same draws; each is
    independent, so one may come twice. A trial is a process of its own with `cpus` CPUs and `gpus`
    of a GPU (a share may be one); as many run at once as Ray has room for. The arguments lie in the
    object store once, and arrive read-only. `say` gets a line for each trial that ends.

    Ray must be initialised. Raises InputError for a search of no trials, RecsysError where all of
    them failed."""
    count = math.prod(map(len, space.values())) if trials is None else trials
    if not space or count < max(1, len(first)):
        search = f"a search of {count} trials over {len(space)} parameters"
        raise InputError(f"{search} finds nothing: give at least one")
    log, draw = _TrialLog(say, count), tune.grid_search if trials is None else tune.choice
    points = [dict(point) for point in first]
    with tempfile.TemporaryDirectory(prefix="nightshelf-tune-") as folder:
        tune.Tuner(
            tune.with_resources(_trainable(function, arguments), {"cpu": cpus, "gpu": gpus}),
            param_space={name: draw(list(choices)) for name, choices in space.items()},
            tune_config=tune.TuneConfig(
                num_samples=1 if trials is None else trials,
                search_alg=BasicVariantGenerator(points, random_state=seed),
            ),
            run_config=tune.RunConfig(storage_path=folder, verbose=0, callbacks=[log]),
        ).fit()
    return _best_first(log.trials)


def _trainable(function: Callable[..., float], arguments: Mapping[str, Any]) -> Callable[..., Any]:
    # Tune's own logs want tensorboardX, and say at every start that it is not there.
    os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
    return tune.with_parameters(partial(_report, function), arguments=dict(arguments))


def _report(
    function: Callable[..., float], values: dict[str, Any], arguments: dict[str, Any]
) -> dict[str, Any]:
    """In the trial's process. Tune takes what a function returns for its last report."""
    try:
        return {"score": function(values, **arguments), "error": ""}
    except RecsysError as error:
        return {"score": math.nan, "error": str(error)}


class _TrialLog(tune.Callback):
    """Collects the trials that ended, and reports each."""

    def __init__(self, say: Say, count: int) -> None:
        self.say, self.count, self.trials = say, count, list[Trial]()

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        result = trial.last_result
        self._add(Trial(trial.config, result["score"], result["time_total_s"], result["error"]))

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A process that died, or an error that is not ours: its last line says what it was."""
        reason = str(trial.get_error() or "its process died").strip().splitlines()[-1]
        self._add(Trial(trial.config, math.nan, trial.last_result.get("time_total_s", 0.0), reason))

    def _add(self, trial: Trial) -> None:
        self.trials.append(trial)
        outcome = f"failed: {trial.error}" if trial.error else f"{trial.score:.4f}"
        values = "  ".join(f"{name} {value:g}" for name, value in trial.values.items())
        self.say(
            f"trial {len(self.trials)} of {self.count}  {outcome}  {trial.seconds:.0f} s  {values}"
        )


def _best_first(trials: Sequence[Trial]) -> list[Trial]:
    if all(math.isnan(trial.score) for trial in trials):
        reason = trials[0].error if trials else "it was interrupted"
        raise RecsysError(f"none of {len(trials)} trials came to a score: {reason}")
    return sorted(
        trials,
        key=lambda trial: -math.inf if math.isnan(trial.score) else trial.score,
        reverse=True,
    )
