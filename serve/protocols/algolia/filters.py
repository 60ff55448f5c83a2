"""Algolia's languages of filters, `filters`, `facetFilters` and `numericFilters`, as
`recsys.types.Filters`."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from recsys.types import Filters
from serve.protocols.algolia.fields import compared, equal_to, within
from serve.routes.errors import RequestError

#: Conditions of one request.
MAX_LEAVES = 200
#: Parentheses within parentheses.
MAX_DEPTH = 20
_OPERATOR = r"<=|>=|!=|<|>|="
_TOKEN = re.compile(
    rf"""\s*(?:(?P<open>\()|(?P<close>\))|(?P<operator>{_OPERATOR})|(?P<colon>:)
    |"(?P<double>(?:[^"\\]|\\.)*)"|'(?P<single>(?:[^'\\]|\\.)*)'
    |(?P<word>(?:[^\s():<>=!"']|(?<=\w)['"]|!(?!=))+))""",
    re.VERBOSE,
)
_SCORE = re.compile(r"<score=\d+>")
_NUMERIC = re.compile(rf"^(?P<name>.+?)\s*(?P<operator>{_OPERATOR})\s*(?P<value>[^<>=!]+)$")
_BETWEEN = re.compile(r"^(?P<name>[^:]+):\s*(?P<low>\S+)\s+TO\s+(?P<high>\S+)$")
_FORM = "such as brand:acme AND (price < 10 OR NOT in_stock:true)"


def conjunction(parts: Sequence[Filters]) -> Filters:
    """What passes each of them."""
    parts = [part for part in parts if part != Filters()]
    return parts[0] if len(parts) == 1 else Filters(any_of=tuple((part,) for part in parts))


def disjunction(parts: Sequence[Filters]) -> Filters:
    """What passes one of them at least."""
    return parts[0] if len(parts) == 1 else Filters(any_of=(tuple(parts),))


def parse_filters(text: str) -> Filters:
    """Of `filters`. OR binds tighter than AND, since Algolia has no AND within an OR; NOT and
    parentheses may stand anywhere. Raises RequestError where it stops making sense."""
    return _Parser(text).whole() if text.strip() else Filters()


class _Parser:
    """Recursive descent, a method a rule."""

    def __init__(self, text: str) -> None:
        self.text, self.tokens, self.at = text, list(_tokens(text)), 0
        self.leaves = self.depth = 0

    def whole(self) -> Filters:
        filters = self._series("AND", lambda: self._series("OR", self._term, disjunction))
        if self.at < len(self.tokens):
            raise self._refusal()
        return filters

    def _series(
        self,
        word: str,
        part: Callable[[], Filters],
        join: Callable[[Sequence[Filters]], Filters] = conjunction,
    ) -> Filters:
        parts = [part()]
        while self._accept("word", word):
            parts.append(part())
        return join(parts)

    def _term(self) -> Filters:
        if self._accept("word", "NOT"):
            return Filters(none_of=(self._term(),))
        if not self._accept("open"):
            return self._condition()
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise self._refusal()
        inside = self._series("AND", lambda: self._series("OR", self._term, disjunction))
        self.depth -= 1
        self._require("close")
        return inside

    def _condition(self) -> Filters:
        self.leaves += 1
        if self.leaves > MAX_LEAVES:
            raise RequestError("filters", f"{self.leaves} conditions", f"at most {MAX_LEAVES}")
        name = self._require("word", "text")
        if self._accept("colon"):
            value = self._require("word", "text")
            if self._accept("word", "TO"):
                return within(name, value, self._require("word"))
            return equal_to(name, value)
        if self._peek()[0] == "operator":
            return compared(name, self._require("operator"), self._require("word", "text"))
        return equal_to("_tags", name)

    def _peek(self) -> tuple[str, str]:
        return self.tokens[self.at] if self.at < len(self.tokens) else ("end", "")

    def _accept(self, kind: str, word: str | None = None) -> bool:
        token = self._peek()
        accepts = token[0] == kind and word in (None, token[1])
        self.at += accepts
        return accepts

    def _require(self, *kinds: str) -> str:
        kind, value = self._peek()
        if kind not in kinds or (kind == "word" and value in ("AND", "OR", "NOT")):
            raise self._refusal()
        self.at += 1
        return value

    def _refusal(self) -> RequestError:
        place = self._peek()[1] or "its end"
        message = f"filters: {self.text[:100]!r} is no filter at {place[:50]!r}: give one {_FORM}"
        return RequestError("filters", self.text, _FORM, message=message)


def _tokens(text: str) -> Iterator[tuple[str, str]]:
    """(kind, value); a quoted text is of kind `text`."""
    text, at = _SCORE.sub("", text).rstrip(), 0
    while at < len(text):
        if (match := _TOKEN.match(text, at)) is None:
            message = f"filters: {text[at : at + 50]!r} cannot be read: give one {_FORM}"
            raise RequestError("filters", text, _FORM, message=message)
        kind, at = str(match.lastgroup), match.end()
        value = match[kind]
        if kind in ("double", "single"):
            kind, value = "text", re.sub(r"\\(.)", r"\1", value)
        yield kind, value


def parse_facet_filters(value: Any) -> Filters:
    """Of `facetFilters`: lists within a list are alternatives; `brand:-acme` is all but that."""
    return _nested("facetFilters", value, _facet_condition)


def parse_numeric_filters(value: Any) -> Filters:
    """Of `numericFilters`, such as `price>=10` or `price:10 TO 20`."""
    return _nested("numericFilters", value, _numeric_condition)


def _nested(parameter: str, value: Any, condition: Callable[[str], Filters]) -> Filters:
    """A list of conditions, all to be met, or of lists of them, one of each to be met."""
    parts = _as_list(parameter, value)
    count = sum(len(part) if isinstance(part, list) else 1 for part in parts)
    if count > MAX_LEAVES:
        raise RequestError(parameter, f"{count} conditions", f"at most {MAX_LEAVES}")
    alternatives = [part if isinstance(part, list) else [part] for part in parts]
    if any(not isinstance(each, str) for part in alternatives for each in part):
        raise RequestError(parameter, value, "a list of texts, or of lists of texts")
    return conjunction([disjunction([*map(condition, part)]) for part in alternatives if part])


def _as_list(parameter: str, value: Any) -> list[Any]:
    """A list, as JSON or in the older form: a text with commas, alternatives in parentheses."""
    if isinstance(value, str):
        if not value.strip():
            return []
        if value.lstrip().startswith("["):
            try:
                value = json.loads(value)
            except ValueError:
                raise RequestError(parameter, value, "a list as JSON") from None
        else:
            parts = re.findall(r"\(([^()]*)\)|([^,()]+)", value)
            value = [group.split(",") if group else single for group, single in parts]
    if not isinstance(value, list):
        raise RequestError(parameter, value, "a list of texts, or of lists of texts")
    return value


def _facet_condition(text: str) -> Filters:
    name, colon, value = text.partition(":")
    if not colon or not name.strip():
        raise RequestError("facetFilters", text, "facet:value")
    if value.startswith("-"):
        return Filters(none_of=(equal_to(name.strip(), value[1:]),))
    return equal_to(name.strip(), value.removeprefix("\\"))


def _numeric_condition(text: str) -> Filters:
    if match := _BETWEEN.match(text.strip()):
        return within(match["name"].strip(), match["low"], match["high"])
    if match := _NUMERIC.match(text.strip()):
        return compared(match["name"].strip(), match["operator"], match["value"].strip())
    raise RequestError("numericFilters", text, "such as price>=10 or price:10 TO 20")
