"""Prices of the world are one amount each, or none."""

from __future__ import annotations

import pyarrow as pa
import pytest

from recsys.datasets.currencies import currencies_of, is_currency, minor_digits
from recsys.datasets.money import parse_money, read_money


@pytest.mark.parametrize(
    ("text", "amount", "currency"),
    [
        ("29.99 USD", 29.99, "USD"),
        ("$18", 18, "$"),
        ("1.299,00 €", 1299, "€"),
        ("1,299.00", 1299, ""),
        ("12,50", 12.5, ""),
        ("1 299,00 kr", 1299, "KR"),
        ("1\u00a0299,00\u00a0kr.", 1299, "KR"),
        ("1\u202f299,00 €", 1299, "€"),
        ("1'299.00", 1299, ""),
        ("CHF 1’299.–", 1299, "CHF"),
        ("¥1,280", 1280, "¥"),
        ("￥１,２８０", 1280, "¥"),
        ("US$ 5", 5, "US$"),
        ("EUR 3.99", 3.99, "EUR"),
        ("3,99 EUR", 3.99, "EUR"),
        ("3,99eur", 3.99, "EUR"),
        ("٣٫٩٩", 3.99, ""),
        ("١٬٢٩٩٫٠٠", 1299, ""),
        ("-5.00 €", -5, "€"),
        ("−5,00", -5, ""),
        ("€-5.00", -5, "€"),
        ("19,-", 19, ""),
        ("19,- €", 19, "€"),
        ("₹1,29,999.00", 129999, "₹"),
        ("Rs. 500", 500, "RS"),
        ("Rs.500", 500, "RS"),
        ("R$ 1.234.567,89", 1234567.89, "R$"),
        ("1.299.000 ₫", 1299000, "₫"),
        ("€ 1.299", 1299, "€"),  # the euro has two digits
        ("$1,299", 1299, "$"),
        (".99", 0.99, ""),
        ("0.125", 0.125, ""),
        ("1299.125", 1299.125, ""),
        ("5.", 5, ""),
        ("&euro; 5", 5, "€"),
        ("12 zł", 12, "ZŁ"),
    ],
)
def test_what_anybody_would_read(text: str, amount: float, currency: str) -> None:
    money = parse_money(text)
    assert money is not None
    assert (money.amount(None), money.currency) == (amount, currency)


@pytest.mark.parametrize(
    "text",
    ["free", "from $18", "5 6", "1,2,3", "12.50.10", "3 for 2", "$5 €", "5 bananas", "", "-",
     "1.29,999,00", "10-20", "1 29", "12 EUR/kg"],
)  # fmt: skip
def test_what_is_no_amount(text: str) -> None:
    assert parse_money(text) is None


@pytest.mark.parametrize("text", ["1,299", "1.299", "1.299 KWD", "12.500"])
def test_what_can_be_read_in_two_ways_is_not_guessed(text: str) -> None:
    money = parse_money(text)
    assert money is not None
    assert money.amount(None) is None
    assert money.amount(",") != money.amount(".")


@pytest.mark.parametrize(
    ("column", "amounts"),
    [
        (["1,299", "12.50"], [1299, 12.5]),
        (["1.299", "12,50"], [1299, 12.5]),
        (["1.299", "12.5"], [1.299, 12.5]),
        (["1,299", "$18.00"], [1299, 18]),
        (["1.299", "5", None, ""], [None, 5, None, None]),
        (["1.299", "12.50", "12,50"], [None, 12.5, 12.5]),  # two hands wrote it
    ],
)
def test_a_column_shows_its_style(column: list[str | None], amounts: list[float | None]) -> None:
    money = read_money(pa.array(column))
    assert money.amounts.to_pylist() == amounts
    is_ambiguous = [
        text == "1.299" and amount is None for text, amount in zip(column, amounts, strict=True)
    ]
    assert money.ambiguous_N.tolist() == is_ambiguous


def test_a_setting_decides_where_the_column_does_not() -> None:
    column = pa.array(["1.299", "5"])
    assert read_money(column, ",").amounts.to_pylist() == [1299, 5]
    assert read_money(column, ".").amounts.to_pylist() == [1.299, 5]


def test_numbers_are_amounts_without_a_currency() -> None:
    money = read_money(pa.array([1.299, None]))
    assert (money.amounts.to_pylist(), money.currencies.null_count) == ([1.299, None], 2)
    assert not money.unread_N.any()
    assert read_money(pa.array([True])).unread_N.tolist() == [True]


def test_currencies() -> None:
    assert (currencies_of("€"), currencies_of(" eur "), currencies_of("Kr.")[0]) == (
        ("EUR",), ("EUR",), "SEK"
    )  # fmt: skip
    assert currencies_of("bananas") == ()
    assert (is_currency("EUR"), is_currency("€"), is_currency("XYZ")) == (True, False, False)
    assert [minor_digits(code) for code in ("EUR", "JPY", "KWD")] == [2, 0, 3]
