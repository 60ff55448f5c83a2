"""What a night will do, fixed before it does anything; and where its workers read and write."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from recsys.artifacts import ArtifactStore
from recsys.config import Setup
from recsys.interfaces import Chunk, DatasetAdapter
from recsys.release import IdMap, read_manifest, write_arrow

#: The path of a chunk that comes from the live event log, as copied when the night began.
LIVE = "live.parquet"


@dataclass(frozen=True)
class Plan:
    """A night's choices. Written first; a night that was killed is continued from it, not from a newer look."""

    version: str
    until: str
    setup: str
    commit: str
    space: str
    previous: str | None
    carry_from: str | None
    item_chunks: list[Chunk]
    event_chunks: list[Chunk]
    item_parts: int
    text_parts: int
    user_parts: int

    @property
    def now(self) -> datetime:
        return datetime.fromisoformat(self.until)

    def to_json(self) -> bytes:
        return json.dumps(asdict(self), indent=2, sort_keys=True).encode()

    @classmethod
    def from_json(cls, data: bytes) -> Plan:
        fields = json.loads(data)
        for name in ("item_chunks", "event_chunks"):
            fields[name] = [Chunk(**chunk) for chunk in fields[name]]
        return cls(**fields)


@dataclass
class Done:
    """What one shard of a stage did: rows handled, files written (path in the store -> sha256), counts to add up."""

    rows: int = 0
    files: dict[str, str] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Place:
    """A night as its workers see it: the plan, the store, the setup. Pickles small; goes with every task."""

    store: ArtifactStore
    setup: Setup
    plan: Plan

    def work(self, path: str) -> str:
        return f"work/{self.plan.version}/{path}"

    def release(self, path: str) -> str:
        return f"releases/{self.plan.version}/{path}"

    def dataset(self) -> DatasetAdapter:
        return self.setup.dataset(self.plan.now)

    def carried(self, name: str) -> Path | None:
        """A file of the release whose vectors are carried over, or None where there is none of this space."""
        if self.plan.carry_from is None:
            return None
        path = f"releases/{self.plan.carry_from}/{name}"
        return self.store.on_disk(path) or self.store.local(
            path, read_manifest(self.store, self.plan.carry_from).files[name]
        )

    # Intermediate files. A part is one shard of a stage's output.

    def write_tables(self, done: Done, path: str, batches: Iterable[pa.RecordBatch], schema: pa.Schema) -> None:
        done.files[self.work(path)] = self.store.write(self.work(path), write_arrow(list(batches), schema))

    def write_arrays(self, done: Done, part: int, arrays: Mapping[str, np.ndarray]) -> None:
        for name, array in arrays.items():
            path = self.work(f"{name}/{part:05d}.npy")
            sink = pa.BufferOutputStream()
            np.save(sink, np.ascontiguousarray(array))
            done.files[path] = self.store.write(path, sink.getvalue())

    def write_quarantine(self, done: Done, name: str, *rows: pa.Table) -> None:
        table = pa.concat_tables(rows)
        if table.num_rows:
            path = self.work(f"quarantine/{name}.parquet")
            done.files[path] = self.store.write(path, parquet_bytes(table))

    def read_part(self, name: str, part: int) -> pa.Table:
        return pa.ipc.open_file(self._file(f"{name}/{part:05d}.arrow")).read_all()

    def read_array(self, name: str, part: int) -> np.ndarray:
        """One part of an array, mapped where the store is a disk."""
        return load_array(self.store, self.work(f"{name}/{part:05d}.npy"))

    def gather(self, name: str, part: int) -> pa.Table:
        """All rows that the scattering stage `name` put into partition `part`, in order of its shards."""
        paths = [path for path in self.store.files(self.work(name)) if path.endswith(".arrow")]
        files = [pa.ipc.open_file(self.store.open(path)) for path in paths]
        return pa.Table.from_batches([file.get_batch(part) for file in files])

    def item_ids(self) -> IdMap:
        parts = [self.read_part("items", part)["item_id"] for part in range(self.plan.item_parts)]
        return IdMap(pa.chunked_array([chunk for part in parts for chunk in part.chunks], pa.string()))

    def released_array(self, name: str) -> np.ndarray:
        """A whole array of the release in the making."""
        return load_array(self.store, self.release(f"{name}.npy"))

    def _file(self, path: str) -> Any:
        target = self.work(path)
        if local := self.store.on_disk(target):
            return pa.memory_map(str(local))
        return self.store.open(target)


def load_array(store: ArtifactStore, path: str) -> np.ndarray:
    local = store.on_disk(path) or store.local(path, store.sha256(path))
    return np.load(local, mmap_mode="r")


def parquet_bytes(table: pa.Table) -> pa.Buffer:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    return sink.getvalue()


def scattered(table: pa.Table, parts_N: np.ndarray, parts: int) -> list[pa.RecordBatch]:
    """The table's rows as `parts` record batches: batch p holds the rows of partition p, in their order."""
    ordered = table.take(pa.array(np.argsort(parts_N, kind="stable"))).combine_chunks()
    ends = np.cumsum(np.bincount(parts_N, minlength=parts))
    return [
        one_batch(ordered.slice(end - rows, rows)) for end, rows in zip(ends, np.diff(ends, prepend=0), strict=True)
    ]


def one_batch(table: pa.Table) -> pa.RecordBatch:
    """The whole table as one record batch, also where it is empty."""
    columns = [column.combine_chunks() for column in table.columns]
    flat = [column.chunk(0) if isinstance(column, pa.ChunkedArray) else column for column in columns]
    return pa.RecordBatch.from_arrays(flat, schema=table.schema)
