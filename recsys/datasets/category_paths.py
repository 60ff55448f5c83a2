"""Categories of any shape as paths: `a / b`, several of an item joined by NEXT_CATEGORY."""

from __future__ import annotations

import ast
import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys.datasets.casts import cast
from recsys.types import BELOW, NEXT_CATEGORY

#: Texts without these are one category.
_SPECIAL = r"[>»›→|\\/;,\[]|::"
#: Between levels wherever they stand.
_LEVELS = re.compile(r"\s*(?:-?>+|»|›|→|::|\\)\s*")
_SPACED_SLASH = re.compile(r"\s+/\s+")
_SLASH = re.compile(r"(?<![\d\s/])/(?![\s/])|(?<=[\d\s/])/(?=[^\W\d])")
#: "Meat, Seafood & Eggs" is one name.
_ENUMERATION = re.compile(r"(?:&|\b(?:and|und|et|y|e|en|og|och|i|ja)\b)", re.IGNORECASE)
_ESCAPED_COMMA = "\uffff"

Path = tuple[str, ...]


def to_paths(
    column: pa.Array, separator: str | None = None, list_separator: str | None = None
) -> pa.Array:
    """Strings, lists of strings or of objects with a name; null where there is none or no text.

    Levels are parted by > » › → :: \\ or " / ", a slash without spaces or a | where the column
    shows that it is one; categories by ; and by commas where the column shows it. `separator` and
    `list_separator` replace what is guessed from the column."""
    if pa.types.is_list(column.type) or pa.types.is_large_list(column.type):
        return _join_lists(column, separator, list_separator)
    if pa.types.is_struct(column.type):
        fields = [field.name for field in column.type]
        named = column.field("name") if "name" in fields else pa.nulls(len(column), pa.string())
        return to_paths(named, separator, list_separator)
    texts = cast(column, pa.string())
    is_chosen = separator is not None or list_separator is not None
    if not is_chosen and not pc.any(pc.match_substring_regex(texts, _SPECIAL)).as_py():
        return texts
    coded = texts.dictionary_encode()
    values = coded.dictionary.to_pylist()
    style = _Style.of(values, separator, list_separator)
    return pa.array([style.canonical(value) for value in values], pa.string()).take(coded.indices)


def _join_lists(column: pa.Array, separator: str | None, list_separator: str | None) -> pa.Array:
    paths = to_paths(column.flatten(), separator, list_separator)
    lengths = np.asarray(pc.fill_null(pc.list_value_length(column), 0))
    offsets = pa.array(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32))
    lists = pa.ListArray.from_arrays(offsets, pc.fill_null(paths, ""))
    joined = pc.binary_join(lists, NEXT_CATEGORY)
    for pattern, text in ((rf"{NEXT_CATEGORY}+", NEXT_CATEGORY), (r"^\n|\n$", "")):
        joined = pc.replace_substring_regex(joined, pattern, text)
    return pc.if_else(column.is_valid(), joined, pa.scalar(None, pa.string()))


