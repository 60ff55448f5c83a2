"""Attribute extraction from queries: price range in twelve languages; brand; colour and size in
English and Chinese, by regular expressions. Texts are normalised and case-folded."""

from __future__ import annotations

import re

from recsys.datasets.money import parse_money
from recsys.retrieval.text.scripts import CJK, starts_with_cjk
from recsys.understanding.brands import Brands

Facts = dict[str, str | float]

#: 1,299.90 and 1.299,90 and 19,99.
_NUMBER = (
    r"(?<![\d./])(?<!\d,)"
    r"(?:\d{1,3}(?:[.,]\d{3})+(?:[.,]\d{1,2})?|\d{1,9}(?:[.,]\d{1,4})?)(?![\d/])"
)
_MULTIPLIERS = {"": 1, "k": 1e3, "百": 1e2, "千": 1e3, "万": 1e4}
_SIGN = r"(?:us\s?|r)?[$€£¥₽₺₹₩]"
_CURRENCY = (
    r"(?:(?:dollars?|usd|bucks?|euros?|eur|gbp|quid|pounds sterling|yuan|rmb|cny|yen|jpy"
    r"|chf|francs?|franken|zł|zl|pln|złotych|kč|czk|kr|kronor|kroner|sek|nok|dkk|reais|brl|rupees?"
    r"|inr|tl|lira|try|rub|руб(?:л[а-яё]+)?|евро)(?![^\W_])"
    r"|元(?:人民币)?|块钱?|人民币|円|[$€£¥₽₺₹₩](?!\s?\d))"
)
#: Two groups: the number and its multiplier.
_AMOUNT = rf"({_NUMBER})\s?((?:k(?![^\W_]))|[百千万]|)"
#: The two groups twice: a currency stands before or after.
_MONEY = rf"(?:{_SIGN}\s?{_AMOUNT}(?:\s?{_CURRENCY})?|{_AMOUNT}\s?{_CURRENCY})"
_BESIDE_NUMBER = re.compile(rf"({_SIGN})\s?\d|\d(?:\s?(?:k|[百千万]))?\s?({_CURRENCY})")
_LEAD = r"(?:\b(?:for|priced?|costing|budget|is|at)\s|价格|售价|价位|预算|价钱)*\s?"
_TAIL = r"\s?的?"
_AT_MOST = (
    r"(?:\b(?<!no )(?<!not )(?:under|below|less than|cheaper than|up to|at most|max(?:imum)?"
    r"|no more than|not more than|not over|within"
    r"|unter|bis(?: zu)?|h[öo]chstens|maximal|weniger als|g[üu]nstiger als"
    r"|[àa] moins de|moins de|jusqu.[àa]|sous|au plus|menos de|por debajo de|hasta|como mucho"
    r"|m[áa]ximo|meno di|sotto(?: i)?|fino a|al massimo|onder|tot|minder dan|maximaal|abaixo de"
    r"|at[ée]|poni[żz]ej|do|mniej ni[żz]|h[öo]gst|mindre [äa]n|billigare [äa]n"
    r"|до|дешевле|не дороже|менее)\s"
    r"|(?:不超过|不高于|不多于|不大于|最多|最高|(?<!不)(?:低于|少于|小于|不到)))\s?"
)
_AT_LEAST = (
    r"(?:\b(?:over|above|more than|at least|from|starting at|min(?:imum)?"
    r"|no less than|not less than"
    r"|[üu]ber|ab|mindestens|mehr als|[àa] partir de|plus de|au moins|d[èe]s|m[áa]s de|desde"
    r"|al menos|a partir de|m[íi]nimo|pi[ùu] di|oltre|almeno|da|vanaf|boven|meer dan|minstens"
    r"|mais de|acima de|powy[żz]ej|od|co najmniej|fr[åa]n|[öo]ver|minst|mer [äa]n"
    r"|от|дороже|свыше|более)\s"
    r"|(?:不低于|不少于|不小于|至少|最低|高于|超过|大于|多于))\s?"
)
_OR_LESS = (
    r"\s?(?:(?:or|and) (?:less|under|below)\b"
    r"|(?:oder|ou|o|of) (?:weniger|moins|menos|meno|minder)\b|alt[ıi]nda\b|max\b"
    r"|以下|以内|之内|之下|内)"
)
_OR_MORE = (
    r"\s?(?:(?:or|and) (?:more|up|over|above)\b|(?:oder|ou|o|of) (?:mehr|plus|m[áa]s|pi[ùu]|meer)\b"
    r"|[üu]zerinde\b|\+|以上|之上|起)"
)
_TO = r"\s?(?:-|–|—|~|(?:to|bis|[àa]|hasta|tot|do|till|at[ée]|до)(?![^\W_])|到|至)\s?"


def _range(words: str, to: str) -> re.Pattern[str]:
    """A price range after some words: a currency stands before the first number or after the
    last."""
    return re.compile(
        rf"{_LEAD}{words}"
        rf"(?:{_SIGN}\s?{_AMOUNT}(?:\s?{_CURRENCY})?{to}(?:{_SIGN}\s?)?{_AMOUNT}(?:\s?{_CURRENCY})?"
        rf"|{_AMOUNT}(?:\s?{_CURRENCY})?{to}{_AMOUNT}\s?{_CURRENCY})"
        rf"(?:\s?之间)?{_TAIL}"
    )


