"""One SQLite file for many threads and processes: connections, transactions, inserts."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from recsys.errors import InputError

#: A writer waits this long for another's transaction to end.
BUSY_TIMEOUT_S = 30.0


class SqliteDatabase:
    """The file `path` in WAL mode; a transaction is fsynced when it is committed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._local = threading.local()
        self._connections: list[sqlite3.Connection] = []

    def connection(self) -> sqlite3.Connection:
        """This thread's connection."""
        if not hasattr(self._local, "connection"):
            # isolation_level=None: transactions begin and end where we say; closing happens from
            # another thread.
            connection = sqlite3.connect(
                self.path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False
            )
            self._connections.append(connection)
            _switch_to_wal(connection)
            connection.execute("PRAGMA synchronous = FULL")
            self._local.connection = connection
        return self._local.connection

    @contextmanager
    def transaction(self, kind: str = "IMMEDIATE") -> Iterator[sqlite3.Connection]:
        """IMMEDIATE to write; DEFERRED to read several tables at one moment. Rolled back when the
        block raises."""
        connection = self.connection()
        connection.execute(f"BEGIN {kind}")
        try:
            yield connection
            connection.execute("COMMIT")
        except BaseException:
            connection.execute("ROLLBACK")
            raise

    def rows(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        """All rows of a query. No read transaction stays open after it, so the log can be
        checkpointed."""
        return self.connection().execute(query, values).fetchall()

    def number(self, query: str, *values: Any) -> int:
        """The single integer that a query yields."""
        return int(self.rows(query, *values)[0][0])

    def insert(
        self, table: str, columns: str, rows: Sequence[tuple[Any, ...]], on_conflict: str = ""
    ) -> int:
        """All rows or none; how many are new. Raises InputError where a row cannot be written."""
        marks = ", ".join("?" * len(columns.split(",")))
        try:
            with self.transaction() as connection:
                statement = f"INSERT INTO {table} ({columns}) VALUES ({marks}) {on_conflict}"
                return connection.executemany(statement, rows).rowcount if rows else 0
        except (sqlite3.IntegrityError, UnicodeEncodeError) as error:
            raise InputError(
                f"none of {len(rows)} {table} was written ({error}): check them first"
            ) from error

    def close(self) -> None:
        """The connections of all threads."""
        while self._connections:
            self._connections.pop().close()
        self._local = threading.local()


def _switch_to_wal(connection: sqlite3.Connection) -> None:
    """SQLite does not wait its busy timeout here: of processes that open a new file at once, all
    but one fail immediately with "database is locked"."""
    for attempts_left in range(600, -1, -1):
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if attempts_left == 0 or "locked" not in str(error):
                raise
            time.sleep(0.05)
