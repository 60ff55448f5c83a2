"""The online path in one process: a request and one release in, an answer out.

A search is parsed, matched, ranked and paged by `pipeline.search`; a recommendation goes through
`candidates.retrieve_and_rank`, the code that made the nightly candidate lists."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property

import numpy as np

from recsys.arrays import Histories, Requests, utc_days
from recsys.interfaces import Classifier, Ranker, Retriever, UserModel
from recsys.pipeline.candidates import (
    CandidatePool,
    dense_source,
    rank_table,
    retrieve_and_rank,
    source_data_of,
    timed,
    unpack_source_bits,
)
from recsys.pipeline.live_events import live_history, purchased_rows
from recsys.pipeline.photo_search import PhotoSearcher
from recsys.pipeline.rerank import Reranker, request_context
from recsys.pipeline.search import SearchPage
from recsys.pipeline.searcher import EncodedText, HybridSearcher, SearchChoices
from recsys.pipeline.similar_items import complementary_items, similar_items
from recsys.pipeline.sources import make_sources
from recsys.ranking.cross_encoder import CrossEncoder
from recsys.ranking.diversity import diversify_with_tail
from recsys.ranking.item_features import Context
from recsys.ranking.merge import CandidateTable
from recsys.release.release import Release
from recsys.retrieval.interest import DeclaredInterest, InterestRanker
from recsys.retrieval.text.bm25 import LexicalRetriever
from recsys.retrieval.text.synonyms import Synonyms
from recsys.types import Floats, Interaction, Mask, Query, Ranking
from recsys.understanding.query_parser import ParsedQuery, QueryParser
from recsys.understanding.spelling import Speller

#: A diversified answer is chosen from this many times as many ranked candidates.
POOL = 5


@dataclass(frozen=True, kw_only=True)
class Recommender:
    """Answers from one release. Holds nothing of a request; safe to call from many threads.

    `tail_share`: see `ranking.diversity.with_tail`."""

    release: Release
    user_model: UserModel
    searcher: HybridSearcher
    parser: QueryParser
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
        *,
        cross_encoder: CrossEncoder | None = None,
        intent: Classifier | None = None,
        choices: SearchChoices | None = None,
        synonyms: Synonyms | None = None,
        vocabulary: Collection[str] = frozenset(),
        tail_share: float = 0.0,
        reranker: Reranker | None = None,
        reserve_s: float = 0.0,
    ) -> Recommender:
        """`vocabulary` are words that are never corrected. Without a `reranker` the first stage's
        order is final. `reserve_s`: see `HybridSearcher`. Raises InputError for a ranker with a
        feature that no source gives."""
        searcher = _searcher(
            release,
            search_ranker,
            cross_encoder=cross_encoder,
            choices=choices or SearchChoices(),
            synonyms=synonyms,
            reserve_s=reserve_s,
        )
        names = recommend_ranker.feature_names
        return cls(
            release=release,
            user_model=user_model,
            searcher=searcher,
            parser=_parser(release, vocabulary),
            recommend_ranker=recommend_ranker,
            recommend_sources=make_sources(names, source_data_of(release, names)),
            reranker=reranker or Reranker(item_features=release.item_features),
            intent=intent,
            tail_share=tail_share,
        )

    @cached_property
    def search_page(self) -> SearchPage:
        """The searches of this release."""
        return SearchPage(self.release, self.searcher, self.reranker)

    @property
    def tail_I(self) -> Mask:
        """[I]: the long tail, all but the best sellers."""
        return self.release.item_features.tail_I

    def understand(self, text: str) -> ParsedQuery:
        """A search text, parsed and classified; its `understanding.normalised` is what is to be
        encoded."""
        parsed = self.parser.parse(text)
        if self.intent is None or parsed.understanding.language in ("none", "other"):
            return parsed
        [(intent, probability)] = self.intent.classify([parsed.understanding.normalised])
        understanding = replace(parsed.understanding, intent=intent, intent_probability=probability)
        return replace(parsed, understanding=understanding)

    def search(self, query: Query, vector_D: Floats, parsed: ParsedQuery | None = None) -> Ranking:
        """What the text matches, in the requested order, from `offset` on: see `SearchPage.answer`.

        `vector_D` is the encoded `parsed.understanding.normalised`, in the release's space."""
        assert query.text is not None
        return self.search_page.answer(query, vector_D, parsed or self.understand(query.text))

    def search_photo(
        self, query: Query, photo: tuple[Floats, float], vector_D: Floats, parsed: ParsedQuery
    ) -> Ranking:
        """What looks like a photo, [H] of `pictures.descriptors`, and fits the words, if there are
        any; the photo's weight beside them. Raises NotFoundError where the release has no
        pictures."""
        searcher = PhotoSearcher.of(self.release, self.searcher, *photo)
        return replace(self.search_page, searcher=searcher).answer(query, vector_D, parsed)

    def recommend(
        self,
        query: Query,
        live: Sequence[Interaction] = (),
        interest: EncodedText | None = None,
    ) -> Ranking:
        """The nightly list while the user has no live events since; else from the same sources,
        queried again.

        A user without a history gets what sells now. What they bought since the night is left out.
        A declared interest is one more source, all but alone without a history; `interest` is its
        text parsed and encoded, by default it is searched for by its words. The k are chosen from
        the best POOL x k where the query asks for diversity or the shop for a tail share: scores
        then do not fall from position to position. After the deadline live events, the interest,
        re-ranking and diversity are skipped."""
        stages_ms: dict[str, float] = {}
        first_stage = self.candidate_pool(query, live, interest, stages_ms=stages_ms)
        return self._answer(query, first_stage, stages_ms)

    def candidate_pool(
        self,
        query: Query,
        live: Sequence[Interaction],
        interest: EncodedText | None,
        *,
        stages_ms: dict[str, float],
        now: datetime | None = None,
        depth: int | None = None,
    ) -> CandidatePool:
        """The first stage: the nightly list where that suffices, else the sources. `depth`
        candidates, by default as many as the answer needs."""
        depth, now = depth or self._pool_size(query), now or datetime.now(UTC)
        changed = bool(live) or query.interest is not None
        skips = changed and query.past_deadline
        if skips or not changed:
            nightly = self._nightly(query, now, depth, stages_ms)
            if nightly:
                skipped = ("live events and declared interest",) if skips else ()
                return replace(nightly, skipped=skipped)
        return self.live_pool(query, live, interest, stages_ms=stages_ms, now=now, depth=depth)

    def live_pool(
        self,
        query: Query,
        live: Sequence[Interaction],
        interest: EncodedText | None,
        *,
        stages_ms: dict[str, float],
        now: datetime,
        depth: int,
    ) -> CandidatePool:
        """The best `depth` candidates of the sources, queried with the user's live events."""
        allowed = self._allowed(query, live, stages_ms)
        with timed(stages_ms, "user vector"):
            history = self._history(query.user_id, live)
            vector_1D = self._user_vector(history)
        requests = Requests(size=1, vectors_BD=vector_1D, histories=history, now_days=utc_days(now))
        retrievers, ranker = self.recommend_sources, self.recommend_ranker
        personalised = len(history.items) > 0
        if query.interest is not None:
            declared = self._declared_interest(query.interest, interest, allowed, stages_ms)
            retrievers, ranker = (*retrievers, declared), InterestRanker(ranker, len(history.items))
            personalised = personalised or len(declared) > 0
        candidates = retrieve_and_rank(
            retrievers,
            ranker,
            requests,
            self._pool_size(query),
            allowed=allowed,
            stages_ms=stages_ms,
            depth=depth,
        )
        return CandidatePool(
            candidates=candidates,
            context=self._context(history, vector_1D, now),
            personalised=personalised,
            requests=requests,
            sources=retrievers,
            ranker=ranker,
            allowed=allowed,
        )

    def similar(self, query: Query, item_id: str) -> Ranking:
        """The nightly list of one item; of one that came by day its nearest neighbours. Raises
        NotFoundError when the release does not have it."""
        return similar_items(self.release, self.searcher, query, item_id)

    def complements(self, query: Query, item_id: str) -> Ranking:
        """What goes with one item. Raises NotFoundError when the release does not have it."""
        return complementary_items(self.release, self.searcher, query, item_id)

    def _answer(
        self, query: Query, first_stage: CandidatePool, stages_ms: dict[str, float]
    ) -> Ranking:
        pool, context, skipped = first_stage.pool, first_stage.context, list(first_stage.skipped)
        with timed(stages_ms, "rerank"):
            if query.past_deadline and self.reranker.needs_rerank(query, "recommend"):
                skipped.append("rerank")
            reranked = self.reranker.rerank(query, "recommend", pool, context)
            order_N = reranked.order_N
            if query.diversity or self.tail_share:
                if query.past_deadline:
                    skipped.append("diversity")
                else:
                    places_1K = diversify_with_tail(
                        pool.rows_N[order_N][None],
                        self.release.item_vectors_ID,
                        query.k,
                        diversity=query.diversity,
                        tail_I=self.tail_I,
                        tail_share=self.tail_share,
                    )
                    order_N = order_N[places_1K[0]]
        with timed(stages_ms, "explain"):
            items, features = self.reranker.select(
                query, pool, reranked, order_N, context=context, item_of=self.release.item
            )
        return Ranking(
            request_id=query.request_id,
            release=self.release.version,
            items=items,
            features=features,
            personalised=first_stage.personalised,
            skipped=tuple(skipped),
            stages_ms=stages_ms,
            ranker=reranked.ranker,
            arms=reranked.arms,
        )

    def _pool_size(self, query: Query) -> int:
        """How many candidates the k are chosen from."""
        diversifies = query.diversity or self.tail_share
        size = POOL * query.k if diversifies else query.k
        return max(size, self.reranker.pool_size(query, "recommend", query.k))

    def _declared_interest(
        self,
        text: str,
        encoded: EncodedText | None,
        allowed: Mask | None,
        stages_ms: dict[str, float],
    ) -> DeclaredInterest:
        """The matches of the text, without the cross-encoder."""
        with timed(stages_ms, "interest"):
            zeros_D = np.zeros(self.release.item_vectors_ID.shape[1], np.float32)
            parsed, vector_D = encoded or (self.understand(text), zeros_D)
            hits = self.searcher.search(parsed, vector_D, allowed_I=allowed, cross_encode=False)
        return DeclaredInterest(hits.rows_N, hits.scores_N)

    def _nightly(
        self, query: Query, now: datetime, depth: int, stages_ms: dict[str, float]
    ) -> CandidatePool | None:
        """The stored list, ranked again without what is not allowed; None where it does not
        suffice."""
        release = self.release
        row = release.user_ids.row(query.user_id) if query.user_id else None
        if row is None:
            return None
        allowed = self._allowed(query, (), stages_ms)
        with timed(stages_ms, "nightly"):
            user, names = slice(row, row + 1), tuple(release.manifest.sources)
            rows_1N = np.array(release.rows_now(release.candidate_rows_UN[user]))
            if allowed is not None:
                rows_1N[~np.append(allowed, False)[rows_1N]] = -1
            table = CandidateTable(
                names,
                rows_1N,
                release.candidate_features_UNF[user],
                unpack_source_bits(release.candidate_sources_UN[user], len(names)),
            )
            candidates = rank_table(self.recommend_ranker, table, depth)
        if (candidates.rows_BK >= 0).sum() < query.k:
            return None
        history, vector_1D = release.history(row), release.user_vectors_UD[user]
        return CandidatePool(
            candidates=candidates,
            context=self._context(history, vector_1D, now),
            personalised=True,
            requests=Requests(size=1, vectors_BD=vector_1D, histories=history),
            sources=self.recommend_sources,
            ranker=self.recommend_ranker,
            allowed=allowed,
        )

    def _allowed(
        self, query: Query, live: Sequence[Interaction], stages_ms: dict[str, float]
    ) -> Mask | None:
        """[I]: items in stock that pass the filters, without what was bought since the night."""
        with timed(stages_ms, "filter"):
            allowed = self.release.filter_mask(replace(query.filters, in_stock=True))
        if allowed is not None:
            allowed[purchased_rows(self.release, live)] = False
        return allowed

    def _context(self, history: Histories, vector_1D: Floats, now: datetime) -> Context:
        return request_context(self.release, "recommend", history, user_D=vector_1D[0], now=now)

    def _history(self, user_id: str | None, live: Sequence[Interaction]) -> Histories:
        row = self.release.user_ids.row(user_id) if user_id else None
        nightly = self.release.history(row) if row is not None else Histories.empty()
        return nightly.followed_by(live_history(self.release, live)) if live else nightly

    def _user_vector(self, history: Histories) -> Floats:
        items = np.unique(history.items[history.items >= 0])
        places = np.where(history.items >= 0, np.searchsorted(items, history.items), -1)
        vectors_ND = self.release.user_space_item_vectors_ID[items]
        return self.user_model.encode_history(
            replace(history, items=places.astype(np.int32)), vectors_ND
        )


