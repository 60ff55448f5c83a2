"""Changes of the day over the rows of files: which wins, item by item and field by field."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.attributes.cells import CARRIED
from recsys.attributes.declaration import Attribute
from recsys.catalogue.changes import FieldChange, ItemState
from recsys.catalogue.fold import fold_states, state_as_of
from recsys.datasets.choices import CatalogueChoices
from recsys.datasets.row_sources import add_row_sources, stated_fields
from recsys.datasets.validate import check_items
from recsys.tables import ITEMS_IN

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
BEFORE, AFTER = NOON - timedelta(hours=1), NOON + timedelta(hours=1)
CHOICES = CatalogueChoices(attributes=(Attribute("size"),))


def rows(written: datetime | None, *raw: dict[str, Any]) -> pa.Table:
    """The valid rows of a file that was written then."""
    table = pa.Table.from_pylist(list(raw))
    good = check_items(table, "items.csv", 7, CHOICES).good
    return add_row_sources(good, table, 7, CHOICES, written)[0].drop_columns(["_path", "_row"])


def state(item_id: str, number: int = 1, /, **values: Any) -> ItemState:
    """One change at noon."""
    flags = {name: values.pop(name) for name in ("whole", "deleted") if name in values}
    fields = {name: FieldChange(value, number, NOON) for name, value in values.items()}
    return ItemState(item_id=item_id, number=number, time=NOON, fields=fields, **flags)


def prices(table: pa.Table) -> dict[str, Any]:
    return dict(zip(table["item_id"].to_pylist(), table["price"].to_pylist(), strict=True))


A, B = {"item_id": "a", "title": "apple", "price": 5.0}, {"item_id": "b", "title": "bread"}


@pytest.mark.parametrize("written", [None, BEFORE])
def test_a_change_wins_over_an_older_file_and_one_without_a_time(written: datetime | None) -> None:
    fold = fold_states(rows(written, A, B), [state("a", price=4.0)])
    assert prices(fold.items) == {"a": 4.0, "b": None}
    assert fold.items["title"].to_pylist() == ["apple", "bread"]
    assert fold.items.column_names == [*ITEMS_IN.names, CARRIED]
    assert fold.counts == {"changed": 1, "added": 0, "withdrawn": 0, "outdated": 0}


def test_a_newer_file_wins_where_it_has_the_column() -> None:
    fold = fold_states(rows(AFTER, A), [state("a", price=4.0, hidden=True, brand="acme")])
    assert fold.items.select(["price", "hidden", "brand"]).to_pylist() == [
        {"price": 5.0, "hidden": True, "brand": "acme"}
    ]
    assert fold.counts == {"changed": 1, "added": 0, "withdrawn": 0, "outdated": 1}


def test_what_a_newer_file_says_too_is_neither_changed_nor_outdated() -> None:
    fold = fold_states(rows(AFTER, A), [state("a", price=5.0)])
    assert fold.counts == {"changed": 0, "added": 0, "withdrawn": 0, "outdated": 0}


def test_a_row_that_says_when_it_was_updated_is_no_newer_than_that() -> None:
    old, new = (A | {"item_id": name, "updated_at": at.isoformat()} for name, at in
                (("old", BEFORE), ("new", AFTER)))  # fmt: skip
    table = rows(AFTER + timedelta(hours=1), old, new, B | {"updated_at": None})
    fold = fold_states(table, [state(each, price=4.0) for each in ("old", "new", "b")])
    assert prices(fold.items) == {"b": None, "new": 5.0, "old": 4.0}


def test_no_row_is_newer_than_its_file() -> None:
    wild = A | {"updated_at": "2099-01-01"}
    assert prices(fold_states(rows(BEFORE, wild), [state("a", price=4.0)]).items) == {"a": 4.0}


def test_an_unreadable_time_of_update_is_counted_and_none() -> None:
    raw = pa.table({"item_id": ["a", "b", "c"], "updated_at": ["soon", "", None]})
    good = check_items(raw, "items.csv", 0).good
    sourced, unread = add_row_sources(good, raw, 0, CatalogueChoices(), NOON)
    assert unread == 1
    assert sourced["_updated"].to_pylist() == [NOON] * 3


def test_a_deleted_item_is_left_out_until_a_file_is_written_anew() -> None:
    gone = state("a", deleted=True)
    fold = fold_states(rows(BEFORE, A, B), [gone])
    assert fold.items["item_id"].to_pylist() == ["b"]
    assert fold.counts["withdrawn"] == 1
    fold = fold_states(rows(AFTER, A, B), [gone])
    assert fold.items["item_id"].to_pylist() == ["a", "b"]
    assert (fold.counts["withdrawn"], fold.counts["outdated"]) == (0, 1)
    assert fold_states(rows(BEFORE, B), [gone]).counts["withdrawn"] == 0


def test_an_item_that_was_put_is_added_in_its_place() -> None:
    put = state(
        "aa",
        whole=True,
        title="avocado",
        price=2.0,
        list_price=3.0,
        added="2026-02-28T00:00:00+00:00",
        _attributes=[["size", "L"], ["size", "M"]],
    )
    fold = fold_states(rows(AFTER, A, B), [put, state("zz", price=1.0)])
    assert prices(fold.items) == {"a": 5.0, "aa": 2.0, "b": None}
    added = fold.items.to_pylist()[1]
    assert (added["in_stock"], added["hidden"], added["list_price"]) == (True, False, 3.0)
    assert added["added"] == datetime(2026, 2, 28, tzinfo=UTC)
    assert added[CARRIED] == [{"name": "size", "value": "L"}, {"name": "size", "value": "M"}]
    assert fold.counts == {"changed": 0, "added": 1, "withdrawn": 0, "outdated": 0}
    assert fold.items.schema.field("item_id") == ITEMS_IN.field("item_id")


def test_attributes_change_with_their_pairs() -> None:
    table = rows(BEFORE, A | {"size": "S"}, B | {"size": "M"})
    fold = fold_states(table, [state("b", attributes="XL", _attributes=[["size", "XL"]])])
    assert fold.items["attributes"].to_pylist() == ["S", "XL"]
    assert [pairs[0]["value"] for pairs in fold.items[CARRIED].to_pylist()] == ["S", "XL"]


def test_a_list_price_that_is_not_higher_is_none() -> None:
    table = rows(BEFORE, A | {"list_price": 6.0})
    (item,) = fold_states(table, [state("a", price=6.0)]).items.to_pylist()
    assert (item["price"], item["list_price"]) == (6.0, None)


def test_columns_make_fields() -> None:
    assert stated_fields(["item_id", "sale_price", "Size", "colour"], CHOICES) == [
        *(CARRIED, "attributes", "currency", "item_id", "list_price", "price"),
    ]
    assert stated_fields(["item_id", "in_stock"], CatalogueChoices()) == ["in_stock", "item_id"]


def test_of_a_state_stays_what_changed_up_to_a_number() -> None:
    put = state("a", 3, whole=True, title="apple")
    later = ItemState(
        item_id="a",
        number=9,
        time=AFTER,
        whole=True,
        fields={**put.fields, "price": FieldChange(1.0, 9, AFTER)},
    )
    assert state_as_of(later, 9) == later
    left = state_as_of(later, 8)
    assert left is not None
    assert left.values() == {"title": "apple"}
    assert state_as_of(later, 2) is None
    assert state_as_of(state("a", 9, deleted=True), 8) is None


@given(
    st.dictionaries(st.sampled_from("abcde"), st.floats(1, 9), max_size=5),
    st.dictionaries(st.sampled_from("abcdef"), st.sampled_from(["patch", "put", "delete"])),
    st.sampled_from([None, BEFORE, AFTER]),
)
def test_the_fold_equals_the_rule_item_by_item(
    files: dict[str, float], changes: dict[str, str], written: datetime | None
) -> None:
    table = rows(written, {"item_id": "z", "title": "z", "price": 7.0}, *(
        {"item_id": name, "title": name, "price": price} for name, price in files.items()
    ))  # fmt: skip
    made = {
        "patch": lambda name: state(name, price=0.5),
        "put": lambda name: state(name, whole=True, title=name, price=0.5),
        "delete": lambda name: state(name, deleted=True),
    }
    expected = {**files, "z": 7.0}
    for name, kind in changes.items():
        wins = written != AFTER or name not in files
        if kind == "delete" and wins:
            expected.pop(name, None)
        elif wins and (kind == "put" or name in files):
            expected[name] = 0.5
    fold = fold_states(table, [made[kind](name) for name, kind in changes.items()])
    assert prices(fold.items) == dict(sorted(expected.items()))
    assert fold.items["item_id"].to_pylist() == sorted(expected)


def test_at_the_same_time_the_row_wins() -> None:
    fold = fold_states(rows(NOON, A, B), [state("a", price=4.0), state("b", deleted=True)])
    assert prices(fold.items) == {"a": 5.0, "b": None}
