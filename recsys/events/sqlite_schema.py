"""The tables of the SQLite event log: their columns, upgrades of older files, rows as nouns and
back."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from recsys.events.codec import (
    decode_features,
    encode_features,
    from_microseconds,
    to_microseconds,
)
from recsys.events.sqlite_database import SqliteDatabase
from recsys.types import Impression, Interaction, PrivacyState

INTERACTION = "event_id, user_id, item_id, type, time, request_id, quantity, price, origin"
IMPRESSION = (
    "request_id, time, release, surface, item_ids, feature_names, features, user_id, query, "
    "place, scores, propensities, teams, ranker, arms, asked"
)
_INTERACTION_FIELDS, _IMPRESSION_FIELDS = INTERACTION.split(", "), IMPRESSION.split(", ")
_TABLES = """
CREATE TABLE IF NOT EXISTS interactions (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT, event_id TEXT NOT NULL UNIQUE,
    user_id TEXT NOT NULL, item_id TEXT NOT NULL, type TEXT NOT NULL, time INTEGER NOT NULL,
    request_id TEXT, quantity REAL, price REAL, origin TEXT);
CREATE INDEX IF NOT EXISTS interactions_of_user ON interactions (user_id, time);
CREATE TABLE IF NOT EXISTS impressions (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT, request_id TEXT NOT NULL UNIQUE,
    time INTEGER NOT NULL, release TEXT NOT NULL, surface TEXT NOT NULL, item_ids TEXT NOT NULL,
    feature_names TEXT NOT NULL, features BLOB NOT NULL, user_id TEXT, query TEXT,
    place INTEGER NOT NULL DEFAULT 0, scores TEXT NOT NULL DEFAULT '[]',
    propensities TEXT NOT NULL DEFAULT '[]', teams TEXT NOT NULL DEFAULT '[]',
    ranker TEXT NOT NULL DEFAULT '', arms TEXT NOT NULL DEFAULT '{}',
    asked TEXT NOT NULL DEFAULT '{}');
CREATE INDEX IF NOT EXISTS impressions_of_user ON impressions (user_id) WHERE user_id IS NOT NULL;
CREATE TABLE IF NOT EXISTS quarantine (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT, reason TEXT NOT NULL, event TEXT NOT NULL,
    user_id TEXT);
CREATE TABLE IF NOT EXISTS standings (
    digest TEXT PRIMARY KEY, forgotten INTEGER, opted_out INTEGER NOT NULL DEFAULT 0);
CREATE TABLE IF NOT EXISTS keys (name TEXT PRIMARY KEY, value BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS archived (name TEXT PRIMARY KEY, sequence INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS leases (
    name TEXT PRIMARY KEY, token TEXT NOT NULL, until REAL NOT NULL);
"""
#: Columns that files of earlier versions lack.
_ADDED_COLUMNS = {
    "interactions": {"origin": "TEXT"},
    "quarantine": {"user_id": "TEXT"},
    "impressions": {
        "place": "INTEGER NOT NULL DEFAULT 0",
        **dict.fromkeys(("scores", "propensities", "teams"), "TEXT NOT NULL DEFAULT '[]'"),
        "ranker": "TEXT NOT NULL DEFAULT ''",
        **dict.fromkeys(("arms", "asked"), "TEXT NOT NULL DEFAULT '{}'"),
    },
}
_FILL_QUARANTINE_USERS = (
    "UPDATE quarantine SET user_id = json_extract(event, '$.user_id') "
    "WHERE user_id IS NULL AND json_valid(event)"
)
#: Columns of an impression that hold JSON: tuples, and mappings.
_TUPLES = ("item_ids", "feature_names", "scores", "propensities", "teams")
_MAPPINGS = ("arms", "asked")


def create_tables(database: SqliteDatabase) -> None:
    """Makes the tables that are missing, and adds the columns that an earlier version's lack;
    several processes may open such a file at once."""
    database.connection().executescript(f"BEGIN IMMEDIATE; {_TABLES} COMMIT;")
    with database.transaction() as connection:
        for table, columns in _ADDED_COLUMNS.items():
            existing = {row[1] for row in connection.execute(f"PRAGMA table_info({table})")}
            for name, kind in columns.items():
                if name not in existing:
                    connection.execute(f"ALTER TABLE {table} ADD COLUMN {name} {kind}")
                    if table == "quarantine":
                        connection.execute(_FILL_QUARANTINE_USERS)


def interaction_row(event: Interaction) -> tuple[Any, ...]:
    """Values of the columns INTERACTION."""
    return tuple(
        to_microseconds(event.time) if name == "time" else getattr(event, name)
        for name in _INTERACTION_FIELDS
    )


def interaction_of(row: Sequence[Any]) -> Interaction:
    """The inverse of `interaction_row`."""
    fields = dict(zip(_INTERACTION_FIELDS, row, strict=True))
    return Interaction(**{**fields, "time": from_microseconds(fields["time"])})


def impression_row(impression: Impression) -> tuple[Any, ...]:
    """Values of the columns IMPRESSION."""
    fields = {
        **vars(impression),
        "time": to_microseconds(impression.time),
        "features": encode_features(impression),
        "place": impression.offset,
        "feature_names": impression.features.names,
        "asked": impression.parameters,
    }
    fields |= {name: _json(fields[name]) for name in _TUPLES}
    fields |= {name: _json(dict(fields[name])) for name in _MAPPINGS}
    return tuple(fields[name] for name in _IMPRESSION_FIELDS)


def impression_of(row: Sequence[Any], sequence: int) -> Impression:
    """The inverse of `impression_row`."""
    fields = dict(zip(_IMPRESSION_FIELDS, row, strict=True))
    fields |= {name: tuple(json.loads(fields[name])) for name in _TUPLES}
    fields |= {name: json.loads(fields[name]) for name in _MAPPINGS}
    features = fields["features"]
    if isinstance(features, str):  # as earlier versions wrote them
        features = np.asarray(json.loads(features), np.float32).tobytes()
    fields["features"] = decode_features(features, fields.pop("feature_names"))
    fields["parameters"] = fields.pop("asked")
    fields["time"] = from_microseconds(fields["time"])
    return Impression(offset=fields.pop("place"), **fields, sequence=sequence)


def privacy_state_of(forgotten: int | None, opted_out: int) -> PrivacyState:
    """From the columns of `standings`."""
    return PrivacyState(
        None if forgotten is None else from_microseconds(forgotten), bool(opted_out)
    )


def _json(values: Any) -> str:
    return json.dumps(values, default=float)  # numpy's float32 is no Python float
