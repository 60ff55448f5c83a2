"""Raw chunks to canonical shards: read, validate, scatter by key, gather, deduplicate, sort.

The scatter is a shuffle through files: each chunk leaves one Arrow file whose record batch p holds
partition p, and partition p is gathered by reading batch p of every file. Order is decided by keys,
never by who finished first."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from recsys.arrays import Histories, utc_days
from recsys.attributes.cells import CARRIED, PAIRS
from recsys.batch.catalogue_changes import fold_changes
from recsys.batch.input_checks import titled_rows
from recsys.batch.log_copy import LIVE
from recsys.batch.picture_reading import count_references
from recsys.batch.plan import NightRun, ShardResult, id_parts, one_batch, scattered
from recsys.datasets.image_cells import stored_pictures
from recsys.datasets.repeats import deduplicate
from recsys.datasets.row_sources import ROW_SOURCE, add_row_sources
from recsys.datasets.validate import (
    SOURCE,
    ValidationResult,
    check_events,
    check_items,
)
from recsys.encoders.text import item_texts, text_hashes
from recsys.errors import InputError
from recsys.events.bots import bot_mask
from recsys.events.histories import build_histories, guest_histories
from recsys.events.returns import take_back
from recsys.pictures.store import PictureStore
from recsys.release import files
from recsys.release.arrow import IdMap, histories_of
from recsys.retrieval.behaviour.popularity import decayed_popularity
from recsys.tables import EVENTS, ITEMS, ITEMS_IN, QUARANTINE

#: Events of guests: `guest_parts`.
GUESTS = "guests"
#: A user with more events than this is counted by their newest: a bot, or a shop's own till.
MAX_EVENTS = 20_000

#: A distinct text and its hash; scattered by hash so that equal texts meet, whichever items have
#: them.
TEXTS = pa.schema(
    [
        pa.field("text_hash", pa.binary(16), nullable=False),
        pa.field("text", pa.string(), nullable=False),
    ]
)

USERS = pa.schema(
    [
        pa.field("user_id", pa.string(), nullable=False),
        ("items", pa.list_(pa.int32())),
        ("types", pa.list_(pa.int8())),
        ("days", pa.list_(pa.float64())),
        ("prices", pa.list_(pa.float32())),
    ]
)


def read_items(night: NightRun, shard: int) -> ShardResult:
    """A chunk of the catalogue, validated, its good rows scattered by item."""
    chunk = night.plan.item_chunks[shard]
    raw = night.dataset().read_items(chunk)
    if night.setup.pictures:
        store = PictureStore(night.setup.home, night.setup.pictures.cache_bytes)
        for picture in stored_pictures(raw):
            store.put(picture)
    choices = night.setup.catalogue
    checked = check_items(raw, chunk.path, chunk.start, choices, night.plan.now)
    written = night.plan.written(chunk)
    good, undated = add_row_sources(checked.good, raw, chunk.start, choices, written)
    result = _scatter(night, "items", shard, replace(checked, good=good), good["item_id"])
    titled = titled_rows(good)
    counts = {"titled": titled, "untitled": good.num_rows - titled, "undated": undated}
    result.counts |= dict(checked.counts) | counts
    return result


def read_events(night: NightRun, shard: int) -> ShardResult:
    """A chunk of the event log, validated, its good rows scattered by user, those of guests by
    event."""
    chunk = night.plan.event_chunks[shard]
    raw = _read_live(night) if chunk.path == LIVE else night.dataset().read_events(chunk)
    checked = check_events(raw, chunk.path, chunk.start, night.plan.now, night.setup.catalogue)
    remaining = night.decisions.filter_events(checked)
    keys = pc.coalesce(remaining.good["user_id"], remaining.good["event_id"])
    result = _scatter(night, "events", shard, remaining, keys)
    result.counts |= checked.counts
    result.counts["forgotten"] = checked.good.num_rows - remaining.good.num_rows
    return result


def sort_items(night: NightRun, part: int) -> ShardResult:
    """The catalogue's shard `part` with its changes by day: sorted by id, with the hash of each
    text; and its distinct texts, scattered."""
    result = ShardResult()
    checked = deduplicate(night.gather("read/items", part, _sourced_items(night)), "item_id")
    folded = fold_changes(night, part, checked.good)
    result.counts |= folded.counts
    items = folded.items
    require_one_currency(items["currency"])
    if night.setup.pictures:
        result.counts["pictures"] = count_references(items)
    if CARRIED in items.column_names:
        pairs = items.select([CARRIED])
        night.write_table(result, CARRIED, part, [one_batch(pairs)], pairs.schema)
    texts = item_texts(items)
    hashes = text_hashes(texts)
    items = items.select(ITEMS_IN.names)
    items = items.append_column(ITEMS.field("text_hash"), hashes).cast(ITEMS)
    night.write_table(result, files.ITEMS, part, [one_batch(items)], ITEMS)
    distinct = pa.table([hashes, pa.array(texts, pa.string())], schema=TEXTS).group_by(
        "text_hash", use_threads=False
    )
    unique = distinct.aggregate([("text", "first")]).rename_columns(TEXTS.names).cast(TEXTS)
    batches = scattered(
        unique, hash_parts(unique["text_hash"], night.plan.text_parts), night.plan.text_parts
    )
    night.write_table(result, "texts", part, batches, TEXTS)
    return _with_quarantine(
        night, result, f"items-repeated-{part:05d}", items.num_rows, checked.quarantined
    )


def _sourced_items(night: NightRun) -> pa.Schema:
    """The columns of valid items before changes are folded in."""
    choices = night.setup.catalogue
    with_pairs = bool(choices.attributes) or choices.infer_attributes
    pairs = [pa.field(CARRIED, PAIRS)] if with_pairs else []
    return pa.schema([*ITEMS_IN, *SOURCE, *pairs, *ROW_SOURCE])


def require_one_currency(currencies: pa.ChunkedArray) -> None:
    """Raises InputError where there are several: files that each have one may have different
    ones."""
    codes = currencies.unique().drop_null().to_pylist()
    if len(codes) > 1:
        raise InputError(
            f"the catalogue has prices in {' and '.join(sorted(codes))}: choose one as "
            "catalogue.currency, and give the rates of the others as catalogue.rates"
        )


def sort_events(night: NightRun, part: int) -> ShardResult:
    """Histories of the users of shard `part`, oldest first, over item rows; and what they add to
    popularity."""
    result = ShardResult()
    checked = deduplicate(
        night.gather("read/events", part, pa.schema([*EVENTS, *SOURCE])), "event_id"
    )
    is_bot_E = bot_mask(checked.good, night.choices.bots)
    people = checked.good.filter(pa.array(~is_bot_E))
    bots = pc.count_distinct(checked.good["user_id"].filter(pa.array(is_bot_E))).as_py()
    events, returns = take_back(people)
    ids = IdMap(night.open_table(files.ITEMS)["item_id"])
    rows_E = ids.rows(events["item_id"])
    unknown = unknown_items(events.filter(pa.array(rows_E < 0)))
    is_guest_E = np.asarray(pc.is_null(events["user_id"]))
    users, past = build_histories(
        events.filter(pa.array(~is_guest_E)), rows_E[~is_guest_E], max_events=MAX_EVENTS
    )
    night.write_table(result, "histories", part, [one_batch(users_table(users, past))], USERS)
    guests = guest_histories(events.filter(pa.array(is_guest_E)), rows_E[is_guest_E])
    popularity_I = decayed_popularity([past, guests], len(ids), utc_days(night.plan.now))
    night.write_arrays(result, part, {files.POPULARITY: popularity_I})
    night.write_arrays(result, part, {"times": _span(events), GUESTS: _stacked(guests)})
    counts = {"users": len(past), "unknown_items": unknown.num_rows}
    counts |= {"bots": bots, "bot_events": int(is_bot_E.sum())}
    result.counts = counts | dict(checked.counts) | returns
    quarantined, rows = (checked.quarantined, unknown), people.num_rows
    return _with_quarantine(night, result, f"events-repeated-{part:05d}", rows, *quarantined)


def users_table(user_ids: pa.Array, histories: Histories) -> pa.Table:
    """Histories as a table, one row a user."""
    offsets = pa.array(histories.offsets.astype(np.int32))
    columns = (histories.items, histories.types, histories.days, histories.prices_E)
    lists = [pa.ListArray.from_arrays(offsets, pa.array(values)) for values in columns]
    return pa.table([user_ids, *lists], schema=USERS)


def unknown_items(events: pa.Table) -> pa.Table:
    """Events of items that the catalogue does not have, as quarantine rows. They do not count as
    bad input: shops delist items."""
    reasons = [
        f"item {item!r} is not in the catalogue: keep delisted items in it, out of stock"
        for item in events["item_id"].to_pylist()
    ]
    rows = events.num_rows
    return pa.table(
        [
            pa.array(["events"] * rows, pa.string()),
            pa.array(["after sorting"] * rows, pa.string()),
            pa.array(np.arange(rows)),
            pa.array(reasons, pa.string()),
            events["event_id"],
        ],
        schema=QUARANTINE,
    )


def hash_parts(hashes: pa.ChunkedArray, parts: int) -> NDArray[np.int64]:
    """A partition for each 16-byte hash, by its first eight bytes."""
    flat = hashes.combine_chunks()
    raw = np.frombuffer(flat.buffers()[1], np.uint64)[
        2 * flat.offset : 2 * (flat.offset + len(flat))
    ]
    return (raw[::2] % np.uint64(parts)).astype(np.int64)


def history_parts(night: NightRun) -> Iterator[tuple[pa.Table, Histories]]:
    """Every user shard's full histories, one at a time."""
    for part in range(night.plan.user_parts):
        users = night.read_part("histories", part)
        yield users, histories_of(users)


