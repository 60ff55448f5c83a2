"""Messages of streams as rows: envelopes, plain rows, and what is neither."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.catalogue.changes import ItemChange
from recsys.catalogue.streams import UNAVAILABLE, Message, MessageReading, PoisonError, read_message
from recsys.catalogue.validation import read_changes
from recsys.datasets.choices import CatalogueChoices

AT = datetime(2026, 3, 1, 10, 0, 0, 123000, tzinfo=UTC)
MS = int(AT.timestamp() * 1000)
PUT = MessageReading(write="put", columns={"item_id": "id", "title": "name"})
PATCH = MessageReading(write="patch")
ROW = {"id": 7, "name": "tea", "price": 4.5, "warehouse": "B"}
READ = {"op": "put", "item_id": 7, "title": "tea", "price": 4.5, "updated_at": AT.isoformat()}


def message(value: Any, key: Any = None, **other: Any) -> Message:
    texts = (None if each is None else json.dumps(each).encode() for each in (value, key))
    content, key_text = texts
    return Message(partition="items", offset="5", value=content, key=key_text, **other)


def envelope(op: str, before: Any = None, after: Any = None, **other: Any) -> dict[str, Any]:
    return {"op": op, "before": before, "after": after, "source": {"ts_ms": MS}, **other}


@pytest.mark.parametrize("op", ["c", "u", "r"])
@pytest.mark.parametrize("is_wrapped", [True, False])
def test_an_envelope_is_the_row_after_it(op: str, is_wrapped: bool) -> None:
    content = envelope(op, {"id": 7, "name": "old"}, ROW, ts_ms=MS + 9999)
    content = {"schema": {"type": "struct"}, "payload": content} if is_wrapped else content
    assert read_message(message(content), PUT) == READ


def test_a_row_is_judged_as_it_is_by_day() -> None:
    row = read_message(message(envelope("u", None, ROW)), PUT)
    [change] = read_changes([row], CatalogueChoices())
    assert isinstance(change, ItemChange)
    assert (change.kind, change.version) == ("put", MS * 1000)
    assert (change.fields["title"], change.fields["price"]) == ("tea", 4.5)


def test_a_deletion_knows_the_id_from_the_row_or_the_key() -> None:
    deleted = {"op": "delete", "item_id": 7, "updated_at": AT.isoformat()}
    assert read_message(message(envelope("d", ROW)), PUT) == deleted
    for key in ({"id": 7}, {"schema": {}, "payload": {"id": 7}}):
        assert read_message(message(envelope("d"), key), PUT) == deleted


def test_the_finest_time_of_the_source_is_the_version() -> None:
    content = envelope("u", None, ROW) | {"source": {"ts_ms": MS, "ts_us": MS * 1000 + 456}}
    row = read_message(message(content), PUT)
    assert row is not None
    assert row["updated_at"] == "2026-03-01T10:00:00.123456+00:00"


@pytest.mark.parametrize("content", [None, {"payload": {}}, {}])
def test_a_tombstone_changes_nothing(content: Any) -> None:
    assert read_message(message(content, {"id": 7}), PUT) is None


def test_values_that_were_not_sent_leave_the_others_a_patch() -> None:
    row = read_message(message(envelope("u", None, ROW | {"name": UNAVAILABLE})), PUT)
    assert row == {key: value for key, value in READ.items() if key != "title"} | {"op": "patch"}


def test_plain_rows_say_what_they_are_or_are_as_the_setting_says() -> None:
    row = {"item_id": "a", "price": 3, "if_version": 9}
    assert read_message(message(row), PATCH) == row | {"op": "patch"}
    assert read_message(message(row | {"op": "put"}), PATCH) == row | {"op": "put"}
    deleted = {"op": "delete", "item_id": "a", "if_version": 9}
    for mark in ({"op": "delete"}, {"__deleted": "true"}, {"__op": "d"}):
        assert read_message(message(row | mark), PATCH) == deleted


def test_a_plain_row_is_as_old_as_its_source_says_or_its_message() -> None:
    row = {"item_id": "a", "price": 3}
    expected = row | {"op": "patch", "updated_at": AT.isoformat()}
    assert read_message(message(row, time=AT), PATCH) == expected
    assert read_message(message(row | {"__source_ts_ms": MS}), PATCH) == expected
    assert read_message(message(row), PATCH) == row | {"op": "patch"}


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (b"{", "the message is no JSON"),
        (b"\xff", "the message is no JSON"),
        (b"[1]", r"the message is '\[1\]': send objects"),
        (json.dumps(envelope("t")).encode(), "op is 't'.*delete items one by one"),
        (json.dumps(envelope("u")).encode(), "after is {}"),
        (json.dumps(envelope("u", None, {"sku": 1})).encode(), "no id in the columns sku"),
        (b'{"price": 3}', "no id in the columns price: map item_id"),
    ],
)
def test_poison_says_why(value: bytes, reason: str) -> None:
    with pytest.raises(PoisonError, match=reason):
        read_message(Message(partition="items", offset="5", value=value), PUT)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["op", "payload", "before", "after", "source", "id", "ts_ms", "name"]),
            inner | st.sampled_from(["c", "d", "u"]),
            max_size=5,
        )
    ),
    max_leaves=12,
)


@given(JSON, JSON)
def test_whatever_comes_is_a_row_nothing_or_poison(value: Any, key: Any) -> None:
    try:
        row = read_message(message(value, key), PUT)
    except PoisonError:
        return
    assert row is None or "item_id" in row
    read_changes([row], CatalogueChoices())
