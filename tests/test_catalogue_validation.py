"""Changes as a shop sends them: what a put, a patch and a delete become, and why a row is none."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from recsys.attributes.cells import CARRIED
from recsys.attributes.declaration import Attribute
from recsys.catalogue.changes import ItemChange, version_of_time
from recsys.catalogue.validation import InvalidChange, read_changes
from recsys.datasets.choices import CatalogueChoices
from recsys.tables import ITEMS_IN

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
PLAIN = CatalogueChoices()
EUROS = CatalogueChoices(currency="EUR", rates={"USD": 0.5})


def changes(*rows: Any, choices: CatalogueChoices = PLAIN) -> list[ItemChange | InvalidChange]:
    return read_changes(rows, choices, NOON)


def valid(choices: CatalogueChoices = PLAIN, /, **row: Any) -> ItemChange:
    [change] = changes({"item_id": "mug", **row}, choices=choices)
    assert isinstance(change, ItemChange), change
    return change


def patched(choices: CatalogueChoices = PLAIN, /, **fields: Any) -> dict[str, Any]:
    change = valid(choices, op="patch", **fields)
    assert change.kind == "patch"
    return dict(change.fields)


def reason(*rows: Any, choices: CatalogueChoices = PLAIN) -> str:
    [invalid] = changes(*rows, choices=choices)
    assert isinstance(invalid, InvalidChange), invalid
    return invalid.reason


def test_a_put_has_every_field() -> None:
    change = valid(title=" Red  mug ", price=4, added="2026-02-01T10:00:00+01:00")
    assert (change.kind, change.item_id, change.version) == ("put", "mug", None)
    assert set(change.fields) == set(ITEMS_IN.names) - {"item_id"}
    values = {name: value for name, value in change.fields.items() if value is not None}
    assert values == {
        "title": change.fields["title"],
        "price": 4.0,
        "in_stock": True,
        "hidden": False,
        "added": "2026-02-01T09:00:00+00:00",
    }


def test_a_patch_has_the_fields_that_it_names() -> None:
    assert patched(price=4.5) == {"price": 4.5}
    assert patched(in_stock="sold out", hidden=True) == {"in_stock": False, "hidden": True}
    assert patched(title=None) == {"title": None}
    assert patched(in_stock=None) == {"in_stock": True}, "as a night reads a cell without a value"


def test_a_price_brings_the_currency_where_one_is_known() -> None:
    assert patched(EUROS, price=4.5) == {"price": 4.5, "currency": "EUR"}
    assert patched(EUROS, price=4.0, currency="USD") == {"price": 2.0, "currency": "EUR"}
    assert patched(EUROS, price=None) == {"price": None, "currency": None}


def test_a_sale_price_decides_price_and_list_price() -> None:
    assert patched(price=10, sale_price=8) == {"price": 8.0, "list_price": 10.0}
    assert patched(price=10, sale_price=None) == {"price": 10.0, "list_price": None}
    assert patched(price=8, list_price=10) == {"price": 8.0, "list_price": 10.0}
    for name in ("sale_price", "list_price", "currency"):
        row = {"item_id": "mug", "op": "patch", name: "USD"}
        assert reason(row).startswith(f"{name} comes without price")


def test_a_delete_names_an_item_alone() -> None:
    change = valid(op="delete", if_version=7)
    assert (change.kind, change.fields, change.version) == ("delete", {}, 7)
    assert "a delete names title" in reason({"item_id": "mug", "op": "delete", "title": "Mug"})


def test_of_a_thousand_three_are_bad() -> None:
    rows: list[Any] = [
        {"item_id": f"i{n}", "price": n + 0.5, "title": f"t{n}"} for n in range(1000)
    ]
    rows[7] = rows[7] | {"price": "cheap"}
    rows[500] = rows[500] | {"prise": 4}
    rows[999] = rows[999] | {"price": -1}
    outcomes = changes(*rows)
    bad = [each for each in outcomes if isinstance(each, InvalidChange)]
    assert [(each.place, each.item_id, each.field) for each in bad] == [
        (7, "i7", "price"),
        (500, "i500", "prise"),
        (999, "i999", "price"),
    ]
    assert bad[0].reason == "price is 'cheap': it must be a number"
    assert bad[2].reason == "price is -1: it must be zero or more"
    good = [each for each in outcomes if isinstance(each, ItemChange)]
    assert [each.item_id for each in good] == [
        f"i{n}" for n in range(1000) if n not in (7, 500, 999)
    ]
    assert [each.fields["price"] for each in good[:3]] == [0.5, 1.5, 2.5]


def test_neighbours_do_not_change_what_a_row_says() -> None:
    rows = [
        {"item_id": "a", "op": "patch", "price": "1.299"},
        {"item_id": "b", "op": "patch", "price": "1.299,00"},
        {"item_id": "c", "op": "patch", "price": 1.299},
        {"item_id": "d", "op": "patch", "price": "19.99"},
        {"item_id": "e", "op": "patch", "price": "5 USD"},
        {"item_id": "f", "op": "patch", "price": "5 EUR"},
        {"item_id": "g", "group_id": "x", "title": "Mug", "brand": ""},
        {"item_id": "h", "group_id": "x", "title": "", "brand": "Acme"},
    ]
    alone = [read_changes([row], CatalogueChoices(), NOON)[0] for row in rows]
    together = changes(*rows)
    assert [vars(each) | {"place": 0} for each in together] == [
        vars(each) | {"place": 0} for each in alone
    ]
    ambiguous, *prices = together[:4]
    assert isinstance(ambiguous, InvalidChange)
    assert "read in two ways" in ambiguous.reason
    assert [each.fields["price"] for each in prices if isinstance(each, ItemChange)] == [
        1299.0,
        1.299,
        19.99,
    ]


def test_numbers_are_ids_as_in_a_file() -> None:
    [number, text] = changes({"item_id": 7, "op": "delete"}, {"item_id": "7", "op": "delete"})
    assert isinstance(number, ItemChange)
    assert number == text


def test_attributes_are_carried_as_pairs() -> None:
    choices = CatalogueChoices(attributes=(Attribute("width", "number"), Attribute("colour")))
    whole = valid(choices, width="60 cm", attributes={"colour": ["red", "blue"], "care": "dry"})
    assert sorted(whole.fields[CARRIED]) == [
        ["care", "dry"],
        ["colour", "blue"],
        ["colour", "red"],
        ["width", "60 cm"],
    ]
    patch = patched(choices, attributes={"width": {"value": 60, "unit": "cm"}})
    assert patch == {"attributes": "width 60 cm", CARRIED: [["width", "60 cm"]]}
    assert CARRIED not in patched(choices, price=1.0)
    row = {"item_id": "mug", "op": "patch", "width": "60 cm"}
    assert "send all of the item's as attributes" in reason(row, choices=choices)
    assert patched(attributes={"colour": "red"}) == {"attributes": "colour: red"}


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        ("mug", "item is 'mug': give an object with an item_id"),
        ({}, "item_id is None: give"),
        ({"item_id": True}, "item_id is True: give"),
        ({"item_id": ""}, "item_id is '': it must not be empty"),
        ({"item_id": "x" * 257}, "256 characters or fewer"),
        ({"item_id": "a\nb"}, "no control or replacement characters"),
        ({"item_id": "a", "op": "upsert"}, "op is 'upsert': give one of put, patch, delete"),
        ({"item_id": "a", "op": ["put"]}, "op is ['put']: give one of"),
        ({"item_id": "a", "op": "patch"}, "names no field"),
        ({"item_id": "a", "prise": 1}, "field 'prise' is unknown: an item has title, description"),
        ({"item_id": "a", "title": "\ud800"}, "half a character"),
        ({"item_id": "a", "title": {"en": "x"}}, "title is {'en': 'x'}: it must be text"),
        ({"item_id": "a", "price": float("nan")}, "it must be a finite number"),
        ({"item_id": "a", "price": [1]}, "it must be a number"),
        ({"item_id": "a", "in_stock": "perhaps"}, "in_stock is 'perhaps'"),
        ({"item_id": "a", "sale_starts": "2026-03-01"}, "a change says what holds now"),
        ({"item_id": "a", "sale_price_effective_date": "x/y"}, "send sale_price when the sale"),
        ({"item_id": "a", "if_version": "7"}, "if_version is '7': give a whole number"),
        ({"item_id": "a", "if_version": -1}, "give a whole number"),
        ({"item_id": "a", "if_version": 2**63}, "give a whole number"),
        ({"item_id": "a", "if_version": True}, "give a whole number"),
        ({"item_id": "a", "updated_at": "2026-03-01"}, "an ISO 8601 time with its zone"),
        ({"item_id": "a", "updated_at": "2026-03-01T11:00:00"}, "with its zone"),
        ({"item_id": "a", "updated_at": 1772366400}, "with its zone"),
        ({"item_id": "a", "updated_at": "2026-13-01T11:00:00Z"}, "with its zone"),
        ({"item_id": "a", "updated_at": "2026-03-01T12:06:00Z"}, "360 s ahead of this host's"),
        ({"item_id": "a", "updated_at": "2026-03-01T11:00:00Z", "if_version": 1}, "send one"),
    ],
)
def test_what_is_no_change_is_said(row: Any, sentence: str) -> None:
    assert sentence in reason(row)


def test_versions_are_numbers_or_times() -> None:
    assert valid(if_version=7).version == 7
    assert valid(updated_at="2026-03-01T13:00:00+01:00").version == version_of_time(NOON)
    assert valid(updated_at="2026-03-01T12:05:00.000Z").version is not None
    assert valid(updated_at=None, if_version=None).version is None
