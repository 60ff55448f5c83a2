"""CSV files as tables of strings; a line that is malformed is a row of nulls with its text in
`LINE`."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from typing import Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from recsys.datasets.casts import to_mask
from recsys.datasets.csv_records import Records, find_records
from recsys.datasets.text_format import TextFormat
from recsys.datasets.validate import LINE
from recsys.types import Mask

_BLOCK_BYTES = 16 << 20
_MAX_BLOCK_BYTES = (1 << 31) - 1
_MAX_HEADER = 1 << 20
#: How databases write a null.
_NULL = r"\N"


class RowFile(Protocol):
    """A file of rows; columns go by place, since a name may be there twice."""

    @property
    def names(self) -> list[str]: ...

    @property
    def num_rows(self) -> int: ...

    def read(self, columns: Sequence[int], start: int, rows: int) -> pa.Table:
        """Rows start..start+rows-1; the column `LINE` comes last where a line is malformed."""
        ...


class CsvFile:
    """A CSV text in UTF-8 whose lines end in "\n"."""

    def __init__(self, text: bytes, dialect: TextFormat) -> None:
        self.dialect = dialect
        self.names: list[str]
        self.names, header_lines = _read_header(text, dialect)
        self._body = _skip_lines(text, header_lines)

    @cached_property
    def _records(self) -> Records:
        return find_records(self._body, self.dialect, len(self.names))

    @property
    def num_rows(self) -> int:
        return self._records.count

    def read(self, columns: Sequence[int], start: int, rows: int) -> pa.Table:
        """All values as strings; lines of another number of columns are in `LINE`."""
        return self._table(columns).slice(start, rows)

    def _table(self, columns: Sequence[int]) -> pa.Table:
        text, malformed = self._records.text, dict[int, str]()
        if text.strip(b"\n"):
            try:
                table = self._parse(columns, malformed, _BLOCK_BYTES)
            except pa.ArrowInvalid:  # a record is longer than a block
                malformed.clear()
                table = self._parse(columns, malformed, min(len(text) + 1, _MAX_BLOCK_BYTES))
        else:
            table = pa.table([pa.array([], pa.string())] * len(columns), list(map(str, columns)))
        table = table.rename_columns([self.names[column] for column in columns])
        table = self._set_aside(table, self._unusable_rows(table))
        return insert_malformed(insert_malformed(table, malformed), self._records.stray)

    def _unusable_rows(self, table: pa.Table) -> Mask:
        """Those with bytes of no character, and the header again: of a file that was appended."""
        repeats_N, damaged_N = np.ones(table.num_rows, bool), np.zeros(table.num_rows, bool)
        for name, column in zip(table.column_names, table.columns, strict=True):
            if repeats_N.any():
                repeats_N &= to_mask(pc.equal(column, name))
            if self.dialect.damaged:
                damaged_N |= to_mask(pc.match_substring(column, "\ufffd"))
        return repeats_N | damaged_N

    def _set_aside(self, table: pa.Table, rows_N: Mask) -> pa.Table:
        """The rows as nulls, their cells in `LINE`."""
        if not rows_N.any():
            return table
        cells = zip(*(column.to_pylist() for column in table.filter(rows_N).columns), strict=True)
        lines = [self.dialect.delimiter.join(cell or "" for cell in row) for row in cells]
        numbers = np.flatnonzero(rows_N).tolist()
        return insert_malformed(table.filter(~rows_N), dict(zip(numbers, lines, strict=True)))

    def _parse(
        self, columns: Sequence[int], malformed: dict[int, str], block_bytes: int
    ) -> pa.Table:
        def collect(row: pyarrow.csv.InvalidRow) -> str:
            malformed[row.number - 1] = row.text
            return "skip"

        # By place, since a name may be there twice.
        places = list(map(str, range(len(self.names))))
        return pyarrow.csv.read_csv(
            pa.BufferReader(self._records.text),
            # With threads a bad line has no number.
            pyarrow.csv.ReadOptions(use_threads=False, block_size=block_bytes, column_names=places),
            pyarrow.csv.ParseOptions(
                delimiter=self.dialect.delimiter,
                quote_char=self.dialect.quote or False,
                escape_char=self.dialect.escape or False,
                newlines_in_values=True,
                invalid_row_handler=collect,
            ),
            pyarrow.csv.ConvertOptions(
                column_types=dict.fromkeys(places, pa.string()),
                include_columns=[places[column] for column in columns],
                null_values=[_NULL],
                strings_can_be_null=True,
                quoted_strings_can_be_null=False,
            ),
        )


def _read_header(text: bytes, dialect: TextFormat) -> tuple[list[str], int]:
    """The names without white space around them, and the number of lines before the first row."""
    body = _skip_lines(text[:_MAX_HEADER], dialect.preamble).decode("utf-8", "replace")
    reader = csv.reader(
        io.StringIO(body, newline=""),
        delimiter=dialect.delimiter,
        quotechar=dialect.quote or None,
        quoting=csv.QUOTE_MINIMAL if dialect.quote else csv.QUOTE_NONE,
        escapechar=dialect.escape or None,
    )
    try:
        header = next((row for row in reader if row), [])
    except csv.Error as error:
        raise pa.ArrowInvalid(f"its header cannot be split into names: {error}") from error
    names = [re.sub("[\ufeff\u200b]", "", name).strip() for name in header]
    lines = dialect.preamble + reader.line_num
    with suppress(csv.Error):  # a stray quote makes a cell of all that follows
        # Many programs end each row with a delimiter, but not the header.
        rows = [row for row, _ in zip(reader, range(100), strict=False) if row]
        if rows and all(len(row) == len(names) + 1 and not row[-1] for row in rows):
            names.append("")
    return names, lines


def _skip_lines(text: bytes, lines: int) -> bytes:
    position = 0
    for _ in range(lines):
        position = text.find(b"\n", position) + 1 or len(text)
    return text[position:]


def insert_malformed(table: pa.Table, malformed: Mapping[int, str]) -> pa.Table:
    """The table with the malformed lines at their rows: nulls, and their text in `LINE`."""
    if not malformed:
        return table
    rows = np.fromiter(malformed, np.int64)
    good = np.setdiff1d(np.arange(table.num_rows + len(rows)), rows)
    both = pa.concat_tables(
        [table, pa.table({LINE: list(malformed.values())})], promote_options="default"
    )
    return both.take(pa.array(np.argsort(np.concatenate([good, rows]))))
