"""Back-pressure: while a store cannot be reached, what is written to it waits in files of this host
and is replayed when it is back.

Every process writes a file of its own (`spool_file`). One whose process died is replayed by the
next process on the host that finds it. Stores detect repeats, so what is replayed twice is there
once."""

from __future__ import annotations

import json
import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from recsys.errors import RecsysError, StoreDownError
from recsys.events.spool_file import SpoolFile, orphans, read_lines
from recsys.interfaces import LogState

T = TypeVar("T")
logger = logging.getLogger(__name__)

#: Seconds between two attempts to reach a store that is down.
RETRY_S = 1.0


class SpooledStore:
    """What stores share that accept while `what` is down: rows wait in a file below `folder`,
    fsynced before a call returns. More than `limit_bytes` are refused with StoreDownError.

    A subclass says how to ask the store whether it is back, and how to write rows to it."""

    def __init__(self, what: str, folder: str | Path, limit_bytes: int) -> None:
        """Starts the thread that replays: last in a subclass's own."""
        self.what, self.folder, self.limit_bytes = what, Path(folder), limit_bytes
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._lock, self._replay_lock = threading.RLock(), threading.Lock()
        self._closed = threading.Event()
        self._file = SpoolFile(self.folder)
        self._reason, self._waiting, self._since = "", 0, 0.0
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._thread.start()

    # For the subclass

    def _ping(self) -> None:
        """Raises StoreDownError where the store is down."""
        raise NotImplementedError

    def _write_to_store(self, kind: str, rows: list[Any]) -> None:
        raise NotImplementedError

    def _refresh(self) -> None:
        """Reads from a store that is up what is needed while it is down."""

    def _clear_waiting(self) -> None:
        """Nothing waits any more."""

    # Up and down

    def _state(self) -> LogState:
        with self._lock:
            lag_s = time.time() - self._since if self._waiting else 0.0
            return LogState(not self._reason, self._waiting, max(0.0, lag_s), self._reason)

    def _unless_down(self, work: Callable[[], T]) -> T | None:
        """None where the store is down. It is not tried each time: `_follow` alone does that."""
        if self._reason:
            return None
        try:
            return work()
        except StoreDownError as error:
            self._mark_down(error)
            return None

    def _written(self, work: Callable[[], None]) -> bool:
        """Whether the store took it."""

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
                logger.error("what comes waits in %s: %s", self.folder, error)
            self._reason = str(error)

    def _follow(self) -> None:
        while not self._closed.is_set():
            try:
                self._replay_all()
                self._refresh()
            except StoreDownError as error:
                self._mark_down(error)
            except Exception:  # a file that cannot be read must not end the thread
                logger.exception("what waits in %s was not replayed", self.folder)
            self._closed.wait(RETRY_S)

    def _close_spool(self) -> None:
        """What still waits stays on the disk for the next process."""
        self._closed.set()
        self._thread.join()
        with self._lock:
            self._file.close()

    # Writing and replaying

    def _spool(
        self, kind: str, rows: Sequence[Any], spooled: Callable[[], object] | None = None
    ) -> None:
        """On the disk when it returns, or not at all; `spooled` is called once it is."""
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
            if spooled:
                spooled()
            self._reason = self._reason or f"the {self.what} is back: what waits is replayed"

    def _replay_all(self) -> int:
        """How many rows: of processes that died, and where the store was down this one's."""
        with self._replay_lock:
            return self._adopt_orphans() + (self._replay_own() if self._reason else 0)

    def _replay_own(self) -> int:
        """In order; what comes meanwhile waits behind it. Up again when nothing waits any more."""
        replayed = rows = 0
        self._ping()  # raises where it is still down
        while True:
            with self._lock:
                if replayed >= self._file.size:
                    self._mark_up()
                    return rows
                size = self._file.size
            lines = self._file.read(replayed, size)
            rows += self._replay(lines)
            replayed += len(lines)

    def _mark_up(self) -> None:
        self._file.clear()
        if self._waiting:
            logger.warning("the %s is back: %d rows were replayed", self.what, self._waiting)
        self._waiting = 0
        self._clear_waiting()
        self._reason = ""

    def _adopt_orphans(self) -> int:
        """Replays the files of processes that died."""
        rows = 0
        for path, file in orphans(self.folder):
            replayed, size = 0, os.fstat(file).st_size
            while replayed < size and (lines := read_lines(file, replayed, size)):
                rows += self._replay(lines)
                replayed += len(lines)
            path.unlink(missing_ok=True)
        return rows

    def _replay(self, lines: bytes) -> int:
        replayed = 0
        for line in lines.splitlines():
            kind, _, rows = json.loads(line)
            try:
                self._write_to_store(kind, rows)
            except StoreDownError:
                raise
            except RecsysError:
                logger.exception("%d %s of %s were refused on replay", len(rows), kind, self.folder)
            replayed += len(rows)
        return replayed
