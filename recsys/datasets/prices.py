"""What an item costs: its prices in one currency, and what of them a shopper pays tonight."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys.datasets.casts import cast, to_array, to_mask, trim
from recsys.datasets.choices import CatalogueChoices
from recsys.datasets.currencies import currencies_of, is_currency, minor_digits
from recsys.datasets.money import MoneyColumn, read_money
from recsys.datasets.times import TimeReading, to_time
from recsys.tables import TIME
from recsys.types import Mask

#: Rows, the column, and the rule that they violate as the end of a sentence.
Violations = list[tuple[Mask, str, str]]
_AMBIGUOUS = (
    "it can be read in two ways; say in catalogue.decimal whether . or , begins the decimals"
)
_DATE = r"^\d{4}-\d\d-\d\d$"
_DAY = pa.scalar(86_400_000_000, pa.duration("us"))


def read_item_prices(
    raw: pa.Table, choices: CatalogueChoices, now: datetime
) -> tuple[dict[str, pa.Array], Violations]:
    """The columns price, list_price and currency of a raw catalogue. A sale price that holds at
    `now` is the price; the regular one is the list price then."""
    columns, currency, violations = read_prices(raw, ("price", "list_price", "sale_price"), choices)
    starts, ends, of_dates = _sale_times(raw, choices.times)
    price, sale = columns["price"], columns["sale_price"]
    at = pa.scalar(now, TIME)
    holds = pc.and_(
        pc.fill_null(pc.less_equal(starts, at), True), pc.fill_null(pc.greater(ends, at), True)
    )
    # Some exports write 0 where there is no sale price.
    lower = pc.and_(pc.greater(sale, 0.0), pc.fill_null(pc.less(sale, price), True))
    is_sale = pc.fill_null(pc.and_(lower, holds), False)
    paid = pc.if_else(is_sale, sale, price)
    regular = pc.coalesce(columns["list_price"], pc.if_else(is_sale, price, None))
    is_higher = pc.fill_null(pc.greater(regular, paid), False)
    return {
        "price": paid,
        "list_price": pc.if_else(is_higher, regular, pa.scalar(None, pa.float64())),
        "currency": pc.if_else(paid.is_valid(), currency, pa.scalar(None, pa.string())),
    }, [*violations, *of_dates]


def _sale_times(raw: pa.Table, reading: TimeReading) -> tuple[pa.Array, pa.Array, Violations]:
    """When each sale begins and ends, null where nothing says it. A date as its end is a whole
    day."""
    names, violations = ("sale_starts", "sale_ends"), Violations()
    columns = {name: trim(raw_column(raw, name)) for name in names}
    if "sale_price_effective_date" in raw.column_names:
        interval = trim(cast(raw_column(raw, "sale_price_effective_date"), pa.string()))
        parts = pc.extract_regex(interval, r"^(?P<start>[^/]*?)\s*/\s*(?P<end>[^/]*)$")
        is_bad = pc.and_(pc.not_equal(interval, ""), parts.is_null())
        rule = "give two ISO 8601 times, start/end"
        violations.append((to_mask(is_bad), "sale_price_effective_date", rule))
        for name, part in zip(names, ("start", "end"), strict=True):
            if name not in raw.column_names:
                columns[name] = pc.struct_field(parts, part)
    times = []
    for name, column in columns.items():
        time = to_time(column, reading)
        if pa.types.is_string(column.type):
            is_bad = pc.and_(pc.not_equal(column, ""), time.is_null())
            source = name if name in raw.column_names else "sale_price_effective_date"
            violations.append((to_mask(is_bad), source, "it must be a time"))
            is_day = pc.fill_null(pc.match_substring_regex(column, _DATE), False)
            if name == "sale_ends":
                time = pc.if_else(is_day, pc.add(time, _DAY), time)
        times.append(time)
    return times[0], times[1], violations


def read_prices(
    raw: pa.Table, names: Sequence[str], choices: CatalogueChoices
) -> tuple[dict[str, pa.Array], pa.Array, Violations]:
    """The columns `names` in the shop's currency, which is the chosen one or the only one; and
    its code for each row, null where nothing says it."""
    columns = [raw_column(raw, name) for name in names]
    styles = _read_together(columns, choices.decimal)
    stated = trim(cast(raw_column(raw, "currency"), pa.string()))
    stated = pc.if_else(pc.equal(stated, ""), pa.scalar(None, pa.string()), pc.utf8_upper(stated))
    labels = [pc.coalesce(each.currencies, stated) for each in styles]
    codes = _resolve(labels, choices)
    shop, several = _shop_currency(codes.values(), choices)
    result, violations = dict[str, pa.Array](), Violations()
    for name, money, label in zip(names, styles, labels, strict=True):
        amounts, of_column = _convert(money, label, codes, shop, choices)
        violations += [(bad_N, name, rule) for bad_N, rule in of_column]
        if several:
            written_N = to_mask(pc.and_(money.amounts.is_valid(), label.is_valid()))
            violations.append((written_N, name, several))
        result[name] = amounts
    code = shop if shop and is_currency(shop) else None
    return result, pa.array([code] * raw.num_rows, pa.string()), violations


def _read_together(columns: Sequence[pa.Array], decimal: str | None) -> list[MoneyColumn]:
    """Each column read in the style of all of them: they are written by one hand."""
    texts = [each for each in columns if _has_texts(each)]
    if len(texts) < 2:
        return [read_money(column, decimal) for column in columns]
    whole, start, parts = read_money(pa.concat_arrays(texts), decimal), 0, list[MoneyColumn]()
    for column in columns:
        if not _has_texts(column):
            parts.append(read_money(column, decimal))
            continue
        rows = slice(start, start + len(column))
        parts.append(
            MoneyColumn(
                whole.amounts[rows],
                whole.currencies[rows],
                whole.unread_N[rows],
                whole.ambiguous_N[rows],
            )
        )
        start += len(column)
    return parts


def _has_texts(column: pa.Array) -> bool:
    return pa.types.is_string(column.type) and column.null_count < len(column)


def _resolve(labels: Sequence[pa.Array], choices: CatalogueChoices) -> dict[str, str]:
    """What is written as a currency -> its code; a symbol of several stands for the one that the
    shop names or the column writes out, else for itself."""
    written = {text for label in labels for text in label.unique().to_pylist() if text}
    stated = {choices.currency, *choices.rates} | {text for text in written if is_currency(text)}
    codes = {}
    for text in written:
        candidates = currencies_of(text)
        likely = [code for code in candidates if code in stated]
        if choices.currency in candidates:
            likely = [str(choices.currency)]
        codes[text] = (likely or candidates)[0] if len(likely or candidates) == 1 else text
    return codes


def _shop_currency(codes: Iterable[str], choices: CatalogueChoices) -> tuple[str, str]:
    """The chosen currency or the only one, and else the sentence that names the several."""
    distinct = sorted(set(codes))
    if choices.currency or len(distinct) < 2:
        return choices.currency or "".join(distinct), ""
    return "", (
        f"there are prices in {', '.join(distinct)}; choose one as catalogue.currency, and give "
        "the rates of the others as catalogue.rates"
    )


def _convert(
    money: MoneyColumn,
    label: pa.Array,
    codes: dict[str, str],
    shop: str,
    choices: CatalogueChoices,
) -> tuple[pa.Array, list[tuple[Mask, str]]]:
    """Amounts in the shop's currency, and their violations."""
    amounts = money.amounts
    violations = [
        (money.unread_N, "it must be a number"),
        (money.ambiguous_N, _AMBIGUOUS),
        (~to_mask(pc.is_finite(amounts), null=True), "it must be a finite number"),
        (to_mask(pc.less(amounts, 0.0)), "it must be zero or more"),
    ]
    factors_N = np.ones(len(amounts))
    units: list[tuple[str | None, str]] = [*codes.items()]
    if choices.price_unit == "minor":
        units.append((None, shop))
    for text, code in units:
        rows_N = to_mask(label.is_null() if text is None else pc.equal(label, text))
        if choices.price_unit == "minor":
            if not is_currency(code):
                rule = "catalogue.price_unit is minor; say of what as catalogue.currency"
                violations.append((rows_N & to_mask(amounts.is_valid()), rule))
                continue
            factors_N[rows_N] /= 10.0 ** minor_digits(code)
        if shop and code not in (shop, *choices.rates):
            rule = (
                f"the shop's currency is {shop} and there is no rate for {code}; "
                "add it to catalogue.rates"
            )
            violations.append((rows_N & to_mask(amounts.is_valid()), rule))
        elif code != shop:
            factors_N[rows_N] *= choices.rates.get(code, 1.0)
    if (factors_N != 1.0).any():
        amounts = pc.multiply(amounts, pa.array(factors_N))
    return amounts, violations


def raw_column(raw: pa.Table, name: str) -> pa.Array:
    """A column as one array, of nulls where there is none."""
    return to_array(raw[name]) if name in raw.column_names else pa.nulls(raw.num_rows, pa.string())
