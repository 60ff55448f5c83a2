"""A `DatasetAdapter` over a platform's export files: each file is read whole, as canonical rows and
a count of the rows that are no item or event."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys.datasets.casts import to_mask
from recsys.datasets.platforms.reading import export_files, export_stamps, export_times
from recsys.datasets.validate import LINE
from recsys.errors import InputError
from recsys.interfaces import Chunk, DatasetAdapter, DatedAdapter, FingerprintedAdapter
from recsys.tables import EVENTS_RAW, ITEMS_RAW
from recsys.types import Mask

Kind = Literal["items", "events"]


@dataclass(frozen=True)
class Extract:
    """The canonical rows of a file, raw, and the number of its other rows by what they are."""

    rows: pa.Table
    left_out: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Export:
    """A file, or a folder of files, of one kind, and what makes rows of one of them."""

    path: str
    extract: Callable[[str], Extract]


class PlatformAdapter:
    """Items of one export and events of another; without the second a shop has no events yet."""

    name = "platform"

    def __init__(self, items: Export | None, events: Export | None = None) -> None:
        self.items, self.events = items, events

    def item_chunks(self) -> list[Chunk]:
        return _chunks(self.items)

    def event_chunks(self) -> list[Chunk]:
        return _chunks(self.events)

    def read_items(self, chunk: Chunk) -> pa.Table:
        return _read(self.items, chunk, ITEMS_RAW)

    def read_events(self, chunk: Chunk) -> pa.Table:
        return _read(self.events, chunk, EVENTS_RAW)

    def with_items(self, path: str) -> PlatformAdapter:
        """Items of another export of the same form."""
        if self.items is None:
            raise InputError(f"{path} is read as the setup's items, and it has none: name its form")
        return PlatformAdapter(replace(self.items, path=path))

    def left_out(self, kind: Kind) -> dict[str, int]:
        """Rows of the files that are neither items nor events, by what they are."""
        counts: Counter[str] = Counter()
        export = self.items if kind == "items" else self.events
        for path in export_files(export.path) if export else ():
            counts.update(export.extract(path).left_out if export else {})
        return dict(counts)

    def item_times(self) -> dict[str, datetime]:
        return export_times(self.items.path) if self.items else {}

    def fingerprint(self) -> str:
        """Differs when a file is added, removed or written again, or read in another way."""
        parts = [
            (_arguments(export.extract), export_stamps(export.path))
            for export in (self.items, self.events)
            if export
        ]
        return hashlib.sha256(repr(parts).encode()).hexdigest()


class ItemsAndEvents:
    """The items of one data set and the events of another: a platform's catalogue with a tracker's
    log. Their item ids must be the same."""

    name = "items_and_events"

    def __init__(self, items: DatasetAdapter, events: DatasetAdapter) -> None:
        self._items, self._events = items, events

    def item_chunks(self) -> list[Chunk]:
        return self._items.item_chunks()

    def event_chunks(self) -> list[Chunk]:
        return self._events.event_chunks()

    def read_items(self, chunk: Chunk) -> pa.Table:
        return self._items.read_items(chunk)

    def read_events(self, chunk: Chunk) -> pa.Table:
        return self._events.read_events(chunk)

    def with_items(self, path: str) -> DatasetAdapter:
        """Items of another file, read as this one reads its own."""
        return read_as(self._items, path)

    def left_out(self, kind: Kind) -> dict[str, int]:
        return count_left_out(self._items if kind == "items" else self._events, kind)

    def item_times(self) -> dict[str, datetime]:
        return self._items.item_times() if isinstance(self._items, DatedAdapter) else {}

    def fingerprint(self) -> str:
        parts = [
            each.fingerprint() if isinstance(each, FingerprintedAdapter) else repr(each.name)
            for each in (self._items, self._events)
        ]
        return " ".join(parts)


def read_as(dataset: DatasetAdapter, path: str) -> DatasetAdapter:
    """Items of another file as the data set reads its own. Raises InputError for one that reads no
    files."""
    with_items = getattr(dataset, "with_items", None)
    if with_items is None:
        raise InputError(f"{path} cannot be read as {dataset.name} is: it reads no items of files")
    reader: DatasetAdapter = with_items(path)
    return reader


def count_left_out(dataset: DatasetAdapter, kind: Kind) -> dict[str, int]:
    """Rows that are neither items nor events; a table of the shop's own has none."""
    if isinstance(dataset, PlatformAdapter | ItemsAndEvents):
        return dataset.left_out(kind)
    return {}


def keep_rows(
    raw: pa.Table, columns: Mapping[str, pa.Array], left_out: Sequence[tuple[str, Mask]]
) -> Extract:
    """The rows that no mask leaves out, each mask named by what its rows are. A malformed line
    stays, for quarantine."""
    table = pa.table(dict(columns))
    malformed = np.zeros(raw.num_rows, bool)
    if LINE in raw.column_names:
        malformed = to_mask(pc.is_valid(raw[LINE]))
        table = table.append_column(LINE, raw[LINE])
    removed, counts = np.zeros(raw.num_rows, bool), {}
    for reason, mask in left_out:
        rows = mask & ~removed & ~malformed
        removed |= rows
        if rows.any():
            counts[reason] = int(rows.sum())
    return Extract(table.filter(pa.array(~removed)), counts)


def with_malformed(rows: pa.Table, lines: Sequence[str]) -> pa.Table:
    """The rows, and behind them the lines of the file that could not be read, for quarantine."""
    if not lines:
        return rows
    malformed = pa.table({LINE: pa.array(lines, pa.string())})
    return pa.concat_tables([rows, malformed], promote_options="default")


def _arguments(extract: Callable[[str], Extract]) -> tuple[object, ...]:
    return extract.args if isinstance(extract, partial) else ()


def _chunks(export: Export | None) -> list[Chunk]:
    if export is None:
        return []
    sizes = [(path, export.extract(path).rows.num_rows) for path in export_files(export.path)]
    return [Chunk(path, 0, rows) for path, rows in sizes if rows]


def _read(export: Export | None, chunk: Chunk, schema: pa.Schema) -> pa.Table:
    if export is None:
        return schema.empty_table()
    rows = export.extract(chunk.path).rows
    names = [name for name in rows.column_names if name == LINE or name in schema.names]
    return rows.select(names).slice(chunk.start, chunk.rows)
