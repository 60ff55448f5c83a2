"""Back-pressure: while the event log cannot be reached, what comes waits in files of this host, and
is replayed.

Every process writes a file of its own, which it holds locked. One whose process died is unlocked:
the next process on the host that finds it replays it. The log knows what it has seen, so what is
replayed twice is there once."""

from __future__ import annotations

import base64
import fcntl
import json
import logging
import os
import threading
import time
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa

from recsys.errors import RecsysError, StoreDownError
from recsys.events.rows import packed, packed_impression, unpacked, unpacked_impression
from recsys.interfaces import Appended, EventStore, LogState
from recsys.storage.artifacts import fsync_folder
from recsys.types import Impression, Interaction, PrivacyState

T = TypeVar("T")
logger = logging.getLogger(__name__)

#: While the log is down it is tried again so often; standings are read again so often while it is
#: up.
TRY_S, STANDINGS_S = 1.0, 30.0
#: Waiting rows that `recent` knows while the log is down.
KNOWN = 100_000


class Spooled:
    """An `EventStore` that takes events while `store` is down: into a file below `folder`, fsynced
    before it returns.

    While it is down `recent` knows what waits here alone, standings are those last read, and what
    reads the log raises StoreDownError, as do deciding and forgetting. More than `limit_bytes` are
    refused with StoreDownError. The factory is `partial(Spooled, partial(RedisEventStore, url),
    folder)`."""

    def __init__(
        self, store: Callable[[], EventStore], folder: str | Path, limit_bytes: int = 1 << 30
    ) -> None:
        self.store, self.folder, self.limit_bytes = store(), Path(folder), limit_bytes
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._lock, self._closed = threading.RLock(), threading.Event()
        self._file, self._bytes = -1, 0
        self._why, self._waiting, self._since = "", 0, 0.0
        self._standings: dict[str, PrivacyState] = {}
        self._standings_at = -STANDINGS_S
        self._known: dict[str, list[Interaction]] = defaultdict(list)
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._thread.start()

    def append(self, interactions: Sequence[Interaction]) -> Appended:
        appended = self._unless_down(lambda: self.store.append(interactions))
        if appended is not None:
            return appended
        rows = [packed(event).decode() for event in interactions]  # raises before anything is kept
        allowed = [self._last_known(event.user_id).allows(event.time) for event in interactions]
        kept = [event for event, yes in zip(interactions, allowed, strict=True) if yes]
        self._keep(
            "interactions", [row for row, yes in zip(rows, allowed, strict=True) if yes], kept
        )
        return Appended(len(kept), 0, len(rows) - len(kept))

    def append_impressions(self, impressions: Sequence[Impression]) -> None:
        def write() -> bool:
            self.store.append_impressions(impressions)
            return True

        if not self._unless_down(write):
            allowed = [
                i
                for i in impressions
                if not i.user_id or self._last_known(i.user_id).allows(i.time)
            ]
            packs = [packed_impression(shown) for shown in allowed]
            self._keep(
                "impressions", [[told.decode(), base64.b64encode(f).decode()] for told, f in packs]
            )

    def quarantine(self, rows: Sequence[tuple[str, dict[str, Any]]]) -> None:
        def write() -> bool:
            self.store.quarantine(rows)
            return True

        if not self._unless_down(write):
            self._keep("quarantine", json.loads(json.dumps(list(rows), default=str)))

    def recent(self, user_id: str, after: datetime, limit: int) -> list[Interaction]:
        found = self._unless_down(lambda: self.store.recent(user_id, after, limit))
        if found is not None:
            return found
        with self._lock:
            known = {
                event.event_id: event
                for event in self._known.get(user_id, ())
                if event.time > after
            }
        return sorted(known.values(), key=lambda event: event.time)[-limit:] if limit > 0 else []

    def standing(self, user_id: str) -> PrivacyState:
        found = self._unless_down(lambda: self.store.standing(user_id))
        return self._last_known(user_id) if found is None else found

    def set_standing(self, user_id: str, standing: PrivacyState) -> None:
        def decide() -> None:
            self.store.set_standing(user_id, standing)
            self._standings = {**self._standings, self.store.digest(user_id): standing}

        self._up(decide)

    def last_sequence(self) -> int:
        return self._up(self.store.last_sequence)

    def last_impression(self) -> int:
        return self._up(self.store.last_impression)

    def interactions(self, until_sequence: int, after: int = 0) -> Iterator[pa.RecordBatch]:
        yield from self.store.interactions(until_sequence, after)

    def impressions(self, after: int = 0) -> Iterator[Impression]:
        yield from self.store.impressions(after)

    def impression(self, request_id: str) -> Impression | None:
        return self._up(lambda: self.store.impression(request_id))

    def counts(self) -> dict[str, int]:
        return self._up(self.store.counts)

    def digest(self, user_id: str) -> str:
        return self.store.digest(user_id)

    def hasher(self) -> Callable[[str], str]:
        return self._up(self.store.hasher)

    def standings(self) -> dict[str, PrivacyState]:
        return self._up(self.store.standings)

    def forget(self, user_id: str) -> dict[str, int]:
        return self._up(lambda: self.store.forget(user_id))

    def traces(self, user_id: str) -> dict[str, int]:
        """What waits on this host is replayed first: other processes do that within a second of the
        log's return."""
        return self._up(lambda: self.store.traces(user_id))

    def drain(self) -> int:
        """As the store drains; 0 where it does not."""
        return int(self._up(getattr(self.store, "drain", lambda: 0)))

    def state(self) -> LogState:
        with self._lock:
            lag_s = time.time() - self._since if self._waiting else 0.0
            return LogState(not self._why, self._waiting, max(0.0, lag_s), self._why)

    def close(self) -> None:
        """What still waits stays on the disk for the next process."""
        self._closed.set()
        self._thread.join()
        with self._lock:
            if self._file >= 0:
                os.close(self._file)  # the lock goes with it
                self._file = -1
        self.store.close()

    # Up and down

    def _unless_down(self, work: Callable[[], T]) -> T | None:
        """None where the log is down, which it is not asked for in vain: `_follow` alone tries it
        again."""
        if self._why:
            return None
        try:
            return work()
        except StoreDownError as error:
            self._down(error)
            return None

    def _up(self, work: Callable[[], T]) -> T:
        if self._why:
            raise StoreDownError(self._why)
        return work()

    def _down(self, error: StoreDownError) -> None:
        with self._lock:
            if not self._why:
                logger.error("events wait in %s: %s", self.folder, error)
            self._why = str(error)

    def _follow(self) -> None:
        while not self._closed.is_set():
            try:
                self._adopt()
                if self._why:
                    self._replay_own()
                if time.monotonic() - self._standings_at >= STANDINGS_S:
                    self._standings, self._standings_at = self.store.standings(), time.monotonic()
            except StoreDownError as error:
                self._down(error)
            except Exception:  # a file that cannot be read must not end the thread
                logger.exception("what waits in %s was not replayed", self.folder)
            self._closed.wait(TRY_S)

    def _last_known(self, user_id: str) -> PrivacyState:
        """What he had decided when the log was last seen; nothing where it never was: then the
        replay refuses it."""
        try:
            return (
                self._standings.get(self.store.digest(user_id), PrivacyState())
                if self._standings
                else PrivacyState()
            )
        except StoreDownError:
            return PrivacyState()

    # The file

    def _keep(self, kind: str, rows: Sequence[Any], events: Sequence[Interaction] = ()) -> None:
        """On the disk when it returns, or not at all."""
        if not rows:
            return
        line = json.dumps([kind, time.time(), list(rows)]).encode() + b"\n"
        with self._lock:
            if self._bytes + len(line) > self.limit_bytes:
                raise StoreDownError(
                    f"{self._why}; {self._bytes:,} bytes wait in {self.folder} and more than {self.limit_bytes:,} may "
                    "not: bring the log back, then send it again"
                )
            self._write(line)
            self._since = self._since if self._waiting else time.time()
            self._waiting += len(rows)
            for event in events if self._waiting < KNOWN else ():
                self._known[event.user_id].append(event)
            self._why = self._why or "the event log is back: what waits is replayed"

    def _write(self, line: bytes) -> None:
        try:
            if self._file < 0:
                path = self.folder / f"{uuid.uuid4().hex}.spool"
                self._file = os.open(path, os.O_CREAT | os.O_RDWR | os.O_APPEND, 0o600)
                fcntl.flock(self._file, fcntl.LOCK_EX)
                fsync_folder(self.folder)
            written = os.write(self._file, line)
            if written < len(line):
                raise OSError(f"{written} of {len(line)} bytes were written")
            os.fsync(self._file)
        except OSError as error:
            if self._file >= 0:
                os.ftruncate(self._file, self._bytes)  # half a line would stand before the next one
            raise StoreDownError(
                f"{self._why}; {self.folder} takes nothing ({error}): free its disk"
            ) from error
        self._bytes += len(line)

    def _replay_own(self) -> None:
        """In order; what comes meanwhile waits behind it. Up again when nothing waits any more."""
        done = 0
        self.store.last_sequence()  # raises where it is still down
        while True:
            with self._lock:
                if done >= self._bytes:
                    self._emptied()
                    return
                bytes_now = self._bytes
            done += self._replay(self._file, done, bytes_now)

    def _emptied(self) -> None:
        if self._file >= 0:
            os.ftruncate(self._file, 0)
            os.fsync(self._file)
        if self._waiting:
            logger.warning("the event log is back: %d rows were replayed", self._waiting)
        self._bytes = self._waiting = 0
        self._known.clear()
        self._why = ""

    def _adopt(self) -> None:
        """Files of processes that died."""
        for path in sorted(self.folder.glob("*.spool")):
            try:
                file = os.open(path, os.O_RDWR)
            except FileNotFoundError:
                continue
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                done, size = 0, os.fstat(file).st_size
                while done < size and (read := self._replay(file, done, size)):
                    done += read
                path.unlink(missing_ok=True)
            except BlockingIOError:
                continue
            finally:
                os.close(file)

    def _replay(self, file: int, start: int, stop: int) -> int:
        """Lines from `start` on; the bytes they have. A last line without its end was never
        acknowledged."""
        data = os.pread(file, min(stop - start, 4 << 20), start)
        if b"\n" not in data:
            data = os.pread(file, stop - start, start)
        lines = data[: data.rfind(b"\n") + 1]
        for line in lines.splitlines():
            kind, _, rows = json.loads(line)
            try:
                self._give(kind, rows)
            except StoreDownError:
                raise
            except RecsysError:
                logger.exception("%d %s of %s were refused on replay", len(rows), kind, self.folder)
        return len(lines)

    def _give(self, kind: str, rows: list[Any]) -> None:
        if kind == "interactions":
            self.store.append([unpacked(row.encode()) for row in rows])
        elif kind == "impressions":
            shown = [
                unpacked_impression(told.encode(), base64.b64decode(features))
                for told, features in rows
            ]
            self.store.append_impressions(shown)
        else:
            self.store.quarantine([(reason, event) for reason, event in rows if self._may(event)])

    def _may(self, event: dict[str, Any]) -> bool:
        """Whether its user decided nothing meanwhile: no log judges what it quarantines."""
        return self.store.standing(str(event.get("user_id") or "")) == PrivacyState()
