"""Numbers per item: what the whole log says of it, its attraction, its vectors projected."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from recsys.arrays import Histories, utc_days
from recsys.batch import log_copy
from recsys.batch.embed import user_space_item_vectors
from recsys.batch.ingest import USERS, guest_parts, history_parts, users_table
from recsys.batch.plan import NightRun, ShardResult, one_batch
from recsys.batch.stages import Stage
from recsys.pipeline import sources
from recsys.ranking.projection import fit_projection, project
from recsys.release import files
from recsys.release.arrow import IdMap, added_days, write_arrow
from recsys.retrieval.behaviour.user_knn import most_recent_users
from recsys.storage.streams import npy_pieces
from recsys.types import Floats


def feature_stages() -> list[Stage]:
    """All of them, over the whole catalogue: one shard each."""
    return [
        Stage("habits", 1, compute_item_stats),
        Stage("attraction", 1, align_attraction),
        Stage("projections", 1, project_vectors),
    ]


def compute_item_stats(night: NightRun, shard: int) -> ShardResult:
    """What the whole log says of each item, and the users who are everybody's peers."""
    items = night.open_table(files.ITEMS)

    def parts() -> Iterator[Histories]:
        return (histories for _, histories in history_parts(night))

    stats = sources.fit_item_stats(
        parts,
        items.num_rows,
        added_days(items),
        categories_I=sources.category_codes(items),
        now_days=utc_days(night.plan.now),
        guests=lambda: guest_parts(night),
    )
    arrays: dict[files.ReleaseFile, np.ndarray] = {
        files.POPULARITY: _popularity(night),
        files.INTERVALS: stats.repurchase_intervals.intervals_I,
        files.REPEATS: stats.repurchase_intervals.repeats_I,
        files.FIRST_DAYS: stats.first_days_I,
        files.TOUCHES: stats.touches_TI,
    }
    for file, array in arrays.items():
        night.assemble(file.name, npy_pieces([array]))
    peers, rows = most_recent_users(parts())
    user_ids = _take_sorted((users["user_id"] for users, _ in history_parts(night)), rows)
    table = one_batch(users_table(user_ids, peers))
    night.assemble(files.PEERS.name, write_arrow([table], USERS))
    return ShardResult(items.num_rows, counts={"peers": len(peers)})


def _popularity(night: NightRun) -> Floats:
    """The sum of what the users of each shard add to it."""
    parts = [night.read_array(files.POPULARITY, part) for part in range(night.plan.user_parts)]
    return np.asarray(np.sum(parts, axis=0, dtype=np.float64), np.float32)


def _take_sorted(columns: Iterable[pa.ChunkedArray], rows: NDArray[np.int64]) -> pa.Array:
    """The values at these rows, ascending, of columns that are read one after the other."""
    start, values = 0, [pa.array([], pa.string())]
    for column in columns:
        inside = rows[(rows >= start) & (rows < start + len(column))] - start
        values += column.take(pa.array(inside)).chunks
        start += len(column)
    return pa.concat_arrays(values)


def align_attraction(night: NightRun, shard: int) -> ShardResult:
    """Exposure and clicks by row of the items, as they were counted when the night began."""
    counts = pq.read_table(night.store.open(night.work_path(log_copy.ATTRACTION)))
    item_ids = IdMap(night.open_table(files.ITEMS)["item_id"])
    rows_N = item_ids.rows(counts["item_id"])
    in_catalogue = rows_N >= 0
    attraction_AI = np.zeros((2, len(item_ids)), np.float32)
    for column_I, name in zip(attraction_AI, ("exposure", "clicks"), strict=True):
        column_I[rows_N[in_catalogue]] = np.asarray(counts[name])[in_catalogue]
    night.assemble(files.ATTRACTION.name, npy_pieces([attraction_AI]))
    return ShardResult(int(in_catalogue.sum()))


def project_vectors(night: NightRun, shard: int) -> ShardResult:
    """Every item's vectors as the few numbers that are features, and the projections that make them
    so.

    A projection is kept from the last release for as long as its space is the same: what its
    columns mean changes only when the models do that learned from them."""
    plan, items_ID = night.plan, night.open_array(files.ITEM_VECTORS)
    items_Id = user_space_item_vectors(night)
    result = ShardResult(len(items_ID))
    for file, version, vectors_ID, of_items in (
        (files.PROJECTION, plan.carry_from, items_ID, files.ITEM_PROJECTED),
        (files.TASTE_PROJECTION, plan.taste_from, items_Id, files.TASTE_PROJECTED),
    ):
        previous = night.previous_file(version, file)
        projection_DP = np.load(previous) if previous else fit_projection(vectors_ID)
        if len(projection_DP) != vectors_ID.shape[1]:  # the user model's own code changed
            previous, projection_DP = None, fit_projection(vectors_ID)
        same = previous.read_bytes() if previous else npy_pieces([projection_DP])
        night.assemble(file.name, same)
        night.assemble(of_items.name, npy_pieces([project(vectors_ID, projection_DP)]))
        result.counts[f"{file}_kept"] = int(previous is not None)
    return result
