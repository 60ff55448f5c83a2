"""What the day looks things up in: neighbours, similar items, the lexical index; and whole arrays
out of parts."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from recsys.batch.embed import user_space_item_vectors
from recsys.batch.ingest import USERS, history_parts, users_table
from recsys.batch.plan import NightRun, ShardResult, one_batch
from recsys.pipeline import sources
from recsys.ranking.linear import WeightedSum, best
from recsys.ranking.merge import merge
from recsys.ranking.projection import projected, projection
from recsys.release.release import IdMap, added_days, row_ranges, write_arrow
from recsys.retrieval.behaviour.cooccurrence import co_occurrence_neighbours
from recsys.retrieval.behaviour.successors import cold_item_proxies, successor_neighbours
from recsys.retrieval.behaviour.user_knn import most_recent_users
from recsys.retrieval.similar import content_neighbours
from recsys.retrieval.text.bm25 import LexicalIndex
from recsys.retrieval.text.fields import FIELD_BOOSTS, searchable_fields
from recsys.storage.streams import arrow_pieces, npy_pieces
from recsys.types import Candidates, Histories, utc_days
from recsys.understanding.codes import FILE as CODES
from recsys.understanding.codes import CodeIndex
from recsys.understanding.suggestion_builder import build_suggestion_file

#: Past queries (`tables.QUERIES`), copied from the live impressions when the night began.
QUERIES = "queries.parquet"
#: What `item_clicks.count_item_clicks` found in the log then.
ATTRACTION = "attraction.parquet"
#: Both are cosines; that of baskets is shrunk towards 0 where little was bought, so a chance
#: meeting weighs little.
SIMILAR_WEIGHTS = {"co_occurrence": 2.0, "content": 1.0}


def similar_blocks(night: NightRun) -> list[range]:
    return row_ranges(len(night.open_array("item_vectors")), night.choices.items_per_shard)


def neighbour_blocks(night: NightRun) -> list[range]:
    """Small ones: the counts of a block's items, before the cut, are the largest thing a worker
    holds by night."""
    return row_ranges(len(night.open_array("item_vectors")), night.choices.neighbours_per_shard)


def compute_co_occurrence(night: NightRun, shard: int) -> ShardResult:
    """The strongest co-occurrences of a block of items, over every user's history."""
    items = len(night.open_array("item_vectors"))
    block = neighbour_blocks(night)[shard]
    parts = (known for _, known in history_parts(night))
    rows_bN, scores_bN = co_occurrence_neighbours(
        parts, block, items, night.choices.neighbours, now_days=utc_days(night.plan.now)
    )
    result = ShardResult(len(block))
    night.write_arrays(
        result, shard, {"co_occurrence_rows": rows_bN, "co_occurrence_scores": scores_bN}
    )
    return result


def compute_follows(night: NightRun, shard: int) -> ShardResult:
    """What comes next after each item of a block, over every user's history; items like a new one
    stand in for it."""
    items, block = night.open_items().num_rows, neighbour_blocks(night)[shard]
    parts = (known for _, known in history_parts(night))
    content = night.open_array("content_rows"), night.open_array("content_scores")
    new = cold_item_proxies(*content, night.open_array("touches").sum(axis=0))
    rows_bN, scores_bN = successor_neighbours(parts, block, items, night.choices.neighbours, new)
    result = ShardResult(len(block))
    night.write_arrays(result, shard, {"follows_rows": rows_bN, "follows_scores": scores_bN})
    return result


def compute_item_stats(night: NightRun, shard: int) -> ShardResult:
    """What the whole log says of each item, and the users who are everybody's peers."""
    items = night.open_items()

    def parts() -> Iterator[Histories]:
        return (known for _, known in history_parts(night))

    found, (peers, places) = (
        sources.item_stats(parts, items.num_rows, added_days(items)),
        most_recent_users(parts()),
    )
    arrays: dict[str, np.ndarray] = {
        "intervals": found.repurchase_intervals.intervals_I,
        "repeats": found.repurchase_intervals.repeats_I,
        "first_days": found.first_days_I,
        "touches": found.touches_TI,
    }
    for name, array in arrays.items():
        night.assemble(f"{name}.npy", npy_pieces([array]))
    names = _at((users["user_id"] for users, _ in history_parts(night)), places)
    night.assemble("peers.arrow", write_arrow([one_batch(users_table(names, peers))], USERS))
    return ShardResult(items.num_rows, counts={"peers": len(peers)})


def _at(columns: Iterable[pa.ChunkedArray], places: NDArray[np.int64]) -> pa.Array:
    """The values at these places, sorted, of columns that are read one after the other."""
    start, taken = 0, [pa.array([], pa.string())]
    for column in columns:
        here = places[(places >= start) & (places < start + len(column))] - start
        taken += column.take(pa.array(here)).chunks
        start += len(column)
    return pa.concat_arrays(taken)


def align_attraction(night: NightRun, shard: int) -> ShardResult:
    """What of each item was looked at and clicked, as it was counted when the night began."""
    counted = pq.read_table(night.store.open(night.work_path(ATTRACTION)))
    rows_N = IdMap(night.open_items()["item_id"]).rows(counted["item_id"])
    there = rows_N >= 0
    attraction_2I = np.zeros((2, night.open_items().num_rows), np.float32)
    for column_I, name in zip(attraction_2I, ("exposure", "clicks"), strict=True):
        column_I[rows_N[there]] = np.asarray(counted[name])[there]
    night.assemble("attraction.npy", npy_pieces([attraction_2I]))
    return ShardResult(int(there.sum()))


