"""Quarantine rows (`tables.QUARANTINE`): where a rejected row stands, why, and what it holds."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from recsys.datasets.casts import is_text
from recsys.tables import QUARANTINE

#: Cells by column name, as JSON can hold them.
Cells = dict[str, list[Any]]


def quarantine_rows(
    name: str, paths: Sequence[str], rows: Sequence[int], reasons: Sequence[str], cells: Cells
) -> pa.Table:
    """A quarantine row for each row of `cells`, which stands in `rows` of `paths`."""
    sources = [
        json.dumps(dict(zip(cells, row, strict=True)), ensure_ascii=False, default=str)
        for row in zip(*cells.values(), strict=True)
    ]
    return pa.table([[name] * len(paths), paths, rows, reasons, sources], schema=QUARANTINE)


def violation_sentence(cells: Cells, row: int, column: str, rule: str) -> str:
    """`price is '-1': it must be zero or more`."""
    value = cells[column][row] if column in cells else None
    text = repr(value) if len(repr(value)) <= 100 else f"{repr(value)[:100]}..."
    return f"{column.lstrip('_')} is {'missing' if value is None else text}: {rule}"


def printable_cells(rows: pa.Table) -> Cells:
    """Every column as values that JSON can hold, whatever its cells hold."""
    return dict(zip(rows.column_names, map(_printable_column, rows.columns), strict=True))


def _printable_column(column: pa.ChunkedArray) -> list[Any]:
    try:
        if pa.types.is_temporal(column.type):
            # Arrow can write out times that Python's datetime cannot hold.
            return column.cast(pa.string()).to_pylist()
        if is_text(column.type):
            raw = column.cast(pa.binary()).to_pylist()
            return [
                None if text is None else text.decode("utf-8", "backslashreplace") for text in raw
            ]
        return column.to_pylist()
    except (ValueError, OverflowError, pa.ArrowException):
        return [f"a {column.type} that cannot be shown"] * len(column)
