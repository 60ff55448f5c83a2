"""Prices as the world writes them: `1.299,00 €`, `US$ 5`, `¥1,280`, `1'299.00`."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from html import unescape

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys.datasets.casts import is_text, to_float, to_mask, trim
from recsys.datasets.currencies import currencies_of, minor_digits
from recsys.types import Mask

#: Digits and a point that leave no doubt; one to three digits, a point and three more do.
_PLAIN = r"^[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?$"
_DOUBTFUL = r"^[-+]?[1-9]\d{0,2}\.\d{3}$"
_MONEY = re.compile(
    r"(?P<before>[^\d+\-,]*?)\s*(?P<sign>[-+]?)\s*(?P<between>[^\d+\-.,]*?)\s*"
    r"(?P<number>[.,]?\d(?:[\d.,' ]*\d)?)(?:[.,](?:-{1,2})?)?\s*(?P<after>[^\d+,]*)"
)
#: Marks between groups of digits that are nothing else.
_GROUPED = re.compile(r"\d{1,3}(?P<mark>[' ])\d{3}(?:(?P=mark)\d{3})*(?:[.,]\d+)?")
_SAME = str.maketrans({"−": "-", "–": "-", "—": "-", "’": "'", "`": "'", "٫": ".", "٬": "'"})


@dataclass(frozen=True)
class Money:
    """An amount as it was written: `digits` with at most one point, and the `mark` that may be a
    decimal or a thousands mark, "" where that is beyond doubt. `currency` is a code or symbol."""

    digits: str
    mark: str = ""
    currency: str = ""
    decimal: str = ""

    def amount(self, decimal: str | None) -> float | None:
        """None where nothing says what the mark is: neither the column's `decimal` mark nor the
        currency, which has no three digits of its own."""
        if not self.mark:
            return float(self.digits)
        if decimal is None and self.currency:
            units = {minor_digits(code) for code in currencies_of(self.currency)}
            decimal = None if 3 in units else {".": ",", ",": "."}[self.mark]
        if decimal is None:
            return None
        return float(self.digits.replace(self.mark, "." if self.mark == decimal else ""))


def parse_money(text: str) -> Money | None:
    """None where the text is no amount of money and nothing else."""
    text = "".join(_plain_digit(each) for each in unicodedata.normalize("NFKC", unescape(text)))
    match = _MONEY.fullmatch(" ".join(text.translate(_SAME).split()))
    if not match:
        return None
    words = {word.lower(): word for word in match.group("before", "between", "after") if word}
    number = match["number"]
    if len(words) > 1 or not all(map(currencies_of, words)):
        return None
    if (match["before"] or match["between"]) and number[0] == ".":  # "Rs.500"
        number = number[1:]
    currency = next(iter(words.values()), "").strip(" .")
    return _number(number, match["sign"].replace("+", ""), currency.upper())


def is_beyond_doubt(text: str) -> bool:
    """Whether a text is an amount that no other cell of its column could make another one."""
    text = text.strip()
    return bool(re.match(_PLAIN, text)) and not re.match(_DOUBTFUL, text)


def _plain_digit(character: str) -> str:
    digit = unicodedata.decimal(character, None)
    return character if digit is None else str(digit)


def _number(number: str, sign: str, currency: str) -> Money | None:
    """Which of the marks begins the decimals, by where they stand."""
    if "'" in number or " " in number:
        if not _GROUPED.fullmatch(number):
            return None
        decimal = next((mark for mark in ".," if mark in number), "")
        digits = re.sub("[' ]", "", number).replace(",", ".")
        return Money(sign + digits, "", currency, decimal)
    marks = [mark for mark in number if mark in ".,"]
    if not marks:
        return Money(sign + number, "", currency)
    decimal = marks[-1]
    whole, _, rest = number.rpartition(decimal)
    if len(marks) == 1:
        if len(rest) == 3 and 1 <= len(whole) <= 3 and whole[0] != "0":
            return Money(sign + number, decimal, currency)
        return Money(f"{sign}{whole}.{rest}", "", currency, decimal)
    group = marks[0]
    if group == decimal:  # of thousands alone: 1.299.000
        whole, rest, decimal = number, "", {".": ",", ",": "."}[group]
    if not re.fullmatch(rf"\d{{1,3}}(\{group}\d{{2,3}})*\{group}\d{{3}}", whole):
        return None
    return Money(f"{sign}{whole.replace(group, '')}.{rest}", "", currency, decimal)


@dataclass(frozen=True)
class MoneyColumn:
    """A column of amounts: null where `unread_N` or `ambiguous_N` say why, or where it is empty;
    `currencies` are codes and symbols as written, null where none is."""

    amounts: pa.Array
    currencies: pa.Array
    unread_N: Mask
    ambiguous_N: Mask


def read_money(column: pa.Array, decimal: str | None = None) -> MoneyColumn:
    """Numbers, and texts in whatever style: `decimal` (None: that of the column's other values)
    decides where a text alone can be read in two ways. Each distinct text is parsed once."""
    if not is_text(column.type) or column.null_count == len(column):
        amounts, no = to_float(column), np.zeros(len(column), bool)
        unread_N = to_mask(pc.and_(column.is_valid(), amounts.is_null()))
        return MoneyColumn(amounts, pa.nulls(len(column), pa.string()), unread_N, no)
    texts = trim(column)
    plain = pc.match_substring_regex(texts, _PLAIN)
    doubtful = pc.match_substring_regex(texts, _DOUBTFUL)
    odd = pc.and_(pc.or_(pc.invert(plain), doubtful), pc.not_equal(texts, "")).fill_null(False)
    amounts = to_float(pc.if_else(odd, pa.scalar(None, pa.string()), texts))
    odd_N = to_mask(odd)
    coded = texts.filter(odd).dictionary_encode()
    monies = [parse_money(text) for text in coded.dictionary.to_pylist()]
    decimal = decimal or _decimal_mark(filter(None, monies), texts.filter(pc.invert(odd)))
    of_text = [money and money.amount(decimal) for money in monies]
    codes = [money.currency or None if money else None for money in monies]
    unread_N, ambiguous_N = (np.zeros(len(texts), bool) for _ in range(2))
    rows = np.asarray(coded.indices)
    unread_N[odd_N] = np.array([money is None for money in monies], bool)[rows]
    is_unclear = [money and value is None for money, value in zip(monies, of_text, strict=True)]
    ambiguous_N[odd_N] = np.array(is_unclear, bool)[rows]
    currencies = pa.nulls(len(texts), pa.string())
    return MoneyColumn(
        pc.replace_with_mask(amounts, odd, pa.array(of_text, pa.float64()).take(coded.indices)),
        pc.replace_with_mask(currencies, odd, pa.array(codes, pa.string()).take(coded.indices)),
        unread_N,
        ambiguous_N,
    )


def _decimal_mark(monies: Iterable[Money], plain: pa.Array) -> str | None:
    """The one decimal mark that the values beyond doubt have; None where they have none or both."""
    marks = {money.decimal for money in monies if money.decimal}
    if pc.any(pc.match_substring(plain, ".")).as_py():
        marks.add(".")
    return marks.pop() if len(marks) == 1 else None
