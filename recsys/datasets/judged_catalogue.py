"""A catalogue with graded relevance judgments, as two Parquet files in a folder: what search is
trained and evaluated on.

    items.parquet       item_id, title, and any other column of `tables.ITEMS_IN`
    judgments.parquet   query, item_id, relevance (1 wrong .. 3 exactly right),
                        split (train, valid, test)

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
from recsys.types import Floats, Ints, Mask

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
    missing or of another type, relevance outside 1..3, and an empty split."""
    items = _with_all_columns(_table(folder / "items.parquet", ("item_id", "title")))
    judgments = _table(folder / "judgments.parquet", ("query", "item_id", "relevance"))
    queries = [text if isinstance(text, str) else "" for text in judgments["query"].to_pylist()]
    grades_P = _grades(judgments)
    ids = _cast_column(judgments, "item_id", pa.string())
    rows_P = np.asarray(pc.fill_null(pc.index_in(ids, items["item_id"]), -1))
    splits = (
        judgments["split"].to_pylist()
        if "split" in judgments.column_names
        else [_split_by_hash(text) for text in queries]
    )
    usable_P = _first_judgments(queries, rows_P) & (rows_P >= 0)
    usable_P &= np.array([bool(text.strip()) for text in queries], bool)
    pairs = {
        split: _pairs(queries, rows_P, grades_P, usable_P & np.equal(splits, split), split)
        for split in SPLITS
    }
    return JudgedCatalogue(folder.name, items, pairs, int((rows_P < 0).sum()))


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
        field.name: _cast_column(items, field.name, field.type)
        if field.name in items.column_names
        else pa.nulls(items.num_rows, field.type)
        for field in ITEMS_IN
    }
    return pa.table(columns)


def _cast_column(table: pa.Table, column: str, type: pa.DataType) -> pa.ChunkedArray:
    try:
        return table[column].cast(type)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise InputError(
            f"column {column!r} is of {table[column].type}, not {type}: {error}"
        ) from error


def _grades(judgments: pa.Table) -> Floats:
    """Relevance 1..3 as 0..1."""
    values = np.asarray(_cast_column(judgments, "relevance", pa.float32()))
    if not (np.isfinite(values).all() and values.min() >= 1 and values.max() <= 3):
        raise InputError(
            f"relevance runs from {values.min():g} to {values.max():g}: give 1 (wrong) to 3 (right)"
        )
    return ((values - 1) / 2).astype(np.float32)


def _split_by_hash(query: str) -> str:
    digest = blake2b(query.encode("utf-8", "replace"), digest_size=8).digest()
    share = int.from_bytes(digest, "big") / 2**64
    return SPLITS[int(np.searchsorted([0.6, 0.75], share, side="right"))]


def _first_judgments(queries: list[str], rows_P: Ints) -> Mask:
    """[P]: whether the pair occurs for the first time."""
    first: dict[tuple[str, int], int] = {}
    pairs = zip(queries, rows_P.tolist(), strict=True)
    return np.array([first.setdefault(pair, at) == at for at, pair in enumerate(pairs)])


def _pairs(
    queries: list[str], rows_P: Ints, grades_P: Floats, chosen_P: Mask, split: str
) -> JudgedPairs:
    chosen = np.flatnonzero(chosen_P)
    if not len(chosen):
        raise InputError(
            f"no judgment of split {split!r} names an item of the catalogue: give all of {SPLITS}"
        )
    texts = [queries[at] for at in chosen]
    return JudgedPairs.from_texts(texts, rows_P[chosen], grades_P[chosen])
