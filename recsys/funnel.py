"""From sources to an order, for a block of requests: what recommendations are by day and candidate lists at night.

Every source is asked, what they bring is merged into one feature column a source, the ranker puts it in order.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recsys.errors import InputError
from recsys.interfaces import Ranker, Retriever, Scorer
from recsys.ranking.linear import best
from recsys.ranking.merge import merge
from recsys.release import Release
from recsys.retrieval.buy_again import BuyAgain
from recsys.retrieval.cooccurrence import CoOccurrence
from recsys.retrieval.exact import ExactRetriever
from recsys.retrieval.popularity import Popularity
from recsys.types import Floats, Mask, Requests, Rows

#: How deep each source is asked before ranking.
DEPTH = 100


@dataclass(frozen=True)
class Found:
    """Answers to a block, best first: rows_BK int32 (-1 pads), scores_BK, features_BKF, and which source brought it."""

    names: tuple[str, ...]
    rows_BK: Rows
    scores_BK: Floats
    features_BKF: Floats
    brought_BKF: Mask


def find(
    sources: Sequence[Retriever],
    ranker: Ranker,
    requests: Requests,
    k: int,
    allowed: Mask | None = None,
    stages_ms: dict[str, float] | None = None,
) -> Found:
    """The k best of what all sources bring."""
    stages_ms = {} if stages_ms is None else stages_ms
    rows_BN, features_BNF, brought_BNF = gather(sources, requests, k, allowed, stages_ms)
    with timed(stages_ms, "rank"):
        return ranked(ranker, tuple(source.source for source in sources), rows_BN, features_BNF, brought_BNF, k)


def gather(
    sources: Sequence[Retriever], requests: Requests, k: int, allowed: Mask | None, stages_ms: dict[str, float]
) -> tuple[Rows, Floats, Mask]:
    """rows_BN, features_BNF and who brought what, one column a source. Where a source can score what others brought,
    it does: an item is then not ranked lower for having just missed its list."""
    brought = []
    for source in sources:
        with timed(stages_ms, source.source):
            brought.append(source.retrieve(requests, max(k, DEPTH), allowed))
    with timed(stages_ms, "merge"):
        rows_BN, features_BNF = merge(brought)
        brought_BNF = features_BNF != 0
        for place, source in enumerate(sources):
            if isinstance(source, Scorer):
                scores_BN = source.score(requests, rows_BN)
                features_BNF[:, :, place] = np.where(rows_BN < 0, 0, scores_BN)
    return rows_BN, features_BNF, brought_BNF


def ranked(
    ranker: Ranker, names: tuple[str, ...], rows_BN: Rows, features_BNF: Floats, brought_BNF: Mask, k: int
) -> Found:
    """Score, cut."""
    places_BK, scores_BK = best(rows_BN, ranker.score(features_BNF), k)
    rows_BK = np.take_along_axis(rows_BN, places_BK, axis=1)
    features_BKF = np.take_along_axis(features_BNF, places_BK[:, :, None], axis=1)
    brought_BKF = np.take_along_axis(brought_BNF, places_BK[:, :, None], axis=1)
    return Found(names, rows_BK, scores_BK, features_BKF, brought_BKF)


@contextmanager
def timed(stages_ms: dict[str, float], stage: str) -> Iterator[None]:
    """Adds the block's time to the stage's milliseconds."""
    started = time.perf_counter()
    yield
    stages_ms[stage] = stages_ms.get(stage, 0.0) + (time.perf_counter() - started) * 1000


def dense_source(release: Release, source: str, items_ID: Floats) -> Retriever:
    """Exact search over the items, or the release's faiss index where the night made one of their vectors."""
    index = release.folder / "dense.ivf"
    if items_ID is release.item_vectors_ID and index.exists():
        from recsys.retrieval import ann

        return ann.AnnRetriever(source, ann.load(index), items_ID)
    return ExactRetriever(source, items_ID)


def recommend_sources(
    ranker: Ranker, co_occurrence: tuple[Rows, Floats], discovery: Retriever, popularity_I: Floats
) -> tuple[Retriever, ...]:
    """What a recommendation is made of: the sources that the ranker has a feature for, in its order.

    The night stores one feature a source. Raises InputError for a feature that no source gives.
    """
    there = (BuyAgain(popularity_I), CoOccurrence(*co_occurrence), discovery, Popularity(popularity_I))
    by_name = {source.source: source for source in there}
    if unknown := set(ranker.feature_names) - set(by_name):
        raise InputError(f"the ranker wants {', '.join(unknown)}: the sources are {', '.join(by_name)}")
    return tuple(by_name[name] for name in ranker.feature_names)


def packed(brought_BKF: Mask) -> NDArray[np.uint8]:
    """Who brought an item, as one byte: bit f for source f."""
    return np.packbits(brought_BKF, axis=2, bitorder="little")[:, :, 0]


def unpacked(bytes_BK: NDArray[np.uint8], sources: int) -> Mask:
    """What `packed` packed."""
    return np.unpackbits(bytes_BK[:, :, None], axis=2, count=sources, bitorder="little").astype(bool)
