"""What became of changes of the catalogue, as the answers of their routes say it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, Literal

from typing_extensions import TypedDict

from recsys.catalogue.changes import ChangeResult, Status
from recsys.catalogue.validation import InvalidChange

Outcome = Literal[Status, "invalid"]


class ChangedItem(TypedDict):
    """`accepted`: it is durable. `unchanged`: the item is so already. `stale`: the item has a newer
    `version`, nothing changed. `number` is that of the item's last change; null where it has none,
    and of an accepted change that waits on its host because the log is down."""

    item_id: str
    status: Outcome
    number: int | None
    version: int | None


class ChangeAnswer(ChangedItem):
    request_id: str
    release: str | None


class ChangedRow(ChangedItem):
    """`index` is the row's place, from 0. `missing`: there is no item to change. `reason` says why
    a row was not accepted."""

    index: int
    reason: str | None


class ChangesAnswer(TypedDict):
    """How many rows have each status, and each row's."""

    request_id: str
    release: str | None
    accepted: int
    unchanged: int
    stale: int
    missing: int
    invalid: int
    items: list[ChangedRow]


def missing_sentence(item_id: str, op: str, release: str | None) -> str:
    """Why a change of an item that never was is refused."""
    place = f"release {release}" if release else "any release"
    return (
        f"item {item_id!r} is neither in {place} nor was it put since: a {op} says too little to "
        "make an item, PUT it whole"
    )


def change_answer(
    request_id: str, release: str | None, row: dict[str, Any], result: ChangeResult
) -> ChangeAnswer:
    fields = _changed_item(str(row["item_id"]), result)
    return {"request_id": request_id, "release": release, **fields}


def changes_answer(
    request_id: str,
    release: str | None,
    rows: Sequence[Any],
    outcomes: Sequence[ChangeResult | InvalidChange],
) -> ChangesAnswer:
    items = [
        _changed_row(index, row, outcome, release)
        for index, (row, outcome) in enumerate(zip(rows, outcomes, strict=True))
    ]
    counts = Counter(item["status"] for item in items)
    return {
        "request_id": request_id,
        "release": release,
        "accepted": counts["accepted"],
        "unchanged": counts["unchanged"],
        "stale": counts["stale"],
        "missing": counts["missing"],
        "invalid": counts["invalid"],
        "items": items,
    }


def _changed_row(
    index: int, row: Any, outcome: ChangeResult | InvalidChange, release: str | None
) -> ChangedRow:
    if isinstance(outcome, InvalidChange):
        return {
            "index": index,
            "item_id": outcome.item_id,
            "status": "invalid",
            "number": None,
            "version": None,
            "reason": outcome.reason,
        }
    fields, reason = _changed_item(str(row["item_id"]), outcome), None
    if outcome.status == "missing":
        reason = missing_sentence(fields["item_id"], row.get("op", "put"), release)
    if outcome.status == "stale":
        reason = "the item changed later than this change was made: nothing changed"
    return {"index": index, **fields, "reason": reason}


def _changed_item(item_id: str, result: ChangeResult) -> ChangedItem:
    return {
        "item_id": item_id,
        "status": result.status,
        "number": result.number or None,
        "version": result.version,
    }
