"""Product identifiers in queries: an index of item ids, GTINs and model numbers, and the rules by
which a token is one."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from stdnum import ean

from recsys.retrieval.text.fields import searchable_fields
from recsys.retrieval.text.scripts import CJK, fold, has_cjk
from recsys.types import Rows

FILE = "codes.arrow"
SCHEMA = pa.schema([("code", pa.string()), ("rows", pa.list_(pa.int32()))])
#: A longer token is no code.
MAX_LENGTH = 40
#: Beside other words a code must have this many characters and be in this few items: CAT5e and
#: GX200 are in more.
DISTINCTIVE_LENGTH, DISTINCTIVE_ITEMS = 5, 5
#: Beside other words a number must have more digits: short item ids are other makers' part numbers
#: too.
DISTINCTIVE_DIGITS = 8
#: A code of digits and dashes alone has this many digits: fewer are sizes and fractions.
DASHED_DIGITS = 5
#: Part of a code is searched for when it has this many characters, and is in this few items.
MIN_PART_LENGTH, MAX_PART_ITEMS = 5, 100
#: An item id of capitals alone has this many letters: fewer are words.
MIN_LETTERS = 4
#: Before the ends of codes, and before ids without a digit, in the index of codes.
_END, _LETTERS = "~", "="
_CHUNK = 100_000

_EDGES = re.compile(r"^[\W_]+|[\W_]+$")
_INNER = str.maketrans("", "", "-./#_")
_SEPARATOR = re.compile("[-./#_]+")
_PART = re.compile(rf"[^\W_{CJK}](?:[^\W{CJK}]|[-./#])*")
_WITH_DIGIT = re.compile(r"\S*\d\S*")
#: Of four digits and more there are no seconds and teeth, and an x at the end stands alone.
_NO_MEASURE = re.compile(r"\d{4,}[st]|.*[^\W\d_]x")
_FRACTION = re.compile(r"\d+/\d")
_LETTER = re.compile(r"[^\W\d_]")
_UNIT = re.compile(
    r"x?(?:x|by|to|h|w|d|l|in|inch|inches|ft|foot|feet|yd|mm|cm|m|km|mil|lb|lbs|oz|g|kg|mg"
    r"|gal|gallon|qt|quart|pt|ml|l|cl|v|volt|volts|vac|vdc|kw|kwh|watt|watts|a|amp|amps|ah|mah|wh"
    r"|hz|khz|mhz|ghz|k|btu|psi|gpm|gpf|cfm|rpm|hp|lm|lumen|lumens|ga|gauge|deg|degree|f|c"
    r"|pk|pack|ct|count|pc|pcs|piece|sq|seer|db|tb|gb|mb|p|way|ply|bit|s|t|th|st|nd|rd|er|xl)?x?"
)


class CodeIndex:
    """Sorted codes, each with the rows of its items ascending; mapped from one Arrow file.

    A code is a token with a digit, compared without case and without - . / # _ inside: an item id,
    a GTIN (8, 12, 13 or 14 digits with a valid check digit; leading zeros do not count), letters
    and digits together, or digits with a dash between. An id of capitals alone is one as a whole
    query. Of a code with - . / # _ inside each end is kept too: part of a code is found by what
    begins with it, else by what has it inside."""

    def __init__(self, table: pa.Table) -> None:
        self._table = table
        self._codes, lists = (_array(table[name]) for name in SCHEMA.names)
        self._starts, self._rows = np.asarray(lists.offsets), np.asarray(lists.values)

    def __len__(self) -> int:
        return len(self._codes)

    @classmethod
    def build(
        cls, item_ids: Sequence[str], titles: Sequence[str], attributes: Sequence[str] | None = None
    ) -> CodeIndex:
        """The codes of I items: their ids, and what is in their titles and attributes."""
        texts = (
            titles if attributes is None else map(" ".join, zip(titles, attributes, strict=True))
        )
        items = enumerate(zip(item_ids, texts, strict=True))
        pairs = (
            (code, row)
            for row, (item_id, text) in items
            for code in sorted(codes_of_item(item_id, text) | ends_of_codes(item_id, text))
        )
        table = _table(pairs).sort_by([("code", "ascending"), ("row", "ascending")])
        counts = pc.value_counts(table["code"].combine_chunks())  # in order of appearance: sorted
        ends = np.cumsum(np.asarray(counts.field("counts")))
        offsets = pa.array(np.concatenate([[0], ends]).astype(np.int32))
        rows = pa.ListArray.from_arrays(offsets, table["row"].combine_chunks())
        return cls(pa.table([counts.field("values"), rows], schema=SCHEMA))

    @classmethod
    def of_items(cls, items: pa.Table) -> CodeIndex:
        """Of the columns of `tables.ITEMS`: by night of all, by day of those that came since."""
        texts = searchable_fields(items)
        columns = (texts["attributes"], *(items[name].to_pylist() for name in ("gtin", "mpn")))
        others = [" ".join(filter(None, values)) for values in zip(*columns, strict=True)]
        return cls.build(items["item_id"].to_pylist(), texts["title"], others)

    def save(self, folder: Path) -> None:
        """Writes codes.arrow; the same items give the same bytes."""
        folder.mkdir(parents=True, exist_ok=True)
        with pa.OSFile(str(folder / FILE), "wb") as sink, pa.ipc.new_file(sink, SCHEMA) as writer:
            writer.write_table(self._table)

    @classmethod
    def load(cls, folder: Path) -> CodeIndex:
        """The index with its file memory-mapped."""
        return cls(pa.ipc.open_file(pa.memory_map(str(folder / FILE))).read_all())

    def rows(self, code: str) -> Rows:
        """The items that have the code, ascending; empty if the catalogue does not have it."""
        return _union(self._rows_of(key) for key in _keys(code))

    def lookup(self, query: str) -> tuple[Rows, bool]:
        """The items that codes in the query name, and whether the whole query is one code.

        The whole may also be typed with spaces for its dashes, unless it reads as a measure ("12
        in"); one that no item has may be part of a code. Beside other words only a distinctive code
        counts: long enough, in few items, and no measure such as 2x4 or 1500-watt."""
        tokens = query.split()
        rows = self._whole(query) if len(tokens) == 1 else self._spaced(tokens)
        if len(rows):
            return rows, True
        parts = {part for token in tokens for part in (token, *_parts(token)) if _is_long(part)}
        distinctive = (rows for rows in map(self.rows, parts) if len(rows) <= DISTINCTIVE_ITEMS)
        return _union(distinctive), False

    def variants(self, query: str) -> Rows:
        """Of a query that is a code, the items whose codes go on from it, by a letter after a digit
        or a digit after a letter: KT-INS114-RED of KT-INS114, no GX2000 of GX200."""
        bare = _bare("".join(query.split()))
        if len(bare) < MIN_PART_LENGTH or bare.isdigit():
            return _NO_ROWS
        rows = _union(
            self._rows_at(index)
            for index in self._keys_from(bare)
            if (next_one := str(self._codes[index])[len(bare) : len(bare) + 1])
            and next_one.isdigit() != bare[-1].isdigit()
        )
        rows = np.setdiff1d(rows, self.lookup(query)[0]).astype(np.int32)
        return rows if len(rows) <= MAX_PART_ITEMS else _NO_ROWS

    def respelled(self, query: str) -> str | None:
        """A code that the query is with O for 0, or 0 for O; None where the catalogue has none, or
        more than one."""
        if len(query.split()) != 1 or not _is_long(query):
            return None
        swapped = {query.replace(*pair) for pair in (("o", "0"), ("0", "o"))} - {query}
        codes = [code for code in sorted(swapped) if len(self.rows(code))]
        return codes[0] if len(codes) == 1 else None

    def _whole(self, token: str) -> Rows:
        bare = _bare(token)
        for rows in (self.rows(token), self._rows_of(_LETTERS + bare)):
            if len(rows):
                return rows
        return _NO_ROWS if is_measure(token) else self._part(bare)

    def _part(self, bare: str) -> Rows:
        """The items with a code that begins with this, or whose end after a dash does; else those
        with one that has it inside. A number of eight digits and more is a GTIN: a wrong one has
        no neighbours, but codes with letters may have it inside; a round one is a quantity."""
        if len(bare) < MIN_PART_LENGTH or not _has_digit(bare):
            return _NO_ROWS
        rows, is_number = _NO_ROWS, bare.isdigit()
        if not is_number or len(bare) < DISTINCTIVE_DIGITS:
            keys = (at for key in (bare, _END + bare) for at in self._keys_from(key))
            rows = _union(map(self._rows_at, keys))
        if not len(rows) and not (is_number and bare.endswith("00")):
            inside = np.flatnonzero(pc.match_substring(self._codes, bare)).tolist()
            lettered = (at for at in inside if _LETTER.search(str(self._codes[at])))
            rows = _union(map(self._rows_at, islice(lettered, MAX_PART_ITEMS + 1)))
        return rows if len(rows) <= MAX_PART_ITEMS else _NO_ROWS

    def _keys_from(self, prefix: str) -> range:
        """Where the keys that begin with the prefix are, of more than MAX_PART_ITEMS the first."""
        low = bisect_left(range(len(self)), prefix, key=lambda index: str(self._codes[index]))
        high = low
        while high < len(self) and high - low <= MAX_PART_ITEMS:
            if not str(self._codes[high]).startswith(prefix):
                break
            high += 1
        return range(low, high)

    def _rows_at(self, index: int) -> Rows:
        return self._rows[self._starts[index] : self._starts[index + 1]]

    def _spaced(self, tokens: Sequence[str]) -> Rows:
        """Of a code with spaces for its dashes, or of part of one: no long words then."""
        joined = "-".join(tokens)
        if not 0 < len(joined) <= MAX_LENGTH or is_measure(joined):
            return _NO_ROWS
        rows, is_part = self.rows(joined), all(_is_short(token) for token in tokens)
        return self._part(_bare(joined)) if is_part and not len(rows) else rows

    def _rows_of(self, key: str) -> Rows:
        index = bisect_left(range(len(self)), key, key=lambda index: str(self._codes[index]))
        if index == len(self) or str(self._codes[index]) != key:
            return _NO_ROWS
        return self._rows_at(index)


_NO_ROWS: Rows = np.zeros(0, dtype=np.int32)


def codes_of_item(item_id: str, text: str) -> set[str]:
    """The codes of one item, as they are compared: its id, and those in its text."""
    codes = set(_keys(item_id)) if len(item_id.split()) == 1 else set()
    for token in _WITH_DIGIT.findall(text):
        codes.update(_codes_in(token))
    return codes


def ends_of_codes(item_id: str, text: str) -> set[str]:
    """Keys of the ends of an item's codes, TN450 of KVX-TN450; and that of an id without digits."""
    bare, is_word = _bare(item_id), len(item_id.split()) == 1 and item_id.isupper()
    is_letters = is_word and bare.isalpha() and len(bare) >= MIN_LETTERS
    keys = {_LETTERS + bare} if is_letters else set()
    for token in (item_id, *_WITH_DIGIT.findall(text)):
        if len(token.split()) == 1 and _SEPARATOR.search(token):
            keys.update(_ends_of(token))
    return keys


@lru_cache(maxsize=100_000)
def _ends_of(token: str) -> tuple[str, ...]:
    if not _is_code(token) or is_measure(token):
        return ()
    folded = _folded(token)
    ends = (_bare(folded[match.end() :]) for match in _SEPARATOR.finditer(folded))
    return tuple(_END + end for end in ends if len(end) >= MIN_PART_LENGTH and _has_digit(end))


@lru_cache(maxsize=100_000)
def _codes_in(token: str) -> tuple[str, ...]:
    return tuple(key for part in (token, *_parts(token)) if _is_code(part) for key in _keys(part))


def is_measure(token: str) -> bool:
    """Whether a token is a size, count or rating ("12in", "2x4", "1500-watt", "3-light"), not a
    model number."""
    folded = _folded(token)
    if not folded[:1].isdigit():
        return False
    if _NO_MEASURE.fullmatch(folded):
        return False
    letters = re.findall(r"[^\W\d_]+", folded)
    if all(map(_UNIT.fullmatch, letters)):
        return bool(letters) or bool(_FRACTION.search(folded))
    return re.fullmatch(r"\d{1,4}(-[^\W\d_]{3,})+|\d{1,3}[^\W\d_]{4,}", folded) is not None


def is_gtin(digits: str) -> bool:
    """GS1: 8, 12, 13 or 14 digits, the last of them a check digit of the others."""
    return digits.isascii() and digits.isdigit() and ean.is_valid(digits)


def _folded(token: str) -> str:
    return _EDGES.sub("", fold(token))


def _bare(token: str) -> str:
    return _folded(token).translate(_INNER)


def _has_digit(text: str) -> bool:
    return any(map(str.isdecimal, text))


def _keys(token: str) -> list[str]:
    """What a token is looked up as: itself, bare, and as 14 digits if it is a GTIN."""
    bare = _bare(token)
    if not 0 < len(bare) <= MAX_LENGTH or not _has_digit(bare):
        return []
    return [bare, bare.zfill(14)] if is_gtin(bare) and len(bare) < 14 else [bare]


def _is_code(token: str) -> bool:
    """Whether a token of a title is a code by its looks."""
    bare = _bare(token)
    if len(bare) > MAX_LENGTH or has_cjk(bare):
        return False
    if any(map(str.isalpha, bare)):
        return _has_digit(bare)
    dashed = "-" in _folded(token) and len(bare) >= DASHED_DIGITS and not _FRACTION.search(token)
    return (dashed and bare.isdigit()) or is_gtin(bare)


def _is_long(token: str) -> bool:
    bare = _bare(token)
    shortest = DISTINCTIVE_DIGITS if bare.isdigit() else DISTINCTIVE_LENGTH
    return len(bare) >= shortest and not is_measure(token)


def _is_short(token: str) -> bool:
    """Whether a token may be a piece of a code: with a digit, or too short for most words."""
    return _has_digit(token) or len(token) < MIN_LETTERS


def _parts(token: str) -> Iterator[str]:
    """Pieces of a token that may be codes themselves: between other punctuation, Chinese, or
    slashes."""
    for part in _PART.findall(token):
        yield part
        if "/" in part:
            yield from part.split("/")


def _union(rows: Iterable[Rows]) -> Rows:
    lists = [each for each in rows if len(each)]
    if len(lists) < 2:
        return lists[0] if lists else _NO_ROWS
    return np.unique(np.concatenate(lists))


def _table(pairs: Iterable[tuple[str, int]]) -> pa.Table:
    """Columns code and row, converted in chunks: Python strings are ten times as large."""
    schema = pa.schema([("code", pa.string()), ("row", pa.int32())])
    batches, codes, rows = [], list[str](), list[int]()
    for code, row in pairs:
        codes.append(code)
        rows.append(row)
        if len(codes) == _CHUNK:
            batches.append(pa.record_batch([codes, rows], schema=schema))
            codes, rows = [], []
    batches.append(
        pa.record_batch([pa.array(codes, pa.string()), pa.array(rows, pa.int32())], schema=schema)
    )
    return pa.Table.from_batches(batches, schema)


def _array(column: pa.ChunkedArray) -> pa.Array:
    """One array; of one chunk it is that chunk, not a copy."""
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
