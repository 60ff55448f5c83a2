"""Online learning: the one process that trains by day, a thread around
`recsys.learning.online.OnlineTrainer` in a deployment of one replica."""

from __future__ import annotations

import logging
import sys
import threading
from typing import Any

from recsys.config import Setup
from recsys.learning.online import OnlineTrainer
from recsys.training.influence import OnlineConfig
from serve.metrics import describe_error

logger = logging.getLogger("ray.serve")


class TrainerReplica:
    """One training step every `choices.poll_interval_s` seconds until it is closed. A failure is
    logged once, and the step retried."""

    def __init__(self, setup: Setup, choices: OnlineConfig) -> None:
        self.choices, self.trainer = choices, OnlineTrainer(setup, choices)
        self.error = ""
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def check_health(self) -> None:
        """Serve replaces a replica that raises here: the next one continues from the last
        snapshot."""
        if not self._thread.is_alive():
            raise RuntimeError("the thread that trains has died: see its log")

    def status(self) -> dict[str, Any]:
        """For a monitor; `error` is the sentence of the last step, "" if it went well."""
        return {"base": self.trainer.base, "error": self.error, **self.trainer.metrics()}

    def close(self) -> None:
        """Ends the thread after its step, and closes the log."""
        self._closed.set()
        self._thread.join()
        self.trainer.close()

    def _run(self) -> None:
        while not self._closed.wait(self.choices.poll_interval_s):
            if "torch" in sys.modules:  # small work beside replicas that answer
                sys.modules["torch"].set_num_threads(1)
            try:
                self.trainer.step()
                error = ""
            except Exception as exception:  # an unreachable store must not end the thread
                error = describe_error(exception)
            if error and error != self.error:
                logger.error("online learning waits: %s", error)
            self.error = error
