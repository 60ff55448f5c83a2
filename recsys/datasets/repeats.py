"""Rows that repeat another: of valid rows with one key the first stays. Lines of one order that
have its number for an id are no repeats."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from recsys.attributes.cells import CARRIED, PAIRS
from recsys.datasets.casts import to_mask
from recsys.datasets.quarantine import Cells, printable_cells, quarantine_rows
from recsys.datasets.row_sources import ROW_SOURCE, STATED
from recsys.datasets.validate import SOURCE, ValidationResult
from recsys.tables import EVENTS, ITEMS_IN
from recsys.types import Mask

#: Events that share an id are repeats where they share these too.
_LINE = ["event_id", "user_id", "item_id", "type"]


def deduplicate(table: pa.Table, key: Literal["item_id", "event_id"]) -> ValidationResult:
    """Of the valid rows with one key keeps the first by (`_path`, `_row`); `_path` and `_row` are
    dropped, CARRIED and ROW_SOURCE stay. Events of one id with several items, types or users are
    lines of one order: all stay, counted as `order_lines`, with ids of their own.

    All rows of a key must be in `table`. Items come back sorted by item_id, events by (user_id,
    time, event_id)."""
    items, lines = key == "item_id", 0
    order, first_N = _first_of_key(table, key)
    first_rows_N = np.maximum.accumulate(np.where(first_N, np.arange(len(first_N)), 0))
    if not items and not first_N.all():
        ids, lines = _split_orders(table, order, first_N, first_rows_N)
        table = table.set_column(table.schema.get_field_index(key), table.schema.field(key), ids)
    repeats = table.take(order.filter(pa.array(~first_N)))
    firsts = table.take(order.take(pa.array(first_rows_N[~first_N])))
    schema, by = (ITEMS_IN, ["item_id"]) if items else (EVENTS, ["user_id", "time", "event_id"])
    if CARRIED in table.column_names:
        schema = schema.append(pa.field(CARRIED, PAIRS))
    paths, rows = (repeats[column].to_pylist() for column in SOURCE.names)
    cells = printable_cells(repeats.select(schema.names))
    if STATED in table.column_names:
        schema = pa.schema([*schema, *ROW_SOURCE])
    good = table.select(schema.names).take(order.filter(pa.array(first_N)))
    reasons = _reasons(key, firsts, cells)
    quarantined = quarantine_rows("items" if items else "events", paths, rows, reasons, cells)
    good = good.sort_by([(column, "ascending") for column in by]).cast(schema)
    return ValidationResult(good, quarantined, counts={"order_lines": lines} if lines else {})


def _reasons(key: str, firsts: pa.Table, repeats: Cells) -> list[str]:
    """Why each repeat is not kept; where it says something else than its first, that too."""
    names = [name for name in repeats if name != key]
    cells = printable_cells(firsts.select(names))
    first_rows, repeat_rows = (
        zip(*(each[name] for name in names), strict=True) for each in (cells, repeats)
    )
    others = [
        "" if first == repeat else " with other cells"
        for first, repeat in zip(first_rows, repeat_rows, strict=True)
    ]
    sources = (firsts[column].to_pylist() for column in (key, *SOURCE.names))
    return [
        f"{key} {value!r} repeats row {row} of {path}{other}: the first is kept"
        for value, path, row, other in zip(*sources, others, strict=True)
    ]


def _first_of_key(table: pa.Table, key: str) -> tuple[pa.Array, Mask]:
    """The order of the rows by key and source, and where in it a key begins."""
    columns = {key: table[key], "path": table["_path"].cast(pa.string()), "row": table["_row"]}
    order = pc.sort_indices(
        pa.table(columns), sort_keys=[(column, "ascending") for column in columns]
    )
    keys = table[key].take(order)
    return order, np.append(True, to_mask(pc.not_equal(keys[1:], keys[:-1])))[: len(keys)]


def _split_orders(
    table: pa.Table, order: pa.Array, first_N: Mask, first_rows_N: NDArray[np.int64]
) -> tuple[pa.ChunkedArray, int]:
    """The event ids with the lines of one order told apart, and how many got another id. In place
    each line becomes a first of its own, and the first row of its repeats."""
    rows = np.flatnonzero(np.isin(first_rows_N, first_rows_N[~first_N]))
    places = order.take(pa.array(rows))
    events: pd.DataFrame = table.select(_LINE).take(places).to_pandas()
    events["row"] = rows
    first_rows_N[rows] = events.groupby(_LINE, dropna=False)["row"].transform("min")
    was_first = first_N[rows]
    first_N[rows] = first_rows_N[rows] == rows
    is_line = first_N[rows] & ~was_first
    lines = events[is_line]
    numbers = lines.groupby("event_id").cumcount() + 1
    ids = table["event_id"].combine_chunks().to_numpy(zero_copy_only=False).copy()
    ids[np.asarray(places)[is_line]] = lines["event_id"] + "/" + numbers.astype(str)
    return pa.chunked_array([pa.array(ids, pa.string())]), int(is_line.sum())
