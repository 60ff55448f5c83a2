"""JSON files as tables: an object a line, a list of objects, objects one after the other, or an
object with the list inside. What is no object is a row of nulls with its text in `LINE`."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Sequence
from functools import cached_property
from typing import Any

import pyarrow as pa

from recsys.datasets.text_files import insert_malformed
from recsys.errors import InputError

_DECODER = json.JSONDecoder()
_SPACE = re.compile(r"[\s,]*")
#: Half of a character outside the basic plane: JSON can say it, no text can hold it.
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
_MAX_DEPTH = 4


class JsonFile:
    """`names` are of columns that rows have: an object with none of them may be a list's wrapper.
    `records` is the dotted path of the list in it, None for the only one. In a `damaged` text
    U+FFFD stands for bytes that could not be read."""

    def __init__(
        self,
        text: str,
        path: str,
        *,
        records: str | None = None,
        names: Collection[str] = (),
        damaged: bool = False,
    ) -> None:
        self._text, self._path, self._records = text, path, records
        self._known = {name.casefold() for name in names}
        # Half of a character has no text: its row is no better than one of damaged bytes.
        self._doubtful = damaged or _SURROGATE.search(text) is not None

    @cached_property
    def _lines(self) -> list[str] | None:
        """The lines that are not blank, if each is a row."""
        lines = [line for line in self._text.split("\n") if line.strip()]
        if len(lines) < 2 or lines[0].lstrip()[0] == "[":
            return None if lines else []
        objects = [isinstance(_parse_line(line), dict) for line in lines[:100]]
        if objects[0] or (self._whole is None and 2 * sum(objects) >= len(objects)):
            return lines
        return None

    @cached_property
    def _whole(self) -> Any:
        return _parse(self._text)

    @cached_property
    def _rows(self) -> list[tuple[dict[str, Any] | None, str]]:
        """Every row's object, or None and its text."""
        values = self._values() if self._lines is None else map(_parse_line, self._lines)
        return [_checked(value, self._doubtful) for value in values]

    @property
    def num_rows(self) -> int:
        return len(self._rows) if self._lines is None else len(self._lines)

    @cached_property
    def names(self) -> list[str]:
        return list(dict.fromkeys(name for record, _ in self._rows if record for name in record))

    def read(self, columns: Sequence[int], start: int, rows: int) -> pa.Table:
        """Columns of the types that Arrow infers."""
        records = [record for record, _ in self._rows if record is not None]
        names = [self.names[column] for column in columns]
        arrays = [to_column([record.get(name) for record in records]) for name in names]
        lines = {n: text for n, (record, text) in enumerate(self._rows) if record is None}
        return insert_malformed(pa.table(arrays, names), lines).slice(start, rows)

    def _values(self) -> Iterator[Any]:
        """The rows of a text that has not one a line; what cannot be parsed as text."""
        whole = self._unwrap(self._whole) if isinstance(self._whole, dict) else self._whole
        if isinstance(whole, list):
            return iter(whole)
        return _parse_one_by_one(self._text)

    def _unwrap(self, whole: dict[str, Any]) -> list[Any]:
        all_lists = dict(_lists_of_objects(whole))
        lists = {path: rows for path, rows in all_lists.items() if rows}
        if self._records is not None:
            if self._records not in all_lists:
                names = ", ".join(all_lists) or "none"
                raise InputError(
                    f"{self._path} has no list of objects {self._records!r}, only {names}"
                )
            return all_lists[self._records]
        own = self._hits(whole)
        if not lists:
            return [whole] if own or (whole and not all_lists) else []
        depth = min(path.count(".") for path in lists)
        nearest = [path for path in lists if path.count(".") == depth]
        hits = [self._hits(lists[path][0]) for path in nearest]
        if own and own >= max(hits):
            return [whole]
        best = [path for path, hit in zip(nearest, hits, strict=True) if hit == max(hits)]
        if len(best) > 1:
            raise InputError(
                f"{self._path} holds the lists {', '.join(best)}: say by records= which has the "
                "rows"
            )
        return lists[best[0]]

    def _hits(self, record: dict[str, Any]) -> int:
        return len(self._known & {name.casefold() for name in record})


def _lists_of_objects(
    value: dict[str, Any], prefix: str = "", depth: int = 0
) -> Iterator[tuple[str, list[Any]]]:
    """Every list of objects within, and every empty one, by its dotted path."""
    for name, inner in value.items():
        if isinstance(inner, list) and isinstance(next(iter(inner), {}), dict):
            yield prefix + name, inner
        elif isinstance(inner, dict) and depth < _MAX_DEPTH:
            yield from _lists_of_objects(inner, f"{prefix}{name}.", depth + 1)


def _parse(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _parse_line(line: str) -> Any:
    """What it holds; itself if that cannot be parsed."""
    value = _parse(line)
    if value is None:  # lines of a list without its brackets
        value = _parse(line.rstrip().rstrip(","))
    return value if isinstance(value, dict) else line


def _checked(value: Any, doubtful: bool) -> tuple[dict[str, Any] | None, str]:
    """An object and no text; for what is none, or is no sound text, its text."""
    record = isinstance(value, dict)
    if record and not doubtful:
        return value, ""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    sound = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if record and "\ufffd" not in sound:
        return value, ""
    return None, json.dumps(value) if record else sound


def _parse_one_by_one(text: str) -> Iterator[Any]:
    """Values with white space or commas between them, in a list that may be cut short; what cannot
    be parsed goes up to the end of its line."""
    position = _SPACE.match(text).end()  # type: ignore[union-attr]
    if text[position : position + 1] == "[":
        position += 1
    while True:
        position = _SPACE.match(text, position).end()  # type: ignore[union-attr]
        if position >= len(text) or not text[position:].strip("] \n\t"):
            return
        try:
            value, position = _DECODER.raw_decode(text, position)
            yield value
        except (ValueError, RecursionError):
            stop = text.find("\n", position) + 1 or len(text)
            yield text[position:stop].strip()
            position = stop


def to_column(values: list[Any]) -> pa.Array:
    """A column as Arrow infers it; values of several types as texts."""
    try:
        return pa.array(values)
    except (pa.ArrowException, ValueError, OverflowError):
        return pa.array(
            [
                value
                if value is None or isinstance(value, str)
                else json.dumps(value, ensure_ascii=False)
                for value in values
            ],
            pa.string(),
        )
