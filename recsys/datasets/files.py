"""A shop's own Parquet, CSV or JSONL files as canonical tables."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs

from recsys.datasets.text_files import json_lines, read_csv, read_jsonl
from recsys.datasets.validate import LINE
from recsys.errors import InputError, NotFoundError
from recsys.interfaces import Chunk
from recsys.tables import EVENTS_RAW, ITEMS_RAW, REQUIRED

CHUNK_ROWS = 250_000
_SUFFIXES = (".parquet", ".csv", ".jsonl")
_ENDINGS = ", ".join(_SUFFIXES)


class FilesAdapter:
    """A `DatasetAdapter` over one file, or one folder of files, for items and one for events.

    Paths are local or URIs that pyarrow knows (`s3://bucket/items`). Parquet is read in chunks of
    about 250,000 rows, a CSV or JSONL file in one. `item_columns` and `event_columns` map a
    canonical column name to the shop's; a column that is not mapped has its canonical name. CSV
    values stay strings. A line that cannot be split into columns is a row of nulls with its text in
    `validate.LINE`, for quarantine.

    Raises NotFoundError for a path that does not exist, InputError for a file or column that cannot
    be used."""

    name = "files"

    def __init__(
        self,
        items_path: str,
        events_path: str,
        item_columns: Mapping[str, str] | None = None,
        event_columns: Mapping[str, str] | None = None,
    ) -> None:
        self.items_path, self.events_path = str(items_path), str(events_path)
        self.item_columns, self.event_columns = dict(item_columns or {}), dict(event_columns or {})
        _check_mapping(self.item_columns, ITEMS_RAW)
        _check_mapping(self.event_columns, EVENTS_RAW)

    def item_chunks(self) -> list[Chunk]:
        if chunks := _chunks(self.items_path):
            return chunks
        raise InputError(f"{self.items_path} holds no items: give files that end in {_ENDINGS}")

    def event_chunks(self) -> list[Chunk]:
        return _chunks(self.events_path)  # none in an empty folder: a shop that has just opened

    def fingerprint(self) -> str:
        infos = []
        for root in (self.items_path, self.events_path):
            filesystem, path = _resolve(root)
            infos += filesystem.get_file_info(_files(filesystem, path))
        files = [(info.path, info.size, info.mtime_ns) for info in infos]
        sources = repr(
            (files, sorted(self.item_columns.items()), sorted(self.event_columns.items()))
        )
        return hashlib.sha256(sources.encode()).hexdigest()

    def read_items(self, chunk: Chunk) -> pa.Table:
        return _read(self.items_path, chunk, ITEMS_RAW, self.item_columns)

    def read_events(self, chunk: Chunk) -> pa.Table:
        return _read(self.events_path, chunk, EVENTS_RAW, self.event_columns)


def _check_mapping(columns: Mapping[str, str], schema: pa.Schema) -> None:
    for name in columns:
        if name not in schema.names:
            raise InputError(
                f"there is no canonical column {name!r}: map one of {', '.join(schema.names)}"
            )


def _resolve(path: str) -> tuple[fs.FileSystem, str]:
    return (
        fs.FileSystem.from_uri(path)
        if "://" in path
        else (fs.LocalFileSystem(), os.path.abspath(path))
    )


def _chunks(root: str) -> list[Chunk]:
    filesystem, path = _resolve(root)
    chunks = []
    for file in _files(filesystem, path):
        with _read_errors(file):
            rows = _count_rows(filesystem, file)
        step = CHUNK_ROWS if file.endswith(".parquet") else max(rows, 1)
        chunks += [Chunk(file, start, min(step, rows - start)) for start in range(0, rows, step)]
    return chunks


def _files(filesystem: fs.FileSystem, path: str) -> list[str]:
    """`path` itself, or the files under it whose names do not begin with "_" or "."; sorted."""
    info = filesystem.get_file_info(path)
    if info.type == fs.FileType.NotFound:
        raise NotFoundError(f"there is nothing at {path}: give the path of a file or folder")
    selector = fs.FileSelector(path, recursive=True)
    infos = [info] if info.is_file else filesystem.get_file_info(selector)
    files = sorted(
        each.path for each in infos if each.is_file and not each.base_name.startswith(("_", "."))
    )
    for file in files:
        if not file.endswith(_SUFFIXES):
            raise InputError(f"{file} cannot be read: give files that end in {_ENDINGS}")
    return files


@contextmanager
def _read_errors(path: str) -> Iterator[None]:
    try:
        yield
    except pa.ArrowInvalid as error:
        raise InputError(
            f"{path} cannot be read ({error}): write it again, or remove it"
        ) from error


def _count_rows(filesystem: fs.FileSystem, path: str) -> int:
    if path.endswith(".parquet"):
        with filesystem.open_input_file(path) as file:
            return pq.ParquetFile(file).metadata.num_rows
    if path.endswith(".csv"):
        return read_csv(filesystem, path).num_rows
    return len(json_lines(filesystem, path))


def _read(root: str, chunk: Chunk, schema: pa.Schema, mapping: Mapping[str, str]) -> pa.Table:
    filesystem, _ = _resolve(root)
    with _read_errors(chunk.path):
        if chunk.path.endswith(".parquet"):
            return _read_parquet(filesystem, chunk, schema, mapping)
        read = read_csv if chunk.path.endswith(".csv") else read_jsonl
        whole = read(filesystem, chunk.path)
    columns = _columns(
        chunk.path, [name for name in whole.column_names if name != LINE], schema, mapping
    )
    lines = [LINE] if LINE in whole.column_names else []
    table = whole.select([*columns.values(), *lines]).rename_columns([*columns, *lines])
    return table.slice(chunk.start, chunk.rows)


def _columns(
    path: str, names: Sequence[str], schema: pa.Schema, mapping: Mapping[str, str]
) -> dict[str, str]:
    """Canonical name -> the file's, for the columns that the file has."""
    columns = {field.name: mapping.get(field.name, field.name) for field in schema}
    required = REQUIRED["items" if schema is ITEMS_RAW else "events"]
    for name, theirs in columns.items():
        if theirs not in names and (name in mapping or name in required):
            raise InputError(
                f"{path} has no column {theirs!r} for {name}: map one of {', '.join(names)}"
            )
    return {name: theirs for name, theirs in columns.items() if theirs in names}


def _read_parquet(
    filesystem: fs.FileSystem, chunk: Chunk, schema: pa.Schema, mapping: Mapping[str, str]
) -> pa.Table:
    """Reads only the row groups that the chunk lies in."""
    with filesystem.open_input_file(chunk.path) as file:
        parquet = pq.ParquetFile(file)
        groups = [
            parquet.metadata.row_group(group).num_rows for group in range(parquet.num_row_groups)
        ]
        stops = np.cumsum(groups)
        first, last = np.searchsorted(
            stops, [chunk.start, chunk.start + chunk.rows - 1], side="right"
        )
        columns = _columns(chunk.path, parquet.schema_arrow.names, schema, mapping)
        table = parquet.read_row_groups(
            range(first, last + 1), columns=list(dict.fromkeys(columns.values()))
        )
    table = table.slice(chunk.start - (stops[first] - groups[first]), chunk.rows)
    return table.select(list(columns.values())).rename_columns(list(columns))
