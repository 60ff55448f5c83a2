"""Quantities in texts: numbers with a unit of measure, in one normal form however they are written,
as index terms beside the words: 1,5 l and 1500 ml are "1500 ml", 5" and 5 in. are "127 mm"."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache, lru_cache
from typing import NamedTuple

from recsys.attributes.units import normal_form, unit_words
from recsys.retrieval.text.scripts import CJK, fold, fold_marks, starts_with_cjk

#: 1,000.5 and 1.000,5: thousands apart; 1,5: a decimal comma.
_COMMA_GROUPS, _POINT_GROUPS = r"\d{1,3}(?:,\d{3})+(?:\.\d+)?", r"\d{1,3}(?:\.\d{3})+,\d+"
_GROUPS = re.compile(rf"({_COMMA_GROUPS})|({_POINT_GROUPS})|\d+,\d+|\.\d+")
#: What stands in a text for inches and feet after a number: 5"x7", 5'10.
INCH_MARK = r"(?:[\"”“]|''|′′|’’)(?=x ?\d|\W|$)"
FOOT_MARK = r"['′’](?=x ?\d|\d{1,2}(?!\d)|\W|$)"

_DECIMAL = r"(?:\d{1,3}(?:[ '’]\d00|[ '’]0\d\d)+|\d+(?:[.,]\d+)*|\.\d+)"
_NUMBER = rf"(?:(?:\d+[ -])?\d+/\d+|{_DECIMAL})"
_DEGREE = r"\b(?:sq(?:uare)?|cu(?:bic)?|fl(?:uid)?)\b\.?"
#: 1.000 and 1.500: they may be thousands; 2.375 is a decimal.
_MAY_BE_THOUSANDS = re.compile(r"[1-9]\d{0,2}(?:\.\d\d0)+")
_BY, _WIDEST_BY = r"\s?(?:x|×|\*|by)\s?[\d.]", 4
#: M8 x 1.25, and tyres: 185/60 R14.
_THREAD = r"(?<=\bm)(\d{1,2}) ?[x×*] ?(\d+(?:[.,]\d+)?)(?![\w/])"
_TYRE = r"(?<![\d.,/])(\d{3})[ /-](\d{2}) ?-?z?r ?-?(\d{2})\b"
#: Units of attributes that are more often something else in a text: 3D, size 5 s, 2 go cups.
_NO_UNITS = frozenset(("d", "s", "go"))


class NormalForm(NamedTuple):
    """What a part of a text says, in one form, and its character offsets."""

    text: str
    start: int
    end: int


def plain_number(number: str) -> str:
    """One spelling of a number: 1.5 of 1,5, 1000 of 1,000; 1.000 stays, which may be either."""
    match = _GROUPS.fullmatch(number)
    if not match:
        return number
    by_comma, by_point = match.groups()
    if by_comma:
        return number.replace(",", "")
    plain = (number.replace(".", "") if by_point else number).replace(",", ".")
    return f"0{plain}" if plain.startswith(".") else plain


def find_quantities(folded: str) -> list[NormalForm]:
    """The quantities of a folded text, last first; 8x10 ft are 8 ft and 10 ft. What may be
    thousands or decimals, 1.000 g, is both."""
    quantities, unit, next_start = [], "", len(folded)
    for match in reversed(list(_pattern().finditer(folded))):
        start, end = match.span()
        texts, unit = _read(match.groups(), unit if next_start - end <= _WIDEST_BY else "")
        quantities += [NormalForm(text, start, end) for text in texts]
        next_start = start
    return quantities


@cache
def _pattern() -> re.Pattern[str]:
    """A thread, a tyre, or a number with its unit or before the next number of a size; of CJK
    characters, whose words have no end, the longest unit."""
    characters = sorted(filter(starts_with_cjk, unit_words()), key=len, reverse=True)
    words = rf"(?:{_DEGREE} ?)?[^\W\d_{CJK}]+[23]?(?![^\W{CJK}])(?! 1|-1)"
    number = rf"(?<![\d.,/])(?<![^\W\d_x{CJK}])({_NUMBER})(?![/\d])"
    unit = rf" ?-?({words})|\s?({'|'.join(characters)})|({INCH_MARK})|({FOOT_MARK})"
    return re.compile(rf"(?=[\d.])(?:{_THREAD}|{_TYRE}|{number}(?:(?={_BY})|{unit}))")


@lru_cache(100_000)
def _read(groups: tuple[str | None, ...], next_unit: str) -> tuple[tuple[str, ...], str]:
    """The normal forms of a match of the pattern, and its unit: where it has none, that of the next
    number."""
    thread, pitch, width, height, rim, number, word, characters, inch, foot = groups
    if thread and pitch:
        return (f"m{thread} x {plain_number(pitch)}",), ""
    if width or not number:
        return (f"{width}/{height}r{rim}",), ""
    unit = "in" if inch else "ft" if foot else next_unit
    if word or characters:
        unit = _unit(word or characters or "")
    forms = (normal_form(value, unit) for value in _values(number)) if unit else ()
    return tuple(form for form in forms if form), unit


def _unit(word: str) -> str:
    """ "" where the word is no unit."""
    word = word.replace(".", " ")
    if "sq" in word or "cu" in word or word.startswith("fl"):
        degree, _, rest = " ".join(word.split()).partition(" ")
        short = {"square": "sq", "cubic": "cu", "fluid": "fl"}.get(degree, degree)
        stem = {"feet": "ft", "foot": "ft", "inches": "in", "inch": "in", "ounces": "oz"}
        word = f"{short} {stem.get(rest, rest)}".strip()
    return "" if word in _NO_UNITS else _folded_units().get(fold_marks(word), "")


@cache
def _folded_units() -> dict[str, str]:
    return {fold_marks(fold(word)): unit for word, unit in unit_words().items()}


def _values(number: str) -> Sequence[float]:
    """1-1/2 is 1.5; of what may be thousands, both; none of 1.2.3."""
    whole, _, fraction = number.replace("-", " ").rpartition(" ")
    if "/" in fraction:
        above, below = map(float, fraction.split("/"))
        return [float(whole or 0) + above / below] if below else []
    plain = plain_number("".join(char for char in number if char not in " '’"))
    try:
        values = [float(plain)]
    except ValueError:
        return []
    if _MAY_BE_THOUSANDS.fullmatch(plain):
        values.append(float(plain.replace(".", "")))
    return values
