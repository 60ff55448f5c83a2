"""Back-pressure of the event log: while it cannot be reached, events wait on this host
(`backpressure`)."""

from __future__ import annotations

import base64
import json
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa

from recsys.errors import StoreDownError
from recsys.events.backpressure import SpooledStore
from recsys.events.codec import (
    decode_impression,
    decode_interaction,
    encode_impression,
    encode_interaction,
)
from recsys.interfaces import AppendResult, EventStore, LogPosition, LogState, UserEvents
from recsys.types import Impression, Interaction, PrivacyState

#: Seconds between two reads of the privacy states of a log that is up.
PRIVACY_REFRESH_S = 30.0
#: Waiting rows that `user_events` returns while the log is down.
RECENT_EVENTS = 100_000


class SpooledEventLog(SpooledStore):
    """An `EventStore` that accepts events while `store` is down: into a file below `folder`,
    fsynced before it returns.

    While it is down `user_events` returns only what waits here, and the privacy state last read;
    every other read raises StoreDownError, as do decisions and forgetting. More than `limit_bytes`
    are refused with StoreDownError. The factory is `partial(SpooledEventLog,
    partial(RedisEventStore, url), folder)`."""

    def __init__(
        self, store: Callable[[], EventStore], folder: str | Path, limit_bytes: int = 1 << 30
    ) -> None:
        self.store = store()
        self._privacy_states: dict[str, PrivacyState] = {}
        self._privacy_read_at = -PRIVACY_REFRESH_S
        self._recent: dict[str, list[Interaction]] = defaultdict(list)
        super().__init__("event log", folder, limit_bytes)

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
        self._spool("interactions", [row for row, _ in permitted], partial(self._remember, events))
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
        return self._state()

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
        self._close_spool()
        self.store.close()

    # For the replay

    def _ping(self) -> None:
        self.store.end()

    def _refresh(self) -> None:
        if time.monotonic() - self._privacy_read_at >= PRIVACY_REFRESH_S:
            self._privacy_states = self.store.privacy_states()
            self._privacy_read_at = time.monotonic()

    def _remember(self, events: Sequence[Interaction]) -> None:
        for event in events if self._waiting < RECENT_EVENTS else ():
            self._recent[event.user_id].append(event)

    def _clear_waiting(self) -> None:
        self._recent.clear()

    def _last_privacy_state(self, user_id: str) -> PrivacyState:
        """As of when the log was last read; the default where it never was: then the replay drops
        what the state rules out."""
        if not self._privacy_states:
            return PrivacyState()
        try:
            return self._privacy_states.get(self.store.digest(user_id), PrivacyState())
        except StoreDownError:
            return PrivacyState()

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
