"""Histories without dates: a text file of lines `user item item ...`, oldest first, and a table of
the items.

The file is user_sequences.txt or the only *.txt of the folder, the table items.csv, items.parquet
or items.jsonl; each may end in .gz."""

from __future__ import annotations

import csv
import gzip
import io
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from recsys.datasets import casts
from recsys.errors import InputError, NotFoundError
from recsys.tables import ITEMS_IN
from recsys.types import PURCHASE, Histories

DATASETS = ("amazon2014_beauty", "amazon2014_sports")
#: A history without dates has one event every 86 seconds, so that all of it is one day's basket.
SPACING_DAYS = 0.001

#: Names that other tables have for our columns. Of several that are there, the first with a value
#: counts.
ALIASES = {
    "item_id": ("item_id", "asin", "parent_asin", "id", "product_id", "sku"),
    "title": ("title", "llm_text_id", "text", "name", "product_name"),
    "description": ("description", "descriptions"),
    "category": ("category", "categories", "main_category"),
    "attributes": ("attributes", "attribute_ids"),
    "image": ("image", "image_url"),
}
_TABLES = [
    f"items{suffix}{packed}" for suffix in (".parquet", ".csv", ".jsonl") for packed in ("", ".gz")
]


@dataclass(frozen=True)
class HistoryDataset:
    """Row i of `items` (columns of `tables.ITEMS_IN`, sorted by id) is item i of `histories`, whose
    user b is `user_ids[b]`. `counts` says what was found, and what of it was odd; its keys are told
    by `read_histories`."""

    name: str
    items: pa.Table
    user_ids: tuple[str, ...]
    histories: Histories
    counts: dict[str, int]


def read_histories(folder: str | Path) -> HistoryDataset:
    """A folder as a `HistoryDataset`; every event is a purchase.

    Days: an event's place in its history times SPACING_DAYS, or less where that would not fit into
    one day. So a whole history is one basket to what counts baskets, in its order, and no event
    stands at the instant of another. The lines have no other times: items of one day stay in the
    order they were written in (`histories.ties_shuffled`).

    What is odd is kept where it can be used, and counted: `unlisted_items` of histories that the
    table misses are items without text; `items_without_events` stay in the catalogue;
    `repeated_events` (an item again in one history) and `histories_of_one` stay; `repeated_users`
    on several lines are one user, later lines later; `repeated_items` of the table count as first
    listed. Left out are `empty_lines`, `users_without_items`, `items_without_id`.

    NotFoundError for a folder or file that is not there; InputError for files that cannot be read,
    lines that hold no item, and a table that knows no item of any history."""
    folder = Path(folder)
    if not folder.is_dir():
        raise NotFoundError(
            f"there is no folder at {folder}: give one with user_sequences.txt and items.csv"
        )
    lines_path, table_path = _sequences_file(folder), _items_file(folder)
    users, events, counts = _lines(lines_path)
    listed = _canonical(_table(table_path), table_path)
    items, rows_E = _catalogue(listed, events, counts, table_path)
    user_ids, histories = _histories(users, [*map(len, events)], rows_E, counts)
    counts |= {"users": len(user_ids), "items": items.num_rows, "events": len(rows_E)}
    counts["items_without_events"] = items.num_rows - len(np.unique(rows_E))
    return HistoryDataset(folder.name, items, user_ids, histories, counts)


def _sequences_file(folder: Path) -> Path:
    for name in ("user_sequences.txt", "user_sequences.txt.gz"):
        if (folder / name).is_file():
            return folder / name
    found = sorted([*folder.glob("*.txt"), *folder.glob("*.txt.gz")])
    if not found:
        raise NotFoundError(
            f"{folder} has no *.txt: put user_sequences.txt there, a line 'user item item ...' a user"
        )
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        raise InputError(f"{folder} has {names}: name the one with histories user_sequences.txt")
    return found[0]


def _items_file(folder: Path) -> Path:
    found = [folder / name for name in _TABLES if (folder / name).is_file()]
    if not found:
        raise NotFoundError(
            f"{folder} has no table of items: put one of {', '.join(_TABLES)} there"
        )
    return found[0]


def _text(path: Path) -> str:
    """The file's text, unpacked."""
    try:
        packed = path.read_bytes()
        return (gzip.decompress(packed) if path.suffix == ".gz" else packed).decode("utf-8-sig")
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise InputError(
            f"{path} cannot be read as UTF-8 text ({error}): write it again"
        ) from error


def _lines(path: Path) -> tuple[list[str], list[list[str]], dict[str, int]]:
    """Users and their items, a line each, and counts of what was left out."""
    lines = [line.split() for line in _text(path).splitlines()]
    users, events = (
        [line[0] for line in lines if len(line) > 1],
        [line[1:] for line in lines if len(line) > 1],
    )
    if not users:
        raise InputError(
            f"{path} has no line with a user and an item: write 'user item item ...', oldest first"
        )
    lengths = [len(line) for line in lines]
    return users, events, {"empty_lines": lengths.count(0), "users_without_items": lengths.count(1)}


def _table(path: Path) -> pa.Table:
    kind = path.name.removesuffix(".gz").rsplit(".", 1)[1]
    if kind == "csv":
        return _csv(path)
    try:
        if kind == "parquet":
            packed = path.read_bytes()
            return pq.read_table(
                io.BytesIO(gzip.decompress(packed) if path.suffix == ".gz" else packed)
            )
        rows = [json.loads(line) for line in _text(path).split("\n") if line.strip()]
        names = dict.fromkeys(name for row in rows for name in row)
        return pa.table({name: [row.get(name) for row in rows] for name in names})
    except (OSError, EOFError, ValueError, TypeError, AttributeError, pa.ArrowException) as error:
        raise InputError(f"{path} cannot be read as {kind} ({error}): write it again") from error