_BETWEEN = _range(
    r"\b(?:between|zwischen|entre|tra|fra|tussen|mi[ęe]dzy|mellan|между)\s",
    r"\s(?:and|to|und|et|y|e|en|i|och|и)\s",
)
_RANGE = _range(r"(?:\b(?:from|von|de|desde|da|van|od|fr[åa]n|от)\s)?", _TO)
_MAX = re.compile(rf"{_LEAD}(?:{_AT_MOST}{_MONEY}(?:{_OR_LESS})?|{_MONEY}{_OR_LESS}){_TAIL}")
_MIN = re.compile(rf"{_LEAD}(?:{_AT_LEAST}{_MONEY}(?:{_OR_MORE})?|{_MONEY}{_OR_MORE}){_TAIL}")
_BOTH = ("min_price", "max_price")
_BOUNDS = ((_BETWEEN, _BOTH), (_RANGE, _BOTH), (_MAX, _BOTH[1:]), (_MIN, _BOTH[:1]))

_WORD_START, _WORD_END = rf"(?<![^\W_{CJK}])", rf"(?![^\W_{CJK}])"
#: Typed colours and what each is called.
_COLOURS = {
    **{colour: colour for colour in (
        "black", "white", "red", "blue", "green", "yellow", "purple", "pink", "gray", "silver",
        "gold", "orange", "brown", "beige", "ivory", "navy", "teal", "turquoise", "tan", "maroon",
        "burgundy", "khaki", "multicolor",
        "黑色", "白色", "红色", "蓝色", "绿色", "黄色", "紫色", "粉色", "灰色", "银色", "金色",
        "橙色", "棕色", "米色", "米白色", "咖啡色", "卡其色", "藏青色", "酒红色", "天蓝色",
        "透明色",
    )},
    "grey": "gray", "golden": "gold", "off-white": "off-white", "off white": "off-white",
    "multicolour": "multicolor", "multi-color": "multicolor", "粉红色": "粉色", "橘色": "橙色",
    "褐色": "棕色", "灰黑色": "灰色", "乳白色": "米白色",
}  # fmt: skip
_COLOUR = re.compile(
    "|".join(
        word if starts_with_cjk(word) else rf"{_WORD_START}{word}{_WORD_END}"
        for word in sorted(_COLOURS, key=len, reverse=True)
    )
)
_LENGTH = (
    rf"(?:inch(?:es)?|in|foot|feet|ft|mm|cm|m|yards?|yd){_WORD_END}\.?"
    r"|[\"']|厘米|毫米|英寸|英尺|米|寸|尺"
)
_QUANTITY = (
    rf"(?:gallons?|gal|quarts?|qt|pints?|pt|ounces?|oz|pounds?|lbs?|ml|l|liters?|litres?|kg|g|mg)"
    rf"{_WORD_END}\.?|毫升|升|千克|公斤|斤|克"
)
_COUNT = rf"{_WORD_START}(?<![.,/-])(?:\d+[- ])?\d+(?:[./]\d+)?"
_SIZE = re.compile(
    rf"\bsize[:\s]\s?(?P<size>\d+(?:\.\d+)?|[2-6]?x{{0,3}}[sml]){_WORD_END}"
    rf"|{_WORD_START}(?P<letters>[2-6]xl|x{{1,4}}[sl]){_WORD_END}"
    rf"|{_WORD_START}(?P<number>[2-6]?x{{0,3}}[sml]|\d{{2}}(?:\.5)?)[码号]"
    rf"|(?P<measure>{_COUNT}[ -]?(?:{_LENGTH}|{_QUANTITY})"
    rf"(?:\s?x\s?\d+(?:-\d+)?(?:[./]\d+)?[ -]?(?:{_LENGTH}))*)"
)


def extract_facts(text: str, brands: Brands) -> tuple[Facts, str]:
    """What the text says (brand, colour, size, min_price, max_price), and the text without its
    price words."""
    bounds, rest = extract_prices(text)
    return bounds | extract_labels(rest, brands), rest


def extract_labels(text: str, brands: Brands) -> Facts:
    """Brand, colour and size, the first of each that the text names; of brands the longest."""
    values = {"brand": brands.longest(text), "colour": _colour(text), "size": _size(text)}
    return {name: value for name, value in values.items() if value}


def extract_prices(text: str) -> tuple[Facts, str]:
    """The inclusive price bounds, the first of each, and the text without any.

    A number without a currency is no price: "under 20" may be inches.
    """
    bounds: Facts = {}
    for pattern, names in _BOUNDS:
        while match := pattern.search(text):
            amounts: Facts = dict(zip(names, sorted(_amounts(match)), strict=True))
            bounds = amounts | bounds
            text = f"{text[: match.start()]} {text[match.end() :]}"
    return bounds, " ".join(text.split()) if bounds else text


def price_currency(text: str) -> str:
    """The code, symbol or word of the first currency beside a number, "" where there is none."""
    match = _BESIDE_NUMBER.search(text)
    return (match[1] or match[2]).strip() if match else ""


def _amounts(match: re.Match[str]) -> list[float]:
    groups = [group for group in match.groups() if group is not None]
    pairs = zip(groups[::2], groups[1::2], strict=True)
    return [_amount(number) * _MULTIPLIERS[suffix] for number, suffix in pairs]


def _amount(number: str) -> float:
    """1.299 and 1,299 are thousands: prices have no three decimals."""
    money = parse_money(f"{number} EUR")
    return (money.amount(None) if money else None) or 0.0


def _colour(text: str) -> str | None:
    match = _COLOUR.search(text)
    return match and _COLOURS[match.group()]


def _size(text: str) -> str | None:
    """ "10 in" of "10-in." and "10 in."; letters in capitals."""
    match = _SIZE.search(text)
    if not match:
        return None
    if measure := match["measure"]:
        return measure.rstrip(".")
    return (match["size"] or match["letters"] or match["number"]).upper()
