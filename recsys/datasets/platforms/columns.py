"""Columns of an export by the platform's names, and what is made of several of them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys.datasets.casts import cast, decode_layout, to_array, to_mask, trim
from recsys.datasets.image_cells import read_cells
from recsys.types import Mask

_ESCAPED = ("\ufdd0", "\ufdd1")  # no characters
_NO_TEXT = pa.scalar(None, pa.string())


class ExportColumns:
    """The columns of a raw table by name, without regard to case. Cells are trimmed texts; an empty
    one is null."""

    def __init__(self, raw: pa.Table) -> None:
        self._raw = raw
        self._names: dict[str, str] = {}
        for name in raw.column_names:
            self._names.setdefault(name.strip().casefold(), name)

    @property
    def rows(self) -> int:
        return self._raw.num_rows

    def __contains__(self, name: str) -> bool:
        return name.casefold() in self._names

    def __getitem__(self, name: str) -> pa.Array:
        """The column of this name, nulls where the export has none."""
        return self.first_of(name)

    def first_of(self, *names: str) -> pa.Array:
        """Of each row the first cell with a value in the columns of these names."""
        texts = [self._text(self._names[name.casefold()]) for name in names if name in self]
        return pc.coalesce(*texts) if texts else pa.nulls(self.rows, pa.string())

    def references(self, name: str) -> pa.Array:
        """The column's pictures, as `image_cells.read_cells` reads any kind of them."""
        return read_cells(_array(decode_layout(self._raw[self._names[name.strip().casefold()]])))

    def matching(self, pattern: str) -> list[tuple[re.Match[str], pa.Array]]:
        """The columns whose whole name matches, in the file's order."""
        matches = [
            (re.fullmatch(pattern, name, re.IGNORECASE), name) for name in self._raw.schema.names
        ]
        return [(match, self._text(name)) for match, name in matches if match]

    def _text(self, name: str) -> pa.Array:
        text = trim(cast(to_array(decode_layout(self._raw[name])), pa.string()))
        return pc.if_else(pc.equal(text, ""), _NO_TEXT, text)


def words_mask(column: pa.Array, words: Iterable[str]) -> Mask:
    """Where the cell is one of the words, in any case."""
    return to_mask(pc.is_in(pc.utf8_lower(column), value_set=pa.array(list(words), pa.string())))


def where(mask: Mask, values: pa.Array) -> pa.Array:
    """The values where the mask says so, null elsewhere."""
    return pc.if_else(pa.array(mask), values, pa.scalar(None, values.type))


def first_of_key(keys: pa.Array, values: pa.Array) -> pa.Array:
    """For each row the first value that a row of the same key has; a row without a key has its
    own."""
    coded = keys.dictionary_encode()
    codes = np.asarray(coded.indices.fill_null(-1))
    rows = np.flatnonzero(to_mask(pc.is_valid(values)) & (codes >= 0))[::-1]
    firsts = np.full(len(coded.dictionary) + 1, -1)
    firsts[codes[rows]] = rows  # the first of a key is written last
    sources = np.where(codes >= 0, firsts[codes], np.arange(len(codes)))
    return values.take(pa.array(sources, mask=sources < 0))


def all_of_key(keys: pa.Array, values: pa.Array, separator: str) -> pa.Array:
    """For each row the values that rows of the same key have, in order; null where none has."""
    table = pa.table({"key": keys, "value": values}).filter(pc.is_valid(values))
    lists = table.group_by("key", use_threads=False).aggregate([("value", "list")])
    joins = pc.binary_join(lists["value_list"].combine_chunks(), separator)
    return joins.take(pc.index_in(keys, value_set=lists["key"].combine_chunks()))


def inherited(keys: pa.Array, values: pa.Array) -> pa.Array:
    """The row's own value, or the first that a row of the same key has."""
    return pc.coalesce(values, first_of_key(keys, values))


def begins_key(keys: pa.Array) -> Mask:
    """Where a key stands for the first time."""
    codes = np.asarray(keys.fill_null("").dictionary_encode().indices)
    firsts = np.zeros(len(codes), bool)
    firsts[np.unique(codes, return_index=True)[1]] = True
    return firsts


def number_in_key(keys: pa.Array) -> pa.Array:
    """1 for a key's first row, 2 for its second, ..."""
    codes = np.asarray(keys.fill_null("").dictionary_encode().indices)
    order = np.argsort(codes, kind="stable")
    counts = np.bincount(codes) if len(codes) else np.empty(0, np.int64)
    starts = np.repeat(np.cumsum(counts) - counts, counts)
    numbers = np.empty(len(codes), np.int64)
    numbers[order] = np.arange(len(codes)) - starts + 1
    return pa.array(numbers).cast(pa.string())


def joined(separator: str, *parts: pa.Array) -> pa.Array:
    """The parts of each row that are not null, with the separator between; null where all are."""
    # Arrow's join drops a row whose parts are all null: each begins with an empty one.
    first = pa.array([""] * len(parts[0]), pa.string())
    texts = pc.binary_join_element_wise(first, *parts, separator, null_handling="skip")
    texts = pc.utf8_slice_codeunits(texts, start=len(separator), stop=None)
    empty = np.logical_and.reduce([to_mask(pc.is_null(part)) for part in parts])
    return where(~empty, texts)


def attribute_objects(attributes: Sequence[tuple[pa.Array | str, pa.Array]]) -> pa.Array:
    """(names, values) as one JSON object a row, without what is null; null where it is empty."""
    pairs = [_pair(names, values) for names, values in attributes]
    if not pairs:
        raise ValueError(f"{attributes!r}: at least one attribute makes an object")
    inside = joined(", ", *pairs)
    return pc.binary_join_element_wise("{", inside, "}", "")


def _pair(names: pa.Array | str, values: pa.Array) -> pa.Array:
    name = _quoted(
        pa.array([names] * len(values), pa.string()) if isinstance(names, str) else names
    )
    return pc.binary_join_element_wise(name, _quoted(values), ": ")


def _quoted(texts: pa.Array) -> pa.Array:
    """JSON strings; control characters become spaces."""
    if pc.any(pc.match_substring_regex(texts, r'["\\\x00-\x1f]')).as_py():
        texts = pc.replace_substring(pc.replace_substring(texts, "\\", "\\\\"), '"', '\\"')
        texts = pc.replace_substring_regex(texts, r"[\x00-\x1f]+", " ")
    return pc.binary_join_element_wise('"', texts, '"', "")


def _array(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column


def category_lists(column: pa.Array, separator: str, level: str) -> pa.Array:
    """The paths of each row, with ` > ` between their levels. A separator after a backslash is
    part of a name."""
    for mark, escaped in ((separator, _ESCAPED[0]), (level, _ESCAPED[1])):
        column = pc.replace_substring(column, f"\\{mark}", escaped)
    lists = pc.split_pattern(column, separator)
    paths = pc.replace_substring(pc.utf8_trim_whitespace(lists.flatten()), level, " > ")
    for mark, escaped in ((separator, _ESCAPED[0]), (level, _ESCAPED[1])):
        paths = pc.replace_substring(paths, escaped, mark)
    return pa.ListArray.from_arrays(lists.offsets, paths, mask=pc.is_null(column))


def distinct_map(column: pa.Array, function: Callable[[str], str | None]) -> pa.Array:
    """The function of each cell, called once for each distinct one; null stays null."""
    coded = column.dictionary_encode()
    values = pa.array([function(value) for value in coded.dictionary.to_pylist()], pa.string())
    return values.take(coded.indices)
