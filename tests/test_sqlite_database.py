"""One SQLite file for many threads and processes: who waits, what is rolled back."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from recsys.errors import InputError
from recsys.events import sqlite_database
from recsys.events.sqlite_database import SqliteDatabase


class LockedConnection:
    """Fails `failures` times with `message`."""

    def __init__(self, failures: int, message: str = "database is locked") -> None:
        self.failures, self.message = failures, message
        self.statements: list[str] = []

    def execute(self, statement: str) -> None:
        self.statements.append(statement)
        if len(self.statements) <= self.failures:
            raise sqlite3.OperationalError(self.message)


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    seconds: list[float] = []
    monkeypatch.setattr(sqlite_database.time, "sleep", seconds.append)
    return seconds


def switch_to_wal(connection: LockedConnection) -> None:
    sqlite_database._switch_to_wal(connection)  # type: ignore[arg-type]


def test_a_new_file_that_others_open_at_once_is_waited_for(pauses: list[float]) -> None:
    connection = LockedConnection(3)
    switch_to_wal(connection)
    assert connection.statements == ["PRAGMA journal_mode = WAL"] * 4
    assert pauses == [0.05] * 3
    switch_to_wal(LockedConnection(600))


def test_a_file_that_stays_locked_for_half_a_minute_is_an_error(pauses: list[float]) -> None:
    with pytest.raises(sqlite3.OperationalError, match="locked"):
        switch_to_wal(LockedConnection(601))
    assert sum(pauses) == pytest.approx(30)


def test_another_error_is_raised_at_once(pauses: list[float]) -> None:
    with pytest.raises(sqlite3.OperationalError, match="disk I/O"):
        switch_to_wal(LockedConnection(1, "disk I/O error"))
    assert pauses == []


@pytest.fixture
def database(tmp_path: Path) -> SqliteDatabase:
    database = SqliteDatabase(tmp_path / "file.sqlite")
    database.connection().execute("CREATE TABLE pairs (a INTEGER NOT NULL UNIQUE, b TEXT)")
    return database


def test_an_insert_says_how_many_rows_are_new(database: SqliteDatabase) -> None:
    rows = [(1, "x"), (2, "y")]
    assert database.insert("pairs", "a, b", []) == 0
    assert database.insert("pairs", "a, b", rows) == 2
    more = [*rows, (3, "z")]
    assert database.insert("pairs", "a, b", more, "ON CONFLICT (a) DO NOTHING") == 1
    assert database.number("SELECT count(*) FROM pairs WHERE b > ?", "x") == 2
    database.close()


def test_all_rows_are_written_or_none(database: SqliteDatabase) -> None:
    for bad in ((1, "again"), (None, "null"), (2, "\ud800")):
        with pytest.raises(InputError, match="none of 2 pairs was written"):
            database.insert("pairs", "a, b", [(1, "x"), bad])
        assert database.rows("SELECT * FROM pairs") == []
    database.close()


def test_what_a_transaction_wrote_is_rolled_back_where_it_raises(database: SqliteDatabase) -> None:
    def interrupted() -> None:
        with database.transaction() as connection:
            connection.execute("INSERT INTO pairs VALUES (1, 'x')")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    with database.transaction() as connection:
        connection.execute("INSERT INTO pairs VALUES (2, 'y')")
    assert database.rows("SELECT a FROM pairs") == [(2,)]
    database.close()


def test_a_commit_is_on_the_disk_when_it_returns(database: SqliteDatabase) -> None:
    assert database.rows("PRAGMA journal_mode") == [("wal",)]
    assert database.rows("PRAGMA synchronous") == [(2,)]  # FULL
    database.close()


def test_a_closed_database_opens_again(database: SqliteDatabase) -> None:
    database.insert("pairs", "a, b", [(1, "x")])
    database.close()
    assert database.rows("SELECT a FROM pairs") == [(1,)]
    database.close()
