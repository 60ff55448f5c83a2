"""The live event log in one SQLite file: what shoppers did, what they were shown, and what could
not be used."""

from __future__ import annotations

import json
import secrets
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa

from recsys.errors import InputError
from recsys.events.rows import digest_under, impressions_of, interactions_of, microseconds, moment
from recsys.interfaces import Appended, LogState
from recsys.tables import NUMBERED_EVENTS
from recsys.types import Impression, Interaction, PrivacyState

Row = TypeVar("Row", Interaction, Impression)

PAGE_ROWS = 10_000
#: Rows that stay in the file after they went to an archive.
KEPT, KEPT_FOR = {"interactions": 100_000, "impressions": 1_000}, timedelta(days=7)
#: As `counts` and `traces` name the tables.
_COUNTED = {
    "interactions": "interactions",
    "impressions": "impressions",
    "quarantined": "quarantine",
}
_EVENT = "event_id, user_id, item_id, type, time, request_id, quantity, price, origin"
_IMPRESSION = (
    "request_id, time, release, surface, item_ids, feature_names, features, user_id, query, place, scores, "
    "propensities, teams, ranker, arms, asked"
)
_TABLES = """
CREATE TABLE IF NOT EXISTS interactions (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT, event_id TEXT NOT NULL UNIQUE, user_id TEXT NOT NULL,
    item_id TEXT NOT NULL, type TEXT NOT NULL, time INTEGER NOT NULL, request_id TEXT, quantity REAL, price REAL,
    origin TEXT);
CREATE INDEX IF NOT EXISTS interactions_of_user ON interactions (user_id, time);
CREATE TABLE IF NOT EXISTS impressions (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT, request_id TEXT NOT NULL UNIQUE, time INTEGER NOT NULL,
    release TEXT NOT NULL, surface TEXT NOT NULL, item_ids TEXT NOT NULL, feature_names TEXT NOT NULL,
    features BLOB NOT NULL, user_id TEXT, query TEXT, place INTEGER NOT NULL DEFAULT 0,
    scores TEXT NOT NULL DEFAULT '[]', propensities TEXT NOT NULL DEFAULT '[]', teams TEXT NOT NULL DEFAULT '[]',
    ranker TEXT NOT NULL DEFAULT '', arms TEXT NOT NULL DEFAULT '{}', asked TEXT NOT NULL DEFAULT '{}');
CREATE INDEX IF NOT EXISTS impressions_of_user ON impressions (user_id) WHERE user_id IS NOT NULL;
CREATE TABLE IF NOT EXISTS quarantine (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT, reason TEXT NOT NULL, event TEXT NOT NULL, user_id TEXT);
CREATE TABLE IF NOT EXISTS standings (
    digest TEXT PRIMARY KEY, forgotten INTEGER, opted_out INTEGER NOT NULL DEFAULT 0);
CREATE TABLE IF NOT EXISTS keys (name TEXT PRIMARY KEY, value BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS archived (name TEXT PRIMARY KEY, sequence INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS leases (name TEXT PRIMARY KEY, token TEXT NOT NULL, until REAL NOT NULL);
"""
#: Whom the rows of earlier versions name.
_NAMED = "UPDATE quarantine SET user_id = json_extract(event, '$.user_id') WHERE user_id IS NULL AND json_valid(event)"
#: Columns that logs of earlier versions lack.
_ADDED = {
    "interactions": {"origin": "TEXT"},
    "quarantine": {"user_id": "TEXT"},
    "impressions": {
        "place": "INTEGER NOT NULL DEFAULT 0",
        **dict.fromkeys(("scores", "propensities", "teams"), "TEXT NOT NULL DEFAULT '[]'"),
        "ranker": "TEXT NOT NULL DEFAULT ''",
        **dict.fromkeys(("arms", "asked"), "TEXT NOT NULL DEFAULT '{}'"),
    },
}


