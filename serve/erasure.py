"""Requests to be forgotten: users leave the log at once, and published releases soon after, in the
background."""

from __future__ import annotations

import logging
import math
import threading
import time

from recsys.config import Setup
from recsys.interfaces import EventStore
from recsys.privacy.erasure import GRACE_S
from recsys.privacy.forget import erase_users, forget_user
from recsys.privacy.receipts import Receipt
from serve import metrics

logger = logging.getLogger("ray.serve")

#: A failed erasure is retried after this long.
RETRY_S = 5.0
#: The thread wakes at least this often.
POLL_S = 0.2


class ErasureWorker:
    """A thread that erases forgotten users from releases, all that wait in one pass; and, `grace_s`
    later, the files which that replaced, once no replica reads them any more."""

    def __init__(self, setup: Setup, events: EventStore, grace_s: float = GRACE_S) -> None:
        self.setup, self.events, self.grace_s = setup, events, grace_s
        self._waiting: set[str] = set()
        self._wake = threading.Condition()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def forget(self, user_id: str) -> Receipt:
        """Deletes the user's rows in the log at once; releases follow."""
        receipt = forget_user(self.setup, self.events, user_id)
        metrics.FORGOTTEN.inc()
        with self._wake:
            self._waiting.add(user_id)
            self._wake.notify()
        return receipt

    def is_alive(self) -> bool:
        return self._thread.is_alive()

    def close(self, timeout_s: float) -> None:
        self._closed.set()
        self._thread.join(timeout_s)

    def _run(self) -> None:
        """`sweep_at` is when replaced files are deleted; `erased` are the users of the last
        pass, whose late rows go with them."""
        sweep_at, pending_since, erased = math.inf, math.inf, set[str]()
        while not self._closed.is_set():
            with self._wake:
                self._wake.wait_for(lambda: bool(self._waiting), timeout=POLL_S)
                users, self._waiting = self._waiting, set()
            if users or time.monotonic() >= sweep_at:
                pending_since = min(pending_since, time.monotonic())
                sweep_at = self._erase(users | erased, sweep_later=bool(users))
                erased = users | erased if users and sweep_at else set()
            if not self._waiting and sweep_at == math.inf:
                pending_since = math.inf
            metrics.FORGETTING_WAITS.set(max(0.0, time.monotonic() - pending_since))

    def _erase(self, users: set[str], sweep_later: bool) -> float:
        """Erases the users, and deletes what was replaced long enough ago. Returns when to sweep
        next: 0 after a failure, when all users wait again. A replica that is killed in between
        leaves the rest to the next night."""
        try:
            rows = erase_users(self.setup, self.events, users, self.grace_s)
            logger.info("%d users were erased from %d releases", len(users), len(rows))
            return time.monotonic() + self.grace_s if sweep_later else math.inf
        except Exception as error:  # whatever a store raises must not end the thread
            reason = metrics.format_error(error, self.setup.day.log_queries)
            logger.error(
                "erasure from releases failed and is retried in %g s, and by the night: %s",
                RETRY_S,
                reason,
            )
            self._closed.wait(RETRY_S)
            with self._wake:
                self._waiting |= users
            return 0.0
