"""The live event log in one SQLite file: interactions, impressions, quarantine, and what users
decided about their data."""

from __future__ import annotations

import json
import secrets
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa

from recsys.errors import InputError
from recsys.events.codec import (
    keyed_digest,
    read_impressions,
    read_interactions,
    to_microseconds,
)
from recsys.events.sqlite_database import SqliteDatabase
from recsys.events.sqlite_schema import (
    IMPRESSION,
    INTERACTION,
    create_tables,
    impression_of,
    impression_row,
    interaction_of,
    interaction_row,
    privacy_state_of,
)
from recsys.interfaces import AppendResult, LogPosition, LogState, UserEvents
from recsys.tables import NUMBERED_EVENTS
from recsys.types import Impression, Interaction, PrivacyState

Row = TypeVar("Row", Interaction, Impression)

PAGE_ROWS, PAGE_IMPRESSIONS = 10_000, 200
#: Rows that stay in the file after they went to an archive.
KEEP_ROWS, KEEP_FOR = LogPosition(interactions=100_000, impressions=1_000), timedelta(days=7)
#: Tables by the names that `counts` and `traces` give them.
_TABLES = {
    "interactions": "interactions",
    "impressions": "impressions",
    "quarantined": "quarantine",
}
_ARCHIVED = "(SELECT coalesce(max(sequence), 0) FROM archived WHERE name = ?)"


