"""Back-pressure: while the event log cannot be reached, events wait in files of this host and are
replayed when it is back.

Every process writes a file of its own (`spool_file`). One whose process died is replayed by the
next process on the host that finds it. The log detects duplicates, so what is replayed twice is
there once."""

from __future__ import annotations

import base64
import json
import logging
import os
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa

from recsys.errors import RecsysError, StoreDownError
from recsys.events.codec import (
    decode_impression,
    decode_interaction,
    encode_impression,
    encode_interaction,
)
from recsys.events.spool_file import SpoolFile, orphans, read_lines
from recsys.interfaces import AppendResult, EventStore, LogPosition, LogState, UserEvents
from recsys.types import Impression, Interaction, PrivacyState

T = TypeVar("T")
logger = logging.getLogger(__name__)

#: Seconds between two attempts to reach a log that is down, and between two reads of the privacy
#: states of one that is up.
RETRY_S, PRIVACY_REFRESH_S = 1.0, 30.0
#: Waiting rows that `user_events` returns while the log is down.
RECENT_EVENTS = 100_000


class SpooledEventLog:
    """An `EventStore` that accepts events while `store` is down: into a file below `folder`,
    fsynced before it returns.

    While it is down `user_events` returns only what waits here, and the privacy state last read;
    every other read raises StoreDownError, as do decisions and forgetting. More than `limit_bytes`
    are refused with StoreDownError. The factory is `partial(SpooledEventLog,
    partial(RedisEventStore, url), folder)`."""

    def __init__(
        self, store: Callable[[], EventStore], folder: str | Path, limit_bytes: int = 1 << 30
    ) -> None:
        self.store, self.folder, self.limit_bytes = store(), Path(folder), limit_bytes
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._lock, self._closed = threading.RLock(), threading.Event()
        self._file = SpoolFile(self.folder)
        self._reason, self._waiting, self._since = "", 0, 0.0
        self._privacy_states: dict[str, PrivacyState] = {}
        self._privacy_read_at = -PRIVACY_REFRESH_S
        self._recent: dict[str, list[Interaction]] = defaultdict(list)
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._thread.start()

    # Works while the log is down

    def append(self, interactions: Sequence[Interaction]) -> AppendResult:
        appended = self._unless_down(lambda: self.store.append(interactions))
        if appended is not None:
            return appended
        rows = [encode_interaction(event).decode() for event in interactions]  # raises before
        permitted = [
            (row, event)
            for row, event in zip(rows, interactions, strict=True)
            if self._last_privacy_state(event.user_id).allows(event.time)
        ]
        events = [event for _, event in permitted]
        self._spool("interactions", [row for row, _ in permitted], events)
        return AppendResult(len(events), 0, len(rows) - len(events))

    def append_impressions(self, impressions: Sequence[Impression]) -> None:
        if self._written(lambda: self.store.append_impressions(impressions)):
            return
        permitted = [
            encode_impression(each)
            for each in impressions
            if not each.user_id or self._last_privacy_state(each.user_id).allows(each.time)
        ]
        rows = [
            [fields.decode(), base64.b64encode(features).decode()] for fields, features in permitted
        ]
        self._spool("impressions", rows)

    def quarantine(self, rows: Sequence[tuple[str, dict[str, Any]]]) -> None:
        if not self._written(lambda: self.store.quarantine(rows)):
            self._spool("quarantine", json.loads(json.dumps(list(rows), default=str)))

    def user_events(self, user_id: str, after: datetime, limit: int) -> UserEvents:
        events = self._unless_down(lambda: self.store.user_events(user_id, after, limit))
        if events is not None:
            return events
        with self._lock:
            waiting = {
                event.event_id: event
                for event in self._recent.get(user_id, ())
                if event.time > after
            }
        oldest_first = sorted(waiting.values(), key=lambda event: event.time)
        newest = oldest_first[-limit:] if limit > 0 else []
        return UserEvents(self._last_privacy_state(user_id), newest)

    def privacy_state(self, user_id: str) -> PrivacyState:
        state = self._unless_down(lambda: self.store.privacy_state(user_id))
        return self._last_privacy_state(user_id) if state is None else state

    def state(self) -> LogState:
        with self._lock:
            lag_s = time.time() - self._since if self._waiting else 0.0
            return LogState(not self._reason, self._waiting, max(0.0, lag_s), self._reason)

    # Raises StoreDownError while the log is down

    def interactions(self, until_sequence: int, after: int = 0) -> Iterator[pa.RecordBatch]:
        yield from self.store.interactions(until_sequence, after)

    def impressions(self, after: int = 0) -> Iterator[Impression]:
        yield from self.store.impressions(after)

    def impression(self, request_id: str) -> Impression | None:
        return self._if_up(lambda: self.store.impression(request_id))

    def end(self) -> LogPosition:
        return self._if_up(self.store.end)

    def counts(self) -> dict[str, int]:
        return self._if_up(self.store.counts)

    def drain(self) -> int:
        return self._if_up(self.store.drain)

    def digest(self, user_id: str) -> str:
        return self.store.digest(user_id)

    def hasher(self) -> Callable[[str], str]:
        return self._if_up(self.store.hasher)

    def set_privacy_state(self, user_id: str, state: PrivacyState) -> None:
        def decide() -> None:
            self.store.set_privacy_state(user_id, state)
            self._privacy_states = {**self._privacy_states, self.store.digest(user_id): state}

        self._if_up(decide)

    def privacy_states(self) -> dict[str, PrivacyState]:
        return self._if_up(self.store.privacy_states)

    def forget(self, user_id: str) -> dict[str, int]:
        return self._if_up(lambda: self.store.forget(user_id))

    def traces(self, user_id: str) -> dict[str, int]:
        """What waits on this host is replayed first: other processes do that within a second of the
        log's return."""
        return self._if_up(lambda: self.store.traces(user_id))

    def close(self) -> None:
        """What still waits stays on the disk for the next process."""
        self._closed.set()
        self._thread.join()
        with self._lock:
            self._file.close()
        self.store.close()

    # Up and down

    def _unless_down(self, work: Callable[[], T]) -> T | None:
        """None where the log is down. It is not tried each time: `_follow` alone does that."""
        if self._reason:
            return None
        try:
            return work()
        except StoreDownError as error:
            self._mark_down(error)
            return None

    def _written(self, work: Callable[[], None]) -> bool:
        """Whether the log took it."""

        def write() -> bool:
            work()
            return True

        return bool(self._unless_down(write))

    def _if_up(self, work: Callable[[], T]) -> T:
        if self._reason:
            raise StoreDownError(self._reason)
        return work()

    def _mark_down(self, error: StoreDownError) -> None:
        with self._lock:
            if not self._reason:
                logger.error("events wait in %s: %s", self.folder, error)
            self._reason = str(error)

    def _follow(self) -> None:
        while not self._closed.is_set():
            try:
                self._adopt_orphans()
                if self._reason:
                    self._replay_own()
                if time.monotonic() - self._privacy_read_at >= PRIVACY_REFRESH_S:
                    self._privacy_states = self.store.privacy_states()
                    self._privacy_read_at = time.monotonic()
            except StoreDownError as error:
                self._mark_down(error)
            except Exception:  # a file that cannot be read must not end the thread
                logger.exception("what waits in %s was not replayed", self.folder)
            self._closed.wait(RETRY_S)

    def _last_privacy_state(self, user_id: str) -> PrivacyState:
        """As of when the log was last read; the default where it never was: then the replay drops
        what the state rules out."""
        if not self._privacy_states:
            return PrivacyState()
        try:
            return self._privacy_states.get(self.store.digest(user_id), PrivacyState())
        except StoreDownError:
            return PrivacyState()

    # Writing and replaying

    def _spool(self, kind: str, rows: Sequence[Any], events: Sequence[Interaction] = ()) -> None:
        """On the disk when it returns, or not at all."""
        if not rows:
            return
        line = json.dumps([kind, time.time(), list(rows)]).encode() + b"\n"
        with self._lock:
            if self._file.size + len(line) > self.limit_bytes:
                raise StoreDownError(
                    f"{self._reason}; {self._file.size:,} bytes wait in {self.folder} and more "
                    f"than {self.limit_bytes:,} may not: bring the log back, then send it again"
                )
            try:
                self._file.append(line)
            except OSError as error:
                raise StoreDownError(
                    f"{self._reason}; {self.folder} takes nothing ({error}): free its disk"
                ) from error
            self._since = self._since if self._waiting else time.time()
            self._waiting += len(rows)
            for event in events if self._waiting < RECENT_EVENTS else ():
                self._recent[event.user_id].append(event)
            self._reason = self._reason or "the event log is back: what waits is replayed"

    def _replay_own(self) -> None:
        """In order; what comes meanwhile waits behind it. Up again when nothing waits any more."""
        replayed = 0
        self.store.end()  # raises where it is still down
        while True:
            with self._lock:
                if replayed >= self._file.size:
                    self._mark_up()
                    return
                size = self._file.size
            lines = self._file.read(replayed, size)
            self._replay(lines)
            replayed += len(lines)

    def _mark_up(self) -> None:
        self._file.clear()
        if self._waiting:
            logger.warning("the event log is back: %d rows were replayed", self._waiting)
        self._waiting = 0
        self._recent.clear()
        self._reason = ""

    def _adopt_orphans(self) -> None:
        """Replays the files of processes that died."""
        for path, file in orphans(self.folder):
            replayed, size = 0, os.fstat(file).st_size
            while replayed < size and (lines := read_lines(file, replayed, size)):
                self._replay(lines)
                replayed += len(lines)
            path.unlink(missing_ok=True)

    def _replay(self, lines: bytes) -> None:
        for line in lines.splitlines():
            kind, _, rows = json.loads(line)
            try:
                self._write_to_store(kind, rows)
            except StoreDownError:
                raise
            except RecsysError:
                logger.exception("%d %s of %s were refused on replay", len(rows), kind, self.folder)

    def _write_to_store(self, kind: str, rows: list[Any]) -> None:
        if kind == "interactions":
            self.store.append([decode_interaction(row.encode()) for row in rows])
        elif kind == "impressions":
            self.store.append_impressions(
                [
                    decode_impression(fields.encode(), base64.b64decode(features))
                    for fields, features in rows
                ]
            )
        else:
            self.store.quarantine(
                [(reason, event) for reason, event in rows if self._may_quarantine(event)]
            )

    def _may_quarantine(self, event: dict[str, Any]) -> bool:
        """Whether its user decided nothing meanwhile: the log does not check what it
        quarantines."""
        return self.store.privacy_state(str(event.get("user_id") or "")) == PrivacyState()
