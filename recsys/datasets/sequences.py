"""Histories without dates: a text file of lines `user item item ...`, oldest first, and a table of
the items.

The file is user_sequences.txt or the only *.txt of the folder, the table items.csv, items.parquet
or items.jsonl; each may end in .gz."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys.arrays import Histories
from recsys.datasets.casts import to_array
from recsys.datasets.item_tables import find_item_table, read_item_table, read_text
from recsys.errors import InputError, NotFoundError
from recsys.tables import ITEMS_IN
from recsys.types import PURCHASE

DATASETS = ("amazon2014_beauty", "amazon2014_sports")
#: A history without dates has one event every 86 seconds, so that all of it is one day's basket.
SPACING_DAYS = 0.001


@dataclass(frozen=True, kw_only=True)
class HistoryDataset:
    """Row i of `items` (columns of `tables.ITEMS_IN`, sorted by id) is item i of `histories`, whose
    user b is `user_ids[b]`. `counts` are of rows, and of irregularities by kind, as
    `read_histories` lists them."""

    name: str
    items: pa.Table
    user_ids: tuple[str, ...]
    histories: Histories
    counts: dict[str, int]


def read_histories(folder: str | Path) -> HistoryDataset:
    """A folder as a `HistoryDataset`; every event is a purchase.

    Days: an event's position in its history times SPACING_DAYS, or less where that would not fit
    into one day. So a whole history is one basket to what counts baskets, in its order, and no
    event has the time of another. The lines have no other times: items of one day stay in the order
    they were written in (`histories.shuffle_ties`).

    Irregularities are counted, and kept where they can be used: `unlisted_items` of histories that
    the table lacks are items without text; `items_without_events` stay in the catalogue;
    `repeated_events` (an item again in one history) and `histories_of_one` stay; `repeated_users`
    on several lines are one user, later lines later; `repeated_items` of the table count as first
    listed. Left out are `empty_lines`, `users_without_items`, `items_without_id`.

    NotFoundError for a folder or file that does not exist; InputError for files that cannot be
    read, lines that hold no item, and a table without any item of the histories."""
    folder = Path(folder)
    if not folder.is_dir():
        raise NotFoundError(
            f"there is no folder at {folder}: give one with user_sequences.txt and items.csv"
        )
    lines_path, table_path = _find_sequences(folder), find_item_table(folder)
    users, events, counts = _parse_lines(lines_path)
    listed = read_item_table(table_path)
    items, rows_E = _catalogue(listed, events, counts, table_path)
    user_ids, histories = _histories(users, [*map(len, events)], rows_E, counts)
    counts |= {"users": len(user_ids), "items": items.num_rows, "events": len(rows_E)}
    counts["items_without_events"] = items.num_rows - len(np.unique(rows_E))
    return HistoryDataset(
        name=folder.name, items=items, user_ids=user_ids, histories=histories, counts=counts
    )


def _find_sequences(folder: Path) -> Path:
    for name in ("user_sequences.txt", "user_sequences.txt.gz"):
        if (folder / name).is_file():
            return folder / name
    paths = sorted([*folder.glob("*.txt"), *folder.glob("*.txt.gz")])
    if not paths:
        raise NotFoundError(
            f"{folder} has no *.txt: "
            "put user_sequences.txt there, a line 'user item item ...' a user"
        )
    if len(paths) > 1:
        names = ", ".join(path.name for path in paths)
        raise InputError(f"{folder} has {names}: name the one with histories user_sequences.txt")
    return paths[0]


def _parse_lines(path: Path) -> tuple[list[str], list[list[str]], dict[str, int]]:
    """Users and their items, a line each, and counts of what was left out."""
    lines = [line.split() for line in read_text(path).splitlines()]
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


def _catalogue(
    listed: pa.Table, events: list[list[str]], counts: dict[str, int], path: Path
) -> tuple[pa.Table, np.ndarray]:
    """All items, sorted by id, and the row of each event's."""
    identified = listed.filter(pc.is_valid(listed["item_id"]))
    first = np.unique(
        np.array(identified["item_id"].to_pylist(), object).astype(str), return_index=True
    )[1]
    distinct = identified.take(pa.array(first)).combine_chunks()
    flat = pa.array([item for history in events for item in history], pa.string())
    unlisted = pc.unique(flat).filter(
        pc.invert(pc.is_in(pc.unique(flat), value_set=_ids(distinct)))
    )
    if len(unlisted) == len(pc.unique(flat)):
        raise InputError(
            f"{path} has no item of the histories, not {flat[0].as_py()!r}: "
            "name their column item_id"
        )
    without_text = pa.table(
        {"item_id": unlisted, **{name: pa.nulls(len(unlisted)) for name in ITEMS_IN.names[1:]}}
    )
    items = (
        pa.concat_tables([distinct, without_text.cast(distinct.schema)])
        .sort_by("item_id")
        .cast(ITEMS_IN)
    )
    counts |= {
        "items_without_id": listed.num_rows - identified.num_rows,
        "unlisted_items": len(unlisted),
    }
    counts["repeated_items"] = identified.num_rows - distinct.num_rows
    return items, np.asarray(pc.index_in(flat, value_set=_ids(items))).astype(np.int32)


def _ids(items: pa.Table) -> pa.Array:
    return to_array(items["item_id"])


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
    positions_E = np.arange(len(rows_E)) - np.repeat(offsets[:-1], sizes)
    days_E = positions_E * np.repeat(np.minimum(SPACING_DAYS, 0.999 / sizes), sizes)
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
