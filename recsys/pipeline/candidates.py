"""Candidate generation and first-stage ranking of a block of requests.

By day this makes recommendations, at night the users' candidate lists: each source retrieves, their
candidates are merged into one table with a feature column a source, and the ranker orders them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from recsys.arrays import Histories, Requests, utc_days
from recsys.interfaces import Ranker, Retriever, Scorer, UserModel
from recsys.pipeline import sources
from recsys.pipeline.rerank import Pool
from recsys.pipeline.sources import SourceData
from recsys.ranking.item_features import Context
from recsys.ranking.linear import best
from recsys.ranking.merge import CandidateTable, merge
from recsys.release.arrow import histories_of
from recsys.release.release import Release
from recsys.retrieval.vectors.exact import ExactRetriever
from recsys.retrieval.vectors.fp16 import Fp16Retriever
from recsys.types import Floats, Mask, Rows

#: Candidates that each source retrieves before ranking, at least.
RETRIEVAL_DEPTH = 100


@dataclass(frozen=True, kw_only=True)
class RankedCandidates:
    """A candidate table in order, best first: rows_BK (-1 pads come last) and their scores_BK."""

    names: tuple[str, ...]
    rows_BK: Rows
    scores_BK: Floats
    features_BKF: Floats
    retrieved_BKF: Mask


@dataclass(frozen=True, kw_only=True)
class CandidatePool:
    """The first stage's result for a recommendation: candidates ordered by `ranker`, and the
    request that the sources were queried with."""

    candidates: RankedCandidates
    context: Context
    personalised: bool
    requests: Requests
    sources: tuple[Retriever, ...]
    ranker: Ranker
    allowed: Mask | None
    skipped: tuple[str, ...] = ()

    @property
    def pool(self) -> Pool:
        """The candidates without pads, which come last."""
        filled = slice(0, int((self.candidates.rows_BK[0] >= 0).sum()))
        return Pool(
            rows_N=self.candidates.rows_BK[0, filled],
            scores_N=self.candidates.scores_BK[0, filled],
            names=self.candidates.names,
            signals_NF=self.candidates.features_BKF[0, filled],
            retrieved_NF=self.candidates.retrieved_BKF[0, filled],
        )


#: Candidates of a block of histories.
CandidateGenerator = Callable[[Histories], CandidateTable]


def retrieval_depth(k: int) -> int:
    """How many candidates each source retrieves for the best k."""
    return max(k, RETRIEVAL_DEPTH)


def retrieve_and_rank(
    retrievers: Sequence[Retriever],
    ranker: Ranker,
    requests: Requests,
    k: int,
    *,
    allowed: Mask | None = None,
    stages_ms: dict[str, float] | None = None,
    depth: int | None = None,
) -> RankedCandidates:
    """The best k of what the sources retrieve for k; with `depth`, the best `depth` of the same."""
    stages_ms = {} if stages_ms is None else stages_ms
    table = retrieve(retrievers, requests, k, allowed=allowed, stages_ms=stages_ms)
    with timed(stages_ms, "rank"):
        return rank_table(ranker, table, depth or k)


def retrieve(
    retrievers: Sequence[Retriever],
    requests: Requests,
    k: int,
    *,
    allowed: Mask | None = None,
    stages_ms: dict[str, float],
) -> CandidateTable:
    """`retrieval_depth(k)` candidates of each source, merged.

    A source that is a `Scorer` also scores what the others retrieved: an item is then not ranked
    lower for having just missed its list."""
    lists, depth = [], retrieval_depth(k)
    for source in retrievers:
        with timed(stages_ms, source.source):
            lists.append(source.retrieve(requests, depth, allowed))
    with timed(stages_ms, "merge"):
        rows_BN, features_BNF = merge(lists)
        retrieved_BNF = features_BNF != 0
        for column, source in enumerate(retrievers):
            if isinstance(source, Scorer):
                scores_BN = source.score(requests, rows_BN)
                features_BNF[:, :, column] = np.where(rows_BN < 0, 0, scores_BN)
    names = tuple(source.source for source in retrievers)
    return CandidateTable(names, rows_BN, features_BNF, retrieved_BNF)


def rank_table(ranker: Ranker, table: CandidateTable, k: int) -> RankedCandidates:
    """The best k of each request by the ranker's score."""
    places_BK, scores_BK = best(table.rows_BN, ranker.score(table.features_BNF), k)
    return RankedCandidates(
        names=table.names,
        rows_BK=np.take_along_axis(table.rows_BN, places_BK, axis=1),
        scores_BK=scores_BK,
        features_BKF=np.take_along_axis(table.features_BNF, places_BK[:, :, None], axis=1),
        retrieved_BKF=np.take_along_axis(table.retrieved_BNF, places_BK[:, :, None], axis=1),
    )


def candidate_generator(
    data: SourceData, names: Sequence[str], users: UserModel, k: int = 1
) -> CandidateGenerator:
    """What the sources `names` retrieve for histories at the time that their data is of, k or more
    each: what a learned mixer is trained and measured on."""
    retrievers = sources.make_sources(names, data)

    def generate(histories: Histories) -> CandidateTable:
        requests = Requests(
            size=len(histories),
            vectors_BD=users.encode_history(histories, data.items_ID),
            histories=histories,
            now_days=data.now_days,
        )
        return retrieve(retrievers, requests, k, stages_ms={})

    return generate


@contextmanager
def timed(stages_ms: dict[str, float], stage: str) -> Iterator[None]:
    """Adds the block's time to the stage's milliseconds."""
    started = time.perf_counter()
    yield
    stages_ms[stage] = stages_ms.get(stage, 0.0) + (time.perf_counter() - started) * 1000


def dense_source(
    release: Release, source: str, items_ID: Floats, *, fp16: bool = False
) -> Retriever:
    """Exact nearest neighbours among the items, or the release's faiss index where the night built
    one over their vectors. `fp16` suits one request at a time."""
    index = release.folder / "dense.ivf"
    if items_ID is release.item_vectors_ID and index.exists():
        from recsys.retrieval.vectors import ivf

        return ivf.IvfRetriever(source, ivf.open_ivf(index), items_ID)
    return (Fp16Retriever if fp16 else ExactRetriever)(source, items_ID)


def source_data_of(release: Release, names: Sequence[str]) -> SourceData:
    """The data of the recommendation sources `names`, as the night left it."""
    items_ID = release.user_space_item_vectors_ID
    return sources.read_source_data(
        names,
        release.array,
        items_ID=items_ID,
        now_days=utc_days(datetime.fromisoformat(release.manifest.created)),
        categories_I=sources.category_codes(release.items),
        peers=histories_of(release.peers),
        discovery=dense_source(release, "discovery", items_ID),
    )


def pack_source_bits(retrieved_BKF: Mask) -> NDArray[np.uint16]:
    """Which of at most 16 sources retrieved an item, as one number: bit f for source f."""
    bits_F = np.left_shift(1, np.arange(retrieved_BKF.shape[2]))
    return (retrieved_BKF @ bits_F).astype(np.uint16)


def unpack_source_bits(bits_BK: NDArray[np.uint16], source_count: int) -> Mask:
    """The inverse of `pack_source_bits`."""
    return (bits_BK[:, :, None] >> np.arange(source_count)) % 2 == 1
