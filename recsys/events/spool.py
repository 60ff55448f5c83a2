"""While the event log is down: what comes is kept on the local disk, and written to the log once it is back.

spool/<process>-<random>/<number>.json   one append each, fsynced before it is acknowledged, deleted once the log has it

A process owns the folder that it holds a lock on; a folder without an owner is one of a process that was killed, and
whoever finds it adopts it. The log counts nothing twice: events and answers have ids.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa

from recsys.errors import RecsysError, StoreDownError
from recsys.events.rows import impression_of_row, impression_row, interaction_of, interaction_row
from recsys.interfaces import Appended, EventStore
from recsys.types import Impression, Interaction, Standing

logger = logging.getLogger(__name__)

#: A log that was down is tried again so often; nobody else waits for it meanwhile.
RETRY_S = 1.0


class SpooledEventStore:
    """`log` as it is, and a folder of this host for what comes while it does not answer.

    Appends never fail for a log that is down, until `limit_bytes` wait in the folder: then StoreDownError. What is read
    while it is down is what waits here; standings are those known last, and who is not known has none: his events wait,
    and the log judges them when it is back. What reads the past (`interactions`, `impressions`) raises StoreDownError.
    """

    def __init__(self, log: Callable[[], EventStore], folder: str | Path, limit_bytes: int = 1 << 30) -> None:
        self._make, self._root, self.limit_bytes = log, Path(folder), limit_bytes
        self._log: EventStore | None = None
        self._down_since: float | None = None
        self._tried = -RETRY_S
        self._standings: dict[str, Standing] = {}
        self._recent: dict[str, list[Interaction]] = {}
        self._lock, self._replaying = threading.RLock(), threading.Lock()
        self._number, self._bytes = 0, 0
        self._closed = threading.Event()
        self._folder = self._root / f"{os.getpid()}-{uuid.uuid4().hex[:8]}"
        self._folder.mkdir(parents=True)
        self._held = _locked(self._folder)
        self._adopt()
        with suppress(StoreDownError):
            self._reached(lambda log: log.last_sequence())
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._thread.start()

    # What a monitor asks

    @property
    def waiting(self) -> int:
        """Appends in the folder."""
        return len(self._files())

    @property
    def down_s(self) -> float:
        """For how long the log has not answered; 0 while it does."""
        return 0.0 if self._down_since is None else time.monotonic() - self._down_since

    # Writing

    def append(self, interactions: Sequence[Interaction]) -> Appended:
        rows = [interaction_row(event) for event in interactions]  # what cannot be stored is refused now
        try:
            return self._reached(lambda log: log.append(interactions))
        except StoreDownError:
            kept = [event for event in interactions if self._known(event.user_id).allows(event.time)]
            self._keep({"interactions": [row for row, e in zip(rows, interactions, strict=True) if e in kept]})
            with self._lock:
                for event in kept:
                    self._recent.setdefault(event.user_id, []).append(event)
            return Appended(len(kept), 0, len(interactions) - len(kept))

    def append_impressions(self, impressions: Sequence[Impression]) -> None:
        try:
            self._reached(lambda log: log.append_impressions(impressions))
        except StoreDownError:
            kept = [i for i in impressions if i.user_id is None or self._known(i.user_id).allows(i.time)]
            self._keep({"impressions": [impression_row(shown) for shown in kept]})

    def quarantine(self, rows: Sequence[tuple[str, dict[str, Any]]]) -> None:
        try:
            self._reached(lambda log: log.quarantine(rows))
        except StoreDownError:
            told = json.dumps(rows, default=str).encode("utf-8", "replace").decode()
            self._keep({"quarantine": json.loads(told)})

    def set_standing(self, user_id: str, standing: Standing) -> None:
        """Raises StoreDownError while the log is down: a promise that only this process knows is none."""
        self._reached(lambda log: log.set_standing(user_id, standing))
        self._standings[user_id] = standing

    def forget(self, user_id: str) -> dict[str, int]:
        """In the log, which must be up; what waited here was written there first."""
        self._replay()
        return self._reached(lambda log: log.forget(user_id))

    # Reading

    def recent(self, user_id: str, after: datetime, limit: int) -> list[Interaction]:
        try:
            return self._reached(lambda log: log.recent(user_id, after, limit))
        except StoreDownError:
            with self._lock:
                known = sorted(self._recent.get(user_id, []), key=lambda event: event.time)
            return [event for event in known if event.time > after][-limit:] if limit > 0 else []

    def standing(self, user_id: str) -> Standing:
        with suppress(StoreDownError):
            found = self._reached(lambda log: log.standing(user_id))
            if found != Standing():
                self._standings[user_id] = found
            else:
                self._standings.pop(user_id, None)
        return self._known(user_id)

    def _known(self, user_id: str) -> Standing:
        return self._standings.get(user_id, Standing())

    def last_sequence(self) -> int:
        return self._reached(lambda log: log.last_sequence())

    def last_impression(self) -> int:
        return self._reached(lambda log: log.last_impression())

    def interactions(self, until_sequence: int, after: int = 0) -> Iterator[pa.RecordBatch]:
        return self._reached(lambda log: log.interactions(until_sequence, after))

    def impressions(self, after: int = 0) -> Iterator[Impression]:
        return self._reached(lambda log: log.impressions(after))

    def impression(self, request_id: str) -> Impression | None:
        return self._reached(lambda log: log.impression(request_id))

    def counts(self) -> dict[str, int]:
        return self._reached(lambda log: log.counts())

    def digest(self, user_id: str) -> str:
        return self._reached(lambda log: log.digest(user_id))

    def hasher(self) -> Callable[[str], str]:
        return self._reached(lambda log: log.hasher())

    def standings(self) -> dict[str, Standing]:
        return self._reached(lambda log: log.standings())

    def traces(self, user_id: str) -> dict[str, int]:
        self._replay()
        return self._reached(lambda log: log.traces(user_id))

    def drain(self) -> dict[str, int]:
        """The log's own `drain`, where it has one."""
        return self._reached(lambda log: log.drain() if hasattr(log, "drain") else {})

    def close(self) -> None:
        """Writes what waits, if the log answers; else it stays for the next process of this host."""
        self._closed.set()
        self._thread.join(timeout=5)
        with suppress(RecsysError):
            self._replay()
        if not self._files():
            for path in (*self._folder.iterdir(), self._folder):
                path.unlink() if path.is_file() else path.rmdir()
        os.close(self._held)
        if self._log is not None:
            self._log.close()

    # The folder

    def _reached(self, call: Callable[[EventStore], Any]) -> Any:
        """Asks the log, unless it was down a moment ago."""
        if self._down_since is not None:
            raise StoreDownError(f"the event log has not answered for {self.down_s:.0f} s: events wait in {self._root}")
        try:
            return call(self._opened())
        except StoreDownError:
            self._down_since = time.monotonic()
            logger.error("the event log is down: what comes is kept in %s", self._folder)
            raise

    def _opened(self) -> EventStore:
        with self._lock:
            if self._log is None:
                self._log = self._make()
            return self._log

    def _keep(self, rows: dict[str, list[Any]]) -> None:
        """On the disk when it returns."""
        if not any(rows.values()):
            return
        written = json.dumps(rows).encode()
        with self._lock:
            if self._bytes + len(written) > self.limit_bytes:
                raise StoreDownError(
                    f"the event log is down and {self._bytes:,} bytes wait in {self._root}: start it, then try again"
                )
            self._number, self._bytes = self._number + 1, self._bytes + len(written)
            number = self._number
        path = self._folder / f"{number:012d}.json"
        unfinished = path.with_suffix(".unfinished")
        with unfinished.open("xb") as stream:
            stream.write(written)
            stream.flush()
            os.fsync(stream.fileno())
        unfinished.replace(path)
        handle = os.open(self._folder, os.O_RDONLY)
        os.fsync(handle)
        os.close(handle)

    def _files(self) -> list[Path]:
        return sorted(self._folder.glob("*.json"))

    def _follow(self) -> None:
        """Until closed: asks a log that is down again, and writes what waits."""
        while not self._closed.wait(RETRY_S):
            try:
                if self._down_since is not None:
                    self._opened().last_sequence()
                    logger.warning("the event log answers again: %d appends are written to it", self.waiting)
                    self._down_since = None
                self._replay()
            except StoreDownError:
                continue
            except Exception:
                logger.exception("what waits in %s could not be written to the log", self._folder)

    def _replay(self) -> None:
        """Writes what waits to the log, in order; a piece is deleted once the log has it."""
        with self._replaying:
            if self._down_since is not None or not (files := self._files()):
                return
            for path in files:
                self._reached(partial(_write, json.loads(path.read_bytes())))
                size = path.stat().st_size
                path.unlink()
                with self._lock:
                    self._bytes -= size
            with self._lock:
                if not self._files():
                    self._recent.clear()

    def _adopt(self) -> None:
        """Takes over what processes left that are gone: their pieces become this one's, before its own."""
        for folder in sorted(path for path in self._root.iterdir() if path.is_dir() and path != self._folder):
            with suppress(OSError):
                held = _locked(folder)
                for path in sorted(folder.glob("*.json")):
                    self._number += 1
                    path.replace(self._folder / f"{self._number:012d}.json")
                for path in folder.iterdir():
                    path.unlink()
                folder.rmdir()
                os.close(held)
        for path in self._files():
            self._bytes += path.stat().st_size
            for row in json.loads(path.read_bytes()).get("interactions", []):
                event = interaction_of(row)
                self._recent.setdefault(event.user_id, []).append(event)


def _write(rows: dict[str, list[Any]], log: EventStore) -> None:
    if kept := rows.get("interactions"):
        log.append([interaction_of(row) for row in kept])
    if kept := rows.get("impressions"):
        log.append_impressions([impression_of_row(row, 0) for row in kept])
    if kept := rows.get("quarantine"):
        log.quarantine([(reason, event) for reason, event in kept])


def _locked(folder: Path) -> int:
    """A lock that ends with the process; OSError where another one holds it."""
    held = os.open(folder / "owner.lock", os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(held)
        raise
    return held