class SqliteEventStore:
    """An `EventStore` in the file `path`, which is made when it is missing, for every process of
    one host.

    Raises InputError when `path` is no such file. The factory is
    `partial(SqliteEventStore, path)`."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.database = SqliteDatabase(self.path)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            create_tables(self.database)
            self._key = self._read_key()
        except (sqlite3.DatabaseError, OSError) as error:
            self.close()
            raise InputError(
                f"{path} cannot be opened as an event log ({error}): give a new path or one"
            ) from error

    # The log

    def append(self, interactions: Sequence[Interaction]) -> AppendResult:
        rows = [interaction_row(event) for event in self._permitted(interactions)]
        accepted = self.database.insert(
            "interactions", INTERACTION, rows, "ON CONFLICT (event_id) DO NOTHING"
        )
        return AppendResult(accepted, len(rows) - accepted, len(interactions) - len(rows))

    def append_impressions(self, impressions: Sequence[Impression]) -> None:
        rows = [impression_row(each) for each in self._permitted(impressions)]
        self.database.insert("impressions", IMPRESSION, rows, "ON CONFLICT (request_id) DO NOTHING")

    def user_events(self, user_id: str, after: datetime, limit: int) -> UserEvents:
        newest_first = (
            f"SELECT {INTERACTION} FROM interactions WHERE user_id = ? AND time > ? "
            "ORDER BY time DESC, sequence DESC LIMIT ?"
        )
        with self.database.transaction("DEFERRED"):
            state = self.privacy_state(user_id)
            rows = self.database.rows(newest_first, user_id, to_microseconds(after), max(limit, 0))
        return UserEvents(state, [interaction_of(row) for row in reversed(rows)])

    def interactions(self, until_sequence: int, after: int = 0) -> Iterator[pa.RecordBatch]:
        return read_interactions(self, until_sequence, after)

    def impressions(self, after: int = 0) -> Iterator[Impression]:
        return read_impressions(self, after)

    def impression(self, request_id: str) -> Impression | None:
        query = f"SELECT sequence, {IMPRESSION} FROM impressions WHERE request_id = ?"
        rows = self.database.rows(query, request_id)
        return impression_of(rows[0][1:], rows[0][0]) if rows else None

    def end(self) -> LogPosition:
        last = "(SELECT coalesce(max(sequence), 0) FROM {})"
        query = f"SELECT {last.format('interactions')}, {last.format('impressions')}"
        return LogPosition(*self.database.rows(query)[0])

    def counts(self) -> dict[str, int]:
        return {name: self._count(table) for name, table in _TABLES.items()}

    def state(self) -> LogState:
        return LogState()

    def drain(self) -> int:
        return 0

    def close(self) -> None:
        self.database.close()

    # Quarantine and privacy

    def quarantine(self, rows: Sequence[tuple[str, dict[str, Any]]]) -> None:
        printable = [
            (_printable(reason), json.dumps(event, default=str), _printable(event.get("user_id")))
            for reason, event in rows
        ]
        self.database.insert("quarantine", "reason, event, user_id", printable)

    def digest(self, user_id: str) -> str:
        return keyed_digest(self._key, user_id)

    def hasher(self) -> Callable[[str], str]:
        return partial(keyed_digest, self._key)

    def privacy_state(self, user_id: str) -> PrivacyState:
        query = "SELECT forgotten, opted_out FROM standings WHERE digest = ?"
        rows = self.database.rows(query, self.digest(user_id))
        return privacy_state_of(*rows[0]) if rows else PrivacyState()

    def set_privacy_state(self, user_id: str, state: PrivacyState) -> None:
        forgotten = None if state.forgotten is None else to_microseconds(state.forgotten)
        self.database.insert(
            "standings",
            "digest, forgotten, opted_out",
            [(self.digest(user_id), forgotten, state.opted_out)],
            "ON CONFLICT (digest) DO UPDATE SET "
            "forgotten = excluded.forgotten, opted_out = excluded.opted_out",
        )

    def privacy_states(self) -> dict[str, PrivacyState]:
        rows = self.database.rows("SELECT digest, forgotten, opted_out FROM standings")
        return {digest: privacy_state_of(*columns) for digest, *columns in rows}

    def forget(self, user_id: str) -> dict[str, int]:
        with self.database.transaction() as connection:
            # what is deleted is overwritten in the file, too
            connection.execute("PRAGMA secure_delete = ON")
            deleted = self.traces(user_id)
            for table in _TABLES.values():
                connection.execute(f"DELETE FROM {table} WHERE user_id = ?", (user_id,))
        # the write-ahead file still holds the rows
        self.database.connection().execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return deleted

    def traces(self, user_id: str) -> dict[str, int]:
        return {name: self._count(table, "user_id = ?", user_id) for name, table in _TABLES.items()}

    # For an archive

    def archived(self) -> LogPosition:
        query = f"SELECT {_ARCHIVED}, {_ARCHIVED}"
        return LogPosition(*self.database.rows(query, "interactions", "impressions")[0])

    def interaction_page(self, until: int, after: int) -> tuple[int, pa.RecordBatch]:
        archived, rows = self._page("interactions", INTERACTION, until, after, PAGE_ROWS)
        columns = list(zip(*rows, strict=True)) or [()] * len(NUMBERED_EVENTS)
        arrays = [
            pa.array(values).cast(field.type)
            for values, field in zip(columns, NUMBERED_EVENTS, strict=True)
        ]
        return archived, pa.RecordBatch.from_arrays(arrays, schema=NUMBERED_EVENTS)

    def impression_page(self, after: int) -> tuple[int, list[Impression]]:
        until = self.end().impressions
        archived, rows = self._page("impressions", IMPRESSION, until, after, PAGE_IMPRESSIONS)
        return archived, [impression_of(columns, sequence) for sequence, *columns in rows]

    def acknowledge(self, position: LogPosition) -> None:
        """Deletes acknowledged rows but KEEP_ROWS of each kind and the interactions of the last
        week: `user_events` and the detection of duplicates need them."""
        old = to_microseconds(datetime.now(UTC) - KEEP_FOR)
        with self.database.transaction() as connection:
            for table, until in vars(position).items():
                connection.execute(
                    "INSERT INTO archived (name, sequence) VALUES (?, ?) ON CONFLICT (name) "
                    "DO UPDATE SET sequence = max(sequence, excluded.sequence)",
                    (table, until),
                )
                _raise_last_sequence(connection, table, until)
            connection.execute(
                "DELETE FROM interactions WHERE sequence <= ? AND time < ?",
                (position.interactions - KEEP_ROWS.interactions, old),
            )
            connection.execute(
                "DELETE FROM impressions WHERE sequence <= ?",
                (position.impressions - KEEP_ROWS.impressions,),
            )

    def user_event_count(self, user_id: str) -> int:
        query = f"SELECT count(*) FROM interactions WHERE sequence <= {_ARCHIVED} AND user_id = ?"
        return self.database.number(query, "interactions", user_id)

    def acquire_lease(self, token: str, seconds: float) -> bool:
        now = time.time()
        statement = (
            "INSERT INTO leases (name, token, until) VALUES ('drain', ?, ?) "
            "ON CONFLICT (name) DO UPDATE SET token = excluded.token, until = excluded.until "
            "WHERE token = excluded.token OR until < ?"
        )
        with self.database.transaction() as connection:
            return connection.execute(statement, (token, now + seconds, now)).rowcount > 0

    def release_lease(self, token: str) -> None:
        with self.database.transaction() as connection:
            connection.execute("DELETE FROM leases WHERE token = ?", (token,))

    def _page(
        self, table: str, columns: str, until: int, after: int, limit: int
    ) -> tuple[int, list[tuple[Any, ...]]]:
        """The number up to which the table is archived, and (sequence, columns) of the rows after
        that and `after`, in order of arrival: read by one statement."""
        query = (
            f"SELECT {_ARCHIVED}, sequence, {columns} FROM {table} "
            f"WHERE sequence > max(?, {_ARCHIVED}) AND sequence <= ? ORDER BY sequence LIMIT ?"
        )
        values = table, after, table, until, limit
        rows = self.database.rows(query, *values)
        archived = rows[0][0] if rows else self.database.number(f"SELECT {_ARCHIVED}", table)
        return archived, [row[1:] for row in rows]

    def _count(self, table: str, where: str = "true", *values: Any) -> int:
        """Rows that are not archived."""
        query = f"SELECT count(*) FROM {table} WHERE sequence > {_ARCHIVED} AND {where}"
        return self.database.number(query, table, *values)

    def _permitted(self, rows: Sequence[Row]) -> list[Row]:
        """Without what the privacy state of a row's user rules out."""
        users = {row.user_id for row in rows if row.user_id is not None}
        states = {user: self.privacy_state(user) for user in users}
        return [row for row in rows if row.user_id is None or states[row.user_id].allows(row.time)]

    def _read_key(self) -> bytes:
        """Made once, at random, by whoever opens the file first."""
        fresh = ("digest", secrets.token_bytes(32))
        self.database.insert("keys", "name, value", [fresh], "ON CONFLICT (name) DO NOTHING")
        return bytes(self.database.rows("SELECT value FROM keys WHERE name = 'digest'")[0][0])


def _raise_last_sequence(connection: sqlite3.Connection, table: str, until: int) -> None:
    """The next row of the table is numbered above `until`, also in a new file beside an old
    archive."""
    raised = connection.execute(
        "UPDATE sqlite_sequence SET seq = max(seq, ?) WHERE name = ?", (until, table)
    )
    if not raised.rowcount:
        connection.execute("INSERT INTO sqlite_sequence (name, seq) VALUES (?, ?)", (table, until))


def _printable(value: Any) -> str | None:
    return None if value is None else str(value).encode("utf-8", "replace").decode()
