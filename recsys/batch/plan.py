"""What a night will do, fixed before it does anything; and where its workers read and write."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from recsys.config import Night, Setup
from recsys.interfaces import Chunk, DatasetAdapter
from recsys.privacy.decisions import PrivacyDecisions
from recsys.release.arrow import read_arrow, write_arrow
from recsys.release.files import ReleaseFile
from recsys.release.manifest import read_manifest
from recsys.storage.artifacts import ArtifactStore
from recsys.storage.streams import arrow_pieces, npy_pieces, parquet_bytes


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A night's choices. Written first; a night that was killed is continued from it, not from a
    newer look.

    `carry_from` is a release of the same space, `taste_from` one whose user model, too, is the
    same, `pictures_from` one of the same `picture_space`, which is empty without pictures; `inputs`
    and `choices` are the digests of `night_key`. Changes of the catalogue count up to number
    `changes` of its log, over rows of files that were not written later, `item_times` (ISO 8601, by
    path; where one is missing they always do)."""

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
    picture_space: str = ""
    pictures_from: str | None = None
    inputs: str = ""
    choices: str = ""
    changes: int = 0
    item_times: dict[str, str] = field(default_factory=dict)

    @property
    def now(self) -> datetime:
        return datetime.fromisoformat(self.until)

    def written(self, chunk: Chunk) -> datetime | None:
        """When the file of a chunk of items was."""
        time = self.item_times.get(chunk.path)
        return datetime.fromisoformat(time) if time else None

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


@dataclass(frozen=True, kw_only=True)
class NightRun:
    """A night as its workers see it: the plan, the store, the setup, and what users decided when it
    began. Pickles small; goes with every task. The checks named in `allow` do not refuse it."""

    store: ArtifactStore
    setup: Setup
    plan: Plan
    decisions: PrivacyDecisions = field(default_factory=PrivacyDecisions)
    allow: frozenset[str] = frozenset()

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

    def previous_file(self, version: str | None, file: ReleaseFile) -> Path | None:
        """A file of that release, or None where there is no release, or it has no such file."""
        if version is None:
            return None
        sha256 = read_manifest(self.store, version).files.get(file.name)
        if sha256 is None:
            return None
        return self.store.local(f"releases/{version}/{file.name}", sha256)

    # Parts: what one shard of a stage writes, below the night's work folder.

    def write_table(
        self,
        result: ShardResult,
        name: ReleaseFile | str,
        part: int,
        batches: Iterable[pa.RecordBatch],
        schema: pa.Schema,
    ) -> None:
        path = self.work_path(f"{name}/{part:05d}.arrow")
        result.files[path] = self.store.write(path, write_arrow(list(batches), schema))

    def write_arrays(
        self,
        result: ShardResult,
        part: int,
        arrays: Mapping[ReleaseFile, np.ndarray] | Mapping[str, np.ndarray],
    ) -> None:
        for name, array in arrays.items():
            path = self.work_path(f"{name}/{part:05d}.npy")
            result.files[path] = self.store.write(path, npy_pieces([array]))

    def write_quarantine(self, result: ShardResult, name: str, *rows: pa.Table) -> None:
        table = pa.concat_tables(rows)
        if table.num_rows:
            path = self.work_path(f"quarantine/{name}.parquet")
            result.files[path] = self.store.write(path, parquet_bytes(table))

    def read_part(self, name: ReleaseFile | str, part: int) -> pa.Table:
        path = self.work_path(f"{name}/{part:05d}.arrow")
        local = self.store.on_disk(path)
        stream = pa.memory_map(str(local)) if local else self.store.open(path)
        return pa.ipc.open_file(stream).read_all()

    def read_array(self, name: ReleaseFile | str, part: int) -> np.ndarray:
        """One part of an array: mapped where the store is a disk, read where it is a bucket."""
        path = self.work_path(f"{name}/{part:05d}.npy")
        if local := self.store.on_disk(path):
            return np.load(local, mmap_mode="r")
        return np.load(io.BytesIO(self.store.read(path)))

    def array_rows(self, name: ReleaseFile, part: int) -> int:
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

    # Whole files of the release in the making, mapped by every worker of a later stage.

    def join_parts(self, file: ReleaseFile, parts: int) -> None:
        """Writes a file of the release: its parts, in order. Streams: a piece at a time is in
        memory. An optional array without parts is left out."""
        if not file.axes:
            tables = (self.read_part(file, part) for part in range(parts))
            batches = (batch for table in tables for batch in table.to_batches())
            return self.assemble(file.name, arrow_pieces(batches, self.read_part(file, 0).schema))
        if file.optional and not self.store.exists(self.work_path(f"{file}/00000.npy")):
            return None
        # One part mapped at a time: pages of the others would count as the driver's.
        rows = sum(self.array_rows(file, part) for part in range(parts))
        arrays = (self.read_array(file, part) for part in range(parts))
        return self.assemble(file.name, npy_pieces(arrays, rows))

    def assemble(self, name: str, pieces: bytes | pa.Buffer | Iterable[bytes | pa.Buffer]) -> None:
        """Writes a file of the release, and its checksum where workers of a bucket's night read
        it."""
        sha256 = self.store.write(self.release_path(name), pieces)
        self.store.write(self.work_path(f"sums/{name}"), sha256.encode())

    def checksums(self) -> dict[str, str]:
        """Every file assembled so far, as a manifest lists them."""
        folder = self.work_path("sums")
        return {
            path[len(folder) + 1 :]: self.store.read(path).decode()
            for path in self.store.files(folder)
        }

    def is_assembled(self, file: ReleaseFile) -> bool:
        return self.store.exists(self.work_path(f"sums/{file.name}"))

    def open_table(self, file: ReleaseFile) -> pa.Table:
        return read_arrow(self._assembled_file(file))

    def open_array(self, file: ReleaseFile) -> np.ndarray:
        return np.load(self._assembled_file(file), mmap_mode="r")

    def _assembled_file(self, file: ReleaseFile) -> Path:
        sha256 = self.store.read(self.work_path(f"sums/{file.name}")).decode()
        return self.store.local(self.release_path(file.name), sha256)


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


def id_parts(ids: pa.ChunkedArray, parts: int) -> NDArray[np.int64]:
    """A partition for each id. The hash is pandas' keyed SipHash: the same on every machine."""
    coded = ids.combine_chunks().dictionary_encode()
    hashes = pd.util.hash_array(
        coded.dictionary.to_numpy(zero_copy_only=False).astype(object), categorize=False
    )
    return (hashes % np.uint64(parts)).astype(np.int64)[np.asarray(coded.indices)]
