"""Attribute values of the catalogue that a query names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from recsys.understanding.brands import Brands
from recsys.understanding.facts import Facts

#: An attribute with more values than this describes single items, and none of it is looked for.
MAX_VALUES = 20_000
#: Between the levels of a value; a query names the last.
_BELOW = " / "
#: What `facts` recognises by patterns, by the names that shops give the attribute.
_PATTERNS = {"colour": "colour", "color": "colour", "farbe": "colour", "size": "size"}


class AttributeValues:
    """The values of each attribute, recognised as whole words. Of an attribute of which a text
    names two values none counts: it may want either. Numbers and single letters count only where
    the text says that they are a size."""

    def __init__(self, values: Mapping[str, Iterable[str]]) -> None:
        self._values = {
            name: {value.rpartition(_BELOW)[2].casefold(): value for value in each if value}
            for name, each in ((name, tuple(each)) for name, each in values.items())
            if len(each) <= MAX_VALUES
        }
        self._matchers = {name: Brands(each) for name, each in self._values.items()}

    def named(self, text: str, facts: Facts) -> Facts:
        """The value of each attribute that the text names, as the catalogue spells it."""
        named: Facts = {}
        for name, matcher in self._matchers.items():
            folded = matcher.longest(text)
            if folded is not None and self._another(matcher, text, folded):
                continue
            if folded is None:
                folded = str(facts.get(_PATTERNS.get(name.casefold(), ""), "")).casefold()
            if folded in self._values[name]:
                named[name] = self._values[name][folded]
        return named

    def words(self, text: str) -> set[str]:
        """The words of all values in the text, folded."""
        return {word for matcher in self._matchers.values() for word in matcher.words(text)}

    def _another(self, matcher: Brands, text: str, folded: str) -> bool:
        """Whether the text names one beside this."""
        other = matcher.longest(text.replace(folded, " ", 1))
        return other is not None and other != folded
