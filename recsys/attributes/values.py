"""Single values as shops write them: numbers with units, yes and no, lists, levels."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterator
from functools import lru_cache

from recsys.attributes.units import base_of, convert

#: Between the values of an item that has several, where they are one text.
BETWEEN = "\n"
#: Between the levels of a value, as in categories.
BELOW = " / "
_YES = {"true", "yes", "y", "1", "on", "t", "ja", "oui", "sí", "si", "sim", "wahr", "vrai", "x"}
_YES |= {"是", "有", "✓", "✔"}
_NO = {"false", "no", "n", "0", "off", "f", "nein", "non", "não", "falsch", "faux", "-"}
_NO |= {"否", "无", "✗", "✘"}
_SEPARATOR = re.compile(r"[|;,\n，、；]")
_ABOUT = re.compile(r"^(?:ca\.?|approx\.?|about|circa|[~≈±])\s*", re.IGNORECASE)
_NUMBER = re.compile(
    r"\s*(?P<sign>[-+−–]?)\s?"
    r"(?:(?:(?P<whole>\d{1,6})\s)?(?P<over>\d{1,6})/(?P<under>\d{1,6})(?!\d)"
    r"|(?P<digits>\d+(?:[.,]\d+|['’ ]\d{3}(?!\d))*|[.,]\d+))"
)
_UNIT_END = re.compile(r"\s*(?P<unit>[^\d\s-][^\d]*?(?:[\^]?[23](?!\d))?)?\s*(?=$|[\d-])")


@lru_cache(65_536)
def parse_quantity(text: str, decimal: str | None = None) -> tuple[float, str] | None:
    """The number and the unit, "" where there is none: `60 cm`, `0,6m`, `24"`, `1 1/2 in`,
    `5' 3"`, `1 h 30 min`. None where the text is anything else.

    `decimal` is the shop's decimal mark. Without one a comma before three digits could be either,
    and the text is not read."""
    text = unicodedata.normalize("NFKC", _apart(text)).replace("⁄", "/").strip()
    parts = list(_parts(_ABOUT.sub("", text), decimal))
    if not parts or None in parts:
        return None
    (number, unit), *rest = [part for part in parts if part is not None]
    for more, more_unit in rest:  # 5' 3": each smaller than the one before
        converted = convert(more, more_unit, unit) if unit and more_unit else None
        if converted is None or not 0 <= converted < abs(number) + 1 or number < 0:
            return None
        number = float(f"{number + converted:.12g}")
    return (number, unit) if math.isfinite(number) else None


def _apart(text: str) -> str:
    """A vulgar fraction stands apart from the number before it: 1½ is 1 1/2, not 11/2. Spaces
    that part thousands become plain."""
    return re.sub(r"(?<=\d)(?=[¼-¾⅐-⅞])", " ", text.replace("\u202f", " ").replace("\xa0", " "))


def _parts(text: str, decimal: str | None) -> Iterator[tuple[float, str] | None]:
    """Numbers, each with its unit; None for what is none."""
    at = 0
    while at < len(text):
        number_match = _NUMBER.match(text, at)
        number = _number(number_match, decimal) if number_match else None
        unit_match = _UNIT_END.match(text, number_match.end()) if number_match else None
        if number is None or unit_match is None:
            yield None
            return
        unit = unit_match["unit"] or ""
        yield (number, unit) if not unit or base_of(unit) is not None else None
        at = unit_match.end()


def _number(match: re.Match[str], decimal: str | None) -> float | None:
    sign = -1.0 if match["sign"] in ("-", "−", "–") else 1.0
    if match["over"]:
        if not int(match["under"]):
            return None
        return sign * (int(match["whole"] or 0) + int(match["over"]) / int(match["under"]))
    number = parse_decimal(match["digits"], decimal)
    return None if number is None else sign * number


def parse_decimal(digits: str, decimal: str | None = None) -> float | None:
    """Digits with marks for thousands and the decimals; None where they are not well formed, or
    the one comma could be either mark."""
    marks = re.findall(r"[.,]", digits)
    if len(set(marks)) == 1 and re.fullmatch(r"[1-9]\d{0,2}[.,]\d{3}", digits):
        if decimal is None and marks[0] == ",":
            return None
        mark = decimal or "."
    elif marks and marks.count(marks[-1]) == 1:
        mark = marks[-1]
    else:
        mark = "," if marks and marks[-1] == "." else "."
    whole, _, fraction = digits.partition(mark)
    grouped = re.fullmatch(r"\d*|\d{1,3}([.,'’ ]\d{3})+", whole)
    if not grouped or not re.fullmatch(r"\d*", fraction):
        return None
    return float(f"{re.sub(r'[^0-9]', '', whole) or 0}.{fraction or 0}")


def parse_boolean(text: str) -> bool | None:
    """Yes or no in words; None for anything else."""
    word = text.strip().casefold()
    return True if word in _YES else False if word in _NO else None


def split_values(text: str, separator: str | None = None) -> list[str]:
    """The values of a list in one text, each once, without the empty ones."""
    parts = text.split(separator) if separator else _SEPARATOR.split(text)
    return list(dict.fromkeys(value for part in parts if (value := clean_value(part))))


def clean_value(text: str, levels: str | None = None) -> str:
    """On one line, without control characters; its levels as those of categories are written."""
    value = " ".join(re.sub(r"[\x00-\x1f\x7f]", " ", text).split())
    if levels is None:
        return value
    return BELOW.join(filter(None, (level.strip() for level in value.split(levels.strip()))))