class SqliteEventStore:
    """An `EventStore` in the file `path`, for every process of one host; made anew when it is not
    there.

    An impression whose `request_id` is there already is skipped: a write may be tried again. Raises
    InputError when `path` is not such a file. The factory is `partial(SqliteEventStore, path)`."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._local = threading.local()
        self._connections: list[sqlite3.Connection] = []
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._connection().executescript(f"BEGIN IMMEDIATE; {_TABLES} COMMIT;")
            self._upgrade()
            self._key = self._own_key()
        except (sqlite3.DatabaseError, OSError) as error:
            self.close()
            raise InputError(
                f"{path} cannot be opened as an event log ({error}): give a new path or one"
            ) from error

    def append(self, interactions: Sequence[Interaction]) -> Appended:
        allowed, dropped = self._allowed(interactions)
        rows = [
            (
                e.event_id,
                e.user_id,
                e.item_id,
                e.type,
                microseconds(e.time),
                e.request_id,
                e.quantity,
                e.price,
                e.origin,
            )
            for e in allowed
        ]
        accepted = self._insert("interactions", _EVENT, rows, "ON CONFLICT (event_id) DO NOTHING")
        return Appended(accepted, len(rows) - accepted, dropped)

    def append_impressions(self, impressions: Sequence[Impression]) -> None:
        rows = [
            (
                i.request_id, microseconds(i.time), i.release, i.surface, _json(i.item_ids), _json(i.feature_names),
                np.asarray(i.features, np.float32).tobytes(), i.user_id, i.query, i.offset, _json(i.scores),
                _json(i.propensities), _json(i.teams), i.ranker, _json(dict(i.arms)), _json(dict(i.asked)),
            )
            for i in self._allowed(impressions)[0]
        ]  # fmt: skip
        self._insert("impressions", _IMPRESSION, rows, "ON CONFLICT (request_id) DO NOTHING")

    def quarantine(self, rows: Sequence[tuple[str, dict[str, Any]]]) -> None:
        printable = [
            (_printable(reason), json.dumps(event, default=str), _printable(event.get("user_id")))
            for reason, event in rows
        ]
        self._insert("quarantine", "reason, event, user_id", printable)

    def recent(self, user_id: str, after: datetime, limit: int) -> list[Interaction]:
        query = f"SELECT {_EVENT} FROM interactions WHERE user_id = ? AND time > ?"
        newest_first = self._connection().execute(
            f"{query} ORDER BY time DESC, sequence DESC LIMIT ?",
            (user_id, microseconds(after), max(limit, 0)),
        )
        return [
            Interaction(
                event_id=event,
                user_id=user,
                item_id=item,
                type=kind,
                time=moment(at),
                request_id=request,
                quantity=quantity,
                price=price,
                origin=origin,
            )
            for event, user, item, kind, at, request, quantity, price, origin in reversed(
                newest_first.fetchall()
            )
        ]

    def last_sequence(self) -> int:
        return self._last("interactions")

    def last_impression(self) -> int:
        return self._last("impressions")

    def interactions(self, until_sequence: int, after: int = 0) -> Iterator[pa.RecordBatch]:
        return interactions_of(self, until_sequence, after)

    def impressions(self, after: int = 0) -> Iterator[Impression]:
        return impressions_of(self, after)

    def impression(self, request_id: str) -> Impression | None:
        query = f"SELECT {_IMPRESSION}, sequence FROM impressions WHERE request_id = ?"
        row = self._connection().execute(query, (request_id,)).fetchone()
        return _impression(row) if row else None

    def counts(self) -> dict[str, int]:
        return {name: self._count(table) for name, table in _COUNTED.items()}

    def digest(self, user_id: str) -> str:
        return digest_under(self._key, user_id)

    def hasher(self) -> Callable[[str], str]:
        return partial(digest_under, self._key)

    def standing(self, user_id: str) -> PrivacyState:
        query = "SELECT forgotten, opted_out FROM standings WHERE digest = ?"
        row = self._connection().execute(query, (self.digest(user_id),)).fetchone()
        return _standing(*row) if row else PrivacyState()

    def set_standing(self, user_id: str, standing: PrivacyState) -> None:
        forgotten = None if standing.forgotten is None else microseconds(standing.forgotten)
        row = self.digest(user_id), forgotten, standing.opted_out
        update = "ON CONFLICT (digest) DO UPDATE SET forgotten = excluded.forgotten, opted_out = excluded.opted_out"
        self._insert("standings", "digest, forgotten, opted_out", [row], update)

    def standings(self) -> dict[str, PrivacyState]:
        rows = self._connection().execute("SELECT digest, forgotten, opted_out FROM standings")
        return {digest: _standing(forgotten, opted_out) for digest, forgotten, opted_out in rows}

    def forget(self, user_id: str) -> dict[str, int]:
        with self._transaction() as connection:
            connection.execute(
                "PRAGMA secure_delete = ON"
            )  # what is deleted is overwritten in the file, too
            gone = {
                name: self._count(table, "user_id = ?", user_id) for name, table in _COUNTED.items()
            }
            for table in _COUNTED.values():
                connection.execute(f"DELETE FROM {table} WHERE user_id = ?", (user_id,))
        self._connection().execute(
            "PRAGMA wal_checkpoint(TRUNCATE)"
        )  # the write-ahead file still holds the rows
        return gone

    def traces(self, user_id: str) -> dict[str, int]:
        return {
            name: self._count(table, "user_id = ?", user_id) for name, table in _COUNTED.items()
        }

    def state(self) -> LogState:
        return LogState()

    def close(self) -> None:
        while self._connections:
            self._connections.pop().close()
        self._local = threading.local()

    # What an archive needs

    def archived(self) -> tuple[int, int]:
        return self._mark("interactions"), self._mark("impressions")

    def page(self, until: int, after: int) -> tuple[int, pa.RecordBatch]:
        rows = self._rows("interactions", _EVENT, until, after)
        columns = list(zip(*rows, strict=True))[1:] or [()] * len(NUMBERED_EVENTS)
        arrays = [pa.array(values) for values in columns]
        cast = [
            array.cast(field.type) for array, field in zip(arrays, NUMBERED_EVENTS, strict=True)
        ]
        mark = rows[0][0] if rows else self._mark("interactions")
        return mark, pa.RecordBatch.from_arrays(cast, schema=NUMBERED_EVENTS)

    def shown(self, after: int) -> tuple[int, list[Impression]]:
        rows = self._rows("impressions", _IMPRESSION, self.last_impression(), after, 200)
        mark = rows[0][0] if rows else self._mark("impressions")
        return mark, [_impression((*row[2:], row[1])) for row in rows]

    def acknowledge(self, interactions: int, impressions: int) -> None:
        """The file keeps KEPT acknowledged rows and those of the last week, for `recent` and to
        know them again."""
        old = microseconds(datetime.now(UTC) - KEPT_FOR)
        with self._transaction() as connection:
            for table, until in (("interactions", interactions), ("impressions", impressions)):
                row = "INSERT INTO archived (name, sequence) VALUES (?, ?) ON CONFLICT (name) DO UPDATE"
                connection.execute(
                    f"{row} SET sequence = max(sequence, excluded.sequence)", (table, until)
                )
                later = "UPDATE sqlite_sequence SET seq = max(seq, ?) WHERE name = ?"
                if not connection.execute(later, (until, table)).rowcount:
                    connection.execute(
                        "INSERT INTO sqlite_sequence (name, seq) VALUES (?, ?)", (table, until)
                    )
            gone = "DELETE FROM interactions WHERE sequence <= ? AND time < ?"
            connection.execute(gone, (interactions - KEPT["interactions"], old))
            connection.execute(
                "DELETE FROM impressions WHERE sequence <= ?", (impressions - KEPT["impressions"],)
            )

    def remembered(self, user_id: str) -> int:
        rows = "SELECT count(*) FROM interactions WHERE user_id = ? AND sequence <= ?"
        return int(
            self._connection().execute(rows, (user_id, self._mark("interactions"))).fetchone()[0]
        )

    def lease(self, token: str, seconds: float) -> bool:
        now = time.time()
        take = "INSERT INTO leases (name, token, until) VALUES ('drain', ?, ?) ON CONFLICT (name) DO UPDATE SET"
        where = "token = excluded.token, until = excluded.until WHERE token = excluded.token OR until < ?"
        with self._transaction() as connection:
            return connection.execute(f"{take} {where}", (token, now + seconds, now)).rowcount > 0

    def release(self, token: str) -> None:
        with self._transaction() as connection:
            connection.execute("DELETE FROM leases WHERE token = ?", (token,))

    def _mark(self, table: str) -> int:
        query = "SELECT coalesce(max(sequence), 0) FROM archived WHERE name = ?"
        return int(self._connection().execute(query, (table,)).fetchone()[0])

    def _count(self, table: str, where: str = "true", *values: Any) -> int:
        query = f"SELECT count(*) FROM {table} WHERE sequence > ? AND {where}"
        return int(self._connection().execute(query, (self._mark(table), *values)).fetchone()[0])

    def _own_key(self) -> bytes:
        """Made once, at random, by whoever opens the file first."""
        self._insert(
            "keys",
            "name, value",
            [("digest", secrets.token_bytes(32))],
            "ON CONFLICT (name) DO NOTHING",
        )
        return bytes(
            self._connection().execute("SELECT value FROM keys WHERE name = 'digest'").fetchone()[0]
        )

    def _allowed(self, rows: Sequence[Row]) -> tuple[list[Row], int]:
        """Without what its user's standing rules out, and how many that are."""
        standings = {
            user: self.standing(user) for user in {row.user_id for row in rows} if user is not None
        }
        kept = [
            row for row in rows if row.user_id is None or standings[row.user_id].allows(row.time)
        ]
        return kept, len(rows) - len(kept)

    def _last(self, table: str) -> int:
        return int(
            self._connection()
            .execute(f"SELECT coalesce(max(sequence), 0) FROM {table}")
            .fetchone()[0]
        )

    def _connection(self) -> sqlite3.Connection:
        """This thread's connection."""
        if not hasattr(self._local, "connection"):
            # isolation_level=None: transactions begin and end where we say; closing happens from
            # another thread.
            connection = sqlite3.connect(
                self.path, timeout=30, isolation_level=None, check_same_thread=False
            )
            self._connections.append(connection)
            _write_ahead(connection)
            connection.execute("PRAGMA synchronous = FULL")
            self._local.connection = connection
        return self._local.connection

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        connection = self._connection()
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield connection
            connection.execute("COMMIT")
        except BaseException:
            connection.execute("ROLLBACK")
            raise

    def _insert(
        self, table: str, columns: str, rows: Sequence[tuple[Any, ...]], conflict: str = ""
    ) -> int:
        """The number of rows that are new."""
        places = ", ".join("?" * len(columns.split(",")))
        try:
            with self._transaction() as connection:
                insert = f"INSERT INTO {table} ({columns}) VALUES ({places}) {conflict}"
                return connection.executemany(insert, rows).rowcount if rows else 0
        except (sqlite3.IntegrityError, UnicodeEncodeError) as error:
            raise InputError(
                f"none of {len(rows)} {table} was written ({error}): check them first"
            ) from error

    def _upgrade(self) -> None:
        """Adds what the tables of an earlier version lack; several processes may open such a file
        at once."""
        with self._transaction() as connection:
            for table, added in _ADDED.items():
                there = {row[1] for row in connection.execute(f"PRAGMA table_info({table})")}
                for name, kind in added.items():
                    if name not in there:
                        connection.execute(f"ALTER TABLE {table} ADD COLUMN {name} {kind}")
                        if table == "quarantine":
                            connection.execute(_NAMED)

    def _rows(
        self, table: str, columns: str, until: int, after: int, most: int = PAGE_ROWS
    ) -> list[tuple[Any, ...]]:
        """(what is archived, sequence, columns) in order of arrival. No read transaction stays open
        between two calls, so the log can be checkpointed."""
        mark = "(SELECT coalesce(max(sequence), 0) FROM archived WHERE name = ?)"
        where = f"sequence > max(?, {mark}) AND sequence <= ? ORDER BY sequence LIMIT ?"
        query = f"SELECT {mark}, sequence, {columns} FROM {table} WHERE {where}"
        return self._connection().execute(query, (table, after, table, until, most)).fetchall()


