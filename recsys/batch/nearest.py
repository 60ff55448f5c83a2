"""Every user's nearest items, exactly: user parts x item shards, on GPUs where the setup gives
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
from recsys.batch.stages import Stage
from recsys.interfaces import Retriever
from recsys.pipeline.candidates import depth
from recsys.release.release import histories_of, row_ranges
from recsys.retrieval.vectors.exact import BLOCK_ITEMS, empty_top_k
from recsys.retrieval.vectors.precomputed import PrecomputedNeighbours
from recsys.retrieval.vectors.resident import ResidentVectors, resident_vectors, shard_exclusions
from recsys.types import Floats, Rows

#: The source whose lists these are.
SOURCE = "discovery"
#: Blocks of users that are asked at once: a GPU wants thousands.
BLOCKS = 32


def stage(night: NightRun) -> Stage:
    """Runs when items and users have vectors, before the candidates."""
    return Stage("nearest", len(item_shards(night)) * night.plan.user_parts, actor=NearestActor)


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
        self.sellable_I = np.asarray(night.open_items()["in_stock"])
        self.items: ResidentVectors | None = None
        self.rows = range(0)
        self.one_at_a_time = threading.Lock()

    def process(self, shard: int, prepared: bytes) -> ShardResult:
        """The lists of one user part in one item shard."""
        at, part = divmod(shard, self.night.plan.user_parts)
        with self.one_at_a_time:  # others are written meanwhile
            rows_UK, scores_UK = self._lists(self.shards[at], part)
        result = ShardResult(len(rows_UK))
        self.night.write_arrays(
            result, shard, {"nearest_rows": rows_UK, "nearest_scores": scores_UK}
        )
        return result

    def _lists(self, rows: range, part: int) -> tuple[Rows, Floats]:
        choices, items = self.night.choices, self._held(rows)
        known = histories_of(self.night.read_part("users", part))
        vectors_UD, sellable_I = (
            self.night.read_array("user_vectors", part),
            self.sellable_I[rows.start : rows.stop],
        )
        rows_UK, scores_UK = empty_top_k(len(known), depth(choices.candidates))
        for block in row_ranges(len(known), BLOCKS * choices.users_per_block):
            users = slice(block.start, block.stop)
            exclude = shard_exclusions(known.slice(block.start, block.stop).bought(), rows)
            found_BK, scores_UK[users] = items.top_k(
                vectors_UD[users], rows_UK.shape[1], allowed_I=sellable_I, exclude=exclude
            )
            rows_UK[users] = np.where(found_BK < 0, -1, found_BK + rows.start)
        return rows_UK, scores_UK

    def _held(self, rows: range) -> ResidentVectors:
        if self.items is None or rows != self.rows:
            self.items = None  # the old shard goes before the new one comes
            choices = self.night.choices
            items_ID = user_space_item_vectors(self.night)[rows.start : rows.stop]
            self.items, self.rows = (
                resident_vectors(items_ID, choices.encoder_gpus > 0, choices.users_per_block),
                rows,
            )
        return self.items


class NeighbourLists:
    """The lists of one user part, of all item shards."""

    def __init__(self, night: NightRun, part: int) -> None:
        shards = range(part, len(item_shards(night)) * night.plan.user_parts, night.plan.user_parts)
        names = ("nearest_rows", "nearest_scores")
        self.of_shards = [
            tuple(night.read_array(name, shard) for name in names) for shard in shards
        ]
        self.items_ID = user_space_item_vectors(night)

    def substitute_into(self, asked: Sequence[Retriever], block: range) -> list[Retriever]:
        """The sources for one block of users, these lists in the place of the search that they
        spare."""
        users = slice(block.start, block.stop)
        listed = PrecomputedNeighbours(
            SOURCE, [(rows[users], scores[users]) for rows, scores in self.of_shards], self.items_ID
        )
        return [listed if source.source == SOURCE else source for source in asked]
