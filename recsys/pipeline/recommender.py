"""The online path in one process: what a request asks for, as an answer from one release.

A search is understood, found and ordered by `search.Searcher`; a recommendation goes through
`funnel.find`, the lines by which the night made its candidate lists."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import numpy as np

from recsys.errors import NotFoundError
from recsys.interfaces import Classifier, Ranker, Retriever, UserModel
from recsys.pipeline import sources
from recsys.pipeline.candidates import (
    RankedCandidates,
    dense_source,
    find,
    fitted,
    ranked,
    timed,
    unpacked,
)
from recsys.pipeline.rerank import Pool, Reranker, brought, context_of
from recsys.pipeline.search import SearchPage
from recsys.pipeline.searcher import HybridSearcher, SearchChoices
from recsys.ranking.cross_encoder import CrossEncoder
from recsys.ranking.diversity import reordered
from recsys.ranking.item_features import Context
from recsys.release.release import Release
from recsys.retrieval.interest import DeclaredInterest, InterestRanker
from recsys.retrieval.text.bm25 import LexicalRetriever
from recsys.retrieval.text.synonyms import Synonyms
from recsys.types import (
    EVENT_TYPES,
    Floats,
    Histories,
    Interaction,
    Ints,
    Mask,
    Query,
    Ranking,
    Requests,
    Rows,
    ScoredItem,
    utc_days,
)
from recsys.understanding.query_parser import ParsedQuery, QueryParser
from recsys.understanding.spelling import Speller

#: A reordered answer is chosen from this many times as many ranked candidates.
POOL = 5


@dataclass(frozen=True)
class CandidatePool:
    """What the sources brought for a recommendation, ordered by `ranker`, and what they were asked
    with."""

    found: RankedCandidates
    context: Context
    personalised: bool
    requests: Requests
    sources: tuple[Retriever, ...]
    ranker: Ranker
    allowed: Mask | None
    skipped: tuple[str, ...] = ()

    @property
    def pool(self) -> Pool:
        """The candidates that are there; places are those in `found`, whose pads come last."""
        there = slice(0, int((self.found.rows_BK[0] >= 0).sum()))
        signals = dict(zip(self.found.names, self.found.features_BKF[0, there].T, strict=True))
        return Pool(self.found.rows_BK[0, there], self.found.scores_BK[0, there], signals)


@dataclass(frozen=True)
class Recommender:
    """Answers from one release. Holds nothing of a request; safe to call from many threads.

    `tail_share`: see `ranking.diversity.with_tail`. The `reranker` puts candidates in their last
    order."""

    release: Release
    user_model: UserModel
    searcher: HybridSearcher
    understander: QueryParser
    recommend_ranker: Ranker
    recommend_sources: tuple[Retriever, ...]
    reranker: Reranker
    intent: Classifier | None = None
    tail_share: float = 0.0

    @classmethod
    def over(
        cls,
        release: Release,
        user_model: UserModel,
        search_ranker: Ranker,
        recommend_ranker: Ranker,
        reader: CrossEncoder | None = None,
        intent: Classifier | None = None,
        choices: SearchChoices | None = None,
        synonyms: Synonyms | None = None,
        known_words: Collection[str] = frozenset(),
        tail_share: float = 0.0,
        reranker: Reranker | None = None,
    ) -> Recommender:
        """`known_words` are never corrected. Without a `reranker` the first stage has the last word.
        Raises InputError for a ranker with a feature that nothing gives."""
        searcher = HybridSearcher(
            LexicalRetriever(release.lexical, synonyms),
            dense_source(release, "dense", release.item_vectors_ID, fp16=True),
            release.item_vectors_ID,
            search_ranker,
            release.texts,
            np.asarray(release.popularity_I),
            reader,
            choices or SearchChoices(),
            release.user_space_item_vectors_ID,
        )
        retrievers = sources.sources(
            recommend_ranker.feature_names, fitted(release, recommend_ranker.feature_names)
        )
        understander = QueryParser(
            Speller(
                release.lexical.terms,
                release.lexical.frequencies,
                release.lexical.rows_of_term,
                known_words,
            ),
            release.codes,
            release.labels["brand"].spellings_V,
            release.item_ids.__getitem__,
        )
        reranker = reranker or Reranker(release.item_features)
        return cls(
            release,
            user_model,
            searcher,
            understander,
            recommend_ranker,
            retrievers,
            reranker,
            intent,
            tail_share,
        )

    def understand(self, text: str) -> ParsedQuery:
        """What a search text was taken to mean; its `understanding.normalised` is what is to be
        encoded."""
        understood = self.understander.parse(text)
        if self.intent is None or understood.understanding.language in ("none", "other"):
            return understood
        [(intent, probability)] = self.intent.classify([understood.understanding.normalised])
        known = replace(understood.understanding, intent=intent, intent_probability=probability)
        return replace(understood, understanding=known)

    def search(
        self,
        query: Query,
        vector_D: Floats,
        understood: ParsedQuery | None = None,
        deadline: float = math.inf,
    ) -> Ranking:
        """What the text finds, in the order that was asked for, from `offset` on: see
        `searching.Searching`.

        `vector_D` is the encoded `understood.understanding.normalised`, in the release's space.
        `deadline` is of time.perf_counter."""
        assert query.text is not None
        searching = SearchPage(self.release, self.searcher, self.reranker)
        return searching.answer(
            query, vector_D, understood or self.understand(query.text), deadline
        )

    @property
    def tail_I(self) -> Mask:
        """[I]: all but the best sellers."""
        return self.release.item_features.tail_I

    def recommend(
        self,
        query: Query,
        live: Sequence[Interaction] = (),
        interest: tuple[ParsedQuery, Floats] | None = None,
    ) -> Ranking:
        """The nightly list while the user has done nothing since; from the same sources, asked
        again, once he has.

        A user without a history gets what sells now. What he bought since the night is left out. A
        declared interest is one more source, all but alone without a history; `interest` is what
        `understand` made of it and its vector, by default it is found by its words. The k are
        chosen from the POOL x k best ranked where the query wants diversity or the shop a share for
        its tail: scores then do not fall from place to place."""
        stages_ms: dict[str, float] = {}
        return self._answer(query, self.candidates(query, live, interest, stages_ms), stages_ms)

    def candidates(
        self,
        query: Query,
        live: Sequence[Interaction],
        interest: tuple[ParsedQuery, Floats] | None,
        stages_ms: dict[str, float],
        now: datetime | None = None,
        depth: int | None = None,
    ) -> CandidatePool:
        """What the k are chosen from, by default as many as that needs: the nightly list where it
        will do."""
        depth, now = depth or self._wanted(query), now or datetime.now(UTC)
        late = query.past_deadline and (bool(live) or query.interest is not None)
        wanted = late or not (live or query.interest is not None)
        nightly = self._nightly(query, now, depth, stages_ms) if wanted else None
        if nightly and late:
            return replace(
                nightly, skipped=("what was done since the night, and what is wished for",)
            )
        return nightly or self.asked(query, live, interest, stages_ms, now, depth)

    def asked(
        self,
        query: Query,
        live: Sequence[Interaction],
        interest: tuple[ParsedQuery, Floats] | None,
        stages_ms: dict[str, float],
        now: datetime,
        depth: int,
    ) -> CandidatePool:
        """The best `depth` of what the sources bring at a time for somebody who did these things
        since the night."""
        with timed(stages_ms, "filter"):
            allowed = self.release.allowed(replace(query.filters, in_stock=True))
        with timed(stages_ms, "user vector"):
            history = self._history(query.user_id, live)
            vector_1D = self._user_vector(history)
        bought = [
            row
            for event in live
            if event.type == "purchase" and (row := self._row(event)) is not None
        ]
        if allowed is not None:
            allowed[bought] = False
        requests = Requests(
            size=1, texts=None, vectors_BD=vector_1D, histories=history, now_days=utc_days(now)
        )
        retrievers, ranker = self.recommend_sources, self.recommend_ranker
        personalised = len(history.items) > 0
        if query.interest is not None:
            with timed(stages_ms, "interest"):
                declared = self._declared(query.interest, interest, allowed)
            retrievers, ranker = (*retrievers, declared), InterestRanker(ranker, len(history.items))
            personalised = personalised or len(declared) > 0
        found = find(retrievers, ranker, requests, self._wanted(query), allowed, stages_ms, depth)
        context = context_of(self.release, "recommend", history, vector_1D[0], now=now)
        return CandidatePool(found, context, personalised, requests, retrievers, ranker, allowed)

    def _wanted(self, query: Query) -> int:
        """How many candidates the k are chosen from."""
        ruled = POOL * query.k if query.diversity or self.tail_share else query.k
        return max(ruled, self.reranker.wanted(query, "recommend", query.k))

    def _declared(
        self, text: str, read: tuple[ParsedQuery, Floats] | None, allowed: Mask | None
    ) -> DeclaredInterest:
        """What a search finds for the text, without the cross-encoder."""
        nothing_D = np.zeros(self.release.item_vectors_ID.shape[1], np.float32)
        understood, vector_D = read or (self.understand(text), nothing_D)
        hits = self.searcher.find(understood, vector_D, allowed, deadline=-math.inf)
        return DeclaredInterest(hits.rows_N, hits.scores_N)

    def similar(self, query: Query, item_id: str) -> Ranking:
        """The nightly list of one item. Raises NotFoundError when the release does not have it."""
        row = self.release.item_ids.row(item_id)
        if row is None:
            raise NotFoundError(
                f"item {item_id!r} is not in release {self.release.version}: take an id from /search"
            )
        allowed = self.release.allowed(query.filters)
        rows_S = self.release.similar_rows_IS[row]
        kept = (rows_S >= 0) & (allowed[rows_S] if allowed is not None else True)
        scored = zip(
            rows_S[kept][: query.k],
            self.release.similar_scores_IS[row][kept][: query.k],
            strict=True,
        )
        items = tuple(
            ScoredItem(
                item=self.release.item(int(at)),
                score=float(s),
                sources={"similar": float(s)},
                features={"similar": float(s)},
            )
            for at, s in scored
        )
        return Ranking(request_id=query.request_id, release=self.release.version, items=items)

    def _answer(self, query: Query, asked: CandidatePool, stages_ms: dict[str, float]) -> Ranking:
        pool, skipped = asked.pool, asked.skipped
        with timed(stages_ms, "rerank"):
            if query.past_deadline and self.reranker.looks(query, "recommend"):
                skipped = (*skipped, "rerank")
            looked = self.reranker.look(query, "recommend", pool, asked.context)
            order_N, ruled = looked.order_N, bool(query.diversity or self.tail_share)
            if ruled and query.past_deadline:
                skipped = (*skipped, "diversity")
            elif ruled:
                order_N = self._reordered(query, pool.rows_N[order_N], order_N)
        with timed(stages_ms, "explain"):
            shown = self.reranker.shown(
                query, pool, looked, order_N, asked.context, self.release.item
            )
            names, brought_NF = asked.found.names, asked.found.brought_BKF[0]
            items = tuple(
                replace(item, sources=brought(item, names, brought_NF[place]))
                for place, item in shown
            )
        return Ranking(
            request_id=query.request_id,
            release=self.release.version,
            items=items,
            personalised=asked.personalised,
            skipped=skipped,
            stages_ms=stages_ms,
            ranker=looked.ranker,
            arms=looked.arms,
        )

    def _reordered(self, query: Query, rows_N: Rows, order_N: Ints) -> Ints:
        vectors_ID = self.release.item_vectors_ID
        places = reordered(
            rows_N[None], vectors_ID, query.diversity, self.tail_I, self.tail_share, query.k
        )
        return order_N[places[0]]

    def _nightly(
        self, query: Query, now: datetime, depth: int, stages_ms: dict[str, float]
    ) -> CandidatePool | None:
        """The stored list, ranked again without what is not allowed; None where it does not
        suffice."""
        row = self.release.user_ids.row(query.user_id) if query.user_id else None
        if row is None:
            return None
        with timed(stages_ms, "filter"):
            allowed = self.release.allowed(replace(query.filters, in_stock=True))
        with timed(stages_ms, "nightly"):
            users = slice(row, row + 1)
            rows_1N = np.array(self.release.candidate_rows_UN[users])
            features_1NF = self.release.candidate_features_UNF[users]
            if allowed is not None:
                rows_1N[~allowed[rows_1N]] = -1
            names = tuple(self.release.manifest.sources)
            brought_1NF = unpacked(self.release.candidate_sources_UN[users], len(names))
            found = ranked(self.recommend_ranker, names, rows_1N, features_1NF, brought_1NF, depth)
        if (found.rows_BK >= 0).sum() < query.k:
            return None
        history, vector_UD = self.release.history(row), self.release.user_vectors_UD[users]
        requests = Requests(size=1, texts=None, vectors_BD=vector_UD, histories=history)
        context = context_of(self.release, "recommend", history, vector_UD[0], now=now)
        return CandidatePool(
            found, context, True, requests, self.recommend_sources, self.recommend_ranker, allowed
        )

    def _history(self, user_id: str | None, live: Sequence[Interaction]) -> Histories:
        row = self.release.user_ids.row(user_id) if user_id else None
        known = self.release.history(row) if row is not None else Histories.empty()
        return known.followed_by(self._live_history(live)) if live else known

    def _live_history(self, live: Sequence[Interaction]) -> Histories:
        placed = [(row, event) for event in live if (row := self._row(event)) is not None]
        return Histories(
            offsets=np.array([0, len(placed)], np.int64),
            items=np.array([row for row, _ in placed], np.int32),
            types=np.array([EVENT_TYPES.index(event.type) for _, event in placed], np.int8),
            days=np.array([utc_days(event.time) for _, event in placed], np.float64),
            prices=np.array(
                [np.nan if event.price is None else event.price for _, event in placed], np.float32
            ),
        )

    def _row(self, event: Interaction) -> int | None:
        return self.release.item_ids.row(event.item_id)

    def _user_vector(self, history: Histories) -> Floats:
        return self.user_model.encode_history(history, self.release.user_space_item_vectors_ID)
