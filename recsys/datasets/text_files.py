"""CSV and JSONL files as tables; a line that is malformed is a row of nulls with its text in
`LINE`."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
from pyarrow import fs

from recsys.datasets.validate import LINE


def _read_text(filesystem: fs.FileSystem, path: str) -> str:
    """Bytes that are not UTF-8 become U+FFFD, which validation rejects in ids."""
    with filesystem.open_input_stream(path) as stream:
        return stream.read().decode("utf-8-sig", "replace")


def read_csv(filesystem: fs.FileSystem, path: str) -> pa.Table:
    """All values as strings; lines of another number of columns are in `LINE`."""
    text = _read_text(filesystem, path)
    header = next(csv.reader(io.StringIO(text[:100_000], newline="")), [])
    malformed: list[pyarrow.csv.InvalidRow] = []

    def collect(row: pyarrow.csv.InvalidRow) -> str:
        malformed.append(row)
        return "skip"

    table = pyarrow.csv.read_csv(
        pa.BufferReader(text.encode()),
        # With threads a bad line has no number.
        pyarrow.csv.ReadOptions(use_threads=False, block_size=16 << 20),
        pyarrow.csv.ParseOptions(newlines_in_values=True, invalid_row_handler=collect),
        pyarrow.csv.ConvertOptions(column_types=dict.fromkeys(header, pa.string())),
    )
    # The header is row 1 of the file, blank lines have no number.
    return _insert_malformed(table, {row.number - 2: row.text for row in malformed})


def json_lines(filesystem: fs.FileSystem, path: str) -> list[str]:
    """The lines that are not blank."""
    return [line for line in _read_text(filesystem, path).split("\n") if line.strip()]


def read_jsonl(filesystem: fs.FileSystem, path: str) -> pa.Table:
    """Columns of the types that Arrow infers; lines that are no JSON object are in `LINE`."""
    lines = json_lines(filesystem, path)
    records = [_record(line) for line in lines]
    objects = [record for record in records if record is not None]
    names = dict.fromkeys(name for record in objects for name in record)
    table = pa.table(
        {name: _json_column([record.get(name) for record in objects]) for name in names}
    )
    malformed = {row: lines[row] for row, record in enumerate(records) if record is None}
    return _insert_malformed(table, malformed)


def _record(line: str) -> dict[str, Any] | None:
    try:
        record = json.loads(line)
    except ValueError:
        return None
    return record if isinstance(record, dict) else None


def _json_column(values: list[Any]) -> pa.Array:
    """As Arrow infers it; values of several types as texts."""
    try:
        return pa.array(values)
    except (pa.ArrowException, ValueError, OverflowError):
        texts = [
            value if value is None or isinstance(value, str) else json.dumps(value)
            for value in values
        ]
        # "\\ud800" is JSON but no text: like other broken characters it becomes U+FFFD.
        sound = [
            text and text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
            for text in texts
        ]
        return pa.array(sound, pa.string())


def _insert_malformed(table: pa.Table, malformed: Mapping[int, str]) -> pa.Table:
    """The table with the malformed lines at their rows: nulls, and their text in `LINE`."""
    if not malformed:
        return table
    rows = np.fromiter(malformed, np.int64)
    good = np.setdiff1d(np.arange(table.num_rows + len(rows)), rows)
    both = pa.concat_tables(
        [table, pa.table({LINE: list(malformed.values())})], promote_options="default"
    )
    return both.take(pa.array(np.argsort(np.concatenate([good, rows]))))
