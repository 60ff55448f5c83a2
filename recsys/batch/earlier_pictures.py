"""What the previous release has of pictures: found by reference, and by content, without reading
it whole.

One task sorts 64 bits of each reference and content hash into files that all others map; what they
find there, they compare in full."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from hashlib import blake2b

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from recsys.batch.plan import NightRun, ShardResult
from recsys.release import files
from recsys.release.arrow import read_arrow, row_ranges
from recsys.release.files import ReleaseFile
from recsys.types import Floats, Ints

#: The file and column that each index is of.
INDEXES: dict[str, tuple[ReleaseFile, str]] = {
    "reference": (files.PICTURES, "reference"),
    "content": (files.PICTURES, "content_hash"),
    "thumbnail": (files.THUMBNAILS, "content_hash"),
}
#: Rows that are hashed at once.
_BLOCK = 65_536


def index_pictures(night: NightRun, shard: int) -> ShardResult:
    """Writes the sorted keys of every index, and the rows that have them."""
    result = ShardResult()
    for name, (file, column) in INDEXES.items():
        if (path := night.previous_file(night.plan.pictures_from, file)) is None:
            continue
        values = read_arrow(path)[column]
        blocks = row_ranges(len(values), _BLOCK)
        keys = [_keys(values[block.start : block.stop].to_pylist()) for block in blocks]
        keys_G = np.concatenate([np.empty(0, np.uint64), *keys])
        order_G = np.argsort(keys_G, kind="stable")
        arrays = {f"earlier/{name}_keys": keys_G[order_G], f"earlier/{name}_rows": order_G}
        night.write_arrays(result, 0, arrays)
        result.rows = max(result.rows, len(keys_G))
    return result


def _keys(values: Sequence[str | bytes]) -> NDArray[np.uint64]:
    raw = [value.encode() if isinstance(value, str) else value for value in values]
    return np.array(
        [int.from_bytes(blake2b(value, digest_size=8).digest()) for value in raw], np.uint64
    )


class EarlierPictures:
    """Pictures of the release that the night carries from; none where there is no such release."""

    def __init__(self, night: NightRun) -> None:
        self.night = night
        self.version = night.plan.pictures_from

    @cached_property
    def pictures(self) -> pa.Table | None:
        return self._table(files.PICTURES)

    @cached_property
    def thumbnails(self) -> pa.Table | None:
        return self._table(files.THUMBNAILS)

    @cached_property
    def vectors_GE(self) -> Floats:
        path = self.night.previous_file(self.version, files.PICTURE_VECTORS)
        return np.empty((0, 0), np.float16) if path is None else np.load(path, mmap_mode="r")

    def rows(self, name: str, values: Sequence[str | bytes]) -> Ints:
        """The row of each value in an index's file, the first where there are several; -1 where
        there is none."""
        rows_N = np.full(len(values), -1)
        table = self.thumbnails if name == "thumbnail" else self.pictures
        if table is None or not table.num_rows or not len(values):
            return rows_N
        column = table[INDEXES[name][1]]
        keys_G = self.night.read_array(f"earlier/{name}_keys", 0)
        rows_G = self.night.read_array(f"earlier/{name}_rows", 0)
        for at, place in enumerate(np.searchsorted(keys_G, _keys(values))):
            if place < len(rows_G) and column[int(rows_G[place])].as_py() == values[at]:
                rows_N[at] = rows_G[place]
        return rows_N

    def _table(self, file: ReleaseFile) -> pa.Table | None:
        path = self.night.previous_file(self.version, file)
        return None if path is None else read_arrow(path)
