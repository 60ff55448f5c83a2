"""Streaming writers of .npy and Arrow files, for what is larger than memory: pieces for
`FileStore.write`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

_PIECE = 8 << 20


def npy_pieces(parts: Iterable[NDArray[Any]], rows: int | None = None) -> Iterator[bytes]:
    """The parts one below the other, as one .npy file. With `rows`, how many they have in all, each
    part may go when the next one comes."""
    if rows is None:
        parts = list(parts)
        rows = sum(len(part) for part in parts)
    for at, part in enumerate(parts):
        if at == 0:
            yield _header(part, rows)
        for block in _blocks(part):
            yield np.ascontiguousarray(part[block]).tobytes()


def npy_kept(array: NDArray[Any], mask_N: NDArray[np.bool_]) -> Iterator[bytes]:
    """The rows that are kept, as one .npy file."""
    yield _header(array, int(mask_N.sum()))
    for rows in _blocks(array):
        yield np.ascontiguousarray(array[rows][mask_N[rows]]).tobytes()


def arrow_pieces(batches: Iterable[pa.RecordBatch], schema: pa.Schema) -> Iterator[pa.Buffer]:
    """An Arrow file of these record batches. Its pieces are what the writer has put out so far."""
    sink = _Pieces()
    with pa.ipc.new_file(pa.PythonFile(sink, mode="w"), schema) as writer:
        for batch in batches:
            writer.write_batch(batch)
            yield from sink.take()
    yield from sink.take()


def parquet_bytes(table: pa.Table) -> pa.Buffer:
    """A small table as a Parquet file."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    return sink.getvalue()


def _header(like: NDArray[Any], rows: int) -> bytes:
    described = np.lib.format.dtype_to_descr(like.dtype)
    header = {"descr": described, "fortran_order": False, "shape": (rows, *like.shape[1:])}
    sink = pa.BufferOutputStream()
    np.lib.format.write_array_header_1_0(pa.PythonFile(sink, mode="w"), header)
    return bytes(sink.getvalue().to_pybytes())


def _blocks(array: NDArray[Any]) -> Iterator[slice]:
    rows = max(1, _PIECE // max(1, array[:1].nbytes))
    return (slice(start, start + rows) for start in range(0, len(array), rows))


class _Pieces:
    """A write-only file that hands on what was written to it."""

    closed = False

    def __init__(self) -> None:
        self.pieces: list[bytes] = []

    def write(self, data: bytes) -> int:
        self.pieces.append(bytes(data))
        return len(data)

    def flush(self) -> None: ...

    def close(self) -> None: ...

    def take(self) -> list[bytes]:
        pieces, self.pieces = self.pieces, []
        return pieces