def project_vectors(night: NightRun, shard: int) -> ShardResult:
    """Every item's vectors as the few numbers that are features, and the projections that make them
    so.

    A projection is kept from the last release for as long as its space is the same: what its
    columns mean changes only when the models do that learned from them."""
    spaces = (
        (
            "projection",
            night.plan.carry_from,
            night.open_array("item_vectors"),
            "item_projected",
        ),
        (
            "taste_projection",
            night.plan.taste_from,
            user_space_item_vectors(night),
            "taste_projected",
        ),
    )
    result = ShardResult(len(user_space_item_vectors(night)))
    for name, kept_from, vectors_ID, of_items in spaces:
        kept = night.release_file(kept_from, f"{name}.npy")
        projection_DP = np.load(kept) if kept else projection(vectors_ID)
        if len(projection_DP) != vectors_ID.shape[1]:  # the user model's own code changed
            kept, projection_DP = None, projection(vectors_ID)
        night.assemble(f"{name}.npy", kept.read_bytes() if kept else npy_pieces([projection_DP]))
        night.assemble(f"{of_items}.npy", npy_pieces([projected(vectors_ID, projection_DP)]))
        result.counts[f"{name}_kept"] = int(kept is not None)
    return result


def compute_similar(night: NightRun, shard: int) -> ShardResult:
    """Similar lists of a block of items: co-occurrence and content, blended, and content alone;
    sellable items only."""
    items_ID, n = night.open_array("item_vectors"), night.choices.similar
    table = night.open_items()
    texts_I = (
        table["text_hash"].combine_chunks().dictionary_encode().indices.to_numpy().astype(np.int64)
    )
    sellable_I = np.asarray(table["in_stock"])
    block = similar_blocks(night)[shard]
    content = content_neighbours(table, texts_I, items_ID, block, n, allowed_I=sellable_I)
    rows_bN = np.array(night.open_array("co_occurrence_rows")[block.start : block.stop])
    rows_bN[(rows_bN >= 0) & ~sellable_I[rows_bN]] = -1
    scores_bN = night.open_array("co_occurrence_scores")[block.start : block.stop]
    together = Candidates(
        "co_occurrence", rows_bN, np.where(rows_bN >= 0, scores_bN, -np.inf).astype(np.float32)
    )
    rows_BN, features_BNF = merge([together, content])
    places_BK, scores_BK = best(rows_BN, WeightedSum(SIMILAR_WEIGHTS).score(features_BNF), n)
    missing, result = ((0, 0), (0, n - places_BK.shape[1])), ShardResult(len(block))
    rows_BK = np.pad(np.take_along_axis(rows_BN, places_BK, axis=1), missing, constant_values=-1)
    scores_BK = np.pad(scores_BK, missing, constant_values=-np.inf)
    lists = {"similar_rows": rows_BK, "similar_scores": scores_BK}
    alone = {"content_rows": content.rows_BN, "content_scores": content.scores_BN}
    night.write_arrays(result, shard, {**lists, **alone})
    return result


def build_lexical(night: NightRun, shard: int) -> ShardResult:
    """The BM25 index over the whole catalogue's fields."""
    items = night.open_items()
    result = ShardResult(items.num_rows)
    with tempfile.TemporaryDirectory() as folder:
        LexicalIndex.build(searchable_fields(items), FIELD_BOOSTS).save(Path(folder))
        for file in sorted(path for path in Path(folder).rglob("*") if path.is_file()):
            night.assemble(f"lexical/{file.relative_to(folder).as_posix()}", file.read_bytes())
    return result


def build_suggestions(night: NightRun, shard: int) -> ShardResult:
    """Completions out of the whole catalogue and of what was asked."""
    items = night.open_items()
    night.assemble(
        "suggestions.arrow",
        build_suggestion_file(items, pq.read_table(night.store.open(night.work_path(QUERIES)))),
    )
    return ShardResult(items.num_rows)


def build_codes(night: NightRun, shard: int) -> ShardResult:
    """The codes in the whole catalogue's ids, titles and attributes."""
    items = night.open_items()
    texts = searchable_fields(items)
    found = CodeIndex.build(items["item_id"].to_pylist(), texts["title"], texts["attributes"])
    with tempfile.TemporaryDirectory() as folder:
        found.save(Path(folder))
        night.assemble(CODES, (Path(folder) / CODES).read_bytes())
    return ShardResult(items.num_rows, counts={"codes": len(found)})


def build_ann(night: NightRun, shard: int) -> ShardResult:
    """The faiss index, for catalogues above the setup's size."""
    from recsys.retrieval.vectors import ivf

    items_ID = night.open_array("item_vectors")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "dense.ivf"
        ivf.write_ivf(ivf.build_ivf(items_ID, seed=0), file)
        night.assemble("dense.ivf", file.read_bytes())
    return ShardResult(len(items_ID))


# Assembling: parts, in order, as one flat file of the release. Streams; the driver holds a piece at
# a time.


def assemble_table(night: NightRun, name: str, parts: int) -> None:
    batches = (batch for part in range(parts) for batch in night.read_part(name, part).to_batches())
    night.assemble(f"{name}.arrow", arrow_pieces(batches, night.read_part(name, 0).schema))


def assemble_array(night: NightRun, name: str, parts: int) -> None:
    """Writes the parts of an array, one below the other, as one .npy file of the release."""
    # One part mapped at a time: pages of the others would count as the driver's.
    rows = sum(night.array_rows(name, part) for part in range(parts))
    night.assemble(
        f"{name}.npy", npy_pieces((night.read_array(name, part) for part in range(parts)), rows)
    )
