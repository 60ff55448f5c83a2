"""Sources over a snapshot: those that a night fitted, and for vectors the segment's items too.

Legend: I items of the release, S of the segment behind them, L = I + S."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from recsys.arrays import Candidates, Requests, utc_days
from recsys.catalogue.snapshot import CatalogueSnapshot
from recsys.interfaces import Retriever, Scorer
from recsys.retrieval.behaviour.new_items import NewItemRetriever, new_item_mask
from recsys.retrieval.vectors.exact import merge_top_k
from recsys.retrieval.vectors.fp16 import Fp16Retriever
from recsys.types import Floats, Ints, Mask, Rows


def live_sources(
    nightly: Sequence[Retriever], snapshot: CatalogueSnapshot
) -> tuple[Retriever, ...]:
    """The same sources over the snapshot's items: of vectors in both segments, of behaviour with
    the items where they are now. `arrivals` and `discovery` bring new items."""
    if not len(snapshot.segment):
        return tuple(nightly)
    return tuple(_live_source(source, snapshot) for source in nightly)


def stacked_retriever(
    first: Retriever, snapshot: CatalogueSnapshot, vectors_SD: Floats
) -> Retriever:
    """Nearest neighbours in both segments."""
    second = Fp16Retriever(first.source, np.asarray(vectors_SD, np.float32))
    return StackedRetriever(first, second, len(snapshot.live_rows_I))


def _live_source(source: Retriever, snapshot: CatalogueSnapshot) -> Retriever:
    size, vectors_Sd = len(snapshot.live_rows_I), snapshot.segment.user_space_vectors_Sd
    if source.source == "discovery":
        return stacked_retriever(source, snapshot, vectors_Sd)
    if source.source == "arrivals":
        first_days = snapshot.item_features.first_days_I
        now_days = utc_days(snapshot.created)
        is_new_S = new_item_mask(first_days, now_days)[size:] | snapshot.segment.is_new_S
        popularity_S = np.asarray(snapshot.popularity_I[size:], np.float32)
        second = NewItemRetriever(vectors_Sd, popularity_S, is_new_S)
        return StackedRetriever(source, second, size)
    kind = MovedScorer if isinstance(source, Scorer) else MovedSource
    return kind(source, snapshot.live_rows_I, snapshot.release_rows_L)


class StackedRetriever:
    """Two sources of one kind of score, of the first `size` items and of those behind."""

    def __init__(self, first: Retriever, second: Retriever, size: int) -> None:
        self.source, self.first, self.second, self.size = first.source, first, second, size

    def retrieve(self, requests: Requests, k: int, allowed: Mask | None = None) -> Candidates:
        early, late = self._split(requests)
        masks = (None, None) if allowed is None else (allowed[: self.size], allowed[self.size :])
        own = self.first.retrieve(early, k, masks[0])
        others = self.second.retrieve(late, k, masks[1])
        rows_BN = np.where(others.rows_BN < 0, -1, others.rows_BN + self.size).astype(np.int32)
        parts = [(own.rows_BN, own.scores_BN), (rows_BN, others.scores_BN)]
        return Candidates(self.source, *merge_top_k(parts))

    def score(self, requests: Requests, rows_BN: Rows) -> Floats:
        """Of each row by the source that has it."""
        assert isinstance(self.first, Scorer)
        assert isinstance(self.second, Scorer)
        early, late = self._split(requests)
        is_late_BN = rows_BN >= self.size
        first_BN = self.first.score(early, np.where(is_late_BN, 0, rows_BN).astype(np.int32))
        places_BN = np.where(is_late_BN, rows_BN - self.size, 0).astype(np.int32)
        return np.where(is_late_BN, self.second.score(late, places_BN), first_BN)

    def _split(self, requests: Requests) -> tuple[Requests, Requests]:
        """With the histories in the rows of each."""
        histories = requests.histories
        if histories is None:
            return requests, requests
        early = histories.where(histories.items < self.size)
        late = histories.where(histories.items >= self.size)
        late = replace(late, items=(late.items - self.size).astype(np.int32))
        return replace(requests, histories=early), replace(requests, histories=late)


class MovedSource:
    """A night's source, its items where they are now. It has nothing to say of new ones."""

    def __init__(self, nightly: Retriever, live_rows_I: Ints, release_rows_L: Ints) -> None:
        self.source, self.nightly = nightly.source, nightly
        self.live_rows_I, self.release_rows_L = live_rows_I, release_rows_L

    def retrieve(self, requests: Requests, k: int, allowed: Mask | None = None) -> Candidates:
        allowed_I = self.live_rows_I >= 0
        if allowed is not None:
            allowed_I = np.append(allowed, False)[self.live_rows_I]
        candidates = self.nightly.retrieve(self._as_of_night(requests), k, allowed_I)
        rows_BN = np.append(self.live_rows_I, -1)[candidates.rows_BN].astype(np.int32)
        return Candidates(self.source, rows_BN, candidates.scores_BN)

    def _as_of_night(self, requests: Requests) -> Requests:
        if requests.histories is None:
            return requests
        return replace(requests, histories=requests.histories.mapped(self.release_rows_L))


class MovedScorer(MovedSource):
    """The same of a source that scores any row: 0 of a new item."""

    def score(self, requests: Requests, rows_BN: Rows) -> Floats:
        assert isinstance(self.nightly, Scorer)
        rows_then_BN = np.append(self.release_rows_L, -1)[rows_BN].astype(np.int32)
        scores_BN = self.nightly.score(self._as_of_night(requests), np.maximum(rows_then_BN, 0))
        return np.where(rows_then_BN < 0, 0, scores_BN).astype(np.float32)
