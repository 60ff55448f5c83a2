"""What a night will do, fixed before it does anything; and where its workers read and write."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from recsys.config import Night, Setup
from recsys.interfaces import Chunk, DatasetAdapter
from recsys.privacy.decisions import PrivacyDecisions
from recsys.release.release import IdMap, read_arrow, read_manifest, write_arrow
from recsys.storage.artifacts import ArtifactStore
from recsys.storage.streams import npy_pieces, parquet_bytes

#: The path of a chunk that comes from the live event log, as copied when the night began.
LIVE = "live.parquet"


@dataclass(frozen=True)
class Plan:
    """A night's choices. Written first; a night that was killed is continued from it, not from a
    newer look.

    `carry_from` is a release of the same space, `taste_from` one whose user model, too, is the
    same."""

    version: str
    until: str
    setup: str
    commit: str
    space: str
    models: str | None
    previous: str | None
    carry_from: str | None
    item_chunks: list[Chunk]
    event_chunks: list[Chunk]
    item_parts: int
    text_parts: int
    user_parts: int
    taste_from: str | None = None

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
class ShardResult:
    """What one shard of a stage did: rows handled, files written (path in the store -> sha256),
    counts to add up."""

    rows: int = 0
    files: dict[str, str] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class NightRun:
    """A night as its workers see it: the plan, the store, the setup, and what users decided when it
    began. Pickles small; goes with every task."""

    store: ArtifactStore
    setup: Setup
    plan: Plan
    decisions: PrivacyDecisions = field(default_factory=PrivacyDecisions)

    @property
    def choices(self) -> Night:
        """How the night is cut into shards, and what each worker gets."""
        return self.setup.night

    def work_path(self, path: str) -> str:
        return f"work/{self.plan.version}/{path}"

    def release_path(self, path: str) -> str:
        return f"releases/{self.plan.version}/{path}"

    def dataset(self) -> DatasetAdapter:
        return self.setup.dataset(self.plan.now)

    def carried_file(self, name: str) -> Path | None:
        """A file of the release whose vectors are carried over, or None where there is none of this
        space."""
        return self.release_file(self.plan.carry_from, name)

    def release_file(self, version: str | None, name: str) -> Path | None:
        """A file of that release, or None where there is no release."""
        if version is None:
            return None
        return self.store.local(
            f"releases/{version}/{name}", read_manifest(self.store, version).files[name]
        )

    # Intermediate files. A part is one shard of a stage's output.

    def write_tables(
        self, result: ShardResult, path: str, batches: Iterable[pa.RecordBatch], schema: pa.Schema
    ) -> None:
        result.files[self.work_path(path)] = self.store.write(
            self.work_path(path), write_arrow(list(batches), schema)
        )

    def write_arrays(
        self, result: ShardResult, part: int, arrays: Mapping[str, np.ndarray]
    ) -> None:
        for name, array in arrays.items():
            path = self.work_path(f"{name}/{part:05d}.npy")
            result.files[path] = self.store.write(path, npy_pieces([array]))

    def write_quarantine(self, result: ShardResult, name: str, *rows: pa.Table) -> None:
        table = pa.concat_tables(rows)
        if table.num_rows:
            path = self.work_path(f"quarantine/{name}.parquet")
            result.files[path] = self.store.write(path, parquet_bytes(table))

    def read_part(self, name: str, part: int) -> pa.Table:
        return pa.ipc.open_file(self._file(f"{name}/{part:05d}.arrow")).read_all()

    def read_array(self, name: str, part: int) -> np.ndarray:
        """One part of an array: mapped where the store is a disk, read where it is a bucket."""
        path = self.work_path(f"{name}/{part:05d}.npy")
        if local := self.store.on_disk(path):
            return np.load(local, mmap_mode="r")
        return np.load(io.BytesIO(self.store.read(path)))

    def array_rows(self, name: str, part: int) -> int:
        """How many rows that part has; reads no more of it than its header."""
        with self.store.open(self.work_path(f"{name}/{part:05d}.npy")) as stream:
            np.lib.format.read_magic(stream)
            return int(np.lib.format.read_array_header_1_0(stream)[0][0])

    def gather(self, name: str, part: int, schema: pa.Schema) -> pa.Table:
        """All rows that the scattering stage `name` put into partition `part`, in order of its
        shards.

        `schema` is that of a stage that had nothing to read: a shop's first night may have no
        events."""
        paths = [path for path in self.store.files(self.work_path(name)) if path.endswith(".arrow")]
        files = [pa.ipc.open_file(self.store.open(path)) for path in paths]
        return pa.Table.from_batches(
            [file.get_batch(part) for file in files], None if files else schema
        )

    def item_ids(self) -> IdMap:
        parts = [self.read_part("items", part)["item_id"] for part in range(self.plan.item_parts)]
        return IdMap(
            pa.chunked_array([chunk for part in parts for chunk in part.chunks], pa.string())
        )

    # Whole files of the release in the making: assembled by the driver, mapped by every worker of a
    # later stage.

    def assemble(self, name: str, pieces: bytes | pa.Buffer | Iterable[bytes | pa.Buffer]) -> None:
        """Writes a file of the release, and its sum where workers of a bucket's night find it."""
        sha256 = self.store.write(self.release_path(name), pieces)
        self.store.write(self.work_path(f"sums/{name}"), sha256.encode())

    def assembled_file(self, name: str) -> Path:
        return self.store.local(
            self.release_path(name), self.store.read(self.work_path(f"sums/{name}")).decode()
        )

    def is_assembled(self, name: str) -> bool:
        return self.store.exists(self.work_path(f"sums/{name}"))

    def checksums(self) -> dict[str, str]:
        """Every file assembled so far, as a manifest lists them."""
        folder = self.work_path("sums")
        return {
            path[len(folder) + 1 :]: self.store.read(path).decode()
            for path in self.store.files(folder)
        }

    def open_array(self, name: str) -> np.ndarray:
        return np.load(self.assembled_file(f"{name}.npy"), mmap_mode="r")

    def open_items(self) -> pa.Table:
        return read_arrow(self.assembled_file("items.arrow"))

    def _file(self, path: str) -> Any:
        target = self.work_path(path)
        if local := self.store.on_disk(target):
            return pa.memory_map(str(local))
        return self.store.open(target)


def scattered(table: pa.Table, parts_N: np.ndarray, parts: int) -> list[pa.RecordBatch]:
    """The table's rows as `parts` record batches: batch p holds the rows of partition p, in their
    order."""
    ordered = table.take(pa.array(np.argsort(parts_N, kind="stable"))).combine_chunks()
    ends = np.cumsum(np.bincount(parts_N, minlength=parts))
    return [
        one_batch(ordered.slice(end - rows, rows))
        for end, rows in zip(ends, np.diff(ends, prepend=0), strict=True)
    ]


def one_batch(table: pa.Table) -> pa.RecordBatch:
    """The whole table as one record batch, also where it is empty."""
    columns = [column.combine_chunks() for column in table.columns]
    flat = [
        column.chunk(0) if isinstance(column, pa.ChunkedArray) else column for column in columns
    ]
    return pa.RecordBatch.from_arrays(flat, schema=table.schema)
