"""The candidate sources of recommendations, by name, and the data that a night fits for them.

Night, day, the held-out check and the evaluations make their sources here from one `SourceData`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from recsys.arrays import Histories
from recsys.errors import InputError
from recsys.interfaces import Retriever
from recsys.metrics import tail
from recsys.release import files
from recsys.retrieval.behaviour.cooccurrence import CoOccurrenceRetriever, co_occurrence_neighbours
from recsys.retrieval.behaviour.long_tail import LongTailRetriever
from recsys.retrieval.behaviour.new_items import NewItemRetriever, first_days, new_item_mask
from recsys.retrieval.behaviour.popularity import (
    CategoryPopularityRetriever,
    PopularityRetriever,
    decayed_popularity,
)
from recsys.retrieval.behaviour.repurchase import (
    RepurchaseIntervals,
    RepurchaseRetriever,
    repurchase_intervals,
)
from recsys.retrieval.behaviour.successors import (
    SuccessorRetriever,
    cold_item_proxies,
    successor_neighbours,
)
from recsys.retrieval.behaviour.user_knn import UserKnnRetriever, most_recent_users
from recsys.retrieval.vectors.exact import ExactRetriever
from recsys.types import EVENT_TYPES, NEXT_CATEGORY, Floats, Ints, Rows

NEIGHBOURS = 100
ITEMS_PER_BLOCK = 8_192

Neighbours = tuple[Rows, Floats]


@dataclass(frozen=True)
class ItemStats:
    """Statistics of each item over the event log: repurchase intervals, the day it was first seen
    (first_days_I), and its events by type (touches_TI, T as in EVENT_TYPES)."""

    repurchase_intervals: RepurchaseIntervals
    first_days_I: NDArray[np.float64]
    touches_TI: NDArray[np.int64]

    @cached_property
    def counts_I(self) -> NDArray[np.int64]:
        """[I]: events of all types."""
        return np.asarray(self.touches_TI.sum(axis=0))


@dataclass(frozen=True, kw_only=True)
class SourceData:
    """Everything that the sources are built from, as of `now_days`.

    `items_ID` are the items in the user vectors' space; `discovery` may be a faiss index over them.
    `categories_I` numbers categories from 0, -1 for none. `follows`, the most expensive to fit, is
    None where no ranker weighs it."""

    items_ID: Floats
    now_days: float
    popularity_I: Floats
    co_occurrence: Neighbours
    content: Neighbours
    item_stats: ItemStats
    categories_I: Ints
    peers: Histories
    follows: Neighbours | None = None
    discovery: Retriever | None = None


def read_source_data(
    names: Sequence[str],
    array: Callable[[files.ReleaseFile], NDArray[Any]],
    *,
    items_ID: Floats,
    now_days: float,
    categories_I: Ints,
    peers: Histories,
    discovery: Retriever | None = None,
) -> SourceData:
    """For the sources `names`, from a release's arrays."""
    intervals = RepurchaseIntervals(array(files.INTERVALS), array(files.REPEATS))
    return SourceData(
        items_ID=items_ID,
        now_days=now_days,
        popularity_I=np.asarray(array(files.POPULARITY)),
        co_occurrence=(array(files.CO_OCCURRENCE_ROWS), array(files.CO_OCCURRENCE_SCORES)),
        content=(array(files.CONTENT_ROWS), array(files.CONTENT_SCORES)),
        item_stats=ItemStats(intervals, array(files.FIRST_DAYS), array(files.TOUCHES)),
        categories_I=categories_I,
        peers=peers,
        follows=(array(files.FOLLOWS_ROWS), array(files.FOLLOWS_SCORES))
        if "follows" in names
        else None,
        discovery=discovery,
    )


def category_codes(items: pa.Table) -> Ints:
    """[I]: the number of each item's first category, -1 where it has none."""
    first = pc.replace_substring_regex(items["category"], f"(?s){NEXT_CATEGORY}.*", "")
    labels = pc.utf8_trim_whitespace(pc.utf8_lower(first))
    labels = pc.if_else(pc.equal(labels, ""), pa.scalar(None, pa.string()), labels)
    coded = pa.chunked_array(labels).combine_chunks().dictionary_encode()
    return np.asarray(pc.fill_null(coded.indices, -1)).astype(np.int32)


