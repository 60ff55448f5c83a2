"""A catalogue with graded queries, as two Parquet files in a folder: what search is trained and
measured on.

    items.parquet          item_id, title, and any other column of `tables.ITEMS_IN`
    judgments.parquet      query, item_id, relevance (1 wrong .. 3 exactly right), split (train, valid, test)

Without a `split` every query gets one by its hash: 60, 15 and 25 of 100.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from recsys.datasets.judgments import JudgedPairs
from recsys.errors import InputError, NotFoundError
from recsys.tables import ITEMS_IN

SPLITS = ("train", "valid", "test")


@dataclass(frozen=True)
class JudgedCatalogue:
    """`items` has all columns of `tables.ITEMS_IN`; the rows of `pairs` are its rows. `unknown`
    judgments name an item that is not in it, and are left out; of a pair that is judged again the
    first judgment counts."""

    name: str
    items: pa.Table
    pairs: dict[str, JudgedPairs]
    unknown: int


def read_judged_catalogue(folder: Path) -> JudgedCatalogue:
    """NotFoundError for a missing file; InputError for a file that is not Parquet, columns that are
    missing or of another kind, relevance outside 1..3, and an empty split."""
    items = _with_all_columns(_table(folder / "items.parquet", ("item_id", "title")))
    judged = _table(folder / "judgments.parquet", ("query", "item_id", "relevance"))
    queries = [text if isinstance(text, str) else "" for text in judged["query"].to_pylist()]
    grades = _grades(judged)
    rows = np.asarray(
        pc.fill_null(pc.index_in(_as(judged, "item_id", pa.string()), items["item_id"]), -1)
    )
    splits = (
        judged["split"].to_pylist()
        if "split" in judged.column_names
        else [_split(text) for text in queries]
    )
    known = (
        _first_of_each(queries, rows)
        & (rows >= 0)
        & np.array([bool(text.strip()) for text in queries], bool)
    )
    pairs = {
        split: _of(queries, rows, grades, known & np.equal(splits, split), split)
        for split in SPLITS
    }
    return JudgedCatalogue(folder.name, items, pairs, int((rows < 0).sum()))


def _table(path: Path, columns: tuple[str, ...]) -> pa.Table:
    if not path.is_file():
        raise NotFoundError(
            f"there is no {path}: put items.parquet and judgments.parquet into one folder"
        )
    try:
        table = pq.read_table(path)
    except pa.ArrowInvalid as error:
        raise InputError(
            f"{path} cannot be read as Parquet: write the table with pyarrow or pandas"
        ) from error
    if missing := [name for name in columns if name not in table.column_names]:
        raise InputError(f"{path} has no column {missing[0]!r}: give {', '.join(columns)}")
    if not table.num_rows:
        raise InputError(f"{path} has no rows: there is nothing to train or measure on")
    return table


def _with_all_columns(items: pa.Table) -> pa.Table:
    columns = {
        field.name: _as(items, field.name, field.type)
        if field.name in items.column_names
        else pa.nulls(items.num_rows, field.type)
        for field in ITEMS_IN
    }
    return pa.table(columns)


def _as(table: pa.Table, column: str, wanted: pa.DataType) -> pa.ChunkedArray:
    try:
        return table[column].cast(wanted)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise InputError(
            f"column {column!r} is of {table[column].type}, not {wanted}: {error}"
        ) from error


def _grades(judged: pa.Table) -> np.ndarray:
    values = np.asarray(_as(judged, "relevance", pa.float32()))
    if not (np.isfinite(values).all() and values.min() >= 1 and values.max() <= 3):
        raise InputError(
            f"relevance runs from {values.min():g} to {values.max():g}: give 1 (wrong) to 3 (right)"
        )
    return (values - 1) / 2


def _split(query: str) -> str:
    share = (
        int.from_bytes(blake2b(query.encode("utf-8", "replace"), digest_size=8).digest(), "big")
        / 2**64
    )
    return SPLITS[int(np.searchsorted([0.6, 0.75], share, side="right"))]


def _first_of_each(queries: list[str], rows: np.ndarray) -> np.ndarray:
    """Where a pair stands for the first time."""
    seen: dict[tuple[str, int], int] = {}
    return np.array(
        [
            seen.setdefault(pair, at) == at
            for at, pair in enumerate(zip(queries, rows.tolist(), strict=True))
        ]
    )


def _of(
    queries: list[str], rows: np.ndarray, grades: np.ndarray, kept: np.ndarray, split: str
) -> JudgedPairs:
    places = np.flatnonzero(kept)
    if not len(places):
        raise InputError(
            f"no judgment of split {split!r} names an item of the catalogue: give all of {SPLITS}"
        )
    return JudgedPairs.from_texts(
        [queries[place] for place in places], rows[places], grades[places]
    )
