"""Arrow tables of a release: mapped from disk, ids to rows, histories and days out of columns."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from recsys.arrays import Histories
from recsys.types import Mask


class IdMap:
    """Ids outside, rows inside. Ids are sorted within each shard, so a look-up needs no memory of
    its own."""

    def __init__(self, ids: pa.ChunkedArray) -> None:
        self.shards = [chunk for chunk in ids.chunks if len(chunk)]
        self.starts = np.cumsum([0, *map(len, self.shards)]).tolist()

    def __len__(self) -> int:
        return int(self.starts[-1])

    def __getitem__(self, row: int) -> str:
        shard = int(np.searchsorted(self.starts, row, side="right")) - 1
        return str(self.shards[shard][row - self.starts[shard]].as_py())

    def row(self, key: str) -> int | None:
        """The row of an id, or None."""
        for start, ids in zip(self.starts, self.shards, strict=False):
            row = bisect_left(_Strings(ids), key)
            if row < len(ids) and ids[row].as_py() == key:
                return int(start + row)
        return None

    def rows(self, keys: pa.Array | pa.ChunkedArray) -> NDArray[np.int32]:
        """The rows of many ids at once, -1 where there is none."""
        rows = pc.index_in(keys, value_set=pa.chunked_array(self.shards, pa.string()))
        return np.asarray(pc.fill_null(rows, -1)).astype(np.int32)


class _Strings(Sequence[str]):
    """An Arrow array of strings as the sequence that bisect wants."""

    def __init__(self, array: pa.Array) -> None:
        self.array = array

    def __len__(self) -> int:
        return len(self.array)

    def __getitem__(self, at: Any) -> Any:
        return self.array[at].as_py()


def read_arrow(path: Path) -> pa.Table:
    """An Arrow file, mapped, not read: replicas of a host share its pages."""
    return pa.ipc.open_file(pa.memory_map(str(path))).read_all()


def write_arrow(batches: Sequence[pa.RecordBatch], schema: pa.Schema) -> pa.Buffer:
    """An uncompressed Arrow file, one record batch a shard."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, schema) as writer:
        for batch in batches:
            writer.write_batch(batch)
    return sink.getvalue()


def histories_of(users: pa.Table | pa.RecordBatch) -> Histories:
    """The history columns of `users.arrow`, or of some rows of it."""
    lists = {}
    for name in ("items", "types", "days", "prices"):
        if name in users.schema.names:
            column = users[name]
            lists[name] = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    lengths = np.asarray(pc.list_value_length(lists["items"]))
    values = {name: np.asarray(column.flatten()) for name, column in lists.items()}
    return Histories(offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64), **values)


def added_days(items: pa.Table) -> NDArray[np.float64]:
    """[I]: days since 1970-01-01 UTC, NaN where the shop does not say."""
    return np.asarray(items["added"].cast(pa.int64()).cast(pa.float64()).to_numpy()) / 86_400e6


def visible_items(items: pa.Table) -> Mask:
    """[I]: those that are not hidden."""
    if "hidden" not in items.column_names:  # of before there was such a column
        return np.ones(items.num_rows, bool)
    return ~np.asarray(pc.fill_null(items["hidden"], False))


def sellable_items(items: pa.Table) -> Mask:
    """[I]: those in stock that are not hidden, which lists may offer."""
    return np.asarray(pc.fill_null(items["in_stock"], True)) & visible_items(items)


def row_ranges(total: int, size: int) -> list[range]:
    """0..total-1 in ranges of at most `size`."""
    edges = [*range(0, total, size), total]
    return [range(low, high) for low, high in pairwise(edges)]
