"""The live catalogue log in one SQLite file: a row an item, numbered by its last change."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from recsys.catalogue.changes import ChangeResult, ItemChange, ItemState, apply_changes
from recsys.errors import InputError, StoreDownError
from recsys.events.sqlite_database import SqliteDatabase
from recsys.interfaces import LogState

_TABLES = """
CREATE TABLE IF NOT EXISTS states (
    number INTEGER PRIMARY KEY, item_id TEXT NOT NULL UNIQUE, state TEXT NOT NULL);
"""
_END = "SELECT coalesce(max(number), 0) FROM states"


class SqliteCatalogueLog:
    """A `CatalogueLog` in the file `path`, which is made when it is missing, for every process of
    one host.

    Raises InputError when `path` is no such file. The factory is
    `partial(SqliteCatalogueLog, path)`."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.database = SqliteDatabase(self.path)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.database.connection().executescript(f"BEGIN IMMEDIATE; {_TABLES} COMMIT;")
        except (sqlite3.DatabaseError, OSError) as error:
            self.close()
            raise InputError(
                f"{path} cannot be opened as a catalogue log ({error}): give a new path or one"
            ) from error

    def append(
        self, changes: Sequence[ItemChange], exists: Callable[[str], bool], folded: int = 0
    ) -> list[ChangeResult]:
        """Raises InputError where a text cannot be written."""
        with _sentences(self.path), self.database.transaction() as connection:
            [(end,)] = connection.execute(_END)
            states = {change.item_id: self.state(change.item_id) for change in changes}
            after, results = apply_changes(
                states, changes, end=end, time=datetime.now(UTC), exists=exists, folded=folded
            )
            connection.executemany(
                "INSERT OR REPLACE INTO states (number, item_id, state) VALUES (?, ?, ?)",
                [(state.number, state.item_id, state.to_json()) for state in after],
            )
        return results

    def states(self, after: int = 0, limit: int | None = None) -> list[ItemState]:
        query = "SELECT state FROM states WHERE number > ? ORDER BY number LIMIT ?"
        with _sentences(self.path):
            rows = self.database.rows(query, after, -1 if limit is None else limit)
        return [ItemState.from_json(text) for (text,) in rows]

    def state(self, item_id: str) -> ItemState | None:
        with _sentences(self.path):
            rows = self.database.rows("SELECT state FROM states WHERE item_id = ?", item_id)
        return ItemState.from_json(rows[0][0]) if rows else None

    def end(self) -> int:
        with _sentences(self.path):
            return self.database.number(_END)

    def health(self) -> LogState:
        return LogState()

    def drain(self) -> int:
        return 0

    def close(self) -> None:
        self.database.close()


@contextmanager
def _sentences(path: Path) -> Iterator[None]:
    """SQLite's errors as ours."""
    try:
        yield
    except sqlite3.OperationalError as error:
        raise StoreDownError(
            f"the catalogue log {path} cannot be used now ({error}): try again"
        ) from error
    except UnicodeEncodeError as error:
        raise InputError(f"none of the changes was written ({error}): check them first") from error
