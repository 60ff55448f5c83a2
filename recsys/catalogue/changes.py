"""Changes of items by day: the change as it was accepted, the state of an item that results, and
the log of both, a seam.

The log is compacted by item: it keeps what each item has become, and for each of its fields the
number and time of the last change. A release says up to which number its night has read
(`Manifest.changes`); what is later applies to it, whichever release it is. So a roll-back brings
the changes with it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from typing import Any, Literal, NamedTuple, Protocol

from recsys.interfaces import LogState

Kind = Literal["put", "patch", "delete"]
#: accepted: it is in the log. unchanged: the item is so already. stale: the item has a newer
#: version. missing: there is no item to change.
Status = Literal["accepted", "unchanged", "stale", "missing"]


@dataclass(frozen=True, kw_only=True)
class ItemChange:
    """One write. A put names every field of the item, a patch some, a delete none.

    `fields` are valid values of `tables.ITEMS_IN` as JSON has them (times in ISO 8601), and under
    `cells.CARRIED` the pairs of attributes, a list of [name, value]. `version` orders the changes
    of an item: the shop's own number, or microseconds since 1970 of the source's time of update;
    None: as it arrives. `accepted` is when it was accepted of one that waited for the log: without
    a version it changes no field that changed after that."""

    item_id: str
    kind: Kind
    fields: Mapping[str, Any] = field(default_factory=dict)
    version: int | None = None
    accepted: datetime | None = None


class FieldChange(NamedTuple):
    """A field's value since the change of this number, made at this time."""

    value: Any
    number: int
    time: datetime


@dataclass(frozen=True, kw_only=True)
class ItemState:
    """What all changes made of an item: since number `number`, at `time`.

    `whole`: the fields are all that the item has, for a put named them; otherwise they lie over the
    release's. A deleted item has none. `version` is the highest that a change had."""

    item_id: str
    number: int
    time: datetime
    version: int | None = None
    whole: bool = False
    deleted: bool = False
    fields: Mapping[str, FieldChange] = field(default_factory=dict)

    def changed_since(self, number: int) -> dict[str, Any]:
        """The values of the fields that changed after this number."""
        return {
            name: change.value for name, change in self.fields.items() if change.number > number
        }

    def values(self) -> dict[str, Any]:
        """The value of each field that changed."""
        return {name: change.value for name, change in self.fields.items()}

    def to_json(self) -> str:
        """One line that `from_json` reads."""
        fields = {
            name: [change.value, change.number, change.time.isoformat()]
            for name, change in self.fields.items()
        }
        state = vars(self) | {"time": self.time.isoformat(), "fields": fields}
        return json.dumps(state, ensure_ascii=False, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str | bytes) -> ItemState:
        """The state that `to_json` wrote."""
        state = json.loads(text)
        fields = {
            name: FieldChange(value, number, datetime.fromisoformat(time))
            for name, (value, number, time) in state["fields"].items()
        }
        return cls(**state | {"time": datetime.fromisoformat(state["time"]), "fields": fields})


@dataclass(frozen=True)
class ChangeResult:
    """What became of a change. `number` is that of the item's state in the log, 0 where it has
    none; `version` the item's, where it has one."""

    status: Status
    number: int = 0
    version: int | None = None


class CatalogueLog(Protocol):
    """The live catalogue log. States are numbered in the order in which they become visible, from
    1, with gaps: who has read up to a number misses nothing below it."""

    def append(
        self, changes: Sequence[ItemChange], exists: Callable[[str], bool], folded: int = 0
    ) -> list[ChangeResult]:
        """Durable and seen by every opener when it returns: what is accepted survives kill -9.

        All in one transaction, each change upon those before it. `exists` says whether the release
        has an item, `folded` is the number up to which its night read the log. Idempotent: the same
        change again is `unchanged`, unless a night came between: its files may have said something
        else. Raises StoreDownError, nothing written."""
        ...

    def states(self, after: int = 0, limit: int | None = None) -> list[ItemState]:
        """Those with a number above `after`, ascending, at most `limit`."""
        ...

    def state(self, item_id: str) -> ItemState | None:
        """None for an item that nothing changed."""
        ...

    def end(self) -> int:
        """The highest number; 0 where there is none."""
        ...

    def health(self) -> LogState:
        """Never waits for the log."""
        ...

    def drain(self) -> int:
        """Writes to the log what waits on this host because the log was down; how many changes."""
        ...

    def close(self) -> None: ...