def _write_ahead(connection: sqlite3.Connection) -> None:
    """Switches the file to WAL. SQLite does not wait its busy timeout here: of processes that open
    a new file at once all but one are told at once that it is locked."""
    for patience in range(600, -1, -1):
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if patience == 0 or "locked" not in str(error):
                raise
            time.sleep(0.05)


def _standing(forgotten: int | None, opted_out: int) -> PrivacyState:
    return PrivacyState(None if forgotten is None else moment(forgotten), bool(opted_out))


def _printable(value: Any) -> str | None:
    return None if value is None else str(value).encode("utf-8", "replace").decode()


def _impression(row: tuple[Any, ...]) -> Impression:
    (
        request,
        at,
        release,
        surface,
        items,
        names,
        features,
        user,
        query,
        place,
        scores,
        chances,
        teams,
        *rest,
    ) = row
    ranker, arms, asked, sequence = rest
    items, names = tuple(json.loads(items)), tuple(json.loads(names))
    if isinstance(features, str):  # as earlier versions wrote them
        features = np.asarray(json.loads(features), np.float32).tobytes()
    values_NF = np.frombuffer(features, np.float32).reshape(-1, max(1, len(names)))
    return Impression(
        request_id=request, time=moment(at), release=release, surface=surface, item_ids=items, feature_names=names, features=tuple(map(tuple, values_NF.tolist())), user_id=user, query=query,
        offset=place, scores=tuple(json.loads(scores)), propensities=tuple(json.loads(chances)), teams=tuple(json.loads(teams)), ranker=ranker,
        arms=json.loads(arms), asked=json.loads(asked), sequence=sequence,
    )  # fmt: skip


def _json(values: Any) -> str:
    return json.dumps(values, default=float)  # numpy's float32 is no Python float