def guest_parts(night: NightRun) -> Iterator[Histories]:
    """Every shard's events of guests, each a history of its own, one shard at a time."""
    for part in range(night.plan.user_parts):
        items_E, types_E, days_E = night.read_array(GUESTS, part)
        yield Histories(
            offsets=np.arange(len(items_E) + 1),
            items=items_E.astype(np.int32),
            types=types_E.astype(np.int8),
            days=days_E,
        )


def _stacked(guests: Histories) -> NDArray[np.float64]:
    """[3, E]: item, type and day."""
    return np.stack([guests.items, guests.types, guests.days]).astype(np.float64)


def _scatter(
    night: NightRun, name: str, shard: int, checked: ValidationResult, keys: pa.ChunkedArray
) -> ShardResult:
    """By the partition of each row's key."""
    parts = {"items": night.plan.item_parts, "events": night.plan.user_parts}[name]
    result = ShardResult()
    good = checked.good.unify_dictionaries()
    batches = scattered(good, id_parts(keys, parts), parts)
    night.write_table(result, f"read/{name}", shard, batches, good.schema)
    rows = good.num_rows + checked.quarantined.num_rows
    result.counts["good"] = good.num_rows
    return _with_quarantine(night, result, f"{name}-{shard:05d}", rows, checked.quarantined)


def _with_quarantine(
    night: NightRun, result: ShardResult, name: str, rows: int, *quarantined: pa.Table
) -> ShardResult:
    night.write_quarantine(result, name, *quarantined)
    result.rows = rows
    result.counts["quarantined"] = sum(table.num_rows for table in quarantined)
    return result


def _read_live(night: NightRun) -> pa.Table:
    return pq.read_table(night.store.open(night.work_path(LIVE)))


def _span(events: pa.Table) -> NDArray[np.int64]:
    """First and last event time, microseconds since 1970; empty without events."""
    if not events.num_rows:
        return np.empty(0, np.int64)
    ends = pc.min_max(events["time"])
    return np.array([ends["min"].cast(pa.int64()).as_py(), ends["max"].cast(pa.int64()).as_py()])
