"""Data-parallel training by Ray Train; with one worker, in this process and without Ray."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, TypeVar

from recsys.errors import InputError, RecsysError

T = TypeVar("T")


def run_distributed(
    function: Callable[..., T],
    arguments: Mapping[str, Any],
    *,
    workers: int = 1,
    use_gpu: bool = False,
    cpus: float = 1.0,
    retries: int = 0,
) -> T:
    """What `function(**arguments)` returns on the first of `workers`, each with `cpus` CPUs and, by
    `use_gpu`, a GPU.

    Every worker runs the function in one `torch.distributed` group (NCCL on GPUs, gloo on CPUs), so
    everything built on `training.loop.fit` shares its batches by itself. Arguments and result are
    pickled. Give absolute paths, on a file system that all nodes see: workers have a working
    directory of their own. A failed worker ends the run; with `retries` all begin again, from the
    checkpoint where the function resumes.

    Ray must be initialised for more than one worker. Raises InputError for fewer than one, a
    RecsysError of a worker as it is, anything else as RecsysError."""
    if workers < 1:
        raise InputError(f"{workers} workers cannot train: give one or more")
    if workers == 1:
        return function(**arguments)
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer

    with tempfile.TemporaryDirectory(prefix="nightshelf-train-") as folder:
        trainer = TorchTrainer(
            partial(_call, function),
            train_loop_config=dict(arguments),
            scaling_config=ScalingConfig(
                num_workers=workers, use_gpu=use_gpu, resources_per_worker=_resources(cpus, use_gpu)
            ),
            run_config=RunConfig(
                storage_path=folder, failure_config=FailureConfig(max_failures=retries)
            ),
        )
        return _result(trainer)


def _call(function: Callable[..., Any], arguments: dict[str, Any]) -> Any:
    """Ray Train passes one dictionary."""
    return function(**arguments)


def _resources(cpus: float, use_gpu: bool) -> dict[str, float]:
    return {"CPU": cpus, "GPU": 1.0} if use_gpu else {"CPU": cpus}


def _result(trainer: Any) -> Any:
    """The first worker's return value; of a failure, what the worker raised."""
    from ray.train import TrainingFailedError

    try:
        return trainer.fit().return_value
    except TrainingFailedError as error:
        causes = [
            getattr(failure, "_base_exc", failure)
            for failure in getattr(error, "worker_failures", {}).values()
        ]
        for cause in causes:
            if isinstance(cause, RecsysError):
                raise cause from error
        raise RecsysError(
            f"training failed on its workers: {causes[0] if causes else error}"
        ) from error
