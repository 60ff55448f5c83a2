"""One Parquet file in chunks of rows."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs

from recsys.interfaces import Chunk

ROWS_PER_CHUNK = 250_000


class ParquetRows:
    """A `text_files.RowFile` of which only the row groups that rows lie in are read."""

    def __init__(self, filesystem: fs.FileSystem, path: str) -> None:
        self._filesystem, self._path = filesystem, path

    @cached_property
    def _metadata(self) -> pq.FileMetaData:
        with self._filesystem.open_input_file(self._path) as file:
            return pq.read_metadata(file)

    @cached_property
    def names(self) -> list[str]:
        return list(self._metadata.schema.to_arrow_schema().names)

    @property
    def num_rows(self) -> int:
        return self._metadata.num_rows

    def read(self, columns: Sequence[int], start: int, rows: int) -> pa.Table:
        names = [self.names[column] for column in columns]
        if rows == 0:
            schema = self._metadata.schema.to_arrow_schema()
            return pa.schema([schema.field(name) for name in names]).empty_table()
        with self._filesystem.open_input_file(self._path) as file:
            parquet = pq.ParquetFile(file)
            groups = [
                parquet.metadata.row_group(group).num_rows
                for group in range(parquet.num_row_groups)
            ]
            stops = np.cumsum(groups)
            first, last = np.searchsorted(stops, [start, start + rows - 1], side="right")
            table = parquet.read_row_groups(
                range(first, last + 1), columns=list(dict.fromkeys(names))
            )
        return table.slice(start - (stops[first] - groups[first]), rows).select(names)


def row_chunks(path: Path) -> list[Chunk]:
    """The file in pieces of at most ROWS_PER_CHUNK rows, in order."""
    rows = pq.ParquetFile(path).metadata.num_rows
    starts = range(0, rows, ROWS_PER_CHUNK)
    return [Chunk(str(path), start, min(ROWS_PER_CHUNK, rows - start)) for start in starts]


def read_rows(chunk: Chunk, columns: Sequence[str]) -> pa.Table:
    """The chunk's rows. Decodes the rows before them too, and keeps only these in memory."""
    batches, position, stop = [], 0, chunk.start + chunk.rows
    file = pq.ParquetFile(chunk.path)
    for batch in file.iter_batches(batch_size=65_536, columns=list(columns)):
        low, high = max(chunk.start - position, 0), min(stop - position, batch.num_rows)
        if low < high:
            batches.append(batch.slice(low, high - low))
        position += batch.num_rows
        if position >= stop:
            break
    schema = pa.schema([file.schema_arrow.field(name) for name in columns])
    return pa.Table.from_batches(batches, schema)


def row_ids(chunk: Chunk, prefix: str) -> pa.Array:
    """An id for each of the chunk's rows that is the same in every run: the prefix and the row's
    number."""
    return pa.array([f"{prefix}-{row}" for row in range(chunk.start, chunk.start + chunk.rows)])
