"""What a recommendation is made of: the sources by name, and what a night fits for them.

Night, day, the held-out check and the evaluations make their sources here, out of one `Fitted`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

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
from recsys.types import EVENT_TYPES, Floats, Histories, Ints, Rows

NEIGHBOURS = 100
ITEMS_PER_BLOCK = 8_192

Neighbours = tuple[Rows, Floats]


@dataclass(frozen=True)
class ItemStats:
    """What the log says of each item, [I]: when it is bought again, the day it was first seen, its
    events by type (T, as in EVENT_TYPES)."""

    repurchase_intervals: RepurchaseIntervals
    first_days_I: NDArray[np.float64]
    touches_TI: NDArray[np.int64]

    @cached_property
    def counts_I(self) -> NDArray[np.int64]:
        """[I]: events of all types."""
        return np.asarray(self.touches_TI.sum(axis=0))


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """What the sources are made of. `items_ID` are where the user vectors are; `discovery` may be a
    faiss index over them. `categories_I` numbers categories from 0, -1 for none. `now_days` is the
    night's time. `follows`, the dearest to fit, is there where a ranker weighs it."""

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


def read(
    names: Sequence[str],
    array: Callable[[files.ReleaseFile], NDArray[Any]],
    items_ID: Floats,
    now_days: float,
    categories_I: Ints,
    peers: Histories,
    discovery: Retriever | None = None,
) -> Fitted:
    """For the sources `names`, from a release's arrays."""
    return Fitted(
        items_ID=items_ID,
        now_days=now_days,
        popularity_I=np.asarray(array(files.POPULARITY)),
        co_occurrence=(array(files.CO_OCCURRENCE_ROWS), array(files.CO_OCCURRENCE_SCORES)),
        content=(array(files.CONTENT_ROWS), array(files.CONTENT_SCORES)),
        item_stats=ItemStats(
            RepurchaseIntervals(array(files.INTERVALS), array(files.REPEATS)),
            array(files.FIRST_DAYS),
            array(files.TOUCHES),
        ),
        categories_I=categories_I,
        peers=peers,
        follows=(array(files.FOLLOWS_ROWS), array(files.FOLLOWS_SCORES))
        if "follows" in names
        else None,
        discovery=discovery,
    )


def categories(items: pa.Table) -> Ints:
    """[I]: the place of each item's category among all, -1 where it has none."""
    labels = pc.utf8_trim_whitespace(pc.utf8_lower(items["category"]))
    labels = pc.if_else(pc.equal(labels, ""), pa.scalar(None, pa.string()), labels)
    coded = pa.chunked_array(labels).combine_chunks().dictionary_encode()
    return np.asarray(pc.fill_null(coded.indices, -1)).astype(np.int32)


def item_stats(
    parts: Callable[[], Iterable[Histories]],
    item_count: int,
    added_days_I: NDArray[np.float64] | None = None,
) -> ItemStats:
    """From a log in parts that are disjoint in users; each call of `parts` reads it once more."""
    touches_TI = np.zeros((len(EVENT_TYPES), item_count), np.int64)
    for part in parts():
        known_E = part.items >= 0
        places_E = part.types[known_E].astype(np.int64) * item_count + part.items[known_E]
        touches_TI += np.bincount(places_E, minlength=touches_TI.size).reshape(touches_TI.shape)
    return ItemStats(
        repurchase_intervals(parts(), item_count),
        first_days(parts(), item_count, added_days_I),
        touches_TI,
    )


def fit(
    log: Histories,
    now_days: float,
    items_ID: Floats,
    content: Neighbours,
    categories_I: Ints,
    added_days_I: NDArray[np.float64] | None = None,
    names: Sequence[str] = (),
) -> Fitted:
    """For the sources `names`, by default all, from one log in memory, as a night does it from
    shards."""
    count = len(items_ID)
    blocks = [
        range(low, min(low + ITEMS_PER_BLOCK, count)) for low in range(0, count, ITEMS_PER_BLOCK)
    ]
    near = [
        co_occurrence_neighbours([log], block, count, NEIGHBOURS, now_days=now_days)
        for block in blocks
    ]
    known = item_stats(lambda: [log], count, added_days_I)
    new = cold_item_proxies(*content, known.counts_I)
    wanted = blocks if not names or "follows" in names else []
    next_to = [successor_neighbours([log], block, count, NEIGHBOURS, new) for block in wanted]
    return Fitted(
        items_ID=items_ID,
        now_days=now_days,
        popularity_I=decayed_popularity([log], count, now_days),
        co_occurrence=_whole(near),
        content=content,
        item_stats=known,
        categories_I=categories_I,
        peers=most_recent_users([log])[0],
        follows=_whole(next_to) if next_to else None,
    )


def _there(follows: Neighbours | None) -> Neighbours:
    if follows is None:
        raise InputError(
            "nothing follows anything yet: run a night with a ranker that weighs follows"
        )
    return follows


def _whole(blocks: Sequence[Neighbours]) -> Neighbours:
    return np.concatenate([rows for rows, _ in blocks]), np.concatenate(
        [scores for _, scores in blocks]
    )


MAKERS: Mapping[str, Callable[[Fitted], Retriever]] = {
    "buy_again": lambda of: RepurchaseRetriever(
        of.popularity_I, of.item_stats.repurchase_intervals, of.now_days
    ),
    "co_occurrence": lambda of: CoOccurrenceRetriever(*of.co_occurrence),
    "follows": lambda of: SuccessorRetriever(*_there(of.follows)),
    "content": lambda of: SuccessorRetriever(*of.content, source="content"),
    "discovery": lambda of: of.discovery or ExactRetriever("discovery", of.items_ID),
    "peers": lambda of: UserKnnRetriever(of.peers, len(of.items_ID), of.now_days),
    "popularity": lambda of: PopularityRetriever(of.popularity_I),
    "category_popularity": lambda of: CategoryPopularityRetriever(of.popularity_I, of.categories_I),
    "arrivals": lambda of: NewItemRetriever(
        of.items_ID, of.popularity_I, new_item_mask(of.item_stats.first_days_I, of.now_days)
    ),
    # What nobody has touched yet is an arrival.
    "tail": lambda of: LongTailRetriever(
        of.items_ID, tail(of.item_stats.counts_I) & (of.item_stats.counts_I > 0)
    ),
}
#: Every source there is, in the order of a mixer that was trained on all.
SOURCES = tuple(MAKERS)


def sources(names: Sequence[str], of: Fitted) -> tuple[Retriever, ...]:
    """The sources that a ranker has features for, in its order. InputError for a feature that no
    source gives."""
    if unknown := [name for name in names if name not in MAKERS]:
        raise InputError(
            f"the ranker wants {', '.join(unknown)}: the sources are {', '.join(MAKERS)}"
        )
    return tuple(MAKERS[name](of) for name in names)
