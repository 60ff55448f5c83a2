"""A file of changes, read as a night reads its items: written to the catalogue log, or sent to a
running application."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import islice
from typing import Any, Literal, NamedTuple, Protocol

import pyarrow as pa
import pyarrow.compute as pc

from recsys.attributes.cells import CARRIED, COLUMN
from recsys.catalogue.changes import CatalogueLog, ItemChange, version_of_time
from recsys.catalogue.client import CatalogueClient
from recsys.catalogue.validation import (
    FIELDS,
    WINDOWS,
    InvalidChange,
    clock_reason,
    json_value,
    window_reason,
)
from recsys.datasets.choices import CatalogueChoices
from recsys.datasets.currencies import minor_digits
from recsys.datasets.row_sources import UPDATED, add_row_sources, stated_fields
from recsys.datasets.validate import check_items
from recsys.errors import InputError
from recsys.interfaces import Chunk, DatasetAdapter
from recsys.release.arrow import IdMap, read_arrow
from recsys.release.files import ITEMS
from recsys.release.manifest import read_manifest
from recsys.storage.artifacts import ArtifactStore
from recsys.types import NEXT_CATEGORY

#: Changes that are written at once.
BATCH = 1_000
FileKind = Literal["put", "patch"]


class Outcome(NamedTuple):
    """What became of a change, and why it was not accepted."""

    status: str
    reason: str | None = None


class ChangeWriter(Protocol):
    """Where the changes of a file go."""

    def write(self, changes: Sequence[ItemChange]) -> list[Outcome]: ...


class FileRow(NamedTuple):
    """A row of the file: where it stands, its item, and what became of it."""

    path: str
    row: int
    item_id: str
    outcome: Outcome


@dataclass(frozen=True)
class ReleasedItems:
    """The items of the release that is `current`, the number of the log up to which its night read
    it, and its currency."""

    ids: IdMap | None = None
    folded: int = 0
    currency: str | None = None

    @classmethod
    def of(cls, home: str) -> ReleasedItems:
        """None where nothing is published yet."""
        store = ArtifactStore(home)
        if (version := store.current()) is None:
            return cls()
        manifest = read_manifest(store, version)
        name = manifest.path_of(ITEMS.name)
        items = read_arrow(store.local(f"releases/{version}/{name}", manifest.files[name]))
        has_currency = "currency" in items.column_names
        currency = pc.first(items["currency"]).as_py() if has_currency else None
        return cls(IdMap(items["item_id"]), manifest.changes, currency)

    def exists(self, item_id: str) -> bool:
        return self.ids is not None and self.ids.row(item_id) is not None


@dataclass(frozen=True)
class LogWriter:
    """Straight into the log."""

    log: CatalogueLog
    released: ReleasedItems

    def write(self, changes: Sequence[ItemChange]) -> list[Outcome]:
        results = self.log.append(changes, self.released.exists, self.released.folded)
        missing = "the shop has no such item, and some fields are no item: put whole ones"
        reasons = {"missing": missing, "stale": "the item has a newer version"}
        return [Outcome(result.status, reasons.get(result.status)) for result in results]


@dataclass(frozen=True)
class HttpWriter:
    """To a running application, which judges once more."""

    client: CatalogueClient
    choices: CatalogueChoices

    def write(self, changes: Sequence[ItemChange]) -> list[Outcome]:
        rows = [wire_row(change, self.choices) for change in changes]
        return [Outcome(row["status"], row["reason"]) for row in self.client.send(rows)]


def wire_row(change: ItemChange, choices: CatalogueChoices) -> dict[str, Any]:
    """A valid change as a row that `read_changes` makes the same change of."""
    fields = dict(change.fields)
    if fields.get("category"):  # in one text the next category would be part of the first
        fields["category"] = fields["category"].split(NEXT_CATEGORY)
    if CARRIED in fields:
        pairs = fields.pop(CARRIED)
        fields[COLUMN] = [{"name": name, "value": value} for name, value in pairs] or None
    if choices.price_unit == "minor":
        for name in ("price", "list_price"):
            if fields.get(name) is not None:
                digits = minor_digits(fields.get("currency") or choices.currency or "")
                fields[name] = round(fields[name] * 10**digits)
    row = {"op": change.kind, "item_id": change.item_id, **fields}
    return row if change.version is None else {**row, "if_version": change.version}


@dataclass(frozen=True)
class FileReading:
    """How the rows of a file are changes: whole items (put), or (patch) its columns alone."""

    kind: FileKind
    choices: CatalogueChoices
    now: datetime

    def changes(
        self, raw: pa.Table, chunk: Chunk
    ) -> Iterator[tuple[int, ItemChange | InvalidChange]]:
        """By row. Raises InputError where the columns alone cannot say what becomes of an item."""
        fields = self._fields(raw.column_names, chunk.path)
        windows = dict(_windows(raw, chunk.start))
        result = check_items(raw, chunk.path, chunk.start, self.choices, self.now)
        for invalid in result.quarantined.select(["row", "reason"]).to_pylist():
            row, reason = invalid["row"], invalid["reason"]
            item_id = str(raw["item_id"][row - chunk.start].as_py() or "")
            yield row, InvalidChange(row, item_id, reason.partition(" ")[0], reason)
        good, _ = add_row_sources(result.good, raw, chunk.start, self.choices, None)
        for start in range(0, good.num_rows, BATCH):
            for values in good.slice(start, BATCH).to_pylist():
                if window := windows.get(values["_row"]):
                    yield values["_row"], replace(window, item_id=values["item_id"])
                else:
                    yield values["_row"], self._change(values, fields)

    def _fields(self, columns: Sequence[str], path: str) -> set[str]:
        """The fields of each change."""
        if self.kind == "put":
            return {*FIELDS, CARRIED}
        names, stated = set(columns), set(stated_fields(columns, self.choices)) - {"item_id"}
        if "price" not in names and names & {"list_price", "sale_price", "currency"}:
            raise InputError(f"{path} has other prices than `price`: add the regular one")
        if COLUMN not in names and COLUMN in stated:
            raise InputError(
                f"{path} has attributes in columns of their own, and a patch replaces all of an "
                "item's: put whole items, or give them as one column `attributes`"
            )
        if not stated:
            raise InputError(f"{path} has no column that changes an item: only {', '.join(names)}")
        # As of a PATCH: a price alone leaves the one before a reduction as it is.
        if not names & {"list_price", "sale_price"}:
            stated -= {"list_price"}
        return stated if self.choices.currency or "currency" in names else stated - {"currency"}

    def _change(self, values: Mapping[str, Any], fields: set[str]) -> ItemChange | InvalidChange:
        row, item_id, updated = values["_row"], values["item_id"], values[UPDATED]
        if updated and (reason := clock_reason(updated, self.now)):
            return InvalidChange(row, item_id, "updated_at", reason)
        return ItemChange(
            item_id=item_id,
            kind=self.kind,
            fields={name: json_value(value) for name, value in values.items() if name in fields},
            version=version_of_time(updated) if updated else None,
        )


def update_items(
    dataset: DatasetAdapter,
    writer: ChangeWriter,
    reading: FileReading,
    progress: Callable[[int], object],
) -> Iterator[FileRow]:
    """Every row and what became of it; `progress` is told the number of rows of each batch."""
    for chunk in dataset.item_chunks():
        changes = reading.changes(dataset.read_items(chunk), chunk)
        while batch := list(islice(changes, BATCH)):
            valid = [change for _, change in batch if isinstance(change, ItemChange)]
            outcomes = iter(writer.write(valid))
            for row, change in batch:
                if isinstance(change, InvalidChange):
                    outcome = Outcome("invalid", change.reason)
                else:
                    outcome = next(outcomes)
                yield FileRow(chunk.path, row, change.item_id, outcome)
            progress(len(batch))


def _windows(raw: pa.Table, start: int) -> Iterator[tuple[int, InvalidChange]]:
    """The rows whose sale holds for a time."""
    for name in WINDOWS:
        if name in raw.column_names:
            for at, value in enumerate(raw[name].to_pylist()):
                if value not in (None, ""):
                    place = start + at
                    yield place, InvalidChange(place, "", name, window_reason(name, value))
