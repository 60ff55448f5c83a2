"""Temporal splits of purchase logs for next-basket recommendation, and the items of the logs.

A log is split at a date: histories end there, and what users buy until a second date is the ground
truth. Legend: U users, E events, I items."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from recsys.arrays import Histories, utc_days
from recsys.datasets.repeats import deduplicate
from recsys.datasets.validate import check_items
from recsys.encoders.text import item_texts
from recsys.interfaces import DatasetAdapter, Encoder
from recsys.pipeline import sources
from recsys.retrieval.behaviour.sparse import is_bought
from recsys.retrieval.similar import content_neighbours
from recsys.types import PURCHASE, Floats, Ints

#: Content neighbours of an item.
CONTENT = 50
#: Histories end at the first date, the truth at the second. Validation is as long as the test and
#: ends where it begins.
TEST = {
    "completejourney": (datetime(2017, 12, 25, tzinfo=UTC), datetime(2018, 1, 2, tzinfo=UTC)),
    "uci_online_retail": (datetime(2011, 11, 10, tzinfo=UTC), datetime(2011, 12, 10, tzinfo=UTC)),
}

#: Offsets [U + 1] and distinct item rows, as `metrics` takes them.
Truth = tuple[NDArray[np.int64], NDArray[np.int32]]


@dataclass(frozen=True, kw_only=True)
class BasketSplit:
    """The histories of all users before a date; of the `users` who bought on both sides of it, the
    histories and the truths: all that they bought after it, and what was new to them."""

    histories: Histories
    users: Histories
    all: Truth
    new: Truth
    item_count: int
    now_days: float


def usable_purchases(adapter: DatasetAdapter) -> pa.Table:
    """Purchases of a known user and a positive quantity, as user_id, item_id, time."""
    tables = []
    for chunk in adapter.event_chunks():
        raw = adapter.read_events(chunk)
        usable = pc.and_(pc.equal(raw["type"], "purchase"), pc.is_valid(raw["user_id"]))
        usable = pc.and_(usable, pc.greater(raw["quantity"], 0))
        tables.append(raw.filter(usable).select(["user_id", "item_id", "time"]))
    return pa.concat_tables(tables)


def split_at(log: pa.Table, start: datetime, stop: datetime) -> BasketSplit:
    """Histories before `start`, truth in start <= time < stop."""
    users, items = (_numbers(log[name]) for name in ("user_id", "item_id"))
    days = np.asarray(log["time"].cast(pa.int64())) / 86_400e6
    past, future = days < utc_days(start), (days >= utc_days(start)) & (days < utc_days(stop))
    both = np.intersect1d(users[past], users[future])
    past_of_both, future_of_both = past & np.isin(users, both), future & np.isin(users, both)
    histories = _histories(users[past_of_both], items[past_of_both], days[past_of_both])
    rows = np.searchsorted(both, users[future_of_both])
    bought_2E = np.unique(np.stack([rows, items[future_of_both]]), axis=1)
    new_2E = bought_2E[:, ~is_bought(histories, *bought_2E)]
    return BasketSplit(
        histories=_histories(users[past], items[past], days[past]),
        users=histories,
        all=_truth(bought_2E, len(both)),
        new=_truth(new_2E, len(both)),
        item_count=int(items.max()) + 1,
        now_days=utc_days(start),
    )


@dataclass(frozen=True)
class RetailItems:
    """The log's items in the order of `BasketSplit`'s rows: their table, encoded texts, categories
    and content neighbours."""

    items: pa.Table
    vectors_ID: Floats
    categories_I: Ints
    content: sources.Neighbours


def retail_items(adapter: DatasetAdapter, log: pa.Table, encoder: Encoder) -> RetailItems:
    """Each distinct text is encoded once; an item without one has zeros."""
    ids = pc.unique(log["item_id"]).sort()
    raw = pa.concat_tables(
        [check_items(adapter.read_items(c), c.path, c.start).good for c in adapter.item_chunks()]
    )
    listed = deduplicate(raw, "item_id").good
    rows = pc.index_in(ids, value_set=listed["item_id"].combine_chunks())
    items = listed.take(rows).set_column(listed.schema.get_field_index("item_id"), "item_id", ids)
    texts = pa.array(item_texts(items)).dictionary_encode()
    texts_I, distinct = np.asarray(texts.indices).astype(np.int64), texts.dictionary.to_pylist()
    vectors_TD = encoder.encode_items(distinct)
    vectors_TD[[not text for text in distinct]] = 0
    vectors_ID, allowed_I = vectors_TD[texts_I], np.ones(len(texts_I), bool)
    near = content_neighbours(
        items, texts_I, vectors_ID, range(len(texts_I)), CONTENT, allowed_I=allowed_I
    )
    return RetailItems(
        items, vectors_ID, sources.category_codes(items), (near.rows_BN, near.scores_BN)
    )


def _numbers(ids: pa.ChunkedArray) -> NDArray[np.int64]:
    """0, 1, 2 ... for each distinct id, in the ids' order."""
    return np.asarray(pc.rank(ids, tiebreaker="dense")).astype(np.int64) - 1


def _histories(users_E: Ints, items_E: Ints, days_E: NDArray[np.float64]) -> Histories:
    order = np.lexsort((items_E, days_E, users_E))
    counts = np.unique(users_E, return_counts=True)[1]
    types_E = np.full(len(order), PURCHASE, np.int8)
    offsets = np.concatenate([[0], np.cumsum(counts)])
    return Histories(
        offsets=offsets, items=items_E[order].astype(np.int32), types=types_E, days=days_E[order]
    )


def _truth(pairs_2E: Ints, users: int) -> Truth:
    counts = np.bincount(pairs_2E[0], minlength=users)
    return np.concatenate([[0], np.cumsum(counts)]), pairs_2E[1].astype(np.int32)
