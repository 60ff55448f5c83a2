"""The online path in one process: retrieve, merge, filter, rank, explain.

`find` is the whole of it, and the night makes its candidate lists by the same lines: a block of requests goes to
every source, what they bring is merged into one feature column a source, and the ranker puts it in order.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from recsys.errors import InputError, NotFoundError
from recsys.interfaces import Ranker, Retriever, Scorer, UserModel
from recsys.ranking.linear import best
from recsys.ranking.merge import merge
from recsys.release import Release
from recsys.retrieval.buy_again import BuyAgain
from recsys.retrieval.cooccurrence import CoOccurrence
from recsys.retrieval.exact import ExactRetriever, inner_products
from recsys.retrieval.lexical import LexicalRetriever
from recsys.retrieval.popularity import Popularity
from recsys.types import (
    EVENT_TYPES,
    Floats,
    Histories,
    Impression,
    Interaction,
    Mask,
    Query,
    Ranking,
    Requests,
    Rows,
    ScoredItem,
    utc_days,
)

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


@dataclass(frozen=True)
class Recommender:
    """Answers from one release. Holds nothing of a request; safe to call from many threads."""

    release: Release
    user_model: UserModel
    search_ranker: Ranker
    recommend_ranker: Ranker
    search_sources: tuple[Retriever, ...]
    recommend_sources: tuple[Retriever, ...]

    @classmethod
    def over(
        cls, release: Release, user_model: UserModel, search_ranker: Ranker, recommend_ranker: Ranker
    ) -> Recommender:
        return cls(
            release,
            user_model,
            search_ranker,
            recommend_ranker,
            (LexicalRetriever(release.lexical), dense_source(release, "dense")),
            recommend_sources(
                recommend_ranker,
                release.co_occurrence,
                dense_source(release, "discovery"),
                np.asarray(release.popularity_I),
            ),
        )

    def search(self, query: Query, vector_D: Floats, live: Sequence[Interaction] = ()) -> Ranking:
        """The query's text against titles and vectors, in the user's order where he has a history.

        A filtered search gives min(k, matches) items. `vector_D` is the encoded text, in the release's space.
        """
        assert query.text is not None
        stages_ms: dict[str, float] = {}
        with timed(stages_ms, "filter"):
            allowed = self.release.allowed(query.filters)
        requests = Requests(1, (query.text,), vector_D[None, :])
        gathered = gather(self.search_sources, requests, query.k, allowed, stages_ms)
        with timed(stages_ms, "personal"):
            user_1D = self._user_vector(self._history(query.user_id, live))
            rows_1N, features_1NF, brought_1NF = gathered
            taste_1N1 = inner_products(Requests(1, None, user_1D), self.release.item_vectors_ID, rows_1N)[:, :, None]
        names = (*(source.source for source in self.search_sources), "personal")
        with timed(stages_ms, "rank"):
            features_1NF = np.concatenate([features_1NF, np.where(rows_1N[:, :, None] < 0, 0, taste_1N1)], axis=2)
            brought_1NF = np.concatenate([brought_1NF, np.zeros_like(brought_1NF[:, :, :1])], axis=2)
            found = ranked(self.search_ranker, names, rows_1N, features_1NF, brought_1NF, query.k)
        return self._answer(query, found, bool(user_1D.any()), stages_ms)

    def recommend(self, query: Query, live: Sequence[Interaction] = ()) -> Ranking:
        """The nightly list while the user has done nothing since; from the same sources, asked again, once he has.

        A user without a history gets what sells now. What he bought since the night is left out.
        """
        stages_ms: dict[str, float] = {}
        with timed(stages_ms, "filter"):
            allowed = self.release.allowed(replace(query.filters, in_stock=True))
        user_row = self.release.user_ids.row(query.user_id) if query.user_id else None
        if user_row is not None and not live:
            with timed(stages_ms, "nightly"):
                nightly = self._nightly(user_row, allowed, query.k)
            if (nightly.rows_BK >= 0).sum() >= query.k:
                return self._answer(query, nightly, True, stages_ms)
        with timed(stages_ms, "user vector"):
            history = self._history(query.user_id, live)
            vector_1D = self._user_vector(history)
        bought = [row for event in live if event.type == "purchase" and (row := self._row(event)) is not None]
        if allowed is not None:
            allowed[bought] = False
        requests = Requests(1, None, vector_1D, history)
        found = find(self.recommend_sources, self.recommend_ranker, requests, query.k, allowed, stages_ms)
        return self._answer(query, found, len(history.items) > 0, stages_ms)

    def similar(self, query: Query, item_id: str) -> Ranking:
        """The nightly list of one item. Raises NotFoundError when the release does not have it."""
        row = self.release.item_ids.row(item_id)
        if row is None:
            raise NotFoundError(f"item {item_id!r} is not in release {self.release.version}: take an id from /search")
        allowed = self.release.allowed(query.filters)
        rows_S = self.release.similar_rows_IS[row]
        kept = (rows_S >= 0) & (allowed[rows_S] if allowed is not None else True)
        scored = zip(rows_S[kept][: query.k], self.release.similar_scores_IS[row][kept][: query.k], strict=True)
        items = tuple(
            ScoredItem(self.release.item(int(at)), float(s), {"similar": float(s)}, {"similar": float(s)})
            for at, s in scored
        )
        return Ranking(query.request_id, self.release.version, items)

    def _answer(self, query: Query, found: Found, personalised: bool, stages_ms: dict[str, float]) -> Ranking:
        with timed(stages_ms, "explain"):
            items = tuple(
                ScoredItem(
                    self.release.item(int(row)),
                    float(score),
                    {n: float(x) for n, x, b in zip(found.names, features_F, brought_F, strict=True) if b},
                    dict(zip(found.names, features_F.tolist(), strict=True)),
                )
                for row, score, features_F, brought_F in zip(
                    found.rows_BK[0], found.scores_BK[0], found.features_BKF[0], found.brought_BKF[0], strict=True
                )
                if row >= 0
            )
        return Ranking(query.request_id, self.release.version, items, personalised, stages_ms=stages_ms)

    def _nightly(self, user_row: int, allowed: Mask | None, k: int) -> Found:
        """The stored list, ranked again without what is not allowed."""
        users = slice(user_row, user_row + 1)
        rows_1N, features_1NF = (
            np.array(self.release.candidate_rows_UN[users]),
            self.release.candidate_features_UNF[users],
        )
        if allowed is not None:
            rows_1N[~allowed[rows_1N]] = -1
        names = tuple(self.release.manifest.sources)
        brought_1NF = unpacked(self.release.candidate_sources_UN[users], len(names))
        return ranked(self.recommend_ranker, names, rows_1N, features_1NF, brought_1NF, k)

    def _history(self, user_id: str | None, live: Sequence[Interaction]) -> Histories:
        row = self.release.user_ids.row(user_id) if user_id else None
        known = self.release.history(row) if row is not None else Histories.empty()
        return known.followed_by(self._live_history(live)) if live else known

    def _live_history(self, live: Sequence[Interaction]) -> Histories:
        placed = [(row, event) for event in live if (row := self._row(event)) is not None]
        return Histories(
            np.array([0, len(placed)], np.int64),
            np.array([row for row, _ in placed], np.int32),
            np.array([EVENT_TYPES.index(event.type) for _, event in placed], np.int8),
            np.array([utc_days(event.time) for _, event in placed], np.float64),
        )

    def _row(self, event: Interaction) -> int | None:
        return self.release.item_ids.row(event.item_id)

    def _user_vector(self, history: Histories) -> Floats:
        return self.user_model.encode_history(history, self.release.item_vectors_ID)


def dense_source(release: Release, source: str) -> Retriever:
    """Exact search over the item vectors, or the release's faiss index where the night made one."""
    index = release.folder / "dense.ivf"
    if index.exists():
        from recsys.retrieval import ann

        return ann.AnnRetriever(source, ann.load(index), release.item_vectors_ID)
    return ExactRetriever(source, release.item_vectors_ID)


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


def impression(ranking: Ranking, surface: str, query: Query) -> Impression:
    """What is logged of an answer: every item shown, in order, with the features it was ranked with."""
    names = tuple(ranking.items[0].features) if ranking.items else ()
    return Impression(
        request_id=ranking.request_id,
        time=datetime.now(UTC),
        release=ranking.release,
        surface=surface,
        item_ids=tuple(item.item.item_id for item in ranking.items),
        feature_names=names,
        features=tuple(tuple(item.features.values()) for item in ranking.items),
        user_id=query.user_id,
        query=query.text,
    )
