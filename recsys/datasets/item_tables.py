"""A table of items in a file of any of three formats and anybody's column names, as the columns of
`tables.ITEMS_IN`."""

from __future__ import annotations

import csv
import gzip
import io
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from recsys.datasets import casts
from recsys.datasets.times import to_time
from recsys.errors import InputError, NotFoundError
from recsys.tables import ITEMS_IN

#: Column names of other tables for the canonical ones. Where a table has several of them, the first
#: with a value counts.
ALIASES = {
    "item_id": ("item_id", "asin", "parent_asin", "id", "product_id", "sku"),
    "title": ("title", "llm_text_id", "text", "name", "product_name"),
    "description": ("description", "descriptions"),
    "category": ("category", "categories", "main_category"),
    "attributes": ("attributes", "attribute_ids"),
    "image": ("image", "image_url"),
}
FILE_NAMES = [
    f"items{suffix}{gz}" for suffix in (".parquet", ".csv", ".jsonl") for gz in ("", ".gz")
]


def find_item_table(folder: Path) -> Path:
    """The first of FILE_NAMES in the folder; NotFoundError where it has none."""
    paths = [folder / name for name in FILE_NAMES if (folder / name).is_file()]
    if not paths:
        raise NotFoundError(
            f"{folder} has no table of items: put one of {', '.join(FILE_NAMES)} there"
        )
    return paths[0]


def read_item_table(path: Path) -> pa.Table:
    """The columns of ITEMS_IN, null where the table has none."""
    return _canonical(_read_table(path), path)


def read_text(path: Path) -> str:
    """The file's text, decompressed; InputError where it is not UTF-8."""
    try:
        return _bytes(path).decode("utf-8-sig")
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise InputError(
            f"{path} cannot be read as UTF-8 text ({error}): write it again"
        ) from error


def _bytes(path: Path) -> bytes:
    content = path.read_bytes()
    return gzip.decompress(content) if path.suffix == ".gz" else content


def _read_table(path: Path) -> pa.Table:
    kind = path.name.removesuffix(".gz").rsplit(".", 1)[1]
    if kind == "csv":
        return _csv(path)
    try:
        if kind == "parquet":
            return pq.read_table(io.BytesIO(_bytes(path)))
        rows = [json.loads(line) for line in read_text(path).split("\n") if line.strip()]
        names = dict.fromkeys(name for row in rows for name in row)
        return pa.table({name: [row.get(name) for row in rows] for name in names})
    except (OSError, EOFError, ValueError, TypeError, AttributeError, pa.ArrowException) as error:
        raise InputError(f"{path} cannot be read as {kind} ({error}): write it again") from error


def _csv(path: Path) -> pa.Table:
    """All columns as strings: an id of 007 stays one."""
    try:
        rows = [
            row for row in csv.reader(io.StringIO(read_text(path), newline=""), strict=True) if row
        ]
    except csv.Error as error:
        raise InputError(f"{path} cannot be read as csv ({error}): write it again") from error
    if not rows:
        raise InputError(f"{path} is empty: give a line of column names, then a line an item")
    names, width = rows[0], len(rows[0])
    if odd := [at for at, row in enumerate(rows) if len(row) != width]:
        raise InputError(
            f"row {odd[0]} of {path} has {len(rows[odd[0]])} values for {width} columns: "
            "quote the commas"
        )
    return pa.table(
        {
            name: pa.array([row[at] for row in rows[1:]], pa.string())
            for at, name in enumerate(names)
        }
    )


def _canonical(raw: pa.Table, path: Path) -> pa.Table:
    if not raw.num_columns:
        raise InputError(f"{path} has no columns: give at least item_id and title")
    columns = {}
    for field in ITEMS_IN:
        aliases = ALIASES.get(field.name, (field.name,))
        names = [name for name in aliases if name in raw.column_names]
        if field.name == "item_id":
            names = names[:1] or raw.column_names[:1]
        columns[field.name] = _coalesce([raw[name] for name in names], field.type, raw.num_rows)
    nullable = pa.schema([pa.field(field.name, field.type) for field in ITEMS_IN])
    return pa.table(columns, schema=nullable)


def _coalesce(columns: list[pa.ChunkedArray], type: pa.DataType, rows: int) -> pa.Array:
    """Of each row the first value that is not null; an empty text counts as null."""
    if pa.types.is_string(type):
        texts = [
            pc.if_else(pc.equal(text, ""), pa.scalar(None, pa.string()), text)
            for text in map(_strings, columns)
        ]
        return pc.coalesce(*texts) if texts else pa.nulls(rows, type)
    to_type = {pa.float64(): casts.to_float, pa.bool_(): casts.to_flag}.get(type, to_time)
    return (
        to_type(casts.to_array(casts.decode_layout(columns[0])))
        if columns
        else pa.nulls(rows, type)
    )


def _strings(column: pa.ChunkedArray) -> pa.Array:
    """Trimmed texts; a list is its values, joined by a comma."""
    array = casts.to_array(casts.decode_layout(column))
    if not casts.is_text(array.type):
        values = array.to_pylist()
        joined = [
            ", ".join(map(str, value)) if isinstance(value, list) else value for value in values
        ]
        array = pa.array([None if value is None else str(value) for value in joined], pa.string())
    return casts.trim(array)
