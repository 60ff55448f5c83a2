"""Exact nearest neighbours of every user: user parts x item shards, on GPUs where the setup gives
some.

A shard of the stage is one user part against one item shard, and leaves a list of global rows a
user. Shards of the same items follow each other, so that a worker holds one shard of items after
another. Whoever reads the lists of a user part merges them."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import numpy as np

from recsys.batch.embed import user_space_item_vectors
from recsys.batch.plan import NightRun, ShardResult
from recsys.batch.stages import ActorWork, Stage
from recsys.interfaces import Retriever
from recsys.pipeline.candidates import retrieval_depth
from recsys.release import files
from recsys.release.arrow import histories_of, row_ranges, sellable_items
from recsys.retrieval.vectors.exact import BLOCK_ITEMS, empty_top_k
from recsys.retrieval.vectors.precomputed import PrecomputedNeighbours
from recsys.retrieval.vectors.resident import ResidentVectors, resident_vectors, shard_exclusions
from recsys.types import Floats, Rows

#: The source whose lists these are.
SOURCE = "discovery"
#: Parts that a shard of the stage leaves: rows [U, K] int32 and scores [U, K] float32.
PARTS = ("nearest_rows", "nearest_scores")
#: Blocks of users that are searched for at once: a GPU wants thousands.
BLOCKS = 32


def stage(night: NightRun) -> Stage:
    """Runs when items and users have vectors, before the candidates."""
    return Stage(
        "nearest", len(item_shards(night)) * night.plan.user_parts, ActorWork(NearestActor)
    )


def shards_of(items: int, resident: int) -> list[range]:
    """The rows that a worker holds at once; whole blocks of `top_k`, so that scores do not depend
    on the cut."""
    return row_ranges(items, resident // BLOCK_ITEMS * BLOCK_ITEMS or resident) or [range(0)]


def item_shards(night: NightRun) -> list[range]:
    return shards_of(len(user_space_item_vectors(night)), night.choices.items_resident)


class NearestActor:
    """The actor: holds one item shard, until it is given a block of another."""

    def __init__(self, night: NightRun) -> None:
        self.night, self.shards = night, item_shards(night)
        self.sellable_I = sellable_items(night.open_table(files.ITEMS))
        self.items: ResidentVectors | None = None
        self.rows = range(0)
        self.one_at_a_time = threading.Lock()

    def process(self, shard: int, prepared: bytes) -> ShardResult:
        """The lists of one user part in one item shard."""
        items, part = divmod(shard, self.night.plan.user_parts)
        with self.one_at_a_time:  # others are written meanwhile
            rows_UK, scores_UK = self._top_k(self.shards[items], part)
        result = ShardResult(len(rows_UK))
        self.night.write_arrays(result, shard, dict(zip(PARTS, (rows_UK, scores_UK), strict=True)))
        return result

    def _top_k(self, rows: range, part: int) -> tuple[Rows, Floats]:
        choices, items = self.night.choices, self._resident(rows)
        histories = histories_of(self.night.read_part(files.USERS, part))
        vectors_UD = self.night.read_array(files.USER_VECTORS, part)
        sellable_I = self.sellable_I[rows.start : rows.stop]
        rows_UK, scores_UK = empty_top_k(len(histories), retrieval_depth(choices.candidates))
        for block in row_ranges(len(histories), BLOCKS * choices.users_per_block):
            users = slice(block.start, block.stop)
            bought = histories.slice(block.start, block.stop).bought()
            exclude = shard_exclusions(bought, rows)
            local_BK, scores_UK[users] = items.top_k(
                vectors_UD[users], rows_UK.shape[1], allowed_I=sellable_I, exclude=exclude
            )
            rows_UK[users] = np.where(local_BK < 0, -1, local_BK + rows.start)
        return rows_UK, scores_UK

    def _resident(self, rows: range) -> ResidentVectors:
        if self.items is None or rows != self.rows:
            self.items = None  # the old shard goes before the new one comes
            choices = self.night.choices
            items_ID = user_space_item_vectors(self.night)[rows.start : rows.stop]
            gpu = choices.encoder_gpus > 0
            self.items, self.rows = resident_vectors(items_ID, gpu, choices.users_per_block), rows
        return self.items


class NeighbourLists:
    """The lists of one user part, of all item shards."""

    def __init__(self, night: NightRun, part: int) -> None:
        shards = range(part, len(item_shards(night)) * night.plan.user_parts, night.plan.user_parts)
        self.of_shards = [
            tuple(night.read_array(name, shard) for name in PARTS) for shard in shards
        ]
        self.items_ID = user_space_item_vectors(night)

    def substitute_into(self, retrievers: Sequence[Retriever], block: range) -> list[Retriever]:
        """The sources for one block of users, these lists in the place of the search that they
        spare."""
        users = slice(block.start, block.stop)
        listed = PrecomputedNeighbours(
            SOURCE, [(rows[users], scores[users]) for rows, scores in self.of_shards], self.items_ID
        )
        return [listed if source.source == SOURCE else source for source in retrievers]
