"""Brand recognition: the catalogue's brands in a text, by a dictionary over first characters."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator

from recsys.retrieval.text.scripts import CJK, starts_with_cjk
from recsys.understanding.normalisation import normalise

#: Values of a brand column that name no brand.
NO_BRANDS = frozenset(
    (
        "n/a", "na", "none", "null", "nan", "unknown", "generic", "unbranded", "no brand",
        "does not apply", "other", "others", "brand", "其他", "其它", "无", "无品牌", "未知",
    )
)  # fmt: skip

#: Brands are grouped by so many first characters.
_PREFIX_LENGTH = 3
_STARTS = re.compile(rf"[{CJK}]|(?<![^\W_{CJK}])[^\W_]")
_ENDS = re.compile(rf"[{CJK}]|[\W_]|$")


class Brands:
    """The catalogue's brands, recognised as whole words of a text; Chinese ones anywhere in it.

    Punctuation does not count ("tp link" is TP-Link). Of spellings that differ in case alone the
    first is used. Numbers, single letters and values such as "n/a" are no brands."""

    def __init__(self, brands: Iterable[str]) -> None:
        self._by_prefix: dict[str, dict[str, str]] = defaultdict(dict)
        for brand in brands:
            folded, is_brand = _words_only(brand), brand.strip().casefold() not in NO_BRANDS
            if is_brand and len(folded) > 1 and not folded.isdecimal():
                self._by_prefix[folded[:_PREFIX_LENGTH]].setdefault(folded, brand)

    def longest(self, text: str) -> str | None:
        """The longest brand in the text, as the catalogue spells it."""
        matches = self._matches(_words_only(text))
        longest = max(matches, key=lambda match: len(match[0]), default=None)
        return longest and longest[1]

    def words(self, text: str) -> set[str]:
        """The words of all brands in the text, folded."""
        return {word for folded, _ in self._matches(_words_only(text)) for word in folded.split()}

    def _matches(self, text: str) -> Iterator[tuple[str, str]]:
        for start in (match.start() for match in _STARTS.finditer(text)):
            for length in range(2, _PREFIX_LENGTH + 1):
                for folded, brand in self._by_prefix.get(text[start : start + length], {}).items():
                    if text.startswith(folded, start) and _is_end(text, start + len(folded)):
                        yield folded, brand


def _is_end(text: str, index: int) -> bool:
    return starts_with_cjk(text[index - 1]) or bool(_ENDS.match(text, index))


def _words_only(text: str) -> str:
    return " ".join(re.sub(r"[\W_]+", " ", re.sub("['’]", "", normalise(text).casefold())).split())
