"""Every row is good or quarantined, exactly once, for a reason that names it."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.datasets import data_folder
from recsys.datasets.choices import CatalogueChoices
from recsys.datasets.validate import (
    LINE,
    SOURCE,
    ValidationResult,
    check_events,
    check_items,
)
from recsys.errors import InputError, NotFoundError
from recsys.tables import EVENTS, EVENTS_RAW, ITEMS_IN, ITEMS_RAW, QUARANTINE, REQUIRED

NOW = datetime(2026, 1, 1, tzinfo=UTC)
GOOD = {
    "event_id": "e",
    "user_id": "u",
    "item_id": "i",
    "type": "view",
    "time": "2025-12-31T23:00:00Z",
}


def items(**columns: list[Any] | pa.Array) -> ValidationResult:
    count = max(map(len, columns.values()))
    return check_items(
        pa.table({"item_id": [f"i{n}" for n in range(count)]} | columns), "shop.csv", 100
    )


def events(**columns: list[Any] | pa.Array) -> ValidationResult:
    count = max(map(len, columns.values()))
    raw = {name: [value] * count for name, value in GOOD.items()} | columns
    return check_events(pa.table(raw), "log.csv", 0, NOW)


def reasons(checked: ValidationResult) -> list[str]:
    return checked.quarantined["reason"].to_pylist()


def test_a_bad_row_is_told_its_place_its_reason_and_what_it_was() -> None:
    checked = items(price=[1.0, -3.0], colour=["red", "blue"])
    assert checked.good.to_pylist() == [
        dict.fromkeys(ITEMS_IN.names)
        | {"item_id": "i0", "price": 1.0, "in_stock": True, "hidden": False}
        | {"_path": "shop.csv", "_row": 100}
    ]
    (row,) = checked.quarantined.to_pylist()
    assert json.loads(row.pop("source")) == {"item_id": "i1", "price": -3.0, "colour": "blue"}
    assert row == {
        "table": "items",
        "path": "shop.csv",
        "row": 101,
        "reason": "price is -3.0: it must be zero or more",
    }


@pytest.mark.parametrize(
    ("value", "rule"),
    [
        ("a\nb", "'a\\nb': it must have no control or replacement characters"),
        ("x" * 257, f"'{'x' * 99}...: it must have 256 characters or fewer"),
    ],
)
@pytest.mark.parametrize("name", ["event_id", "user_id", "item_id"])
def test_ids(name: str, value: str | None, rule: str) -> None:
    assert reasons(events(**{name: pa.array([value, "x" * 256], pa.string())})) == [
        f"{name} is {rule}"
    ]


@pytest.mark.parametrize(("value", "shown"), [(None, "missing"), ("", "''"), (" \t", "' \\t'")])
def test_an_item_must_be_named(value: str | None, shown: str) -> None:
    checked = events(item_id=pa.array([value, "i"], pa.string()))
    assert reasons(checked) == [f"item_id is {shown}: it must not be empty"]


@pytest.mark.parametrize(
    "ids", [[7, 8], [7.0, 8.0], [b"7", b"8"], pa.array(["7", "8"]).dictionary_encode()]
)
def test_ids_that_are_numbers_or_bytes_become_text(ids: list[Any] | pa.Array) -> None:
    assert items(item_id=ids).good["item_id"].to_pylist() == ["7", "8"]


def test_whole_floats_are_ids_of_digits() -> None:
    checked = items(item_id=[4006381333931.0, 7.0, 1.5, 2.0**60], brand=[1e3, None, -2.0, 0.5])
    assert checked.good["item_id"].to_pylist() == [
        "4006381333931", "7", "1.5", "1.152921504606847e+18",
    ]  # fmt: skip
    assert checked.good["brand"].to_pylist() == ["1000", None, "-2", "0.5"]


@pytest.mark.parametrize(
    "nobody", ["nan", "None", "NULL", "undefined", "(not set)", "", "  ", "0", "-1", "Guest", None]
)
def test_what_stands_for_no_user_is_a_guest(nobody: str | None) -> None:
    checked = events(user_id=pa.array([nobody, "u"], pa.string()))
    assert checked.good["user_id"].to_pylist() == [None, "u"]
    assert (reasons(checked), checked.counts["guest_events"]) == ([], 1)


def test_a_shop_says_who_its_guests_are() -> None:
    raw = pa.table({name: [value] * 2 for name, value in GOOD.items()} | {"user_id": ["0", "web"]})
    choices = CatalogueChoices(guest_ids=("web",))
    assert check_events(raw, "p", 0, NOW, choices).good["user_id"].to_pylist() == ["0", None]


def test_words_of_other_logs_are_read() -> None:
    given = ["view_item", "Product Added", "addtocart", "transaction", "select_item", "Purchase"]
    assert events(type=given).good["type"].to_pylist() == [
        "view", "cart", "cart", "purchase", "click", "purchase"
    ]  # fmt: skip


def test_what_is_no_interaction_is_counted_and_left_out() -> None:
    checked = events(
        type=["remove_from_cart", "scroll", "view", "cart"], quantity=[None, None, None, -1.0]
    )
    assert checked.good["type"].to_pylist() == ["view"]
    assert (checked.ignored, checked.quarantined.num_rows) == (3, 0)


def test_returns_are_purchases_of_less_than_nothing() -> None:
    checked = events(
        type=["purchase", "refund", "refund", "Order Cancelled"], quantity=[-2, 3, -1, None]
    )
    assert set(checked.good["type"].to_pylist()) == {"purchase"}
    assert checked.good["quantity"].to_pylist() == [-2.0, -3.0, -1.0, -float("inf")]


def test_events_without_an_id_get_one_that_stays() -> None:
    raw = {"event_id": [None, " ", "e"], "item_id": ["i", "i", "i"], "order_id": ["1", "1", "1"]}
    first, again = events(**raw), events(**raw)
    made = first.good["event_id"].to_pylist()
    assert len(set(made)) == 3
    assert made[2] == "e"
    assert again.good["event_id"].to_pylist() == made
    columns = {name: [value] for name, value in GOOD.items() if name != "event_id"}
    other = check_events(pa.table(columns), "p", 0, NOW).good["event_id"].to_pylist()
    assert other[0] not in made  # of another order


def test_a_missing_number_written_as_nan_is_no_id() -> None:
    assert events(user_id=[float("nan"), 1.0]).good["user_id"].to_pylist() == [None, "1"]
    assert items(brand=[float("nan")]).good["brand"].to_pylist() == [None]


def test_prices() -> None:
    given = ["1.5", " 2e0 ", "", "0", None, "-1", "nan", "inf", "1e999", "free", "from 3"]
    checked = items(price=given)
    assert checked.good["price"].to_pylist() == [1.5, 2.0, None, 0.0, None]
    assert [reason.split(":")[0] for reason in reasons(checked)] == [
        f"price is {text!r}" for text in given[5:]
    ]
    assert (
        reasons(items(price=[float("nan"), float("inf")]))[0]
        == "price is nan: it must be a finite number"
    )
    assert items(price=[Decimal("2.50")]).good["price"].to_pylist() == [2.5]
    assert reasons(items(price=[True])) == ["price is True: it must be a number"]


def test_stock() -> None:
    checked = items(in_stock=["true", "FALSE", "0", "12", "", None, "out of stock", "maybe"])
    stock = [True, False, False, True, True, True, False]
    assert checked.good["in_stock"].to_pylist() == stock
    assert reasons(checked) == [
        "in_stock is 'maybe': it must be true or false, a count, or a word such as in_stock or "
        "out_of_stock; say in catalogue.stock_words what others mean"
    ]


def test_unknown_types_are_refused_unless_the_shop_says_what_they_mean() -> None:
    assert reasons(events(type=["view", "looked"])) == [
        "type is 'looked': use one of view, click, cart, purchase, or say in "
        "catalogue.event_words what the word means"
    ]
    choices = CatalogueChoices(event_words={"Looked": "view", "view": "ignore"})
    raw = pa.table(
        {name: [value] * 2 for name, value in GOOD.items()} | {"type": ["looked", "view"]}
    )
    checked = check_events(raw, "p", 0, NOW, choices)
    assert (checked.good["type"].to_pylist(), checked.ignored) == (["view"], 1)
    with pytest.raises(
        InputError, match=r"event_words\['a'\] is 'b': give one of view, click, cart"
    ):
        CatalogueChoices(event_words={"a": "b"})


def test_quantities() -> None:
    given = ["2", "", "0", "-1", "two", "2,0", "1.000"]
    checked = events(type=["purchase"] * 7, quantity=given)
    assert checked.good["quantity"].to_pylist() == [2.0, None, -1.0, 2.0, 1.0]
    assert reasons(checked) == [
        "quantity is '0': it must not be zero",
        "quantity is 'two': it must be a number",
    ]


@pytest.mark.parametrize(
    "given",
    [
        [
            "2025-12-31T23:00:00Z",
            "2025-12-31 23:00",
            "2026-01-01T07:00:00.0000000+08:00",
            " 2025-12-31T23:00:00+0000",
        ],
        pa.array([datetime(2025, 12, 31, 23)], pa.timestamp("s")),
        pa.array([datetime(2025, 12, 31, 23)], pa.timestamp("ns")),
        pa.array([datetime(2025, 12, 31, 23, tzinfo=UTC)], pa.timestamp("ms", "Asia/Shanghai")),
    ],
)
def test_times_of_every_kind_mean_the_same(given: list[str] | pa.Array) -> None:
    assert set(events(time=given).good["time"].to_pylist()) == {
        datetime(2025, 12, 31, 23, tzinfo=UTC)
    }


def test_a_date_is_its_midnight() -> None:
    midnight = [datetime(2025, 12, 31, tzinfo=UTC)]
    assert events(time=[date(2025, 12, 31)]).good["time"].to_pylist() == midnight
    assert events(time=["2025-12-31"]).good["time"].to_pylist() == midnight


def test_times_that_cannot_be() -> None:
    given = [
        NOW + timedelta(minutes=5),
        NOW + timedelta(minutes=5, seconds=1),
        datetime(1969, 1, 1, tzinfo=UTC),
    ]
    assert [reason.split(": ")[1] for reason in reasons(events(time=given))] == [
        "it must not be later than 2026-01-01T00:05:00Z",
        "it must not be before 1970",
    ]
    unread = reasons(events(time=["2025-02-30", "yesterday", "1700000000"]))
    assert unread[0] == "time is '2025-02-30': it must be a timestamp or ISO 8601 text"
    number = (
        "a number is a time where catalogue.epoch says whether it counts s, ms, us or ns since 1970"
    )
    assert unread[1:] == [
        "time is 'yesterday': it must be a timestamp or ISO 8601 text",
        f"time is '1700000000': {number}",
    ]
    assert reasons(events(time=[20261130])) == [f"time is 20261130: {number}"]
    assert reasons(events(time=["01/02/2025"])) == [
        "time is '01/02/2025': its day and month could be swapped; say in catalogue.day_first "
        "which comes first"
    ]
    assert reasons(events(time=pa.nulls(1))) == ["time is missing: it must not be empty"]


def test_an_item_may_be_announced_but_not_for_another_century() -> None:
    given = [
        "2025-12-31",
        "2030-06-01T10:00:00+02:00",
        "",
        None,
        "1969-12-31",
        "2101-01-01",
        "soon",
    ]
    checked = items(added=given)
    assert checked.good["added"].to_pylist() == [
        datetime(2025, 12, 31, tzinfo=UTC), datetime(2030, 6, 1, 8, tzinfo=UTC), None, None
    ]  # fmt: skip
    assert reasons(checked) == [
        "added is '1969-12-31': it must not be before 1970",
        "added is '2101-01-01': it must not be later than 2100-01-01T00:00:00Z",
        "added is 'soon': it must be a timestamp or ISO 8601 text",
    ]


def test_group_ids_that_are_numbers_become_text() -> None:
    assert items(group_id=[7, None]).good["group_id"].to_pylist() == ["7", None]


def test_a_line_that_could_not_be_split_is_shown_as_it_was() -> None:
    checked = items(**{"item_id": ["a", None], LINE: [None, "b;1"]})
    assert checked.good.num_rows == 1
    assert reasons(checked)[0].startswith("line is 'b;1': it must have the form of the other lines")


def test_a_missing_column_is_named_beside_those_there_are() -> None:
    with pytest.raises(
        InputError, match=r"items of shop\.csv have no column 'item_id', only sku, price"
    ):
        check_items(pa.table({"sku": ["a"], "price": [1]}), "shop.csv", 0)


CELLS = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**63), 2**63 - 1), st.floats(),
    st.text(max_size=5), st.binary(max_size=3), st.datetimes(), st.dates(),
    st.decimals(-(10**6), 10**6, places=2), st.lists(st.integers(0, 9), max_size=2),
    st.sampled_from(["view", "2025-01-01", "2025-01-01T00:00:00Z", "1.5", "true", "i1"]),
    st.dictionaries(st.sampled_from("ab"), st.integers(0, 9), max_size=2),
)  # fmt: skip


@st.composite
def columns(draw: st.DrawFn, rows: int) -> pa.Array:
    """A column of whatever one cell's type is, with holes, sometimes as a dictionary."""
    sample = draw(CELLS)
    column = pa.array([sample if draw(st.booleans()) else None for _ in range(rows)])
    texts = st.one_of(
        st.text(max_size=4),
        st.sampled_from(["view", "2025-01-01", "-1", "7", "nan", "true", "\x00"]),
    )
    if draw(st.booleans()):
        column = pa.array(draw(st.lists(texts, min_size=rows, max_size=rows)), pa.string())
        return draw(
            st.sampled_from([column, column.dictionary_encode(), column.cast(pa.string_view())])
        )
    if pa.types.is_binary(column.type) and draw(st.booleans()):
        return pa.StringArray.from_buffers(
            len(column), *column.buffers()[1:], column.buffers()[0]
        )  # not UTF-8
    if pa.types.is_timestamp(column.type):
        wild = pa.array([draw(st.integers(-(2**63), 2**63 - 1)) for _ in range(rows)])
        return wild.cast(
            pa.timestamp(
                draw(st.sampled_from(["s", "ms", "us", "ns"])), draw(st.sampled_from([None, "UTC"]))
            )
        )
    return column


