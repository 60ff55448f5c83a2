"""Row validation: each row of a raw table is valid, or quarantined with a reason. Nothing is
repaired by guessing, and nothing is dropped silently.

`check_items` and `check_events` validate a chunk; the valid rows of many chunks, partitioned by a
key and gathered again, then go through `deduplicate`. Between the two they carry their source:
`_path` and `_row`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys.datasets.casts import decode_layout, to_array, to_mask
from recsys.datasets.choices import CatalogueChoices
from recsys.datasets.quarantine import printable_cells, quarantine_rows, violation_sentence
from recsys.datasets.rules import ITEM_RULES, Rule, event_rules
from recsys.errors import InputError
from recsys.tables import EVENTS, ITEMS_IN, REQUIRED
from recsys.types import EVENT_TYPES, Mask

#: A raw column that an adapter may add: the text of a line that it could not split into columns,
#: null elsewhere.
LINE = "_line"
CLOCK_SKEW = timedelta(minutes=5)
#: The source of a valid row: the two columns that tables carry until `deduplicate`.
SOURCE = pa.schema(
    [
        pa.field("_path", pa.dictionary(pa.int32(), pa.string()), nullable=False),
        pa.field("_row", pa.int64(), nullable=False),
    ]
)


@dataclass(frozen=True)
class ValidationResult:
    """Every row once: `good`, or `quarantined` (`tables.QUARANTINE`)."""

    good: pa.Table
    quarantined: pa.Table


def check_items(
    raw: pa.Table,
    path: str,
    first_row: int,
    choices: CatalogueChoices = CatalogueChoices(),  # noqa: B008
) -> ValidationResult:
    """Rows first_row.. of `path` as `tables.ITEMS_IN` and `SOURCE`; without `in_stock` an item is
    in stock.

    Raises InputError when there is no `item_id` column.
    """
    return _check(raw, path, first_row, schema=ITEMS_IN, rules=ITEM_RULES)


def check_events(
    raw: pa.Table,
    path: str,
    first_row: int,
    now: datetime,
    choices: CatalogueChoices = CatalogueChoices(),  # noqa: B008
    *,
    event_types: Sequence[str] = EVENT_TYPES,
) -> ValidationResult:
    """Rows first_row.. of `path` as `tables.EVENTS` and `SOURCE`; times without a zone are taken as
    UTC.

    Raises InputError when a column that `tables.EVENTS` requires is missing.
    """
    rules = event_rules((now + CLOCK_SKEW).astimezone(UTC), event_types)
    return _check(raw, path, first_row, schema=EVENTS, rules=rules)


def deduplicate(table: pa.Table, key: Literal["item_id", "event_id"]) -> ValidationResult:
    """Of the valid rows with one key keeps the first by (`_path`, `_row`); `_path` and `_row` are
    dropped.

    All rows of a key must be in `table`. Items come back sorted by item_id, events by (user_id,
    time, event_id)."""
    order, first_N = _first_of_key(table, key)
    first_rows = np.maximum.accumulate(np.where(first_N, np.arange(len(first_N)), 0))[~first_N]
    repeats = table.take(order.filter(pa.array(~first_N)))
    firsts = table.take(order.take(pa.array(first_rows)))
    reasons = [
        f"{key} {value!r} repeats row {row} of {path}: the first is kept"
        for value, path, row in zip(
            *(firsts[column].to_pylist() for column in (key, *SOURCE.names)), strict=True
        )
    ]
    items = key == "item_id"
    schema, by = (ITEMS_IN, ["item_id"]) if items else (EVENTS, ["user_id", "time", "event_id"])
    good = table.select(schema.names).take(order.filter(pa.array(first_N)))
    paths, rows = (repeats[column].to_pylist() for column in SOURCE.names)
    cells = printable_cells(repeats.select(schema.names))
    quarantined = quarantine_rows("items" if items else "events", paths, rows, reasons, cells)
    good = good.sort_by([(column, "ascending") for column in by]).cast(schema)
    return ValidationResult(good, quarantined)


def _first_of_key(table: pa.Table, key: str) -> tuple[pa.Array, Mask]:
    """The order of the rows by key and source, and where in it a key begins."""
    columns = {key: table[key], "path": table["_path"].cast(pa.string()), "row": table["_row"]}
    order = pc.sort_indices(
        pa.table(columns), sort_keys=[(column, "ascending") for column in columns]
    )
    keys = table[key].take(order)
    return order, np.append(True, to_mask(pc.not_equal(keys[1:], keys[:-1])))[: len(keys)]


def _check(
    raw: pa.Table, path: str, first_row: int, *, schema: pa.Schema, rules: Mapping[str, Rule]
) -> ValidationResult:
    name = "items" if schema is ITEMS_IN else "events"
    _require_columns(name, schema, raw, path)
    raw = pa.table([decode_layout(column) for column in raw.columns], names=raw.column_names)
    columns, violations = _apply_rules(schema, rules, raw)
    violation_N = np.full(raw.num_rows, -1)
    for number in reversed(range(len(violations))):  # the first violation is a row's reason
        violation_N[violations[number][0]] = number
    row_N = np.arange(first_row, first_row + raw.num_rows)
    path_N = pa.DictionaryArray.from_arrays(
        pa.array(np.zeros(raw.num_rows, np.int32)), pa.array([path])
    )
    checked = pa.table([*columns, path_N, pa.array(row_N)], names=[*schema.names, *SOURCE.names])
    good = checked.filter(pa.array(violation_N < 0)).cast(pa.schema([*schema, *SOURCE]))
    bad = np.flatnonzero(violation_N >= 0)
    cells = printable_cells(raw.take(pa.array(bad)))
    reasons = [
        violation_sentence(cells, at, *violations[number][1:])
        for at, number in enumerate(violation_N[bad])
    ]
    quarantined = quarantine_rows(name, [path] * len(bad), row_N[bad].tolist(), reasons, cells)
    return ValidationResult(good, quarantined)


def _require_columns(name: str, schema: pa.Schema, raw: pa.Table, path: str) -> None:
    columns = raw.column_names
    for field in schema:
        if columns.count(field.name) > 1:
            raise InputError(
                f"the {name} of {path} have the column {field.name!r} twice: leave one"
            )
        if field.name in REQUIRED[name] and field.name not in columns:
            raise InputError(
                f"the {name} of {path} have no column {field.name!r}, only "
                f"{', '.join(columns) or 'none'}: say which of them is the {field.name}"
            )


def _apply_rules(
    schema: pa.Schema, rules: Mapping[str, Rule], raw: pa.Table
) -> tuple[list[pa.Array], list[tuple[Mask, str, str]]]:
    """The canonical columns, and every violation as (rows, column, rule)."""
    columns, violations = [], []
    if LINE in raw.column_names:
        malformed_N = to_mask(raw[LINE].is_valid())
        violations.append((malformed_N, LINE, "it must have the form of the other lines"))
    for field in schema:
        column = (
            raw[field.name]
            if field.name in raw.column_names
            else pa.nulls(raw.num_rows, field.type)
        )
        values, of_column = rules[field.name](to_array(column), to_mask(column.is_valid()))
        columns.append(values)
        violations += [(bad_N, field.name, rule) for bad_N, rule in of_column]
    return columns, violations
