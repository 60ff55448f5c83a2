"""How well last night's method would have foretold the last day: the check before publishing."""

from __future__ import annotations

import json

import numpy as np
from numpy.typing import NDArray

from recsys.batch.ingest import history_parts, newest
from recsys.batch.plan import Done, Place
from recsys.metrics import mean, recall_at_k
from recsys.recommender import find, recommend_sources
from recsys.release import row_ranges
from recsys.retrieval.cooccurrence import neighbours
from recsys.retrieval.exact import ExactRetriever
from recsys.retrieval.popularity import Popularity, popularity
from recsys.types import PURCHASE, Histories, Requests

#: Where the metrics go, below the night's work folder.
HELD_OUT = "held_out.json"
#: Users asked at most; the counts behind the sources are taken from their histories alone.
MOST_USERS = 5_000


def held_out(place: Place, shard: int) -> Done:
    """recall@10 of the sources and ranker, fitted without the last day, on what its buyers bought; and popularity's.

    Writes no metrics where the log has fewer than two days or nobody bought.
    """
    before, truth_offsets, truth_items = split_last_day(_sample(place))
    done, metrics = Done(len(before)), {}
    if len(before):
        metrics = _metrics(place, before, truth_offsets, truth_items)
    path = place.work(HELD_OUT)
    done.files[path] = place.store.write(path, json.dumps(metrics, sort_keys=True).encode())
    return done


def split_last_day(known: Histories) -> tuple[Histories, NDArray[np.int64], NDArray[np.int32]]:
    """Users with a history before the log's last 24 hours who bought in them: that history, and what they bought
    (offsets, item rows)."""
    cut = known.days.max(initial=0.0) - 1
    owners_E = known.owners_E
    early_E, bought_E = known.days <= cut, (known.days > cut) & (known.types == PURCHASE)
    early_B = np.bincount(owners_E[early_E], minlength=len(known)) > 0
    late_B = np.bincount(owners_E[bought_E], minlength=len(known)) > 0
    asked_B = early_B & late_B
    return _only(known, early_E, asked_B), *_items(known, bought_E, asked_B)


def _metrics(
    place: Place, before: Histories, truth_offsets: NDArray[np.int64], truth_items: NDArray[np.int32]
) -> dict[str, float]:
    setup, items_ID = place.setup, place.released_array("item_vectors")
    sellable_I, now = np.asarray(place.released_items()["in_stock"]), float(before.days.max())
    blocks = row_ranges(len(items_ID), setup.night.neighbours_per_shard)
    near = [neighbours([before], block, len(items_ID), setup.night.neighbours, now) for block in blocks]
    together = np.concatenate([rows for rows, _ in near]), np.concatenate([scores for _, scores in near])
    sold_I = popularity([before], len(items_ID), now)
    ranker, floor = setup.recommend_ranker(), Popularity(sold_I)
    sources = recommend_sources(ranker, together, ExactRetriever("discovery", items_ID), sold_I)
    known = newest(before, setup.night.history)
    ours, theirs = [], []
    for block in row_ranges(len(known), setup.night.users_per_block):
        histories = known.slice(block.start, block.stop)
        vectors_BD = setup.user_model().encode_history(histories, items_ID)
        ours.append(_wide(find(sources, ranker, Requests(len(block), None, vectors_BD, histories), 10, sellable_I)[0]))
        theirs.append(_wide(floor.retrieve(Requests(len(block)), 10, sellable_I).rows_BN))
    truth = truth_offsets, truth_items
    return {
        "recall@10": mean(recall_at_k(np.concatenate(ours), *truth, 10)),
        "popularity/recall@10": mean(recall_at_k(np.concatenate(theirs), *truth, 10)),
        "users": float(len(known)),
    }


def _sample(place: Place) -> Histories:
    """The users of the first shards, whose ids are hashed: as good as drawn at random."""
    parts, users = [], 0
    for _, known in history_parts(place):
        parts.append(known.slice(0, min(len(known), MOST_USERS - users)))
        users += len(parts[-1])
        if users >= MOST_USERS:
            break
    offsets = np.concatenate([[0], np.cumsum(np.concatenate([np.diff(part.offsets) for part in parts]))])
    columns = [np.concatenate([getattr(part, name) for part in parts]) for name in ("items", "types", "days")]
    return Histories(offsets.astype(np.int64), *columns)


def _only(known: Histories, kept_E: NDArray[np.bool_], kept_B: NDArray[np.bool_]) -> Histories:
    kept_E = kept_E & kept_B[known.owners_E]
    counts = np.bincount(known.owners_E[kept_E], minlength=len(known))[kept_B]
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    return Histories(offsets, known.items[kept_E], known.types[kept_E], known.days[kept_E])


def _items(
    known: Histories, kept_E: NDArray[np.bool_], kept_B: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    kept = _only(known, kept_E, kept_B)
    pairs = np.unique(np.stack([kept.owners_E, kept.items]), axis=1)
    return np.concatenate([[0], np.cumsum(np.bincount(pairs[0], minlength=len(kept)))]), pairs[1].astype(np.int32)


def _wide(rows_BK: NDArray[np.int32]) -> NDArray[np.int32]:
    """Padded to ten columns."""
    return np.pad(rows_BK, ((0, 0), (0, 10 - rows_BK.shape[1])), constant_values=-1)
