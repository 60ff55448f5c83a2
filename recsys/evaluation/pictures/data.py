"""Data sets with pictures: tables whose `image` column holds encoded pictures."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from recsys.errors import NotFoundError
from recsys.evaluation.results import Column, Row
from recsys.interfaces import PictureEncoder
from recsys.pictures.decode import decode_picture
from recsys.types import Floats

#: The parts of a data set to choose on; the others are measured on.
CHOSEN_ON = ("train", "valid")


def read_table(folder: Path, name: str) -> pa.Table:
    """The folder's `name`.parquet; raises NotFoundError where it has none."""
    path = folder / f"{name}.parquet"
    if not path.is_file():
        raise NotFoundError(f"{folder} has no {name}.parquet: give the folder of a data set")
    return pq.read_table(path)


def strings(table: pa.Table, name: str) -> list[str]:
    """A column without nulls; empty where the table lacks it."""
    if name not in table.column_names:
        return [""] * table.num_rows
    return [(value or "").strip() for value in table[name].to_pylist()]


def picture_vectors(
    encoder: PictureEncoder, pictures: Sequence[bytes | None], cache: Path
) -> Floats:
    """[N, P], zeros where there is no picture; kept in the folder `cache`."""
    digest = blake2b(encoder.space.encode(), digest_size=8)
    for picture in pictures:
        digest.update(blake2b(picture or b"", digest_size=8).digest())
    path = cache / f"pictures-{encoder.space}-{digest.hexdigest()}.npy"
    if path.is_file():
        return np.load(path)
    vectors_NP = np.zeros((len(pictures), encoder.dim), np.float32)
    present = [row for row, picture in enumerate(pictures) if picture]
    for start in range(0, len(present), 64):
        rows = present[start : start + 64]
        decoded = [decode_picture(pictures[row] or b"") for row in rows]
        vectors_NP[rows] = encoder.encode_pixels(encoder.pixels(decoded))
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, vectors_NP)
    return vectors_NP


def metric_columns(rows: Sequence[Row]) -> list[Column]:
    """Every metric of the rows once; intervals stand in the cell of theirs."""
    names = dict.fromkeys(name for row in rows for name in row)
    apart = ("/low", "/high", "/interval")
    return [Column(name, ".4f") for name in names if name != "name" and not name.endswith(apart)]
