"""What a replica does with changes: judged with the release's currency, written, and read back."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest

from recsys.catalogue.changes import ChangeResult
from recsys.catalogue.validation import InvalidChange
from recsys.config import tiny
from recsys.errors import NotFoundError, StoreDownError
from recsys.release.arrow import IdMap
from serve import metrics
from serve.catalogue import CatalogueWriter


def release(version: str = "v1", changes: int = 0, currency: str | None = "EUR") -> Any:
    items = pa.table({"item_id": ["a", "b"], "currency": pa.array([None, currency], pa.string())})
    manifest = SimpleNamespace(changes=changes)
    return SimpleNamespace(
        version=version, items=items, item_ids=IdMap(items["item_id"]), manifest=manifest
    )


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[CatalogueWriter]:
    writer = CatalogueWriter(replace(tiny(), home=str(tmp_path)))
    yield writer
    writer.close(5)


def patch(item_id: str = "a", **fields: Any) -> dict[str, Any]:
    return {"op": "patch", "item_id": item_id, **fields}


def statuses(outcomes: list[Any]) -> list[str]:
    return [each.status if isinstance(each, ChangeResult) else "invalid" for each in outcomes]


def test_outcomes_are_in_the_order_of_the_rows(writer: CatalogueWriter) -> None:
    rows = [patch(price="cheap"), patch(price=1), patch("ghost", price=1), 7, patch(price=1)]
    outcomes = writer.write(rows, release())
    assert statuses(outcomes) == ["invalid", "accepted", "missing", "invalid", "unchanged"]


def test_prices_are_in_the_currency_of_the_release(writer: CatalogueWriter) -> None:
    [invalid] = writer.write([patch(price=4, currency="USD")], release())
    assert isinstance(invalid, InvalidChange)
    assert "the shop's currency is EUR and there is no rate for USD" in invalid.reason
    writer.write([patch(price=4)], release())
    changed = writer.changed_fields("a", release())
    assert changed is not None
    assert {name: each.value for name, each in changed.items()} == {"price": 4.0, "currency": "EUR"}
    assert statuses(writer.write([patch(price=4, currency="USD")], release("v2", 0, None))) == [
        "accepted"
    ]


def test_before_the_first_release_items_are_put(writer: CatalogueWriter) -> None:
    put = {"item_id": "a", "title": "Mug"}
    assert statuses(writer.write([patch(price=1), put, patch(price=1)], None)) == [
        "missing",
        "accepted",
        "accepted",
    ]


def test_what_a_release_has_taken_in_is_no_change_of_it(writer: CatalogueWriter) -> None:
    writer.write([patch(title="Mug"), patch(price=1)], release())
    assert set(writer.changed_fields("a", release()) or ()) == {"title", "price", "currency"}
    assert set(writer.changed_fields("a", release(changes=1)) or ()) == {"price", "currency"}
    assert writer.changed_fields("a", release(changes=2)) == {}
    assert writer.changed_fields("b", release()) == {}


def test_a_deleted_item_is_said_to_be_deleted_and_by_what(writer: CatalogueWriter) -> None:
    writer.write([{"op": "delete", "item_id": "a"}], release())
    with pytest.raises(NotFoundError, match=r"'a' was deleted at 20.* by change 1: PUT it"):
        writer.explain_absence("a", release())
    writer.explain_absence("a", release(changes=1))  # the night's files have it again
    writer.explain_absence("b", release())
    assert writer.changed_fields("a", release()) == {}


def test_after_a_night_the_same_value_is_said_anew_also_when_it_was_rolled_back(
    writer: CatalogueWriter,
) -> None:
    writer.write([patch(price=1)], release())
    night = release("v2", changes=writer.log.end())
    assert statuses(writer.write([patch(price=1)], night)) == ["accepted"]
    writer.write([patch(price=2)], release("v3", changes=writer.log.end()))
    assert statuses(writer.write([patch("b", in_stock=True)], release())) == ["accepted"]


def test_a_log_that_is_down_says_nothing_of_fields(
    writer: CatalogueWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    def down(*_: object) -> None:
        raise StoreDownError("unplugged")

    monkeypatch.setattr(writer.log, "state", down)
    assert writer.changed_fields("a", release()) is None


def test_calls_that_wait_are_written_together_each_with_its_own_outcomes(
    writer: CatalogueWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One who left before their turn is not written; of the others none hears of another's."""
    groups, busy, go_on = list[int](), threading.Event(), threading.Event()
    append = writer.log.append

    def slow(changes: Any, *others: Any) -> Any:
        groups.append(len(changes))
        busy.set()
        assert go_on.wait(10)
        return append(changes, *others)

    monkeypatch.setattr(writer.log, "append", slow)
    first = writer.submit([patch(price=1)], release())
    assert busy.wait(10)
    others = [
        writer.submit([patch(price=n), patch("ghost", price=n), 7][: n % 3 + 1], release())
        for n in range(5)
    ]
    assert others[3].cancel()
    go_on.set()
    assert statuses(first.result(10)) == ["accepted"]
    rows = ["accepted", "missing", "invalid"]
    assert [statuses(others[n].result(10)) for n in (0, 1, 2, 4)] == [
        rows[:1],
        rows[:2],
        rows,
        rows[:2],
    ]
    assert groups == [1, 7]


def test_a_log_that_is_down_fails_those_calls_and_no_later_one(
    writer: CatalogueWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    def down(*_: object) -> None:
        raise StoreDownError("unplugged")

    with monkeypatch.context() as unplugged:
        unplugged.setattr(writer.log, "append", down)
        with pytest.raises(StoreDownError, match="unplugged"):
            writer.submit([patch(price=1)], release()).result(10)
    assert statuses(writer.submit([patch(price=1)], release()).result(10)) == ["accepted"]
    assert writer.is_alive()


class Counted:
    def __init__(self) -> None:
        self.counts: dict[str, float] = {}

    def inc(self, value: float = 1.0, tags: dict[str, str] | None = None) -> None:
        for label in (tags or {}).values():
            self.counts[label] = self.counts.get(label, 0) + value


def test_outcomes_and_invalid_fields_are_counted(
    writer: CatalogueWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client's own words are no label."""
    outcomes, fields = Counted(), Counted()
    monkeypatch.setattr(metrics, "CHANGES", outcomes)
    monkeypatch.setattr(metrics, "CHANGES_INVALID", fields)
    rows = [patch(price="cheap"), patch(price=1), patch(secret=1), patch(title="t"), 7]
    writer.write(rows, release())
    assert outcomes.counts == {"accepted": 2, "invalid": 3}
    assert fields.counts == {"price": 1, "unknown": 2}
