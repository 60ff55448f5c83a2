"""Judges rows: each one is good, or quarantined with a reason. Nothing is repaired by guessing,
nothing vanishes.

`check_items` and `check_events` judge a chunk; the good rows of many chunks, scattered by a key and
gathered again, then meet in `deduplicate`. Between the two they carry where they came from: `_path`
and `_row`."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys.datasets.casts import (
    cast,
    combine_chunks,
    decode_layout,
    is_text,
    to_flag,
    to_float,
    to_mask,
    to_time,
    trim,
)
from recsys.errors import InputError
from recsys.tables import EVENTS, ITEMS_IN, QUARANTINE, TIME
from recsys.types import EVENT_TYPES, Mask

#: A raw column that an adapter may add: the text of a line that it could not split into columns,
#: null elsewhere.
LINE = "_line"
MAX_ID_LENGTH = 256
CLOCK_SKEW = timedelta(minutes=5)
#: An item may be announced: unlike an event it can lie in the future. Beyond this stands "never",
#: or another unit.
LAST_ADDED = datetime(2100, 1, 1, tzinfo=UTC)
#: Where a good row came from: the two columns that good tables carry until `deduplicate`.
SOURCE = pa.schema(
    [
        pa.field("_path", pa.dictionary(pa.int32(), pa.string()), nullable=False),
        pa.field("_row", pa.int64(), nullable=False),
    ]
)

#: Rows that break a rule, and the rule as the end of a sentence.
Fault = tuple[Mask, str]
Judged = tuple[pa.Array, list[Fault]]
#: A raw column, and where something was given, to canonical values and the faults found.
Judge = Callable[[pa.Array, Mask], Judged]


@dataclass(frozen=True)
class Checked:
    """Every row once: `good`, or `quarantined` (`tables.QUARANTINE`)."""

    good: pa.Table
    quarantined: pa.Table


def check_items(raw: pa.Table, path: str, first_row: int) -> Checked:
    """Rows first_row.. of `path` as `tables.ITEMS_IN` and `SOURCE`; without `in_stock` an item is
    in stock.

    Raises InputError when there is no `item_id` column.
    """
    return _check("items", ITEMS_IN, _ITEM_JUDGES, raw, path, first_row)


def check_events(
    raw: pa.Table,
    path: str,
    first_row: int,
    now: datetime,
    known_types: Sequence[str] = EVENT_TYPES,
) -> Checked:
    """Rows first_row.. of `path` as `tables.EVENTS` and `SOURCE`; times without a zone are taken as
    UTC.

    Raises InputError when a column that `tables.EVENTS` requires is missing.
    """
    latest = (now + CLOCK_SKEW).astimezone(UTC)
    judges = _EVENT_JUDGES | {
        "type": partial(_kind, known=known_types),
        "time": partial(_time, latest=latest),
    }
    return _check("events", EVENTS, judges, raw, path, first_row)


def deduplicate(table: pa.Table, key: Literal["item_id", "event_id"]) -> Checked:
    """Of the good rows with one key keeps the first by (`_path`, `_row`); `_path` and `_row` are
    dropped.

    All rows of a key must be in `table`. Items come back sorted by item_id, events by (user_id,
    time, event_id)."""
    name, schema = ("items", ITEMS_IN) if key == "item_id" else ("events", EVENTS)
    sorting = pa.table(
        {key: table[key], "path": table["_path"].cast(pa.string()), "row": table["_row"]}
    )
    order = pc.sort_indices(
        sorting, sort_keys=[(column, "ascending") for column in sorting.column_names]
    )
    keys = table[key].take(order)
    first_N = np.append(True, to_mask(pc.not_equal(keys[1:], keys[:-1])))[: len(keys)]
    kept = np.maximum.accumulate(np.where(first_N, np.arange(len(keys)), 0))[~first_N]
    repeats, firsts = (
        table.take(order.filter(pa.array(~first_N))),
        table.take(order.take(pa.array(kept))),
    )
    reasons = [
        f"{key} {value!r} repeats row {row} of {path}: the first is kept"
        for value, path, row in zip(
            *(firsts[column].to_pylist() for column in (key, *SOURCE.names)), strict=True
        )
    ]
    by = ["item_id"] if key == "item_id" else ["user_id", "time", "event_id"]
    good = table.select(schema.names).take(order.filter(pa.array(first_N)))
    sources = _as_json(_plain(repeats.select(schema.names)))
    quarantined = _quarantine(
        name, repeats["_path"].to_pylist(), repeats["_row"].to_pylist(), reasons, sources
    )
    return Checked(good.sort_by([(column, "ascending") for column in by]).cast(schema), quarantined)


def _check(
    name: str,
    schema: pa.Schema,
    judges: Mapping[str, Judge],
    raw: pa.Table,
    path: str,
    first_row: int,
) -> Checked:
    _require_columns(name, schema, raw, path)
    raw = pa.table([decode_layout(column) for column in raw.columns], names=raw.column_names)
    columns, faults = _judge(schema, judges, raw)
    fault_N = np.full(raw.num_rows, -1)
    for place in reversed(range(len(faults))):  # a row is told the first of its faults
        fault_N[faults[place][0]] = place
    row_N, bad = np.arange(first_row, first_row + raw.num_rows), np.flatnonzero(fault_N >= 0)
    path_N = pa.DictionaryArray.from_arrays(
        pa.array(np.zeros(raw.num_rows, np.int32)), pa.array([path])
    )
    checked = pa.table([*columns, path_N, pa.array(row_N)], names=[*schema.names, *SOURCE.names])
    good = checked.filter(pa.array(fault_N < 0)).cast(pa.schema([*schema, *SOURCE]))
    given = _plain(raw.take(pa.array(bad)))
    reasons = [_reason(given, n, *faults[place][1:]) for n, place in enumerate(fault_N[bad])]
    return Checked(
        good, _quarantine(name, [path] * len(bad), row_N[bad].tolist(), reasons, _as_json(given))
    )


def _require_columns(name: str, schema: pa.Schema, raw: pa.Table, path: str) -> None:
    there = raw.column_names
    for field in schema:
        if there.count(field.name) > 1:
            raise InputError(
                f"the {name} of {path} have the column {field.name!r} twice: leave one"
            )
        if not field.nullable and field.name not in there:
            raise InputError(
                f"the {name} of {path} have no column {field.name!r}, only {', '.join(there) or 'none'}: "
                f"say which of them is the {field.name}"
            )


def _judge(
    schema: pa.Schema, judges: Mapping[str, Judge], raw: pa.Table
) -> tuple[list[pa.Array], list[tuple[Mask, str, str]]]:
    """The canonical columns, and every fault as (rows, column, rule)."""
    columns, faults = [], []
    if LINE in raw.column_names:
        faults.append(
            (to_mask(raw[LINE].is_valid()), LINE, "it must have the form of the other lines")
        )
    for field in schema:
        column = (
            raw[field.name]
            if field.name in raw.column_names
            else pa.nulls(raw.num_rows, field.type)
        )
        values, found = judges[field.name](combine_chunks(column), to_mask(column.is_valid()))
        columns.append(values)
        faults += [(bad_N, field.name, rule) for bad_N, rule in found]
    return columns, faults


# Judges. A value that was given but came out null has a fault; an empty text is no number, flag or
# time given.


def _text(column: pa.Array, given_N: Mask) -> Judged:
    """Strings as they are, numbers written out: in many shops ids are numbers."""
    values = cast(column, pa.string())
    if pa.types.is_floating(column.type):  # NaN is how many tools write a missing number
        given_N = given_N & ~to_mask(pc.equal(values, "nan"))
        values = pc.if_else(pc.equal(values, "nan"), pa.scalar(None, pa.string()), values)
    return values, [(given_N & to_mask(values.is_null()), "it must be text")]


def _id(column: pa.Array, given_N: Mask, optional: bool = False) -> Judged:
    values, faults = _text(column, given_N)
    blank_N = to_mask(pc.equal(pc.utf8_trim_whitespace(values), ""), null=True)
    if optional:
        values = pc.if_else(pa.array(blank_N), pa.scalar(None, pa.string()), values)
    else:
        faults.append((blank_N, "it must not be empty"))
    long_N = to_mask(pc.greater(pc.utf8_length(values), MAX_ID_LENGTH))
    control_N = to_mask(pc.match_substring_regex(values, r"[\p{Cc}\x{FFFD}]"))
    faults += [(long_N, f"it must have {MAX_ID_LENGTH} characters or fewer")]
    return values, [*faults, (control_N, "it must have no control or replacement characters")]


def _number(column: pa.Array, given_N: Mask, above_zero: bool = False) -> Judged:
    column = trim(column)
    values = to_float(column)
    faults = [(_missed(column, given_N, values), "it must be a number")]
    endless_N = ~to_mask(pc.is_finite(values), null=True)
    low_N = to_mask(pc.less_equal(values, 0.0) if above_zero else pc.less(values, 0.0))
    rule = "it must be above zero" if above_zero else "it must be zero or more"
    return values, [*faults, (endless_N, "it must be a finite number"), (low_N, rule)]


def _flag(column: pa.Array, given_N: Mask, missing: bool) -> Judged:
    column = trim(cast(column, pa.string()))
    values = to_flag(column)
    return values.fill_null(missing), [
        (_missed(column, given_N, values), "it must be true or false")
    ]


def _kind(column: pa.Array, given_N: Mask, known: Sequence[str]) -> Judged:
    values, faults = _text(column, given_N)
    unknown_N = ~to_mask(pc.is_in(values, value_set=pa.array(known, pa.string())))
    return values, [*faults, (unknown_N, f"use one of {', '.join(known)}")]


def _time(column: pa.Array, given_N: Mask, latest: datetime, optional: bool = False) -> Judged:
    """Timestamps, dates and ISO 8601 texts; a bare number is not guessed to be seconds or
    milliseconds."""
    column = trim(column)
    values = to_time(column)
    faults = [(_missed(column, given_N, values), "it must be a timestamp or ISO 8601 text")]
    if not optional:
        faults.append((to_mask(values.is_null()), "it must not be empty"))
    # Before 1970 lie broken clocks, and years that Python's datetime cannot hold.
    early_N, late_N = (
        pc.less(values, pa.scalar(0, TIME)),
        pc.greater(values, pa.scalar(latest, TIME)),
    )
    faults.append((to_mask(early_N), "it must not be before 1970"))
    return values, [
        *faults,
        (to_mask(late_N), f"it must not be later than {latest:%Y-%m-%dT%H:%M:%SZ}"),
    ]


_ITEM_JUDGES: dict[str, Judge] = {
    "item_id": _id,
    **dict.fromkeys(
        ("title", "description", "category", "brand", "image", "attributes", "group_id"), _text
    ),
    "price": _number,
    "in_stock": partial(_flag, missing=True),
    "added": partial(_time, latest=LAST_ADDED, optional=True),
}
_EVENT_JUDGES: dict[str, Judge] = {
    **dict.fromkeys(("event_id", "user_id", "item_id"), _id),
    "request_id": partial(_id, optional=True),
    "quantity": partial(_number, above_zero=True),
    "price": _number,
}


def _missed(column: pa.Array, given_N: Mask, values: pa.Array) -> Mask:
    """Where something was given and nothing came out."""
    empty_N = to_mask(pc.equal(column, "")) if pa.types.is_string(column.type) else np.False_
    return given_N & to_mask(values.is_null()) & ~empty_N


# Words for the rows that could not be used.


def _plain(rows: pa.Table) -> dict[str, list[Any]]:
    """Columns as JSON can say them, whatever stands in their cells."""
    return {
        name: _plain_values(column)
        for name, column in zip(rows.column_names, rows.columns, strict=True)
    }


def _plain_values(column: pa.ChunkedArray) -> list[Any]:
    try:
        if pa.types.is_temporal(
            column.type
        ):  # Arrow can write out times that Python's datetime cannot hold
            return column.cast(pa.string()).to_pylist()
        if is_text(column.type):
            texts = column.cast(pa.binary()).to_pylist()
            return [
                None if text is None else text.decode("utf-8", "backslashreplace") for text in texts
            ]
        return column.to_pylist()
    except (ValueError, OverflowError, pa.ArrowException):
        return [f"a {column.type} that cannot be shown"] * len(column)


def _as_json(rows: dict[str, list[Any]]) -> list[str]:
    cells = zip(*rows.values(), strict=True)
    return [
        json.dumps(dict(zip(rows, row, strict=True)), ensure_ascii=False, default=str)
        for row in cells
    ]


def _reason(given: dict[str, list[Any]], row: int, column: str, rule: str) -> str:
    value = given[column][row] if column in given else None
    shown = repr(value) if len(repr(value)) <= 100 else f"{repr(value)[:100]}..."
    return f"{column.lstrip('_')} is {'missing' if value is None else shown}: {rule}"


def _quarantine(
    name: str,
    paths: Sequence[str],
    rows: Sequence[int],
    reasons: Sequence[str],
    sources: Sequence[str],
) -> pa.Table:
    return pa.table([[name] * len(paths), paths, rows, reasons, sources], schema=QUARANTINE)
