"""What a shopper pays tonight, in the shop's currency."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pytest

from recsys.datasets.choices import CatalogueChoices
from recsys.datasets.validate import ValidationResult, check_events, check_items
from recsys.errors import InputError

NOW = datetime(2026, 11, 30, 2, tzinfo=UTC)


def items(choices: CatalogueChoices | None = None, **columns: list[Any]) -> ValidationResult:
    rows = max(map(len, columns.values()))
    raw = pa.table({"item_id": [f"i{row}" for row in range(rows)]} | columns)
    return check_items(raw, "shop.csv", 0, choices or CatalogueChoices(), NOW)


def reasons(checked: ValidationResult) -> list[str]:
    return checked.quarantined["reason"].to_pylist()


def prices(checked: ValidationResult, *names: str) -> list[Any]:
    return checked.good.select(names or ("price",)).to_pylist()


def test_the_only_currency_is_the_shops() -> None:
    checked = items(price=["3.99 EUR", "5,00 €", "7", None])
    assert checked.good["price"].to_pylist() == [3.99, 5.0, 7.0, None]
    assert checked.good["currency"].to_pylist() == ["EUR", "EUR", "EUR", None]


def test_a_symbol_of_many_currencies_names_none_until_the_shop_does() -> None:
    assert items(price=["$18"]).good["currency"].to_pylist() == [None]
    canadian = CatalogueChoices(currency="CAD")
    assert items(canadian, price=["$18", "5"]).good["currency"].to_pylist() == ["CAD", "CAD"]
    written = items(price=["$18", "20 USD"])
    assert written.good["currency"].to_pylist() == ["USD", "USD"]


def test_several_currencies_are_refused_by_name() -> None:
    checked = items(price=["5 USD", "5 EUR", "5"])
    assert checked.good["price"].to_pylist() == [5.0]
    assert reasons(checked)[0] == (
        "price is '5 USD': there are prices in EUR, USD; choose one as catalogue.currency, and "
        "give the rates of the others as catalogue.rates"
    )


def test_rates_convert_and_a_missing_one_is_named() -> None:
    choices = CatalogueChoices(currency="EUR", rates={"USD": 0.5})
    checked = items(choices, price=["10 USD", "$8", "5 EUR", "5", "5 GBP"])
    assert checked.good["price"].to_pylist() == [5.0, 4.0, 5.0, 5.0]
    assert set(checked.good["currency"].to_pylist()) == {"EUR"}
    assert reasons(checked) == [
        "price is '5 GBP': the shop's currency is EUR and there is no rate for GBP; "
        "add it to catalogue.rates"
    ]


def test_a_column_may_say_the_currency() -> None:
    checked = items(price=["5", "6"], currency=["eur", "EUR"])
    assert checked.good["currency"].to_pylist() == ["EUR", "EUR"]
    choices = CatalogueChoices(currency="EUR", rates={"USD": 2.0})
    assert items(choices, price=[5.0], currency=["USD"]).good["price"].to_pylist() == [10.0]


def test_prices_in_cents() -> None:
    cents = CatalogueChoices(price_unit="minor", currency="EUR", rates={"JPY": 0.01})
    checked = items(cents, price=["1299", "300 JPY"])
    assert checked.good["price"].to_pylist() == [12.99, 3.0]
    unnamed = items(CatalogueChoices(price_unit="minor"), price=[1299])
    assert reasons(unnamed) == [
        "price is 1299: catalogue.price_unit is minor; say of what as catalogue.currency"
    ]


def test_what_could_be_read_in_two_ways_is_refused_with_the_settings_name() -> None:
    assert reasons(items(price=["1,299"])) == [
        "price is '1,299': it can be read in two ways; say in catalogue.decimal whether . or , "
        "begins the decimals"
    ]
    assert prices(items(CatalogueChoices(decimal="."), price=["1,299"])) == [{"price": 1299.0}]


@pytest.mark.parametrize(
    ("columns", "price", "list_price"),
    [
        ({"sale_price": "4 EUR"}, 4, 5),
        ({"sale_price": ""}, 5, None),
        ({"sale_price": "0"}, 5, None),
        ({"sale_price": "6"}, 5, None),
        ({"sale_price": "4", "list_price": "9"}, 4, 9),
        ({"list_price": "9"}, 5, 9),
        ({"list_price": "5"}, 5, None),
        (
            {"sale_price": "4", "sale_price_effective_date": "2026-11-01T00:00-0800/2026-12-01"},
            4,
            5,
        ),
        ({"sale_price": "4", "sale_price_effective_date": "2026-12-01/2026-12-24"}, 5, None),
        ({"sale_price": "4", "sale_starts": "2026-11-01", "sale_ends": "2026-11-30"}, 4, 5),
        ({"sale_price": "4", "sale_starts": "2026-11-01", "sale_ends": "2026-11-29"}, 5, None),
        ({"sale_price": "4", "sale_starts": "2026-12-01"}, 5, None),
        ({"sale_price": "4", "sale_starts": "", "sale_ends": None}, 4, 5),
    ],
)
def test_a_sale_price_is_the_price_while_it_holds(
    columns: dict[str, str], price: float, list_price: float | None
) -> None:
    checked = items(price=["5,00 EUR"], **{name: [value] for name, value in columns.items()})
    assert prices(checked, "price", "list_price") == [{"price": price, "list_price": list_price}]


def test_sale_dates_that_are_none_are_named() -> None:
    checked = items(price=[5], sale_price=[4], sale_price_effective_date=["next week"])
    assert reasons(checked) == [
        "sale_price_effective_date is 'next week': give two ISO 8601 times, start/end"
    ]
    assert reasons(items(price=[5], sale_ends=["soon"])) == [
        "sale_ends is 'soon': it must be a time"
    ]


def test_what_was_paid_is_money_too() -> None:
    event = {"event_id": "e", "user_id": "u", "item_id": "i", "type": "purchase"}
    raw = {name: [value] for name, value in event.items()}
    raw |= {"time": ["2026-01-01"], "price": ["3,99 EUR"]}
    assert check_events(pa.table(raw), "p", 0, NOW).good["price"].to_pylist() == [3.99]


def test_what_came_back_may_have_a_negative_price() -> None:
    event = {"event_id": "e", "user_id": "u", "item_id": "i", "time": "2026-01-01"}
    raw = {name: [value] * 3 for name, value in event.items()}
    raw |= {"type": ["purchase", "refund", "purchase"], "price": ["-4", "-5.00 EUR", "-6"]}
    checked = check_events(pa.table(raw | {"quantity": ["-1", "", "1"]}), "p", 0, NOW)
    assert checked.good["price"].to_pylist() == [4.0, 5.0]
    assert reasons(checked) == ["price is '-6': it must be zero or more"]


@pytest.mark.parametrize(
    ("choices", "sentence"),
    [
        ({"currency": "euros"}, "catalogue has the currency 'euros': give an ISO 4217 code"),
        ({"rates": {"USD": 0}}, "catalogue.rates has USD: 0: give the price of 1 USD"),
        ({"decimal": ";"}, "catalogue.decimal is ';': give one of None, ., ,"),
        ({"time_zone": "Mars"}, "catalogue.time_zone is 'Mars': give a name such as Europe/Berlin"),
        ({"epoch": "h"}, "catalogue.epoch is 'h': give one of None, s, ms, us, ns"),
    ],
)
def test_choices_that_there_are_not(choices: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        CatalogueChoices(**choices)
