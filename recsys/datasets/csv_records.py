"""The records of a CSV text, and its stray quotes: a quote that is opened and not closed makes one
cell of all the rows up to the next quote, and a parser loses them without a word.

A text whose quotes are sound and whose cells hold no line breaks has one record a line, which numpy
sees at some GB a second. Only other texts are read line by line. A line that opens a quote is set
aside where the quote is never closed, is followed by text where it closes, or spans lines that look
like rows of their own; the next line begins a record. Quotes that are not doubled inside quotes are
doubled where the line then has as many cells as the header."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from recsys.datasets.text_format import TextFormat

_BLOCK = 1 << 25
#: A cell of more lines than this is a stray quote.
_MAX_LINES = 10_000
_SHAPE_ROWS = 1_000


@dataclass
class Records:
    """`text` is what a parser reads well: records one after the other, blank lines apart. Of the
    `count` records those in `stray` (by number) are not in it."""

    text: bytes
    count: int
    stray: dict[int, str] = field(default_factory=dict)


def find_records(text: bytes, dialect: TextFormat, width: int) -> Records:
    """The records of a text whose lines end in "\\n"; `width` cells make a row."""
    count = _count_lines(text, dialect)
    return Records(text, count) if count is not None else _Scanner(dialect, width).scan(text)


def _count_lines(text: bytes, dialect: TextFormat) -> int | None:
    """The number of lines that are not blank; None where a line may be no record."""
    bytes_N = np.frombuffer(text, np.uint8)
    quote = ord(dialect.quote) if dialect.quote and dialect.quote.encode() in text else None
    lines = quotes = 0
    last_end = -1
    for start in range(0, len(text), _BLOCK):
        block_N = bytes_N[start : start + _BLOCK]
        ends_L = np.flatnonzero(block_N == ord("\n")) + start
        lines += int((np.diff(ends_L, prepend=last_end) > 1).sum())
        last_end = int(ends_L[-1]) if len(ends_L) else last_end
        if quote is not None:
            quotes_Q = np.flatnonzero(block_N == quote) + start
            if not _are_sound(bytes_N, quotes_Q, quotes % 2, dialect):
                return None
            if ((np.searchsorted(quotes_Q, ends_L) + quotes) % 2).any():
                return None
            quotes += len(quotes_Q)
    return None if quotes % 2 else lines + (last_end + 1 < len(text))


def _are_sound(bytes_N: np.ndarray, quotes_Q: np.ndarray, parity: int, dialect: TextFormat) -> bool:
    """Whether each quote that opens a cell (or is the second of a doubled one) has a border or a
    quote before it, and each that closes one has one behind it."""
    borders = np.zeros(256, bool)
    borders[[ord(dialect.delimiter), ord(dialect.quote), ord("\n")]] = True
    opening_Q, closing_Q = quotes_Q[parity::2], quotes_Q[1 - parity :: 2]
    opening_Q, closing_Q = opening_Q[opening_Q > 0], closing_Q[closing_Q + 1 < len(bytes_N)]
    return bool(borders[bytes_N[opening_Q - 1]].all() and borders[bytes_N[closing_Q + 1]].all())


class _Scanner:
    def __init__(self, dialect: TextFormat, width: int) -> None:
        self.width = width
        self.delimiter, self.quote = dialect.delimiter.encode(), dialect.quote.encode()
        delimiter, quote = re.escape(self.delimiter), re.escape(self.quote)
        escape = re.escape(dialect.escape.encode())
        inner = rb"(?:[^%s]++|%s%s)*+" % (quote, quote, quote)
        plain = rb"(?:(?!%s)[^%s]++)?+" % (quote, delimiter)
        if escape:
            inner = rb"(?:[^%s%s]++|%s.|%s%s)*+" % (quote, escape, escape, quote, quote)
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
        self.shapes: list[set[bytes] | None] | None = None

    def scan(self, text: bytes) -> Records:
        lines = text.split(b"\n")
        if not lines[-1]:
            lines.pop()
        sound_lines: list[bytes] = []
        records = Records(text, 0)
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
        if self.quote not in line or self.record.fullmatch(line):
            return row + 1, None
        if self.opened.fullmatch(line):
            stop = self._closing_line(lines, row)
            return (0 if stop and self._spans_rows(lines, row, stop) else stop), None
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
            cells.append(self.quote + cell.replace(self.quote, 2 * self.quote) + self.quote)
            position = match.end() + len(self.delimiter)
        return self.delimiter.join(cells) if len(cells) == self.width else None

    def _spans_rows(self, lines: Sequence[bytes], row: int, stop: int) -> bool:
        """Whether the lines of one record look like rows of their own: each split at the
        delimiters whatever the quotes, cells of the shapes that other rows have."""
        if self.width < 2 or lines[row].count(self.delimiter) != self.width - 1:
            return False
        if self.shapes is None:
            self.shapes = list(self._column_shapes(lines))
        columns = [number for number, shapes in enumerate(self.shapes) if shapes is not None]
        following = lines[row + 1 : min(stop, row + 200)]
        alike = [self._is_row(line, columns) for line in following]
        needed = len(alike) / 2 if columns else max(len(alike), 3)
        return sum(alike) >= needed

    def _is_row(self, line: bytes, columns: Sequence[int]) -> bool:
        cells = line.split(self.delimiter)
        if len(cells) != self.width:
            return False
        assert self.shapes is not None
        alike = [
            _shape(cells[column].strip(self.quote)) in (self.shapes[column] or ())
            for column in columns
        ]
        return sum(alike) * 2 >= len(alike)

    def _column_shapes(self, lines: Sequence[bytes]) -> Iterator[set[bytes] | None]:
        """The shapes of each column's cells in plain rows; None for free text."""
        plain = (
            line.split(self.delimiter)
            for line in lines[1:]
            if self.quote not in line and line.count(self.delimiter) == self.width - 1
        )
        rows = [cells for cells, _ in zip(plain, range(_SHAPE_ROWS), strict=False)]
        for number in range(self.width):
            shapes = {_shape(cells[number]) for cells in rows}
            regular = len(rows) >= 5 and len(shapes) <= max(3, len(rows) / 10)
            yield shapes if regular else None


def _shape(cell: bytes) -> bytes:
    """Digits as 9, letters as A, each run once."""
    return re.sub(rb"[A-Za-z\x80-\xff]+", b"A", re.sub(rb"\d+", b"9", cell.strip()))
