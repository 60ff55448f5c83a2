"""One Parquet file in chunks of rows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from recsys.interfaces import Chunk

ROWS_PER_CHUNK = 250_000


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