@st.composite
def raw_tables(draw: st.DrawFn, schema: pa.Schema) -> pa.Table:
    rows = draw(st.integers(0, 4))
    required = REQUIRED["items" if schema is ITEMS_RAW else "events"]
    names = [name for name in schema.names if name in required or draw(st.booleans())] + ["extra"]
    return pa.table({name: draw(columns(rows)) for name in names})


def assert_each_row_once(raw: pa.Table, checked: ValidationResult, schema: pa.Schema) -> None:
    assert checked.good.schema == pa.schema([*schema, *SOURCE])
    assert checked.quarantined.schema == QUARANTINE
    rows = checked.good["_row"].to_pylist() + checked.quarantined["row"].to_pylist()
    assert len(rows) == len(set(rows)) == raw.num_rows - checked.ignored
    assert set(rows) <= set(range(7, 7 + raw.num_rows))
    checked.good.validate(full=True)
    assert all(
        isinstance(json.loads(source), dict) for source in checked.quarantined["source"].to_pylist()
    )


@settings(max_examples=150, deadline=None)
@given(raw_tables(ITEMS_RAW))
def test_every_item_row_is_good_or_quarantined_once(raw: pa.Table) -> None:
    assert_each_row_once(raw, check_items(raw, "p", 7), ITEMS_IN)


