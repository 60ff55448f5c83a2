"""Messages of a stream of changes as the rows that `validation.read_changes` judges.

Two forms are read: Debezium's envelopes, with `payload` around them or not, and plain rows, also
those that Debezium's own unwrapping makes."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from recsys.catalogue.validation import CONTROLS, WINDOWS, allowed_fields
from recsys.datasets.choices import CatalogueChoices

#: What Debezium writes for a large value that did not change and that the database did not log.
UNAVAILABLE = "__debezium_unavailable_value"
#: Of a message: no item is as large.
MOST_BYTES = 4 << 20
_OPERATIONS = {"c": "write", "u": "write", "r": "write", "d": "delete"}
#: Of the source's time of a change, finest first, and its microseconds.
_TIMES = (("ts_ns", 0.001), ("ts_us", 1.0), ("ts_ms", 1000.0))
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
#: Of the year 2100: beyond lies no time, but another unit.
_LATEST = 4.1e15


@dataclass(frozen=True, kw_only=True)
class Message:
    """One message at its place in a stream. `time` is when the broker got it; a `value` of None
    says that nothing is left under this key."""

    partition: str
    offset: str
    value: bytes | None
    key: bytes | None = None
    time: datetime | None = None

    @property
    def place(self) -> str:
        return f"{self.partition}@{self.offset}"


class PoisonError(Exception):
    """A message that says no change of an item, and why."""


@dataclass(frozen=True, kw_only=True)
class MessageReading:
    """How messages are read: whether a row that does not say it is a whole item (put) or some of
    its fields (patch), and which of the source's columns is which field. Columns that are neither
    named here nor a field's name are left out."""

    write: Literal["put", "patch"]
    columns: Mapping[str, str] = field(default_factory=dict)
    choices: CatalogueChoices = field(default_factory=CatalogueChoices)

    def names(self, columns: Iterable[str]) -> dict[str, str]:
        """Of those of the source's columns that are used, the fields."""
        mapped = {theirs: ours for ours, theirs in self.columns.items()}
        own = {*allowed_fields(self.choices), *WINDOWS, *CONTROLS} - set(self.columns)
        names = {name: mapped.get(name, name) for name in columns}
        return {theirs: ours for theirs, ours in names.items() if theirs in mapped or ours in own}


def read_message(message: Message, reading: MessageReading) -> dict[str, Any] | None:
    """The row of a message; None where it changes nothing: a tombstone, an empty heartbeat.

    Raises PoisonError."""
    if message.value is None:
        return None
    if len(message.value) > MOST_BYTES:
        raise PoisonError(f"the message has {len(message.value):,} bytes: send {MOST_BYTES:,}")
    content = _object(message.value, "the message")
    content = content["payload"] if isinstance(content.get("payload"), dict) else content
    if not content:
        return None
    if "op" in content and ("before" in content or "after" in content or "source" in content):
        return _read_envelope(content, message, reading)
    return _read_plain(content, message, reading)


def _read_envelope(
    envelope: Mapping[str, Any], message: Message, reading: MessageReading
) -> dict[str, Any]:
    if (operation := _OPERATIONS.get(str(envelope["op"]))) is None:
        raise PoisonError(
            f"op is {envelope['op']!r}: c, u, r and d are changes of a row; after a truncation "
            "delete items one by one"
        )
    side = "before" if operation == "delete" else "after"
    row = envelope.get(side) or {}
    if not isinstance(row, dict) or not (row or operation == "delete"):
        raise PoisonError(f"{side} is {row!r}: give the row's columns")
    version = _source_time(envelope)
    controls = {"updated_at": version.isoformat()} if version else {}
    if operation == "delete":
        return {"op": "delete", "item_id": _item_id(row, message, reading), **controls}
    fields = _fields(row, reading)
    # What stands beside a value that is not there is no whole item.
    write = "patch" if UNAVAILABLE in row.values() else reading.write
    item_id = _item_id(row, message, reading)
    return {**fields, **controls, "op": write, "item_id": item_id}


def _read_plain(
    row: Mapping[str, Any], message: Message, reading: MessageReading
) -> dict[str, Any]:
    item_id = _item_id(row, message, reading)
    is_deleted = str(row.get("__deleted", "")).casefold() == "true" or row.get("__op") == "d"
    controls = {name: row[name] for name in ("if_version", "updated_at") if row.get(name)}
    if not controls and (time := _source_time(row, "__", "__source_")):
        controls = {"updated_at": time.isoformat()}
    if not controls and message.time:
        controls = {"updated_at": message.time.isoformat()}
    if is_deleted or row.get("op") == "delete":
        return {"op": "delete", "item_id": item_id, **controls}
    write = "patch" if UNAVAILABLE in row.values() else row.get("op", reading.write)
    return {**_fields(row, reading), **controls, "op": write, "item_id": item_id}


def _fields(row: Mapping[str, Any], reading: MessageReading) -> dict[str, Any]:
    names = reading.names(row)
    return {
        ours: row[theirs]
        for theirs, ours in names.items()
        if row[theirs] != UNAVAILABLE and ours not in CONTROLS
    }


def _item_id(row: Mapping[str, Any], message: Message, reading: MessageReading) -> Any:
    """Of the row, else of the message's key: a deletion often says no more than that."""
    name = reading.columns.get("item_id", "item_id")
    if row.get(name) is not None:
        return row[name]
    key = _object(message.key, "the key") if message.key else {}
    key = key["payload"] if isinstance(key.get("payload"), dict) else key
    if key.get(name) is None:
        columns = ", ".join(map(str, row)) or "none"
        raise PoisonError(f"there is no {name} in the columns {columns}: map item_id to the id's")
    return key[name]


def _object(content: bytes, name: str) -> dict[str, Any]:
    try:
        value = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise PoisonError(f"{name} is no JSON ({error}): send objects") from None
    if not isinstance(value, dict):
        raise PoisonError(f"{name} is {str(value)[:100]!r}: send objects")
    return value


def _source_time(envelope: Mapping[str, Any], *prefixes: str) -> datetime | None:
    """When the source changed the row, else when the change was captured."""
    source = envelope.get("source")
    levels = [source if isinstance(source, dict) else {}, envelope]
    for level in levels:
        for prefix in prefixes or ("",):
            for name, factor in _TIMES:
                number = level.get(f"{prefix}{name}")
                if isinstance(number, int) and 0 < number * factor < _LATEST:
                    return _EPOCH + timedelta(microseconds=int(number * factor))
    return None