def apply_change(
    state: ItemState | None,
    change: ItemChange,
    *,
    number: int,
    time: datetime,
    exists: Callable[[str], bool],
    folded: int = 0,
) -> tuple[ItemState | None, ChangeResult]:
    """The item's state after the change, which would get `number`; the same state where it is not
    accepted. What every log does, in its transaction; see `CatalogueLog.append`."""
    time = change.accepted or time
    if state and state.deleted and state.number <= folded and exists(change.item_id):
        state = replace(state, deleted=False)  # the night's files have it again
    if refused := _refusal(state, change, exists):
        result = ChangeResult(refused, state.number, state.version) if state else None
        return state, result or ChangeResult(refused)
    before = state or ItemState(item_id=change.item_id, number=number, time=time)
    version = _later(before.version, change.version)
    after = replace(before, number=number, time=max(before.time, time), version=version)
    accepted = ChangeResult("accepted", number, version)
    if change.kind == "delete":
        return replace(after, deleted=True, whole=False, fields={}), accepted
    changed = {
        name: FieldChange(value, number, time)
        for name, value in change.fields.items()
        if _replaces(change, name, before, folded)
    }
    whole = before.whole or change.kind == "put"
    if state and not changed and (whole, version) == (state.whole, state.version):
        return state, ChangeResult("unchanged", state.number, state.version)
    fields = {**before.fields, **changed}
    return replace(after, whole=whole, deleted=False, fields=fields), accepted


def apply_changes(
    states: Mapping[str, ItemState | None],
    changes: Sequence[ItemChange],
    *,
    end: int,
    time: datetime,
    exists: Callable[[str], bool],
    folded: int = 0,
) -> tuple[list[ItemState], list[ChangeResult]]:
    """The states that the changes made, each upon those before it, and what became of each change.
    Of `states` there is one of every item, None where the log has none; `end` is its highest
    number."""
    apply = partial(apply_change, time=time, exists=exists, folded=folded)
    before, results = dict(states), list[ChangeResult]()
    changed: dict[str, ItemState] = {}
    for change in changes:
        state, result = apply(before[change.item_id], change, number=end + 1)
        results.append(result)
        if state and result.status == "accepted":
            end, before[change.item_id] = end + 1, state
            changed[change.item_id] = state
    return list(changed.values()), results


def _refusal(
    state: ItemState | None, change: ItemChange, exists: Callable[[str], bool]
) -> Status | None:
    if state and change.version is not None and (state.version or 0) > change.version:
        return "stale"
    if state and (state.deleted or change.kind == "delete") and _is_late(change, state.time):
        return "unchanged" if state.deleted and change.kind == "delete" else "stale"
    if state and state.deleted:
        return {"put": None, "patch": "missing", "delete": "unchanged"}[change.kind]
    if state is None and change.kind != "put" and not exists(change.item_id):
        return "missing"
    return None


def _replaces(change: ItemChange, name: str, state: ItemState, folded: int) -> bool:
    """Whether the field gets its value of this change. The same value is said anew where a night
    may have replaced it since."""
    if (last := state.fields.get(name)) is None:
        return True
    is_repeat = change.version is not None and change.version == state.version
    is_same = change.fields[name] == last.value and (last.number > folded or is_repeat)
    return not is_same and not _is_late(change, last.time)


def _is_late(change: ItemChange, time: datetime) -> bool:
    """Whether what changed at this time was newer than the change."""
    return change.version is None and change.accepted is not None and change.accepted < time


def _later(own: int | None, other: int | None) -> int | None:
    versions = [version for version in (own, other) if version is not None]
    return max(versions, default=None)


def last_of_each(states: Iterable[ItemState]) -> dict[str, ItemState]:
    """The newest state of each item."""
    newest: dict[str, ItemState] = {}
    for state in states:
        if state.item_id not in newest or newest[state.item_id].number < state.number:
            newest[state.item_id] = state
    return newest


def version_of_time(time: datetime) -> int:
    """A source's time of update as a version: microseconds since 1970, UTC."""
    return int(time.astimezone(UTC).timestamp() * 1_000_000)
