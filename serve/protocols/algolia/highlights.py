"""`_highlightResult` and `_snippetResult`: which words of a record's texts the query matches.

As with Algolia, what stands between the tags is not escaped: it is the catalogue's text, and
front-ends escape it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from recsys.retrieval.text.highlights import Highlighter, Range

#: Texts of a record, in which words are highlighted.
FIELDS = ("title", "name", "brand", "description", "category", "categories", "attributes")
SNIPPET_WORDS = 10
#: Of a longer text the beginning is read.
MAX_TEXT = 2_000
_WORD = re.compile(r"\S+")


@dataclass(frozen=True, kw_only=True)
class QueryHighlights:
    """The highlights of one query, between two tags."""

    query: str = field(kw_only=False)
    before: str = "<em>"
    after: str = "</em>"
    ellipsis: str = "…"
    _cache: dict[str, tuple[tuple[Range, ...], list[str]]] = field(default_factory=dict)

    @cached_property
    def words(self) -> list[str]:
        return list(dict.fromkeys(self.query.split()))

    @cached_property
    def _whole(self) -> Highlighter:
        return Highlighter(self.query)

    @cached_property
    def _by_word(self) -> list[tuple[str, Highlighter]]:
        return [(word, Highlighter(word)) for word in self.words]

    def of(self, record: Mapping[str, Any], names: Sequence[str] | None) -> dict[str, Any]:
        """Of these attributes of a record; of all its texts where none or `*` is named."""
        names = FIELDS if names is None or "*" in names else names
        return _by_name(record, names, self._highlight)

    def snippets(self, record: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
        """Of attributes such as `description:20`, a number of words around the first match."""
        lengths = dict(_lengths(names))
        if "*" in lengths:
            lengths = dict.fromkeys(FIELDS, lengths["*"]) | lengths
        result: dict[str, Any] = {}
        for name, words in lengths.items():
            result |= _by_name(record, [name], lambda text, words=words: self._snippet(text, words))
        return result

    def marked(self, text: str) -> str:
        """A value of a facet, with the beginnings of words that the query names between the
        tags."""
        if not self.words:
            return text
        words = "|".join(map(re.escape, sorted(self.words, key=len, reverse=True)))
        pattern = re.compile(rf"(?<!\w)(?:{words})", re.IGNORECASE)
        return self._tagged(text, [match.span() for match in pattern.finditer(text)])

    def words_in(self, text: str) -> list[str]:
        """The words of the query that are in it."""
        return self._match(text)[1]

    def _match(self, text: str) -> tuple[tuple[Range, ...], list[str]]:
        """The ranges of a text, and the words of the query that are in it."""
        if not self.words:
            return (), []
        if text not in self._cache:
            ranges = self._whole.ranges(text[:MAX_TEXT])
            matches = [word for word, each in self._by_word if each.ranges(text[:MAX_TEXT])]
            self._cache[text] = ranges, matches if ranges else []
        return self._cache[text]

    def _highlight(self, text: str) -> dict[str, Any]:
        ranges, matches = self._match(text)
        result: dict[str, Any] = {
            "value": self._tagged(text, ranges),
            "matchLevel": self._level(matches),
            "matchedWords": matches,
        }
        if matches:
            covered = sum(end - start for start, end in ranges)
            result["fullyHighlighted"] = covered >= len(text.replace(" ", ""))
        return result

    def _snippet(self, text: str, words: int) -> dict[str, Any]:
        ranges, matches = self._match(text)
        spans = [match.span() for match in _WORD.finditer(text)]
        if not spans:
            return {"value": text, "matchLevel": "none"}
        first = ranges[0][0] if ranges else 0
        at = max((n for n, (start, _) in enumerate(spans) if start <= first), default=0)
        low = max(0, min(at - words // 3, len(spans) - words))
        window = spans[low : low + words] or spans[:1]
        start, end = window[0][0], window[-1][1]
        inside = [(max(a, start), min(b, end)) for a, b in ranges if a < end and b > start]
        part = self._tagged(text[start:end], [(a - start, b - start) for a, b in inside])
        value = (self.ellipsis if low else "") + part
        value += self.ellipsis if low + words < len(spans) else ""
        return {"value": value, "matchLevel": self._level(matches)}

    def _level(self, matches: Sequence[str]) -> str:
        if not matches:
            return "none"
        return "full" if len(matches) == len(self.words) else "partial"

    def _tagged(self, text: str, ranges: Sequence[Range]) -> str:
        parts, at = list[str](), 0
        for start, end in ranges:
            parts += [text[at:start], self.before, text[start:end], self.after]
            at = end
        return "".join([*parts, text[at:]])


def _lengths(names: Sequence[str]) -> Iterator[tuple[str, int]]:
    for each in names:
        name, _, words = each.partition(":")
        yield (
            name,
            min(int(words), 1_000) if words.isascii() and words.isdecimal() else SNIPPET_WORDS,
        )


def _by_name(record: Mapping[str, Any], names: Sequence[str], make: Any) -> dict[str, Any]:
    """The named attributes with each text in them replaced; `attributes.colour` is nested."""
    result: dict[str, Any] = {}
    for name in names:
        top, _, below = name.partition(".")
        value = record.get(top)
        if below:
            part = value.get(below) if isinstance(value, Mapping) else None
            if (made := _each(part, make)) is not None:
                result.setdefault(top, {})[below] = made
        elif (made := _each(value, make)) is not None:
            result[top] = made
    return result


def _each(value: Any, make: Any) -> Any:
    """The value with its texts replaced; None where it has none."""
    if isinstance(value, str):
        return make(value)
    if isinstance(value, list):
        return [make(str(each)) for each in value]
    if isinstance(value, Mapping):
        parts = {name: _each(each, make) for name, each in value.items()}
        return {name: part for name, part in parts.items() if part is not None}
    if isinstance(value, int | float) and not isinstance(value, bool):
        return make(f"{value:g}")
    return None
