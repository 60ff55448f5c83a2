"""From sources to an order, for a block of requests: what recommendations are by day and candidate
lists at night.

Every source is asked, what they bring is merged into one feature column a source, the ranker puts
it in order."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from recsys.interfaces import Ranker, Retriever, Scorer
from recsys.pipeline import sources
from recsys.ranking.linear import best
from recsys.ranking.merge import merge
from recsys.release.arrow import histories_of
from recsys.release.release import Release
from recsys.retrieval.vectors.exact import ExactRetriever
from recsys.retrieval.vectors.fp16 import Fp16Retriever
from recsys.types import Floats, Mask, Requests, Rows, utc_days

#: How deep each source is asked before ranking.
DEPTH = 100


@dataclass(frozen=True)
class RankedCandidates:
    """Answers to a block, best first: rows_BK int32 (-1 pads), scores_BK, features_BKF, and which
    source brought it."""

    names: tuple[str, ...]
    rows_BK: Rows
    scores_BK: Floats
    features_BKF: Floats
    brought_BKF: Mask


def depth(k: int) -> int:
    return max(k, DEPTH)


def find(
    retrievers: Sequence[Retriever],
    ranker: Ranker,
    requests: Requests,
    k: int,
    allowed: Mask | None = None,
    stages_ms: dict[str, float] | None = None,
    kept: int | None = None,
) -> RankedCandidates:
    """The k best of what all sources bring, asked for k; or the `kept` best of it."""
    stages_ms = {} if stages_ms is None else stages_ms
    rows_BN, features_BNF, brought_BNF = gather(retrievers, requests, k, allowed, stages_ms)
    with timed(stages_ms, "rank"):
        names = tuple(source.source for source in retrievers)
        return ranked(ranker, names, rows_BN, features_BNF, brought_BNF, kept or k)


def gather(
    retrievers: Sequence[Retriever],
    requests: Requests,
    k: int,
    allowed: Mask | None,
    stages_ms: dict[str, float],
) -> tuple[Rows, Floats, Mask]:
    """rows_BN, features_BNF and who brought what, one column a source. Where a source can score
    what others brought, it does: an item is then not ranked lower for having just missed its
    list."""
    brought = []
    for source in retrievers:
        with timed(stages_ms, source.source):
            brought.append(source.retrieve(requests, depth(k), allowed))
    with timed(stages_ms, "merge"):
        rows_BN, features_BNF = merge(brought)
        brought_BNF = features_BNF != 0
        for place, source in enumerate(retrievers):
            if isinstance(source, Scorer):
                scores_BN = source.score(requests, rows_BN)
                features_BNF[:, :, place] = np.where(rows_BN < 0, 0, scores_BN)
    return rows_BN, features_BNF, brought_BNF


def ranked(
    ranker: Ranker,
    names: tuple[str, ...],
    rows_BN: Rows,
    features_BNF: Floats,
    brought_BNF: Mask,
    k: int,
) -> RankedCandidates:
    """Score, cut."""
    places_BK, scores_BK = best(rows_BN, ranker.score(features_BNF), k)
    rows_BK = np.take_along_axis(rows_BN, places_BK, axis=1)
    features_BKF = np.take_along_axis(features_BNF, places_BK[:, :, None], axis=1)
    brought_BKF = np.take_along_axis(brought_BNF, places_BK[:, :, None], axis=1)
    return RankedCandidates(names, rows_BK, scores_BK, features_BKF, brought_BKF)


@contextmanager
def timed(stages_ms: dict[str, float], stage: str) -> Iterator[None]:
    """Adds the block's time to the stage's milliseconds."""
    started = time.perf_counter()
    yield
    stages_ms[stage] = stages_ms.get(stage, 0.0) + (time.perf_counter() - started) * 1000


def dense_source(release: Release, source: str, items_ID: Floats, fp16: bool = False) -> Retriever:
    """Exact search over the items, or the release's faiss index where the night made one of their
    vectors. `fp16` is for requests that come one at a time."""
    index = release.folder / "dense.ivf"
    if items_ID is release.item_vectors_ID and index.exists():
        from recsys.retrieval.vectors import ivf

        return ivf.IvfRetriever(source, ivf.open_ivf(index), items_ID)
    return (Fp16Retriever if fp16 else ExactRetriever)(source, items_ID)


def fitted(release: Release, names: Sequence[str]) -> sources.Fitted:
    """What the sources of recommendations are made of, as the night left it."""
    return sources.read(
        names,
        release.array,
        release.user_space_item_vectors_ID,
        utc_days(datetime.fromisoformat(release.manifest.created)),
        sources.categories(release.items),
        histories_of(release.peers),
        dense_source(release, "discovery", release.user_space_item_vectors_ID),
    )


def packed(brought_BKF: Mask) -> NDArray[np.uint16]:
    """Who brought an item, as one number: bit f for source f, of at most 16."""
    bits_F = np.left_shift(1, np.arange(brought_BKF.shape[2]))
    return (brought_BKF @ bits_F).astype(np.uint16)


def unpacked(numbers_BK: NDArray[np.uint16], sources: int) -> Mask:
    """What `packed` packed."""
    return (numbers_BK[:, :, None] >> np.arange(sources)) % 2 == 1
