"""The lines of a CSV text, seen at some GB a second: how many records they are, and which records
span several."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from recsys.datasets.text_format import TextFormat
from recsys.types import Mask

_BLOCK = 1 << 25
_END = ord("\n")


@dataclass(frozen=True)
class LineBlock:
    """L line ends: their places in the text, whether each lies inside quotes, and the same of the
    end before it."""

    ends_L: np.ndarray
    inside_L: Mask
    before_L: np.ndarray
    inside_before_L: Mask

    @property
    def blank_L(self) -> Mask:
        """Lines that are no part of a record."""
        empty_L = self.ends_L - self.before_L == 1
        return empty_L & ~self.inside_L & ~self.inside_before_L


class UnsoundQuotesError(Exception):
    """A quote stands inside a cell, or is not closed, or a line break is escaped."""


def line_blocks(text: bytes, dialect: TextFormat) -> Iterator[LineBlock]:
    """All line ends, the end of the text among them. Raises UnsoundQuotesError."""
    bytes_N = np.frombuffer(text, np.uint8)
    quote = ord(dialect.quote) if dialect.quote and dialect.quote.encode() in text else None
    if dialect.escape and f"{dialect.escape}\n".encode() in text:
        raise UnsoundQuotesError
    quotes, last_end, last_inside = 0, -1, False
    for start in range(0, len(text), _BLOCK):
        block_N = bytes_N[start : start + _BLOCK]
        ends_L = np.flatnonzero(block_N == _END) + start
        if start + _BLOCK >= len(text) and text[-1] != _END:
            ends_L = np.append(ends_L, len(text))
        inside_L = np.zeros(len(ends_L), bool)
        if quote is not None:
            quotes_Q = np.flatnonzero(block_N == quote) + start
            if not _are_sound(bytes_N, quotes_Q, quotes % 2, dialect):
                raise UnsoundQuotesError
            inside_L = (np.searchsorted(quotes_Q, ends_L) + quotes) % 2 == 1
            quotes += len(quotes_Q)
        if len(ends_L):
            before_L = np.append(last_end, ends_L[:-1])
            yield LineBlock(ends_L, inside_L, before_L, np.append(last_inside, inside_L[:-1]))
            last_end, last_inside = ends_L[-1], inside_L[-1]
    if quotes % 2:
        raise UnsoundQuotesError


def _are_sound(bytes_N: np.ndarray, quotes_Q: np.ndarray, parity: int, dialect: TextFormat) -> bool:
    """Whether each quote that opens a cell (or is the second of a doubled one) has a border or a
    quote before it, and each that closes one has one behind it."""
    borders = np.zeros(256, bool)
    borders[[ord(dialect.delimiter), ord(dialect.quote), _END]] = True
    opening_Q, closing_Q = quotes_Q[parity::2], quotes_Q[1 - parity :: 2]
    opening_Q, closing_Q = opening_Q[opening_Q > 0], closing_Q[closing_Q + 1 < len(bytes_N)]
    return bool(borders[bytes_N[opening_Q - 1]].all() and borders[bytes_N[closing_Q + 1]].all())


def count_records(text: bytes, dialect: TextFormat) -> tuple[int, bool]:
    """The number of records, and whether one spans lines. Raises UnsoundQuotesError."""
    count, spans = 0, False
    for lines in line_blocks(text, dialect):
        count += int((~lines.inside_L & ~lines.blank_L).sum())
        spans |= bool(lines.inside_L.any())
    return count, spans


def records_like_rows(text: bytes, dialect: TextFormat, width: int) -> Iterator[bytes]:
    """The records of several lines whose first line and another one have `width` cells each, if
    quotes meant nothing."""
    blocks = list(line_blocks(text, dialect))
    ends_L = np.concatenate([block.ends_L for block in blocks])
    continued_L = np.concatenate([block.inside_before_L for block in blocks])
    like_row_L = _count_delimiters(text, dialect, ends_L) == width - 1
    lines_L = np.arange(len(ends_L))
    first_L = np.maximum.accumulate(np.where(continued_L, 0, lines_L))
    likely_L = continued_L & like_row_L & like_row_L[first_L]
    last_L = np.flatnonzero(~np.append(continued_L[1:], False))
    for first in np.unique(first_L[likely_L]):
        last = last_L[np.searchsorted(last_L, first)]
        yield text[ends_L[first - 1] + 1 if first else 0 : ends_L[last]]


def _count_delimiters(text: bytes, dialect: TextFormat, ends_L: np.ndarray) -> np.ndarray:
    """The number in each line."""
    bytes_N, delimiter = np.frombuffer(text, np.uint8), ord(dialect.delimiter)
    totals_L, total = np.zeros(len(ends_L), np.int64), 0
    for start in range(0, len(text), _BLOCK):
        delimiters_D = np.flatnonzero(bytes_N[start : start + _BLOCK] == delimiter) + start
        low, high = np.searchsorted(ends_L, [start, start + _BLOCK])
        high = len(ends_L) if start + _BLOCK >= len(text) else high
        totals_L[low:high] = total + np.searchsorted(delimiters_D, ends_L[low:high])
        total += len(delimiters_D)
    return np.diff(totals_L, prepend=0)