def _csv(path: Path) -> pa.Table:
    """All columns as strings: an id of 007 stays one."""
    try:
        rows = [row for row in csv.reader(io.StringIO(_text(path), newline=""), strict=True) if row]
    except csv.Error as error:
        raise InputError(f"{path} cannot be read as csv ({error}): write it again") from error
    if not rows:
        raise InputError(f"{path} is empty: give a line of column names, then a line an item")
    names, width = rows[0], len(rows[0])
    if odd := [place for place, row in enumerate(rows) if len(row) != width]:
        raise InputError(
            f"row {odd[0]} of {path} has {len(rows[odd[0]])} values for {width} columns: quote the commas"
        )
    return pa.table(
        {
            name: pa.array([row[place] for row in rows[1:]], pa.string())
            for place, name in enumerate(names)
        }
    )


def _canonical(raw: pa.Table, path: Path) -> pa.Table:
    """The columns of ITEMS_IN, as the table has them, null where it has none."""
    if not raw.num_columns:
        raise InputError(f"{path} has no columns: give at least item_id and title")
    columns = {}
    for field in ITEMS_IN:
        there = [
            name for name in ALIASES.get(field.name, (field.name,)) if name in raw.column_names
        ]
        if field.name == "item_id":
            there = there[:1] or raw.column_names[:1]
        columns[field.name] = _cast([raw[name] for name in there], field.type, raw.num_rows)
    return pa.table(
        columns, schema=pa.schema([pa.field(field.name, field.type) for field in ITEMS_IN])
    )


def _cast(columns: list[pa.ChunkedArray], type: pa.DataType, rows: int) -> pa.Array:
    """Row by row the first value there is; an empty text is none."""
    if pa.types.is_string(type):
        texts = [
            pc.if_else(pc.equal(text, ""), pa.scalar(None, pa.string()), text)
            for text in map(_strings, columns)
        ]
        return pc.coalesce(*texts) if texts else pa.nulls(rows, type)
    to_type = {pa.float64(): casts.to_float, pa.bool_(): casts.to_flag}.get(type, casts.to_time)
    return (
        to_type(casts.combine_chunks(casts.decode_layout(columns[0])))
        if columns
        else pa.nulls(rows, type)
    )


def _strings(column: pa.ChunkedArray) -> pa.Array:
    """Trimmed texts; a list is its values, joined by a comma."""
    array = casts.combine_chunks(casts.decode_layout(column))
    if not casts.is_text(array.type):
        values = array.to_pylist()
        joined = [
            ", ".join(map(str, value)) if isinstance(value, list) else value for value in values
        ]
        array = pa.array([None if value is None else str(value) for value in joined], pa.string())
    return casts.trim(array)


def _catalogue(
    listed: pa.Table, events: list[list[str]], counts: dict[str, int], path: Path
) -> tuple[pa.Table, np.ndarray]:
    """All items, sorted by id, and the row of each event's."""
    named = listed.filter(pc.is_valid(listed["item_id"]))
    first = np.unique(
        np.array(named["item_id"].to_pylist(), object).astype(str), return_index=True
    )[1]
    known = named.take(pa.array(first)).combine_chunks()
    flat = pa.array([item for history in events for item in history], pa.string())
    unlisted = pc.unique(flat).filter(pc.invert(pc.is_in(pc.unique(flat), value_set=_ids(known))))
    if len(unlisted) == len(pc.unique(flat)):
        raise InputError(
            f"{path} knows no item of the histories, not {flat[0].as_py()!r}: name their column item_id"
        )
    bare = pa.table(
        {"item_id": unlisted, **{name: pa.nulls(len(unlisted)) for name in ITEMS_IN.names[1:]}}
    )
    items = pa.concat_tables([known, bare.cast(known.schema)]).sort_by("item_id").cast(ITEMS_IN)
    counts |= {
        "items_without_id": listed.num_rows - named.num_rows,
        "unlisted_items": len(unlisted),
    }
    counts["repeated_items"] = named.num_rows - known.num_rows
    return items, np.asarray(pc.index_in(flat, value_set=_ids(items))).astype(np.int32)


def _ids(items: pa.Table) -> pa.Array:
    return casts.combine_chunks(items["item_id"])


def _histories(
    users: list[str], lengths: list[int], rows_E: np.ndarray, counts: dict[str, int]
) -> tuple[tuple[str, ...], Histories]:
    """Users as they first appear, and their events, one line after another."""
    numbers: dict[str, int] = {}
    owners_L = np.array([numbers.setdefault(user, len(numbers)) for user in users])
    owners_E = np.repeat(owners_L, lengths)
    order = np.argsort(owners_E, kind="stable")
    sizes = np.bincount(owners_E, minlength=len(numbers))
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    places_E = np.arange(len(rows_E)) - np.repeat(offsets[:-1], sizes)
    days_E = places_E * np.repeat(np.minimum(SPACING_DAYS, 0.999 / sizes), sizes)
    pairs = owners_E * (1 + rows_E.max(initial=0)) + rows_E
    counts["repeated_users"] = len(users) - len(numbers)
    counts["repeated_events"] = len(pairs) - len(np.unique(pairs))
    counts["histories_of_one"] = int((sizes == 1).sum())
    return tuple(numbers), Histories(
        offsets=offsets,
        items=rows_E[order],
        types=np.full(len(rows_E), PURCHASE, np.int8),
        days=days_E,
    )
