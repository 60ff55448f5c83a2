"""What changes make of an item: order, repeats, and what a release still has to apply."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from recsys.catalogue.changes import (
    ChangeResult,
    ItemChange,
    ItemState,
    Kind,
    apply_change,
    version_of_time,
)

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def change(kind: Kind, version: int | None = None, **fields: Any) -> ItemChange:
    return ItemChange(item_id="mug", kind=kind, fields=fields, version=version)


def apply(*changes: ItemChange, exists: bool = True) -> tuple[ItemState | None, list[ChangeResult]]:
    """In order, from number 1."""
    state, results = None, []
    for number, each in enumerate(changes, 1):
        state, result = apply_change(state, each, number=number, time=NOON, exists=lambda _: exists)
        results.append(result)
    return state, results


def statuses(*changes: ItemChange, exists: bool = True) -> list[str]:
    return [result.status for result in apply(*changes, exists=exists)[1]]


def test_a_patch_lies_over_the_release() -> None:
    state, [result] = apply(change("patch", price=4.0))
    assert state is not None
    assert not state.whole
    assert (result.status, state.number, state.values()) == ("accepted", 1, {"price": 4.0})


def test_a_release_applies_the_fields_that_changed_after_it() -> None:
    state, _ = apply(change("patch", price=4.0), change("patch", in_stock=False))
    assert state is not None
    assert state.changed_since(0) == {"price": 4.0, "in_stock": False}
    assert state.changed_since(1) == {"in_stock": False}
    assert state.changed_since(2) == {}


def test_the_same_change_again_changes_nothing() -> None:
    first = change("patch", 7, price=4.0)
    state, results = apply(first, first)
    assert results[1] == ChangeResult("unchanged", 1, 7)
    assert state is not None
    assert state.number == 1
    assert statuses(change("delete"), change("delete")) == ["accepted", "unchanged"]


def test_an_older_version_changes_nothing_and_says_so() -> None:
    state, results = apply(change("patch", 7, price=4.0), change("patch", 6, price=5.0))
    assert results[1] == ChangeResult("stale", 1, 7)
    assert state is not None
    assert state.values() == {"price": 4.0}
    assert statuses(change("delete", 7), change("put", 6, title="Mug")) == ["accepted", "stale"]


def test_of_one_version_the_last_counts() -> None:
    state, _ = apply(change("patch", 7, price=4.0), change("patch", 7, price=5.0))
    assert state is not None
    assert state.values() == {"price": 5.0}


def test_a_change_without_a_version_counts_as_it_arrives() -> None:
    state, results = apply(change("patch", 7, price=4.0), change("patch", price=5.0))
    assert results[1] == ChangeResult("accepted", 2, 7)
    assert state is not None
    assert state.values() == {"price": 5.0}


@pytest.mark.parametrize("kind", ["patch", "delete"])
def test_an_item_that_never_was_is_missing(kind: Kind) -> None:
    assert statuses(change(kind, price=1.0), exists=False) == ["missing"]
    assert apply(change(kind, price=1.0), exists=False)[0] is None
    assert statuses(change("put", title="Mug"), change(kind), exists=False)[0] == "accepted"


def test_a_deleted_item_can_be_put_again_but_not_patched() -> None:
    delete, put = change("delete"), change("put", title="Mug", price=None)
    assert statuses(delete, change("patch", price=1.0)) == ["accepted", "missing"]
    state, _ = apply(change("patch", price=4.0), delete, put)
    assert state is not None
    assert state.whole
    assert not state.deleted
    assert state.values() == {"title": "Mug", "price": None}


def test_a_put_replaces_what_patches_said() -> None:
    state, _ = apply(change("patch", price=4.0), change("put", title="Mug", price=None))
    assert state is not None
    assert state.values() == {"title": "Mug", "price": None}


def test_json_gives_back_the_same_state() -> None:
    changes = [change("put", 3, title="Çay bardağı", price=4.5, _attributes=[["colour", "red"]])]
    for states in (changes, [*changes, change("delete")]):
        state, _ = apply(*states)
        assert state is not None
        assert ItemState.from_json(state.to_json()) == state


def test_times_are_versions_in_their_order() -> None:
    assert version_of_time(NOON) == 1772366400000000
