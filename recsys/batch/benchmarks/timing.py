"""Wall-clock time of repeated calls, and the machine that they ran on."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable
from typing import Any

ROUNDS = 5


def median_seconds(
    call: Callable[[], Any], rounds: int = ROUNDS, synchronize: Callable[[], None] = lambda: None
) -> float:
    """The median time of a call after one for warming up. `synchronize` waits for a device."""
    call()
    seconds = []
    for _ in range(rounds):
        synchronize()
        started = time.perf_counter()
        call()
        synchronize()
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)


def has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


def describe_machine() -> str:
    """The GPU, the cores and the version of torch."""
    import torch

    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    return f"{gpu}, {os.cpu_count()} cores, torch {torch.__version__}"
