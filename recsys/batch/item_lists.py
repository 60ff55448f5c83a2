"""Lists of items per item: bought together, similar, and what comes next, a block of items a
shard."""

from __future__ import annotations

import numpy as np

from recsys.arrays import Candidates, utc_days
from recsys.batch.ingest import history_parts
from recsys.batch.plan import NightRun, ShardResult
from recsys.ranking.linear import WeightedSum, best
from recsys.ranking.merge import merge
from recsys.release import files
from recsys.release.arrow import row_ranges, sellable_items
from recsys.retrieval.behaviour.cooccurrence import co_occurrence_neighbours
from recsys.retrieval.behaviour.successors import cold_item_proxies, successor_neighbours
from recsys.retrieval.similar import content_neighbours

#: Both are cosines; that of baskets is shrunk towards 0 where little was bought, so a chance
#: meeting weighs little.
SIMILAR_WEIGHTS = {"co_occurrence": 2.0, "content": 1.0}


def similar_blocks(night: NightRun) -> list[range]:
    """The items of each shard of `compute_similar`."""
    return row_ranges(len(night.open_array(files.ITEM_VECTORS)), night.choices.items_per_shard)


def neighbour_blocks(night: NightRun) -> list[range]:
    """The items of each shard of the others. Small ones: the counts of a block's items, before the
    cut, are the largest thing a worker holds by night."""
    return row_ranges(len(night.open_array(files.ITEM_VECTORS)), night.choices.neighbours_per_shard)


def compute_co_occurrence(night: NightRun, shard: int) -> ShardResult:
    """The strongest co-occurrences of a block of items, over every user's history."""
    items = len(night.open_array(files.ITEM_VECTORS))
    block = neighbour_blocks(night)[shard]
    parts = (histories for _, histories in history_parts(night))
    rows_bN, scores_bN = co_occurrence_neighbours(
        parts, block, items, night.choices.neighbours, now_days=utc_days(night.plan.now)
    )
    result = ShardResult(len(block))
    arrays = {files.CO_OCCURRENCE_ROWS: rows_bN, files.CO_OCCURRENCE_SCORES: scores_bN}
    night.write_arrays(result, shard, arrays)
    return result


def compute_follows(night: NightRun, shard: int) -> ShardResult:
    """What comes next after each item of a block, over every user's history; items like a new one
    stand in for it."""
    items, block = night.open_table(files.ITEMS).num_rows, neighbour_blocks(night)[shard]
    parts = (histories for _, histories in history_parts(night))
    content = night.open_array(files.CONTENT_ROWS), night.open_array(files.CONTENT_SCORES)
    proxies = cold_item_proxies(*content, night.open_array(files.TOUCHES).sum(axis=0))
    rows_bN, scores_bN = successor_neighbours(
        parts, block, items, night.choices.neighbours, proxies
    )
    result = ShardResult(len(block))
    arrays = {files.FOLLOWS_ROWS: rows_bN, files.FOLLOWS_SCORES: scores_bN}
    night.write_arrays(result, shard, arrays)
    return result


def compute_similar(night: NightRun, shard: int) -> ShardResult:
    """Similar lists of a block of items: co-occurrence and content, blended, and content alone;
    sellable items only."""
    items_ID, n = night.open_array(files.ITEM_VECTORS), night.choices.similar
    items = night.open_table(files.ITEMS)
    texts = items["text_hash"].combine_chunks().dictionary_encode()
    texts_I, sellable_I = texts.indices.to_numpy().astype(np.int64), sellable_items(items)
    block = similar_blocks(night)[shard]
    content = content_neighbours(items, texts_I, items_ID, block, n, allowed_I=sellable_I)
    rows_BN, features_BNF = merge([_sellable_co_occurrence(night, block, sellable_I), content])
    columns_BK, scores_BK = best(rows_BN, WeightedSum(SIMILAR_WEIGHTS).score(features_BNF), n)
    padding = (0, 0), (0, n - columns_BK.shape[1])
    rows_BK = np.take_along_axis(rows_BN, columns_BK, axis=1)
    arrays: dict[files.ReleaseFile, np.ndarray] = {
        files.SIMILAR_ROWS: np.pad(rows_BK, padding, constant_values=-1),
        files.SIMILAR_SCORES: np.pad(scores_BK, padding, constant_values=-np.inf),
        files.CONTENT_ROWS: content.rows_BN,
        files.CONTENT_SCORES: content.scores_BN,
    }
    result = ShardResult(len(block))
    night.write_arrays(result, shard, arrays)
    return result


def _sellable_co_occurrence(night: NightRun, block: range, sellable_I: np.ndarray) -> Candidates:
    rows_bN = np.array(night.open_array(files.CO_OCCURRENCE_ROWS)[block.start : block.stop])
    scores_bN = night.open_array(files.CO_OCCURRENCE_SCORES)[block.start : block.stop]
    rows_bN[(rows_bN >= 0) & ~sellable_I[rows_bN]] = -1
    scores_bN = np.where(rows_bN >= 0, scores_bN, -np.inf).astype(np.float32)
    return Candidates("co_occurrence", rows_bN, scores_bN)