@settings(max_examples=150, deadline=None)
@given(raw_tables(EVENTS_RAW))
def test_every_event_row_is_good_or_quarantined_once(raw: pa.Table) -> None:
    assert_each_row_once(raw, check_events(raw, "p", 7, NOW), EVENTS)


@pytest.mark.realdata
def test_a_real_shop_with_cancellations_and_unknown_customers() -> None:
    try:
        path = data_folder("uci_online_retail") / "online_retail.parquet"
    except NotFoundError as error:
        pytest.skip(str(error))
    theirs = [
        "__index_level_0__",
        "CustomerID",
        "StockCode",
        "InvoiceDate",
        "Quantity",
        "UnitPrice",
    ]
    raw = pq.read_table(path, columns=theirs).select(theirs)
    raw = raw.rename_columns(["event_id", "user_id", "item_id", "time", "quantity", "price"])
    raw = raw.append_column("type", pa.array(["purchase"] * raw.num_rows))
    checked = check_events(raw, "online_retail.parquet", 0, NOW)
    kinds = pc.value_counts(
        pc.list_element(pc.split_pattern(checked.quarantined["reason"], " "), 0)
    ).to_pylist()
    assert {kind["values"]: kind["counts"] for kind in kinds} == {
        "price": 2,
    }
    assert checked.good.num_rows == 541_907
    assert checked.counts["guest_events"] == 135_078
    assert pc.sum(pc.less(checked.good["quantity"], 0)).as_py() == 10_624
    assert checked.good["user_id"][0].as_py() == "17850"