@dataclass(frozen=True, kw_only=True)
class _Style:
    """How the texts of one column are to be read. `names` are its cells that are one category,
    `pieces` counts what stands between commas, `paths` are those parted beyond doubt."""

    separator: str | None
    list_separator: str | None
    has_levels: bool
    names: frozenset[str]
    pieces: Counter[str]
    paths: frozenset[Path]
    slash_parts: bool

    @classmethod
    def of(cls, values: Sequence[str], separator: str | None, list_separator: str | None) -> _Style:
        texts = [value.replace("\\,", _ESCAPED_COMMA) for value in values]
        names = frozenset(text.strip().casefold() for text in texts if "," not in text)
        pieces = Counter(
            piece for text in texts for piece in {each.casefold() for each in _comma_parts(text)}
        )
        has_levels = any(_LEVELS.search(text) for text in texts)
        parted = (
            tuple(level.casefold() for level in _split_levels(part))
            for text in texts
            if _LEVELS.search(text) or _SPACED_SLASH.search(text)
            for part in (text, *_comma_parts(text))
        )
        paths = frozenset(path[:end] for path in parted for end in range(2, len(path) + 1))
        return cls(
            separator=separator,
            list_separator=list_separator,
            has_levels=has_levels,
            names=names,
            pieces=pieces,
            paths=paths,
            slash_parts=not paths and _shows_slashes(texts, names),
        )

    def canonical(self, text: str) -> str:
        """The text's paths; itself where it is one name."""
        text = text.replace("\\,", _ESCAPED_COMMA)
        paths = [self._path(part) for part in self._several(text)]
        joined = NEXT_CATEGORY.join(dict.fromkeys(filter(None, paths)))
        return joined.replace(_ESCAPED_COMMA, ",")

    def _several(self, text: str) -> Iterable[str]:
        listed = _as_list(text)
        if listed is not None:
            return listed
        if self.list_separator:
            return text.split(self.list_separator)
        if ";" in text:
            return [part for each in text.split(";") for part in self._several(each)]
        if "|" in text and self.has_levels and self.separator != "|":
            return [part for each in text.split("|") for part in self._several(each)]
        return _comma_parts(text) if self._has_several(text) else [text]

    def _has_several(self, text: str) -> bool:
        """Whether the commas of a text stand between categories, not inside a name."""
        parts = _comma_parts(text)
        if len(parts) < 2:
            return False
        if all(_LEVELS.search(part) for part in parts) or not re.search(r",\s", text):
            return True
        folded = [part.casefold() for part in parts]
        return any(part in self.names or self.pieces[part] > 1 for part in folded)

    def _path(self, part: str) -> str:
        if self.separator:
            levels = [level.strip() for level in part.split(self.separator)]
        else:
            levels = _split_levels(part, bar=not self.has_levels)
            slashed = [level for level in _SLASH.split(part.strip().strip("/")) if level]
            is_known = tuple(level.strip().casefold() for level in slashed) in self.paths
            if len(levels) == 1 and (self.slash_parts or is_known):
                levels = [level.strip() for level in slashed]
        # A slash within a name must not read as a level.
        names = (level if len(levels) == 1 else level.replace(BELOW, "/") for level in levels)
        return BELOW.join(filter(None, names))


def _split_levels(text: str, bar: bool = False) -> list[str]:
    if _LEVELS.search(text):
        return [level.strip() for level in _LEVELS.split(text.strip())]
    if bar and "|" in text:
        return [level.strip() for level in text.split("|")]
    return [level.strip() for level in _SPACED_SLASH.split(text.strip())]


def _comma_parts(text: str) -> list[str]:
    """What stands between commas, but not within numbers, and not within a name that enumerates:
    "Food, Beverages & Tobacco > Meat, Seafood & Eggs" is one."""
    parts = list[str]()
    for part in re.split(r"(?<!\d),|,(?!\d)", text):
        is_rest = _ENUMERATION.search(_LEVELS.split(part.strip())[0])
        is_path = _LEVELS.search(part) and parts and _LEVELS.search(parts[-1])
        if parts and part[:1] == " " and is_rest and not is_path:
            parts[-1] += f",{part}"
        else:
            parts.append(part)
    return [part.strip() for part in parts if part.strip()]


def _as_list(text: str) -> list[str] | None:
    """The strings of a list as JSON or Python write it."""
    if not (text.startswith("[") and text.endswith("]")):
        return None
    for read in (json.loads, ast.literal_eval):
        with suppress(ValueError, SyntaxError, RecursionError, MemoryError):
            values = read(text)
            return [each for each in values if isinstance(each, str)]
    return None


def _shows_slashes(texts: Sequence[str], names: frozenset[str]) -> bool:
    """Whether most slashes have before them what is a category of its own, or of several; or most
    texts have two slashes or more."""
    split = [_SLASH.split(text.strip().strip("/")) for text in texts if "/" in text.strip("/ ")]
    firsts = [parts[0].strip().casefold() for parts in split if len(parts) > 1]
    counts = Counter(firsts)
    deep = sum(len(parts) > 2 for parts in split)
    shared = sum(first in names or counts[first] > 1 for first in firsts)
    return bool(firsts) and 2 * max(shared, deep) >= len(firsts)