def fit_item_stats(
    parts: Callable[[], Iterable[Histories]],
    item_count: int,
    added_days_I: NDArray[np.float64] | None = None,
    *,
    categories_I: Ints | None = None,
    now_days: float | None = None,
    guests: Callable[[], Iterable[Histories]] = tuple,
) -> ItemStats:
    """From a log in parts that are disjoint in users; each call of `parts` reads it once more.
    What `guests` did, of whom nobody knows whether they came again, touches items."""
    touches_TI = np.zeros((len(EVENT_TYPES), item_count), np.int64)
    for part in chain(parts(), guests()):
        valid_E = part.items >= 0
        cells_E = part.types[valid_E].astype(np.int64) * item_count + part.items[valid_E]
        touches_TI += np.bincount(cells_E, minlength=touches_TI.size).reshape(touches_TI.shape)
    return ItemStats(
        repurchase_intervals(parts(), item_count, categories_I, now_days),
        first_days(chain(parts(), guests()), item_count, added_days_I),
        touches_TI,
    )


def fit_source_data(
    log: Histories,
    now_days: float,
    *,
    items_ID: Floats,
    content: Neighbours,
    categories_I: Ints,
    added_days_I: NDArray[np.float64] | None = None,
    names: Sequence[str] = (),
) -> SourceData:
    """For the sources `names`, by default all, from one log in memory, as a night does it from
    shards."""
    count = len(items_ID)
    blocks = [
        range(low, min(low + ITEMS_PER_BLOCK, count)) for low in range(0, count, ITEMS_PER_BLOCK)
    ]
    co_occurrence = [
        co_occurrence_neighbours([log], block, count, NEIGHBOURS, now_days=now_days)
        for block in blocks
    ]
    stats = fit_item_stats(
        lambda: [log], count, added_days_I, categories_I=categories_I, now_days=now_days
    )
    follows = None
    if not names or "follows" in names:
        new = cold_item_proxies(*content, stats.counts_I)
        follows = _concatenate(
            [successor_neighbours([log], block, count, NEIGHBOURS, new) for block in blocks]
        )
    return SourceData(
        items_ID=items_ID,
        now_days=now_days,
        popularity_I=decayed_popularity([log], count, now_days),
        co_occurrence=_concatenate(co_occurrence),
        content=content,
        item_stats=stats,
        categories_I=categories_I,
        peers=most_recent_users([log])[0],
        follows=follows,
    )


def _require_follows(follows: Neighbours | None) -> Neighbours:
    if follows is None:
        raise InputError(
            "nothing follows anything yet: run a night with a ranker that weighs follows"
        )
    return follows


def _concatenate(blocks: Sequence[Neighbours]) -> Neighbours:
    rows, scores = zip(*blocks, strict=True)
    return np.concatenate(rows), np.concatenate(scores)


MAKERS: Mapping[str, Callable[[SourceData], Retriever]] = {
    "buy_again": lambda data: RepurchaseRetriever(
        data.popularity_I, data.item_stats.repurchase_intervals, data.now_days
    ),
    "co_occurrence": lambda data: CoOccurrenceRetriever(*data.co_occurrence),
    "follows": lambda data: SuccessorRetriever(*_require_follows(data.follows)),
    "content": lambda data: SuccessorRetriever(*data.content, source="content"),
    "discovery": lambda data: data.discovery or ExactRetriever("discovery", data.items_ID),
    "peers": lambda data: UserKnnRetriever(data.peers, len(data.items_ID), data.now_days),
    "popularity": lambda data: PopularityRetriever(data.popularity_I),
    "category_popularity": lambda data: CategoryPopularityRetriever(
        data.popularity_I, data.categories_I
    ),
    "arrivals": lambda data: NewItemRetriever(
        data.items_ID, data.popularity_I, new_item_mask(data.item_stats.first_days_I, data.now_days)
    ),
    # Items without any event are arrivals.
    "tail": lambda data: LongTailRetriever(
        data.items_ID, tail(data.item_stats.counts_I) & (data.item_stats.counts_I > 0)
    ),
}
#: Every source there is, in the order of a mixer that was trained on all.
SOURCES = tuple(MAKERS)


def make_sources(names: Sequence[str], data: SourceData) -> tuple[Retriever, ...]:
    """The sources that a ranker has features for, in its order. Raises InputError for a feature
    that no source gives."""
    if unknown := [name for name in names if name not in MAKERS]:
        raise InputError(
            f"the ranker wants {', '.join(unknown)}: the sources are {', '.join(MAKERS)}"
        )
    return tuple(MAKERS[name](data) for name in names)
