"""Evaluates the night's method on a held-out last day: what the check before publishing reads."""

from __future__ import annotations

import json

import numpy as np

from recsys.arrays import Histories, Requests
from recsys.batch.embed import user_space_item_vectors
from recsys.batch.ingest import history_parts
from recsys.batch.plan import NightRun, ShardResult
from recsys.intervals import bootstrap_mean
from recsys.metrics import mean, recall_at_k
from recsys.pipeline import sources
from recsys.pipeline.candidates import retrieve_and_rank
from recsys.release import files
from recsys.release.arrow import added_days, row_ranges, sellable_items
from recsys.release.checks import LEVEL
from recsys.retrieval.behaviour.popularity import PopularityRetriever
from recsys.training.splits import split_last_days
from recsys.types import Rows

#: Recall is measured over so many recommendations.
K = 10
#: Where the metrics go, below the night's work folder.
METRICS_FILE = "held_out.json"
#: Users of the evaluation at most; the sources are fitted on their histories alone.
MAX_USERS = 5_000


def evaluate_held_out(night: NightRun, shard: int) -> ShardResult:
    """recall@10 of the sources and ranker, fitted without the last day, on what its buyers bought;
    popularity's; and the interval of the users' differences.

    Writes no metrics where the log has fewer than two days or nobody bought.
    """
    before, offsets, items = split_last_days(_sample(night))
    metrics: dict[str, float] = {}
    if len(before):
        ours, popular = _recommend(night, before)
        ours_U, popular_U = (recall_at_k(rows, offsets, items, K) for rows in (ours, popular))
        low, high = bootstrap_mean(ours_U - popular_U, level=LEVEL)
        metrics = {
            "recall@10": mean(ours_U),
            "popularity/recall@10": mean(popular_U),
            "recall@10/difference/low": low,
            "recall@10/difference/high": high,
            "users": float(len(before)),
        }
    result = ShardResult(len(before))
    path = night.work_path(METRICS_FILE)
    result.files[path] = night.store.write(path, json.dumps(metrics, sort_keys=True).encode())
    return result


def _recommend(night: NightRun, before: Histories) -> tuple[Rows, Rows]:
    """[B, K] rows, -1 padded: what the sources and ranker recommend to these users, and what is
    popular."""
    items_ID, items = user_space_item_vectors(night), night.open_table(files.ITEMS)
    ranker, model = night.setup.recommend_ranker(), night.setup.user_model()
    now_days = float(before.days.max())
    data = sources.fit_source_data(
        before,
        now_days,
        items_ID=items_ID,
        content=(night.open_array(files.CONTENT_ROWS), night.open_array(files.CONTENT_SCORES)),
        categories_I=sources.category_codes(items),
        added_days_I=added_days(items),
        names=ranker.feature_names,
    )
    retrievers = sources.make_sources(ranker.feature_names, data)
    popularity, sellable_I = PopularityRetriever(data.popularity_I), sellable_items(items)
    newest, ours, popular = before.newest(night.choices.history), [], []
    for block in row_ranges(len(newest), night.choices.users_per_block):
        histories = newest.slice(block.start, block.stop)
        requests = Requests(
            size=len(block),
            texts=None,
            vectors_BD=model.encode_history(histories, items_ID),
            histories=histories,
            now_days=now_days,
        )
        ranked = retrieve_and_rank(retrievers, ranker, requests, K, allowed=sellable_I)
        ours.append(_pad(ranked.rows_BK))
        popular.append(_pad(popularity.retrieve(Requests(size=len(block)), K, sellable_I).rows_BN))
    return np.concatenate(ours), np.concatenate(popular)


def _sample(night: NightRun) -> Histories:
    """The users of the first shards, whose ids are hashed: as good as drawn at random."""
    parts, users = [], 0
    for _, histories in history_parts(night):
        parts.append(histories.slice(0, min(len(histories), MAX_USERS - users)))
        users += len(parts[-1])
        if users >= MAX_USERS:
            break
    sizes = np.concatenate([np.diff(part.offsets) for part in parts])
    return Histories(
        offsets=np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64),
        items=np.concatenate([part.items for part in parts]),
        types=np.concatenate([part.types for part in parts]),
        days=np.concatenate([part.days for part in parts]),
        prices=np.concatenate([part.prices_E for part in parts]),
    )


def _pad(rows_BK: Rows) -> Rows:
    """[B, K], -1 where there were fewer."""
    return np.pad(rows_BK, ((0, 0), (0, K - rows_BK.shape[1])), constant_values=-1)
