"""Shifts the live event log into the past: simulated days take minutes, and between two of them all
recorded times move back by one day.

Windows that count by day then see the simulated days, while every clock stays the real one."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

_MICROSECONDS_A_DAY = 86_400_000_000


def shift_times(path: Path, days: float = 1.0) -> None:
    """Moves all times in an event log (`events.SqliteEventStore`) back; the shop may go on writing
    meanwhile.

    Call it after a night: what came before is then in the release, and no longer new to it."""
    shift = round(days * _MICROSECONDS_A_DAY)
    with closing(sqlite3.connect(path, timeout=30)) as connection, connection:
        for table in ("interactions", "impressions"):
            connection.execute(f"UPDATE {table} SET time = time - ?", (shift,))
