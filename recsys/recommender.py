"""The online path in one process: what a request asks for, as an answer from one release.

A search is understood, found and ordered by `search.Searcher`; a recommendation goes through `funnel.find`, the lines
by which the night made its candidate lists.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property, partial

import numpy as np

from recsys import sources
from recsys.errors import NotFoundError
from recsys.facets import collapsed, facets, order
from recsys.funnel import Found, dense_source, find, fitted, ranked, timed, unpacked
from recsys.interfaces import Classifier, Ranker, Retriever, UserModel
from recsys.metrics import tail
from recsys.ranking.cross_encoder import CrossEncoder
from recsys.ranking.diversity import reordered
from recsys.release import Release
from recsys.retrieval.highlights import highlights
from recsys.retrieval.interest import DeclaredInterest, InterestRanker
from recsys.retrieval.lexical import LexicalRetriever
from recsys.retrieval.synonyms import Synonyms
from recsys.search import FEATURES, Hits, SearchChoices, Searcher
from recsys.types import (
    EVENT_TYPES,
    Filters,
    Floats,
    Histories,
    Impression,
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
from recsys.understanding.spelling import Speller
from recsys.understanding.understand import Understander, Understood

#: A reordered answer is chosen from this many times as many ranked candidates.
POOL = 5


@dataclass(frozen=True)
class Recommender:
    """Answers from one release. Holds nothing of a request; safe to call from many threads.

    `tail_share`: see `ranking.diversity.with_tail`.
    """

    release: Release
    user_model: UserModel
    searcher: Searcher
    understander: Understander
    recommend_ranker: Ranker
    recommend_sources: tuple[Retriever, ...]
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
    ) -> Recommender:
        """`known_words` are never corrected. Raises InputError for a ranker with a feature that nothing gives."""
        searcher = Searcher(
            LexicalRetriever(release.lexical, synonyms),
            dense_source(release, "dense", release.item_vectors_ID),
            release.item_vectors_ID,
            search_ranker,
            release.texts,
            np.asarray(release.popularity_I),
            reader,
            choices or SearchChoices(),
            release.taste_vectors_ID,
        )
        retrievers = sources.sources(recommend_ranker.feature_names, fitted(release, recommend_ranker.feature_names))
        understander = Understander(
            Speller(release.lexical.terms, release.lexical.frequencies, release.lexical.rows_with, known_words),
            release.codes,
            release.labels["brand"].spelled_V,
            release.item_ids.__getitem__,
        )
        return cls(release, user_model, searcher, understander, recommend_ranker, retrievers, intent, tail_share)

    def understand(self, text: str) -> Understood:
        """What a search text was taken to mean; its `understanding.normalised` is what is to be encoded."""
        understood = self.understander.understood(text)
        if self.intent is None or understood.understanding.language in ("none", "other"):
            return understood
        [(intent, probability)] = self.intent.classify([understood.understanding.normalised])
        known = replace(understood.understanding, intent=intent, intent_probability=probability)
        return replace(understood, understanding=known)

    def search(
        self, query: Query, vector_D: Floats, understood: Understood | None = None, deadline: float = math.inf
    ) -> Ranking:
        """What the text finds, in the order that was asked for, from `offset` on.

        `vector_D` is the encoded `understood.understanding.normalised`, in the release's space. Price words count as
        filters, for facets too, unless the request has price bounds of its own; where nothing found passes them they
        are given up, and the answer says so. Where the request's own filters leave fewer than a page, the nearest that
        pass follow: a filtered search gives min(k, matches). Taste is that of the last night, so that pages fit
        together while the user acts. A sort other than by relevance orders what was found, at most the `ranked` best
        of it. `deadline` is of time.perf_counter.
        """
        assert query.text is not None
        stages_ms: dict[str, float] = {}
        understood = understood or self.understand(query.text)
        user_row = self.release.user_ids.row(query.user_id) if query.user_id else None
        taste_D = None if user_row is None else self.release.user_vectors_UD[user_row]
        ask = partial(self.searcher.find, understood, vector_D, taste_D=taste_D, deadline=deadline)
        hits, filters, given_up = self._hits(query, understood.understanding.facts, ask, stages_ms)
        with timed(stages_ms, "page"):
            # Price words alone are looked through by what sells.
            by_price = query.sort == "relevance" and not understood.understanding.normalised
            places, total = self._ordered(query, "popularity" if by_price else query.sort, hits)
            page = places[query.offset : query.offset + query.k]
        with timed(stages_ms, "explain"):
            items = tuple(self._hit(hits, int(place), understood.understanding.normalised) for place in page)
        with timed(stages_ms, "facets"):
            counted = facets(self.release, hits.found_I, filters) if query.facets else {}
        return Ranking(
            query.request_id,
            self.release.version,
            items,
            taste_D is not None and bool(taste_D.any()),
            understood.understanding,
            total,
            counted,
            (*given_up, *hits.relaxed),
            hits.no_good_match,
            hits.skipped,
            stages_ms,
        )

    def _hits(
        self, query: Query, facts: Mapping[str, str | float], ask: Callable[..., Hits], stages_ms: dict[str, float]
    ) -> tuple[Hits, Filters, tuple[str, ...]]:
        """The hits, the filters that they pass, and what of the text's own price bounds was given up for them."""
        own, bounds = query.filters, dict[str, float]()
        fill = query.offset + query.k if query.sort == "relevance" else 0
        if own.min_price is None and own.max_price is None:
            bounds = {name: float(facts[name]) for name in ("min_price", "max_price") if name in facts}
        if not bounds:
            return self._asked(query, own, fill, ask, stages_ms), own, ()
        within = replace(own, min_price=bounds.get("min_price"), max_price=bounds.get("max_price"))
        hits = self._asked(query, within, 0, ask, stages_ms)
        if hits.total or hits.no_good_match:
            return hits, within, ()
        anywhere = self._asked(query, own, fill, ask, stages_ms)
        return (anywhere, own, _given_up(bounds)) if len(anywhere.rows_N) else (hits, within, ())

    def _asked(
        self, query: Query, filters: Filters, fill: int, ask: Callable[..., Hits], stages_ms: dict[str, float]
    ) -> Hits:
        """At least `fill` hits, or as many groups of them where the query wants one of each, if so many pass."""
        with timed(stages_ms, "filter"):
            allowed_I = self.release.allowed(filters)
        wanted = fill
        while True:
            hits = ask(allowed_I=allowed_I, fill=fill)
            for stage, milliseconds in hits.stages_ms.items():
                stages_ms[stage] = stages_ms.get(stage, 0.0) + milliseconds
            if allowed_I is None or not query.collapse or len(hits.rows_N) < fill:
                return hits
            missing = wanted - len(collapsed(hits.rows_N, self.release.groups_I))
            if missing <= 0:
                return hits
            fill = len(hits.rows_N) + max(missing, wanted)

    def _ordered(self, query: Query, sort: str, hits: Hits) -> tuple[Ints, int]:
        """Places of `hits` as the request wants them, and how many items that are, without what only fills up."""
        places: Ints = np.arange(len(hits.rows_N))
        total = hits.total
        if sort != "relevance":
            found = hits.rows_N[:total]
            sorted_rows = order(self.release, found, sort, np.asarray(self.release.popularity_I))
            places = _places_of(sorted_rows, found)
        if query.collapse:
            kept = collapsed(hits.rows_N[places], self.release.groups_I)
            counted = np.isin(kept, hits.rows_N[: hits.total])
            places, total = _places_of(kept, hits.rows_N), int(counted.sum())
        return places, total

    def _hit(self, hits: Hits, place: int, text: str) -> ScoredItem:
        item = self.release.item(int(hits.rows_N[place]))
        features = dict(zip(FEATURES, hits.features_NF[place].tolist(), strict=True))
        brought = {name: features[name] for name, there in zip(FEATURES, hits.brought_NF[place], strict=True) if there}
        marked = highlights(text, item.title, self.searcher.lexical.synonyms)
        return ScoredItem(item, float(hits.scores_N[place]), brought, features, marked)

    @cached_property
    def tail_I(self) -> Mask:
        """[I]: all but the best sellers."""
        return tail(np.asarray(self.release.popularity_I))

    def recommend(
        self, query: Query, live: Sequence[Interaction] = (), interest: tuple[Understood, Floats] | None = None
    ) -> Ranking:
        """The nightly list while the user has done nothing since; from the same sources, asked again, once he has.

        A user without a history gets what sells now. What he bought since the night is left out. A declared interest is
        one more source, all but alone without a history; `interest` is what `understand` made of it and its vector, by
        default it is found by its words. The k are chosen from the POOL x k best ranked where the query wants diversity
        or the shop a share for its tail: scores then do not fall from place to place.
        """
        stages_ms: dict[str, float] = {}
        with timed(stages_ms, "filter"):
            allowed = self.release.allowed(replace(query.filters, in_stock=True))
        wanted = POOL * query.k if query.diversity or self.tail_share else query.k
        user_row = self.release.user_ids.row(query.user_id) if query.user_id else None
        if user_row is not None and not live and query.interest is None:
            with timed(stages_ms, "nightly"):
                nightly = self._nightly(user_row, allowed, wanted)
            if (nightly.rows_BK >= 0).sum() >= query.k:
                return self._answer(query, nightly, True, stages_ms)
        with timed(stages_ms, "user vector"):
            history = self._history(query.user_id, live)
            vector_1D = self._user_vector(history)
        bought = [row for event in live if event.type == "purchase" and (row := self._row(event)) is not None]
        if allowed is not None:
            allowed[bought] = False
        requests = Requests(1, None, vector_1D, history, utc_days(datetime.now(UTC)))
        asked, ranker = self.recommend_sources, self.recommend_ranker
        personalised = len(history.items) > 0
        if query.interest is not None:
            with timed(stages_ms, "interest"):
                declared = self._declared(query.interest, interest, allowed)
            asked, ranker = (*asked, declared), InterestRanker(ranker, len(history.items))
            personalised = personalised or len(declared) > 0
        found = find(asked, ranker, requests, wanted, allowed, stages_ms)
        return self._answer(query, found, personalised, stages_ms)

    def _declared(self, text: str, read: tuple[Understood, Floats] | None, allowed: Mask | None) -> DeclaredInterest:
        """What a search finds for the text, without the cross-encoder."""
        nothing_D = np.zeros(self.release.item_vectors_ID.shape[1], np.float32)
        understood, vector_D = read or (self.understand(text), nothing_D)
        hits = self.searcher.find(understood, vector_D, allowed, deadline=-math.inf)
        return DeclaredInterest(hits.rows_N, hits.scores_N)

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
        if query.diversity or self.tail_share:
            with timed(stages_ms, "reorder"):
                found = self._reordered(query, found)
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

    def _reordered(self, query: Query, found: Found) -> Found:
        vectors_ID = self.release.item_vectors_ID
        places_BK = reordered(found.rows_BK, vectors_ID, query.diversity, self.tail_I, self.tail_share, query.k)
        return Found(
            found.names,
            np.take_along_axis(found.rows_BK, places_BK, axis=1),
            np.take_along_axis(found.scores_BK, places_BK, axis=1),
            np.take_along_axis(found.features_BKF, places_BK[:, :, None], axis=1),
            np.take_along_axis(found.brought_BKF, places_BK[:, :, None], axis=1),
        )

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
        return self.user_model.encode_history(history, self.release.taste_vectors_ID)


def _given_up(bounds: dict[str, float]) -> tuple[str, ...]:
    words = {"min_price": "at least", "max_price": "at most"}
    costs = " and ".join(f"{words[name]} {value:g}" for name, value in bounds.items())
    return (f"nothing found costs {costs}: shown at any price",)


def _places_of(rows: Rows, among: Rows) -> Ints:
    """Where each of the rows stands among others that hold it."""
    sorter = np.argsort(among, kind="stable")
    return sorter[np.searchsorted(among, rows, sorter=sorter)]


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
