"""Simulated days take minutes: between two of them everything in the live log becomes a day older.

What the shop counts by day, it then counts as it would; and the night's own clock stays the real
one."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

_MICROSECONDS_A_DAY = 86_400_000_000


def age(path: Path, days: float = 1.0) -> None:
    """Moves every time in an event log (`events.SqliteEventStore`) back; the shop may go on writing
    meanwhile.

    Call it behind a night: what came before it is then in the release, and no longer news to it.
    """
    shift = round(days * _MICROSECONDS_A_DAY)
    with closing(sqlite3.connect(path, timeout=30)) as connection, connection:
        for table in ("interactions", "impressions"):
            connection.execute(f"UPDATE {table} SET time = time - ?", (shift,))