def _searcher(
    release: Release,
    ranker: Ranker,
    *,
    cross_encoder: CrossEncoder | None,
    choices: SearchChoices,
    synonyms: Synonyms | None,
    reserve_s: float,
) -> HybridSearcher:
    """Hybrid search over a release's items."""
    return HybridSearcher(
        lexical=LexicalRetriever(release.lexical, synonyms),
        dense=dense_source(release, "dense", release.item_vectors_ID, fp16=True),
        item_vectors_ID=release.item_vectors_ID,
        ranker=ranker,
        text_of=release.texts,
        popularity_I=np.asarray(release.popularity_I),
        cross_encoder=cross_encoder,
        choices=choices,
        user_space_item_vectors_ID=release.user_space_item_vectors_ID,
        relevance=release.relevance,
        visible_I=release.visible_I,
        reserve_s=reserve_s,
    )


def _parser(release: Release, vocabulary: Collection[str]) -> QueryParser:
    lexical = release.lexical
    speller = Speller(
        lexical.terms,
        lexical.frequencies,
        lexical.rows_of_term,
        vocabulary,
        has_forms=lexical.has_forms,
    )
    brands = release.labels["brand"].spellings_V
    return QueryParser(
        speller, release.codes, brands, release.item_ids.__getitem__, release.attributes.named
    )
