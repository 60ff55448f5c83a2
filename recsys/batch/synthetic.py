"""A synthetic shop of any size from a seed: what the stages before `nearest` leave, for benchmarks.

Vectors lie in clusters, as those of real items do; users buy in their own cluster, so that the
items excluded for them are those that they would be shown first."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from recsys.arrays import Histories
from recsys.batch.ingest import USERS, users_table
from recsys.batch.plan import NightRun, Plan, ShardResult, one_batch
from recsys.interfaces import Chunk
from recsys.release import files
from recsys.release.arrow import row_ranges, sellable_items, write_arrow
from recsys.storage.streams import npy_pieces
from recsys.tables import EVENTS, ITEMS, ITEMS_IN
from recsys.types import EVENT_TYPES, PURCHASE, Floats, Ints

CLUSTERS = 1024
#: Length of the noise beside a centre of length 1: cosines within a cluster are about .67.
NOISE = 0.7
BOUGHT = 8
#: One item of so many is sold out, one user of so many has no vector.
ONE_OF = 100
_WORDS = [
    "oak",
    "steel",
    "linen",
    "glass",
    "red",
    "blue",
    "small",
    "large",
    "round",
    "soft",
    "chair",
    "table",
    "lamp",
    "shelf",
    "clock",
    "mirror",
    "vase",
    "carpet",
]
#: So many users of so many parts are checked.
CHECKED_PARTS = 16
_ITEMS, _USERS, _CENTRES = range(3)


@dataclass(frozen=True, kw_only=True)
class SyntheticShop:
    """The shop as an adapter: `items` with texts, and no events. Shards of users hold
    `users_per_part`."""

    items: int
    users: int
    dim: int
    users_per_part: int
    until: datetime
    name = "generated"

    def item_chunks(self) -> list[Chunk]:
        return [Chunk("items", rows.start, len(rows)) for rows in row_ranges(self.items, 100_000)]

    def event_chunks(self) -> list[Chunk]:
        return []

    def read_items(self, chunk: Chunk) -> pa.Table:
        """Titles of ten words, one of them the item's own."""
        words = np.random.default_rng(chunk.start).integers(0, len(_WORDS), (chunk.rows, 9))
        rows = range(chunk.start, chunk.start + chunk.rows)
        titles = [
            " ".join([*(_WORDS[at] for at in nine), f"no{row}"])
            for row, nine in zip(rows, words, strict=True)
        ]
        columns = {"item_id": _ids("i", rows), "title": pa.array(titles)}
        return pa.table(
            [columns.get(f.name, pa.nulls(chunk.rows, f.type)) for f in ITEMS_IN], schema=ITEMS_IN
        )

    def read_events(self, chunk: Chunk) -> pa.Table:
        return EVENTS.empty_table()

    def part(self, part: int) -> range:
        """The users of that shard."""
        return range(part * self.users_per_part, min((part + 1) * self.users_per_part, self.users))


def make_plan(
    version: str, shop: SyntheticShop, space: str, items_per_shard: int, texts_per_shard: int
) -> Plan:
    """A night over that shop."""
    return Plan(
        version=version,
        until=shop.until.isoformat(),
        setup=shop.name,
        commit="generated",
        space=space,
        models=None,
        previous=None,
        carry_from=None,
        item_chunks=shop.item_chunks(),
        event_chunks=[],
        item_parts=len(row_ranges(shop.items, items_per_shard)),
        text_parts=len(row_ranges(shop.items, texts_per_shard)),
        user_parts=len(row_ranges(shop.users, shop.users_per_part)),
    )


