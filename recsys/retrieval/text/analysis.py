"""Text to terms, for items and queries alike, in any language; and where in the text each term
stands."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, NamedTuple

_HAN = "\u3005\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003134f"
_CJK = _HAN + "\u3040-\u30ff\uac00-\ud7af"
_NUMBER = r"\d+(?:[.,/]\d+)*"
_WORD = rf"(?:{_NUMBER}|[^\W\d_{_CJK}][^\W_{_CJK}]*)"
_POSSESSIVE = r"['’]s\b"
_BY = r"(?<=\d)\s*x\s*(?=\d)"  # 4x8, 4 x 8: two numbers
_TOKEN = re.compile(rf"{_POSSESSIVE}|{_BY}|([{_CJK}]+)|({_WORD}(?:[-_]{_WORD})*)")
_ALL_HAN = re.compile(f"[{_HAN}]+")
_FRACTION = re.compile("[¼-¾⅐-⅞]")

#: Units of measure as Home Depot's titles write them: there the long and the short form are the
#: same word.
UNITS = {
    "inch": "in",
    "inche": "in",
    "foot": "ft",
    "feet": "ft",
    "yard": "yd",
    "square": "sq",
    "cubic": "cu",
    "gallon": "gal",
    "quart": "qt",
    "ounce": "oz",
    "pound": "lb",
    "volt": "v",
    "watt": "w",
    "ampere": "amp",
    "piece": "pc",
    "pack": "pk",
}


class Term(NamedTuple):
    """A term and its place. `counts` is false where other terms of the text say the same already:
    the joined form of AB-123, a Chinese word beside its pairs, a pair that lies across two
    words."""

    text: str
    start: int
    end: int
    counts: bool = True


class Token(NamedTuple):
    """A word: its stem (of a compound, the parts joined), the word as folded, and the terms it
    gives."""

    stem: str
    folded: str
    terms: tuple[Term, ...]

    @property
    def is_cjk(self) -> bool:
        return is_cjk(self.folded)


def index_terms(text: str) -> list[str]:
    """The terms of a text, for items and queries alike, repeats kept.

    Case and width are folded, plurals cut, units of measure shortened; 1.5 and 1/2 stay whole, 12in
    gives 12 and in, 4x8 gives 4 and 8; AB-123 gives ab, 123 and ab123. A run of Chinese gives its
    words and its pairs of characters, one of Japanese or Korean its pairs; a character that stands
    alone gives itself."""
    return [term.text for token in _tokens(fold(text)) for term in token.terms]


def tokenize(text: str) -> list[Token]:
    """The words of a text in order; places are those of the text as it came, before folding."""
    folded, starts, ends = _fold_with_places(text)
    return [_moved(token, starts, ends) for token in _tokens(folded)]


def is_cjk(word: str) -> bool:
    """Whether it is written in Chinese, Japanese or Korean characters."""
    return bool(word) and bool(re.match(f"[{_CJK}]", word))


def fold(text: str) -> str:
    """NFKC without case; ½ is " 1/2"."""
    return (
        unicodedata.normalize("NFKC", _FRACTION.sub(r" \g<0>", text))
        .replace("\u2044", "/")
        .casefold()
    )


def _fold_with_places(text: str) -> tuple[str, list[int], list[int]]:
    """`fold`, and for each of its characters where what it came from begins and ends in the
    text."""
    if text.isascii():
        return text.lower(), list(range(len(text))), list(range(1, len(text) + 1))
    pieces, starts, ends = [], [], []
    for low, high in _clusters(text):
        pieces.append(fold(text[low:high]))
        starts += [low] * len(pieces[-1])
        ends += [high] * len(pieces[-1])
    return "".join(pieces), starts, ends


def _clusters(text: str) -> Iterator[tuple[int, int]]:
    """Ranges that NFKC changes independently of their neighbours."""
    low = 0
    for at in range(1, len(text)):
        if not _continues(text[at]):
            yield low, at
            low = at
    if text:
        yield low, len(text)


@lru_cache(maxsize=10_000)
def _continues(character: str) -> bool:
    """A mark, or a Korean vowel or final consonant: NFKC may make one character of it and the one
    before."""
    first = unicodedata.normalize("NFKD", character)[0]
    return unicodedata.category(first)[0] == "M" or "\u1160" <= first <= "\u11ff"


def _moved(token: Token, starts: list[int], ends: list[int]) -> Token:
    moved = (
        term._replace(start=starts[term.start], end=ends[term.end - 1]) for term in token.terms
    )
    return token._replace(terms=tuple(moved))


def _tokens(folded: str) -> Iterator[Token]:
    for match in _TOKEN.finditer(folded):
        run, compound = match.groups()
        if run:
            yield from _cjk(run, match.start())
        elif compound:
            yield _compound(compound, match.start())


def _compound(compound: str, at: int) -> Token:
    if "-" not in compound and "_" not in compound:
        stem = s_stem(compound)
        return Token(stem, compound, (Term(stem, at, at + len(compound)),))
    parts = [
        (part.group(), at + part.start(), at + part.end())
        for part in re.finditer("[^-_]+", compound)
    ]
    joined = "".join(part for part, _, _ in parts)
    whole = Term(s_stem(joined), at, at + len(compound), counts=False)
    return Token(
        whole.text, joined, (*(Term(s_stem(part), low, high) for part, low, high in parts), whole)
    )


def _cjk(run: str, at: int) -> Iterator[Token]:
    low = 0
    for word in _segment(run) if len(run) > 1 and _ALL_HAN.fullmatch(run) else [run]:
        yield Token(word, word, tuple(_cjk_terms(run, low, low + len(word), at)))
        low += len(word)


def _cjk_terms(run: str, low: int, high: int, at: int) -> Iterator[Term]:
    if len(run) == 1 or _ALL_HAN.fullmatch(run):
        yield Term(run[low:high], at + low, at + high, counts=high - low < 3)
    for start in range(low, min(high, len(run) - 1)):
        yield Term(run[start : start + 2], at + start, at + start + 2, counts=start + 2 <= high)


def _segment(run: str) -> list[str]:
    return list(_segmenter().cut(run))


@lru_cache(maxsize=1)
def _segmenter() -> Any:
    """jieba with its own dictionary, whatever else the process adds to the one that jieba shares: 1
    s, 60 MB."""
    import jieba

    jieba.setLogLevel("ERROR")
    return jieba.Tokenizer()


@lru_cache(maxsize=100_000)
def s_stem(word: str) -> str:
    """The S-stemmer (Harman, How effective is suffixing?, JASIS 1991), taking -es off after
    sibilants too; `UNITS`."""
    if (
        len(word) > 3
        and word.isalpha()
        and word.endswith("s")
        and not word.endswith(("ss", "us", "is"))
    ):
        if word.endswith("ies"):
            word = word[:-3] + "y"
        else:
            word = word[:-2] if word.endswith(("xes", "ches", "shes", "sses")) else word[:-1]
    return UNITS.get(word, word)


_ENDINGS = ("ing", "ed", "er")


@lru_cache(maxsize=10_000)
def inflections(stem: str) -> tuple[str, ...]:
    """What an English word may be with -ing, -ed or -er put on, taken off or exchanged, sorted,
    real words or not.

    Stemming these away for good costs recall; as other forms that count for less they gain some.
    """
    if len(stem) < 4 or not (stem.isascii() and stem.isalpha()):
        return ()
    bases = {stem}
    for bare in (stem.removesuffix(ending) for ending in _ENDINGS if stem.endswith(ending)):
        bases |= {bare, bare + "e", bare[:-1] if bare[-1:] == bare[-2:-1] else bare}
    bases = {base for base in bases if len(base) > 2}
    forms = {base.removesuffix("e") + ending for base in bases for ending in _ENDINGS}
    doubled = {
        base + base[-1] + ending
        for base in bases
        if base[-1] not in "aeiouwxy"
        for ending in _ENDINGS
    }
    return tuple(sorted((bases | forms | doubled) - {stem}))
