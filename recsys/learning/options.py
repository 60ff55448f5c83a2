"""What every training job takes, whatever it trains."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Say = Callable[[str], None]
#: Calls a function with these arguments, on one worker or several; returns what the first returns.
Run = Callable[[Callable[..., Any], Mapping[str, Any]], Any]


def run_in_process(function: Callable[..., Any], arguments: Mapping[str, Any]) -> Any:
    """The function called here, without Ray."""
    return function(**arguments)


@dataclass(frozen=True, kw_only=True)
class TrainOptions:
    """Trained parts go to `folder`, checkpoints and TensorBoard logs to `folder`/logs, from which
    `resume` continues."""

    folder: Path
    seed: int = 0
    resume: bool = False
    run: Run = run_in_process
    say: Say = print

    def log_dir(self, part: str) -> Path:
        """Checkpoint and TensorBoard logs of a part."""
        return self.folder / "logs" / part
