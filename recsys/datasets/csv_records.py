"""The records of a CSV text, and its stray quotes: a quote that is opened and not closed makes one
cell of all the rows up to the next quote, and a parser loses them without a word.

A line that opens a quote is set aside where the quote is never closed, is followed by text where it
closes, or spans lines that look like rows of their own; the next line begins a record. Quotes that
are not doubled inside quotes are doubled where the line then has as many cells as the header. Only
texts of which numpy cannot tell that they are sound are read line by line."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

from recsys.datasets.csv_lines import UnsoundQuotesError, count_records, records_like_rows
from recsys.datasets.text_format import TextFormat

#: A cell of more lines than this is a stray quote.
_MAX_LINES = 10_000
_SHAPE_ROWS = 1_000
_SHAPE_BYTES = 1 << 20


@dataclass
class Records:
    """`text` is what a parser reads well: records one after the other, blank lines apart. Of the
    `count` records those in `stray` (by number) are not in it."""

    text: bytes
    count: int
    stray: dict[int, str] = field(default_factory=dict)


def find_records(text: bytes, dialect: TextFormat, width: int) -> Records:
    """The records of a text whose lines end in "\\n"; `width` cells make a row."""
    scanner = _Scanner(text, dialect, width)
    try:
        count, spans = count_records(text, dialect)
        if not spans or not any(map(scanner.is_stray, records_like_rows(text, dialect, width))):
            return Records(text, count)
    except UnsoundQuotesError:
        pass
    return scanner.scan()


class _Scanner:
    def __init__(self, text: bytes, dialect: TextFormat, width: int) -> None:
        self.text, self.width = text, width
        self.delimiter, self.quote = dialect.delimiter.encode(), dialect.quote.encode()
        self.escape = dialect.escape.encode()
        delimiter, quote, escape = map(re.escape, (self.delimiter, self.quote, self.escape))
        inner = rb"(?:[^%s]++|%s%s)*+" % (quote, quote, quote)
        plain = rb"(?:(?!%s)[^%s]++)?+" % (quote, delimiter)
        if escape:
            # An escaped line break is one inside the cell.
            inner = rb"(?:[^%s%s]++|%s(?:.|\Z)|%s%s)*+" % (quote, escape, escape, quote, quote)
            plain = rb"(?:(?!%s)(?:[^%s%s]++|%s.)++)?+" % (quote, delimiter, escape, escape)
        cell = rb"(?:%s%s%s|%s)" % (quote, inner, quote, plain)
        self.record = re.compile(rb"%s(?:%s%s)*+" % (cell, delimiter, cell))
        self.opened = re.compile(rb"(?:%s%s)*%s%s" % (cell, delimiter, quote, inner))
        self.inside = re.compile(inner)
        # The line ends a cell; what follows it ends the record, or opens another cell.
        rest = rb"%s%s(?:%s%s)*" % (inner, quote, delimiter, cell)
        self.closed = re.compile(rest)
        self.reopened = re.compile(rb"%s%s%s%s" % (rest, delimiter, quote, inner))
        self.lenient = re.compile(
            rb"%s(.*?)%s(?=%s|$)|([^%s]*)" % (quote, quote, delimiter, delimiter)
        )

    def is_stray(self, record: bytes) -> bool:
        """Whether the lines of a record that is sound by its quotes are rows of their own."""
        lines = record.split(b"\n")
        return len(lines) > _MAX_LINES or self._spans_rows(lines)

    def scan(self) -> Records:
        lines = self.text.split(b"\n")
        if not lines[-1]:
            lines.pop()
        sound_lines: list[bytes] = []
        records = Records(self.text, 0)
        row = 0
        while row < len(lines):
            stop, repaired = self._record(lines, row)
            if stop:
                sound_lines += [repaired] if repaired is not None else lines[row:stop]
            else:
                records.stray[records.count] = lines[row].decode("utf-8", "replace")
                stop = row + 1
            records.count += bool(lines[row]) or stop > row + 1
            row = stop
        records.text = b"\n".join([*sound_lines, b""])
        return records

    def _record(self, lines: Sequence[bytes], row: int) -> tuple[int, bytes | None]:
        """The line after the record that begins at `row`, and the record if it was mended; line 0
        where the quote is stray."""
        line = lines[row]
        escapes_end = self.escape and line.endswith(self.escape)
        if (self.quote not in line and not escapes_end) or self.record.fullmatch(line):
            return row + 1, None
        if self.opened.fullmatch(line):
            stop = self._closing_line(lines, row)
            return (0 if self._spans_rows(lines[row:stop]) else stop), None
        mended = self._mend(line)
        return (row + 1 if mended is not None else 0), mended

    def _closing_line(self, lines: Sequence[bytes], row: int) -> int:
        for number in range(row + 1, min(row + _MAX_LINES, len(lines))):
            line = lines[number]
            if self.quote not in line or self.inside.fullmatch(line):
                continue
            if self.closed.fullmatch(line):
                return number + 1
            if not self.reopened.fullmatch(line):
                return 0
        return 0

    def _mend(self, line: bytes) -> bytes | None:
        """The line with the quotes inside its cells doubled; None if it then is no row."""
        cells, position = [], 0
        while position <= len(line):
            match = self.lenient.match(line, position)
            assert match, "it matches the empty text"
            cell = match[1] if match[1] is not None else match[2]
            if match[1] is None and cell.startswith(self.quote) and cell.count(self.quote) % 2:
                return None
            if self.escape:
                cell = cell.replace(self.escape, 2 * self.escape)
            cells.append(self.quote + cell.replace(self.quote, 2 * self.quote) + self.quote)
            position = match.end() + len(self.delimiter)
        return self.delimiter.join(cells) if len(cells) == self.width else None

    def _spans_rows(self, lines: Sequence[bytes]) -> bool:
        """Whether the lines of one record look like rows of their own: each split at the
        delimiters whatever the quotes, cells of the shapes that other rows have."""
        if self.width < 2 or not lines or lines[0].count(self.delimiter) != self.width - 1:
            return False
        columns = [number for number, shapes in enumerate(self.shapes) if shapes]
        alike = [self._is_row(line, columns) for line in lines[1:200]]
        needed = len(alike) / 2 if columns else max(len(alike), 3)
        return sum(alike) >= needed

    def _is_row(self, line: bytes, columns: Sequence[int]) -> bool:
        cells = line.split(self.delimiter)
        if len(cells) != self.width:
            return False
        alike = [_shape(cells[each].strip(self.quote)) in self.shapes[each] for each in columns]
        return sum(alike) * 2 >= len(alike)

    @cached_property
    def shapes(self) -> list[set[bytes]]:
        """The shapes of each column's cells in plain rows; none for free text."""
        plain = (
            line.split(self.delimiter)
            for line in self.text[:_SHAPE_BYTES].split(b"\n")
            if self.quote not in line and line.count(self.delimiter) == self.width - 1
        )
        rows = [cells for cells, _ in zip(plain, range(_SHAPE_ROWS), strict=False)]
        shapes = [{_shape(cells[number]) for cells in rows} for number in range(self.width)]
        limit = max(3, len(rows) / 10)
        return [each if len(rows) >= 5 and len(each) <= limit else set() for each in shapes]


def _shape(cell: bytes) -> bytes:
    """Digits as 9, letters as A, each run once."""
    return re.sub(rb"[A-Za-z\x80-\xff]+", b"A", re.sub(rb"\d+", b"9", cell.strip()))
