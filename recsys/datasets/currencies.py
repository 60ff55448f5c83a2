"""What is written beside an amount: codes and symbols of currencies, and their minor units."""

from __future__ import annotations

from functools import cache

from babel import Locale
from babel.numbers import get_currency_precision, list_currencies

#: Symbols that Babel's English does not have, or has for one of several currencies only.
_SYMBOLS = {
    "$": "USD CAD AUD NZD HKD SGD TWD MXN ARS CLP COP UYU BRL",
    "£": "GBP EGP LBP",
    "¥": "JPY CNY",
    "kr": "SEK NOK DKK ISK",
    "rs": "INR PKR LKR NPR MUR",
    "₨": "INR PKR LKR NPR MUR",
    "r": "ZAR",
    "us$": "USD", "c$": "CAD", "au$": "AUD", "s$": "SGD", "rmb": "CNY", "元": "CNY", "円": "JPY",
    "원": "KRW", "zł": "PLN", "zl": "PLN", "kč": "CZK", "ft": "HUF", "lei": "RON", "лв": "BGN",
    "₽": "RUB", "руб": "RUB", "₺": "TRY", "tl": "TRY", "₴": "UAH", "грн": "UAH", "fr": "CHF",
    "sfr": "CHF", "₦": "NGN", "฿": "THB", "rm": "MYR", "rp": "IDR", "د.إ": "AED", "ر.س": "SAR",
    "euro": "EUR", "euros": "EUR", "евро": "EUR", "dollars": "USD CAD AUD NZD", "ksh": "KES",
    "dollar": "USD CAD AUD NZD", "bucks": "USD CAD AUD NZD", "quid": "GBP", "yuan": "CNY",
    "人民币": "CNY", "块": "CNY", "块钱": "CNY", "yen": "JPY", "francs": "CHF", "franken": "CHF",
    "рублей": "RUB", "рубля": "RUB", "złotych": "PLN", "kronor": "SEK", "lira": "TRY",
    "reais": "BRL", "rupees": "INR",
}  # fmt: skip


@cache
def _codes() -> dict[str, tuple[str, ...]]:
    """Lower-case code or symbol -> the currencies that it may be."""
    english = Locale("en").currency_symbols
    codes = {code.lower(): (code,) for code in list_currencies()}
    symbols = {symbol.lower(): (code,) for code, symbol in english.items() if symbol != code}
    return symbols | codes | {symbol: tuple(text.split()) for symbol, text in _SYMBOLS.items()}


def currencies_of(text: str) -> tuple[str, ...]:
    """The ISO 4217 codes that a code or symbol may stand for; empty where it is none."""
    folded = text.strip().lower()
    return _codes().get(folded) or _codes().get(folded.strip(" ."), ())


def is_currency(code: str) -> bool:
    return currencies_of(code) == (code,)


def minor_digits(code: str) -> int:
    """Digits after the decimal mark: 2 of the euro, 0 of the yen."""
    return int(get_currency_precision(code))
