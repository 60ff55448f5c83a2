"""Writes impressions to the event log after their answers, never on the request path."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Sequence
from contextlib import suppress

from recsys.events.impressions import build_impression
from recsys.interfaces import EventStore
from recsys.types import Query, Ranking
from serve import metrics

logger = logging.getLogger("ray.serve")

#: Impressions that may wait for the log; more are dropped and counted.
MAX_WAITING = 10_000
#: Impressions of one transaction.
MAX_BATCH = 500
#: The thread wakes at least this often, to update the log's metrics.
POLL_S = 0.2

#: An answer, its surface (search, recommend, similar) and its query.
Answer = tuple[Ranking, str, Query]


class ImpressionWriter:
    """A bounded queue, and the thread that empties it until it is closed."""

    def __init__(self, events: EventStore, log_queries: bool = False) -> None:
        self._events, self._log_queries = events, log_queries
        self._queue: queue.Queue[Answer] = queue.Queue(MAX_WAITING)
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def add(self, ranking: Ranking, surface: str, query: Query) -> None:
        """Never waits: an impression that finds the queue full is dropped."""
        try:
            self._queue.put_nowait((ranking, surface, query))
        except queue.Full:
            metrics.IMPRESSIONS_DROPPED.inc()

    def is_alive(self) -> bool:
        return self._thread.is_alive()

    def close(self, timeout_s: float) -> None:
        """Writes what waits, then ends the thread."""
        self._closed.set()
        self._thread.join(timeout_s)

    def _run(self) -> None:
        written = reachable = time.monotonic()
        while not (self._closed.is_set() and self._queue.empty()):
            if self._write(self._next_batch()):
                written = time.monotonic()
            log = self._events.state()
            if log.up:
                reachable = time.monotonic()
            metrics.LOG_WAITING.set(log.waiting)
            metrics.LOG_DOWN.set(0.0 if log.up else time.monotonic() - reachable)
            metrics.LOG_LAG.set(max(time.monotonic() - written, log.lag_s))

    def _next_batch(self) -> list[Answer]:
        """Whatever waits; empty when nothing came within POLL_S."""
        batch: list[Answer] = []
        with suppress(queue.Empty):
            batch.append(self._queue.get(timeout=POLL_S))
            while len(batch) < MAX_BATCH:
                batch.append(self._queue.get_nowait())
        return batch

    def _write(self, batch: Sequence[Answer]) -> bool:
        try:
            if batch:
                self._events.append_impressions([build_impression(*answer) for answer in batch])
            return True
        except Exception as error:  # whatever a store raises must not end the thread
            metrics.IMPRESSIONS_DROPPED.inc(len(batch))
            reason = metrics.format_error(error, self._log_queries)
            logger.error("%d impressions were not written: %s", len(batch), reason)
            return False