def write_items(night: NightRun, part: int) -> ShardResult:
    """A shard of the catalogue and its vectors, in place of ingest and embed."""
    shop = _shop(night)
    rows = row_ranges(shop.items, night.choices.items_per_shard)[part]
    random = np.random.default_rng([_ITEMS, part])
    result, clusters_N = ShardResult(len(rows)), np.arange(rows.start, rows.stop) % CLUSTERS
    hashes_N2 = np.stack([clusters_N, np.arange(rows.start, rows.stop)], axis=1)
    columns = {
        "item_id": _ids("i", rows),
        "category": pa.array([f"category {cluster % 100}" for cluster in clusters_N]),
        "in_stock": pa.array(random.integers(0, ONE_OF, len(rows)) > 0),
        "text_hash": pa.Array.from_buffers(
            pa.binary(16), len(rows), [None, pa.py_buffer(hashes_N2)]
        ),
    }
    table = pa.table(
        [columns.get(f.name, pa.nulls(len(rows), f.type)) for f in ITEMS], schema=ITEMS
    )
    night.write_table(result, files.ITEMS, part, [one_batch(table)], ITEMS)
    night.write_arrays(result, part, {files.ITEM_VECTORS: _vectors(random, clusters_N, shop.dim)})
    return result


def write_users(night: NightRun, part: int) -> ShardResult:
    """A shard of users: histories and vectors, in place of ingest and `embed_users`."""
    shop = _shop(night)
    histories, vectors_ND = draw_users(shop, part)
    result = ShardResult(len(histories))
    table = users_table(_ids("u", shop.part(part)), histories)
    night.write_table(result, files.USERS, part, [one_batch(table)], USERS)
    night.write_arrays(result, part, {files.USER_VECTORS: vectors_ND})
    return result


def draw_users(shop: SyntheticShop, part: int) -> tuple[Histories, Floats]:
    """What the users of that shard bought, and their vectors [N, dim]."""
    rows, random = shop.part(part), np.random.default_rng([_USERS, part])
    clusters_N = random.integers(0, min(CLUSTERS, shop.items), len(rows))
    vectors_ND = _vectors(random, clusters_N, shop.dim)
    vectors_ND[random.integers(0, ONE_OF, len(rows)) == 0] = 0
    bought_NB = clusters_N[:, None] + CLUSTERS * random.integers(
        0, 1 + shop.items // CLUSTERS, (len(rows), BOUGHT)
    )
    items_E = (bought_NB % shop.items).astype(np.int32).reshape(-1)
    types_E = np.full(len(items_E), PURCHASE, np.int8)
    return Histories(
        offsets=np.arange(len(rows) + 1) * BOUGHT,
        items=items_E,
        types=types_E,
        days=np.zeros(len(items_E)),
    ), vectors_ND


def write_item_stats(night: NightRun, shard: int) -> ShardResult:
    """What a log without events says of the items: files that the candidates stage opens."""
    count = _shop(night).items
    none, nothing = np.broadcast_to(np.int32(-1), (count, 1)), np.zeros((count, 1), np.float32)
    arrays: dict[files.ReleaseFile, np.ndarray] = {
        files.CO_OCCURRENCE_ROWS: none,
        files.CO_OCCURRENCE_SCORES: nothing,
        files.CONTENT_ROWS: none,
        files.CONTENT_SCORES: nothing,
        files.POPULARITY: nothing[:, 0],
        files.INTERVALS: nothing[:, 0],
        files.REPEATS: nothing[:, 0],
        files.FIRST_DAYS: np.zeros(count),
        files.TOUCHES: np.zeros((len(EVENT_TYPES), count), np.int64),
    }
    for file, array in arrays.items():
        night.assemble(file.name, npy_pieces([array]))
    no_users = users_table(pa.array([], pa.string()), Histories.empty(0))
    night.assemble(files.PEERS.name, write_arrow([one_batch(no_users)], USERS))
    return ShardResult(count)


