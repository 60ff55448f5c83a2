"""The one process that learns by day: a thread around `recsys.learning.online.OnlineTrainer`, as a
deployment of one replica."""

from __future__ import annotations

import logging
import sys
import threading
from typing import Any

from recsys.config import Setup
from recsys.errors import RecsysError
from recsys.learning.online import OnlineTrainer
from recsys.training.influence import OnlineConfig

logger = logging.getLogger("ray.serve")


class TrainerReplica:
    """Steps every `choices.every_s` seconds until it is closed. What fails is told once and tried
    again."""

    def __init__(self, setup: Setup, choices: OnlineConfig) -> None:
        self.choices, self.trainer = choices, OnlineTrainer(setup, choices)
        self.failed = ""
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._thread.start()

    def check_health(self) -> None:
        """Serve replaces a replica that raises here: another one goes on from the last snapshot."""
        if not self._thread.is_alive():
            raise RuntimeError("the thread that learns has died: see its log")

    def told(self) -> dict[str, Any]:
        """Where it stands, for a monitor; `failed` is the sentence of the last step, "" if it went
        well."""
        return {"base": self.trainer.base, "failed": self.failed, **self.trainer.metrics()}

    def close(self) -> None:
        """Ends the thread after its step, and closes the log."""
        self._closed.set()
        self._thread.join()
        self.trainer.close()

    def _follow(self) -> None:
        while not self._closed.wait(self.choices.every_s):
            if "torch" in sys.modules:  # it is small work beside replicas that answer
                sys.modules["torch"].set_num_threads(1)
            try:
                self.trainer.step()
                failed = ""
            except Exception as error:  # a store that cannot be reached must not end the thread
                failed = (
                    str(error)
                    if isinstance(error, RecsysError)
                    else f"{type(error).__name__}: {error}"
                )
            if failed and failed != self.failed:
                logger.error("online learning waits: %s", failed)
            self.failed = failed
