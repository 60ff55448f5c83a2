"""How well last night's method would have foretold the last day: the check before publishing."""

from __future__ import annotations

import json

import numpy as np
from numpy.typing import NDArray

from recsys.batch.embed import user_space_item_vectors
from recsys.batch.ingest import history_parts
from recsys.batch.plan import NightRun, ShardResult
from recsys.metrics import mean, recall_at_k
from recsys.pipeline import sources
from recsys.pipeline.candidates import find
from recsys.release import files
from recsys.release.release import added_days, row_ranges
from recsys.retrieval.behaviour.popularity import PopularityRetriever
from recsys.types import PURCHASE, Histories, Requests

#: Where the metrics go, below the night's work folder.
METRICS_FILE = "held_out.json"
#: Users asked at most; the counts behind the sources are taken from their histories alone.
MAX_USERS = 5_000
MIN_BUYERS = 30


def evaluate_held_out(night: NightRun, shard: int) -> ShardResult:
    """recall@10 of the sources and ranker, fitted without the last day, on what its buyers bought;
    and popularity's.

    Writes no metrics where the log has fewer than two days or nobody bought.
    """
    before, truth_offsets, truth_items = split_last_days(_sample(night))
    metrics = _metrics(night, before, truth_offsets, truth_items) if len(before) else {}
    result = ShardResult(len(before))
    path = night.work_path(METRICS_FILE)
    result.files[path] = night.store.write(path, json.dumps(metrics, sort_keys=True).encode())
    return result


def split_last_days(
    known: Histories, count: int = 1
) -> tuple[Histories, NDArray[np.int64], NDArray[np.int32]]:
    """Users with a history before the log's last days who bought on them: that history, and what
    they bought (offsets, item rows).

    The last day is the last UTC day with MIN_BUYERS buyers, or the one with most: the night may
    come when a new day has barely begun. What came later is left out."""
    days_E, owners_E = np.floor(known.days).astype(np.int64), known.owners_E
    bought_E = known.types == PURCHASE
    if not bought_E.any():
        return Histories.empty(0), np.zeros(1, np.int64), np.empty(0, np.int32)
    first = days_E[bought_E].min()
    buyers = np.unique(np.stack([days_E[bought_E] - first, owners_E[bought_E]]), axis=1)[0]
    count_by_day = np.bincount(buyers)
    full = np.flatnonzero(count_by_day >= min(MIN_BUYERS, count_by_day.max()))
    last = first + full[-1]
    early_E, bought_E = (
        days_E <= last - count,
        bought_E & (days_E > last - count) & (days_E <= last),
    )
    early_B = np.bincount(owners_E[early_E], minlength=len(known)) > 0
    asked_B = early_B & (np.bincount(owners_E[bought_E], minlength=len(known)) > 0)
    return _only(known, early_E, asked_B), *_items(known, bought_E, asked_B)


def _metrics(
    night: NightRun,
    before: Histories,
    truth_offsets: NDArray[np.int64],
    truth_items: NDArray[np.int32],
) -> dict[str, float]:
    setup, items_ID = night.setup, user_space_item_vectors(night)
    sellable_I, now = (
        np.asarray(night.open_table(files.ITEMS)["in_stock"]),
        float(before.days.max()),
    )
    content = night.open_array(files.CONTENT_ROWS), night.open_array(files.CONTENT_SCORES)
    table = night.open_table(files.ITEMS)
    ranker = setup.recommend_ranker()
    shelf = sources.categories(table), added_days(table)
    of = sources.fit(before, now, items_ID, content, *shelf, ranker.feature_names)
    asked, floor = sources.sources(ranker.feature_names, of), PopularityRetriever(of.popularity_I)
    known, users = before.newest(setup.night.history), setup.user_model()
    ours, theirs = [], []
    for block in row_ranges(len(known), setup.night.users_per_block):
        histories = known.slice(block.start, block.stop)
        vectors_BD = users.encode_history(histories, items_ID)
        ours.append(
            _wide(
                find(
                    asked,
                    ranker,
                    Requests(
                        size=len(block),
                        texts=None,
                        vectors_BD=vectors_BD,
                        histories=histories,
                        now_days=now,
                    ),
                    10,
                    sellable_I,
                ).rows_BK
            )
        )
        theirs.append(_wide(floor.retrieve(Requests(size=len(block)), 10, sellable_I).rows_BN))
    truth = truth_offsets, truth_items
    return {
        "recall@10": mean(recall_at_k(np.concatenate(ours), *truth, 10)),
        "popularity/recall@10": mean(recall_at_k(np.concatenate(theirs), *truth, 10)),
        "users": float(len(known)),
    }


def _sample(night: NightRun) -> Histories:
    """The users of the first shards, whose ids are hashed: as good as drawn at random."""
    parts, users = [], 0
    for _, known in history_parts(night):
        parts.append(known.slice(0, min(len(known), MAX_USERS - users)))
        users += len(parts[-1])
        if users >= MAX_USERS:
            break
    offsets = np.concatenate(
        [[0], np.cumsum(np.concatenate([np.diff(part.offsets) for part in parts]))]
    )
    columns = {
        name: np.concatenate([getattr(part, source) for part in parts])
        for name, source in (
            ("items", "items"),
            ("types", "types"),
            ("days", "days"),
            ("prices", "known_prices"),
        )
    }
    return Histories(offsets=offsets.astype(np.int64), **columns)


def _only(known: Histories, kept_E: NDArray[np.bool_], kept_B: NDArray[np.bool_]) -> Histories:
    return known.where(kept_E).users(np.flatnonzero(kept_B))


def _items(
    known: Histories, kept_E: NDArray[np.bool_], kept_B: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    kept = _only(known, kept_E, kept_B)
    pairs = np.unique(np.stack([kept.owners_E, kept.items]), axis=1)
    return np.concatenate([[0], np.cumsum(np.bincount(pairs[0], minlength=len(kept)))]), pairs[
        1
    ].astype(np.int32)


def _wide(rows_BK: NDArray[np.int32]) -> NDArray[np.int32]:
    """Padded to ten columns."""
    return np.pad(rows_BK, ((0, 0), (0, 10 - rows_BK.shape[1])), constant_values=-1)
