"""Labelled texts from one CSV, Parquet or JSONL file."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import csv, json

from recsys.errors import InputError, NotFoundError

_LABELS = ("label", "category")
_READERS = {
    ".csv": lambda path: csv.read_csv(
        path,
        parse_options=csv.ParseOptions(newlines_in_values=True),
        convert_options=csv.ConvertOptions(
            column_types=dict.fromkeys(("text", *_LABELS), pa.string()), strings_can_be_null=False
        ),
    ),
    ".jsonl": json.read_json,
    ".parquet": pq.read_table,
}


def read_labelled_texts(path: str | Path) -> tuple[list[str], list[str]]:
    """The texts and their labels, in the file's order: columns `text` and `label` or `category`,
    others ignored.

    A missing text or label is the empty string, which training refuses with its place. Raises
    NotFoundError for a file that does not exist, InputError for one that cannot be read or lacks a
    column."""
    path = Path(path)
    if not path.is_file():
        raise NotFoundError(
            f"there is no file at {path}: name a CSV, Parquet or JSONL file with texts and labels"
        )
    if path.suffix not in _READERS:
        raise InputError(
            f"{path} ends in {path.suffix!r}: give a file that ends in "
            f"{', '.join(sorted(_READERS))}"
        )
    try:
        table = _READERS[path.suffix](path)
    except pa.ArrowInvalid as error:
        raise InputError(f"{path} cannot be read: {error}".replace("\n", " ")) from error
    return _strings(table, path, "text"), _strings(table, path, *_LABELS)


def _strings(table: pa.Table, path: Path, *names: str) -> list[str]:
    """The first of these columns that the table has."""
    for name in names:
        if name in table.column_names:
            return [value or "" for value in table[name].cast(pa.string()).to_pylist()]
    raise InputError(
        f"{path} has columns {', '.join(table.column_names)}: it needs {' or '.join(names)}"
    )