def check_lists(night: NightRun, shard: int) -> ShardResult:
    """The released lists of some users of one of `CHECKED_PARTS` parts, against all items in double
    precision.

    Counts users, those whose list is wrong (repeats, holds what was bought or is sold out, is too
    short, or is worse than the best by more than rounding), items that should be there, and of
    those the ones that are."""
    shop, n = _shop(night), night.choices.candidates
    part = shard * max(1, night.plan.user_parts // CHECKED_PARTS) % night.plan.user_parts
    histories, vectors_ND = draw_users(shop, part)
    sample = np.random.default_rng(shard).choice(
        len(histories), min(CHECKED_PARTS, len(histories)), replace=False
    )
    rows_QN = night.open_array(files.CANDIDATE_ROWS)[part * shop.users_per_part + sample]
    histories, queries_QD = histories.users(sample), vectors_ND[sample].astype(np.float64)
    best_QN = _best(night, queries_QD, histories, n)
    scores_QN, wrong = np.full((len(sample), n), -np.inf), 0
    items_ID = night.open_array(files.ITEM_VECTORS)
    sellable_I = sellable_items(night.open_table(files.ITEMS))
    tolerance = 5e-3 if night.choices.encoder_gpus else 1e-5  # a GPU holds the items as bf16
    for query, rows_N in enumerate(rows_QN):
        rows = rows_N[rows_N >= 0]
        scores_QN[query, : len(rows)] = -np.sort(-(items_ID[rows] @ queries_QD[query]))
        bought = np.isin(rows, histories.slice(query, query + 1).items).any()
        near = np.allclose(scores_QN[query], best_QN[query], rtol=0, atol=tolerance)
        repeats = len(set(rows.tolist())) < len(rows)
        wrong += bool(bought or not sellable_I[rows].all() or repeats or not near)
    expected = np.isfinite(best_QN)
    hits = (scores_QN >= best_QN[:, -1:] - 1e-7) & expected
    counts = {"wrong": wrong, "wanted": int(expected.sum()), "found": int(hits.sum())}
    return ShardResult(len(sample), counts=counts)


def _best(
    night: NightRun, queries_QD: NDArray[np.float64], histories: Histories, n: int
) -> NDArray[np.float64]:
    """The n largest scores [Q, n] of sellable items that were not bought, best first, -inf for
    none."""
    items_ID = night.open_array(files.ITEM_VECTORS)
    sellable_I = sellable_items(night.open_table(files.ITEMS))
    best_QN = np.full((len(queries_QD), n), -np.inf)
    offsets, bought = histories.bought()
    owners = np.repeat(np.arange(len(histories)), np.diff(offsets))
    for rows in row_ranges(len(items_ID), 65_536):
        scores_QI = queries_QD @ items_ID[rows.start : rows.stop].astype(np.float64).T
        scores_QI[:, ~sellable_I[rows.start : rows.stop]] = -np.inf
        inside = (bought >= rows.start) & (bought < rows.stop)
        scores_QI[owners[inside], bought[inside] - rows.start] = -np.inf
        best_QN = -np.partition(-np.concatenate([best_QN, scores_QI], axis=1), n - 1, axis=1)[:, :n]
    best_QN[~queries_QD.any(axis=1)] = -np.inf
    return -np.sort(-best_QN, axis=1)


def _shop(night: NightRun) -> SyntheticShop:
    shop = night.dataset()
    assert isinstance(shop, SyntheticShop)
    return shop


def _ids(letter: str, rows: range) -> pa.Array:
    return pa.array([f"{letter}{row:09d}" for row in rows], pa.string())


def _vectors(random: np.random.Generator, clusters_N: Ints, dim: int) -> Floats:
    """Unit vectors [N, dim] around the centres of their clusters."""
    vectors_ND = random.standard_normal((len(clusters_N), dim), np.float32)
    vectors_ND *= np.float32(NOISE / dim**0.5)
    centres_CD = np.random.default_rng(_CENTRES).standard_normal((CLUSTERS, dim), np.float32)
    centres_CD /= np.linalg.norm(centres_CD, axis=1, keepdims=True)
    for rows in row_ranges(len(vectors_ND), 4096):
        block = slice(rows.start, rows.stop)
        vectors_ND[block] += centres_CD[clusters_N[block]]
        vectors_ND[block] /= np.linalg.norm(vectors_ND[block], axis=1, keepdims=True)
    return vectors_ND
