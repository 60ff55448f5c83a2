"""A search as an answer: what was found, in its last order, filtered, sorted, collapsed, paged,
counted."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial

import numpy as np

from recsys.pipeline.candidates import timed
from recsys.pipeline.facets import collapsed, facets, order
from recsys.pipeline.rerank import FIRST, Pool, Reranked, Reranker, brought, context_of
from recsys.pipeline.searcher import FEATURES, Hits, HybridSearcher
from recsys.ranking.item_features import Context
from recsys.release.release import Release
from recsys.retrieval.text.highlights import highlight_ranges
from recsys.types import Filters, Floats, Histories, Ints, Query, Ranking, Rows, ScoredItem
from recsys.understanding.query_parser import ParsedQuery


@dataclass(frozen=True)
class SearchResults:
    """What a text found: the hits, the filters that they pass, what of the text's price bounds was
    given up; and the hits as the pool of the reranker, in their last order."""

    hits: Hits
    filters: Filters
    given_up: tuple[str, ...]
    context: Context
    pool: Pool
    looked: Reranked
    skipped: tuple[str, ...] = ()


@dataclass(frozen=True)
class SearchPage:
    """Searches over one release."""

    release: Release
    searcher: HybridSearcher
    reranker: Reranker

    def answer(
        self, query: Query, vector_D: Floats, understood: ParsedQuery, deadline: float = math.inf
    ) -> Ranking:
        """What the text finds, in the order that was asked for, from `offset` on.

        `vector_D` is the encoded `understood.understanding.normalised`, in the release's space.
        Price words count as filters, for facets too, unless the request has price bounds of its
        own; where nothing found passes them they are given up, and the answer says so. Where the
        request's own filters leave fewer than a page, the nearest that pass follow: a filtered
        search gives min(k, matches). Taste is that of the last night, so that pages fit together
        while the user acts. A sort other than by relevance orders what was found, at most the
        `ranked` best of it. `deadline` is of time.perf_counter."""
        stages_ms: dict[str, float] = {}
        found = self.found(query, vector_D, understood, deadline, stages_ms)
        hits, looked = found.hits, found.looked
        with timed(stages_ms, "page"):
            # Price words alone are looked through by what sells.
            by_price = query.sort == "relevance" and not understood.understanding.normalised
            places, total = self._ordered(
                query, "popularity" if by_price else query.sort, hits, looked
            )
            page = places[query.offset : query.offset + query.k]
        with timed(stages_ms, "explain"):
            first_page = query.sort == "relevance" and not query.offset and not by_price
            left_to_chance = first_page and not understood.understanding.exact
            item_of = self.release.item
            chosen = self.reranker.shown(
                query, found.pool, looked, page, found.context, item_of, left_to_chance
            )
            items = tuple(
                self._hit(hits, *each, understood.understanding.normalised) for each in chosen
            )
        with timed(stages_ms, "facets"):
            left_out = query.facets and query.past_deadline
            counted = (
                facets(self.release, hits.found_I, found.filters)
                if query.facets and not left_out
                else {}
            )
        return Ranking(
            request_id=query.request_id,
            release=self.release.version,
            items=items,
            personalised=bool(found.context.user_BP.any()),
            understanding=understood.understanding,
            total=total,
            facets=counted,
            relaxed=(*found.given_up, *hits.relaxed),
            no_good_match=hits.no_good_match,
            skipped=(*hits.skipped, *found.skipped, *(("facets",) if left_out else ())),
            stages_ms=stages_ms,
            ranker=looked.ranker,
            arms=looked.arms,
        )

    def found(
        self,
        query: Query,
        vector_D: Floats,
        understood: ParsedQuery,
        deadline: float = math.inf,
        stages_ms: dict[str, float] | None = None,
    ) -> SearchResults:
        """Everything found, in the order that all pages have."""
        stages_ms = {} if stages_ms is None else stages_ms
        user_row = self.release.user_ids.row(query.user_id) if query.user_id else None
        taste_D = None if user_row is None else self.release.user_vectors_UD[user_row]
        ask = partial(self.searcher.find, understood, vector_D, taste_D=taste_D, deadline=deadline)
        hits, filters, given_up = self._hits(query, understood.understanding.facts, ask, stages_ms)
        with timed(stages_ms, "rerank"):
            history = Histories.empty() if user_row is None else self.release.history(user_row)
            # As of the night: an order that moved with the clock would not fit together from page
            # to page.
            intent, night = (
                understood.understanding.intent,
                datetime.fromisoformat(self.release.manifest.created),
            )
            context = context_of(self.release, "search", history, taste_D, vector_D, intent, night)
            late = query.past_deadline and self.reranker.looks(query, "search")
            pool, looked = self._looked(query, understood, hits, context, late)
        return SearchResults(
            hits, filters, given_up, context, pool, looked, ("rerank",) if late else ()
        )

    def _looked(
        self, query: Query, understood: ParsedQuery, hits: Hits, context: Context, late: bool
    ) -> tuple[Pool, Reranked]:
        """What was found in its last order, the same for every page. What a code names stays where
        it is, and all of it where it is too late to look again."""
        pool = Pool(
            hits.rows_N, hits.scores_N, dict(zip(FEATURES, hits.features_NF.T, strict=True))
        )
        if late or understood.understanding.exact or query.sort != "relevance":
            return pool, Reranked(np.arange(len(pool)), pool.scores_N, [""] * len(pool), FIRST)
        found = self.reranker.look(
            query, "search", pool.at(np.arange(min(hits.total, len(pool)))), context
        )
        rest = np.arange(len(found.order_N), len(pool))
        scores_N = np.concatenate([found.scores_N, pool.scores_N[rest]])
        order_N, teams_N = (
            np.concatenate([found.order_N, rest]),
            [*found.teams_N, *[""] * len(rest)],
        )
        return pool, replace(found, order_N=order_N, scores_N=scores_N, teams_N=teams_N)

    def _hits(
        self,
        query: Query,
        facts: Mapping[str, str | float],
        ask: Callable[..., Hits],
        stages_ms: dict[str, float],
    ) -> tuple[Hits, Filters, tuple[str, ...]]:
        """The hits, the filters that they pass, and what of the text's own price bounds was given
        up for them."""
        own, bounds = query.filters, dict[str, float]()
        fill = query.offset + query.k if query.sort == "relevance" else 0
        if own.min_price is None and own.max_price is None:
            bounds = {
                name: float(facts[name]) for name in ("min_price", "max_price") if name in facts
            }
        if not bounds:
            return self._asked(query, own, fill, ask, stages_ms), own, ()
        within = replace(own, min_price=bounds.get("min_price"), max_price=bounds.get("max_price"))
        hits = self._asked(query, within, 0, ask, stages_ms)
        if hits.total or hits.no_good_match:
            return hits, within, ()
        anywhere = self._asked(query, own, fill, ask, stages_ms)
        return (anywhere, own, _given_up(bounds)) if len(anywhere.rows_N) else (hits, within, ())

    def _asked(
        self,
        query: Query,
        filters: Filters,
        fill: int,
        ask: Callable[..., Hits],
        stages_ms: dict[str, float],
    ) -> Hits:
        """At least `fill` hits, or as many groups of them where the query wants one of each, if so
        many pass."""
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

    def _ordered(self, query: Query, sort: str, hits: Hits, looked: Reranked) -> tuple[Ints, int]:
        """Places of `hits` as the request wants them, and how many items that are, without what
        only fills up."""
        places, total = looked.order_N, hits.total
        if sort != "relevance":
            found = hits.rows_N[:total]
            sorted_rows = order(self.release, found, sort, np.asarray(self.release.popularity_I))
            places = _places_of(sorted_rows, found)
        if query.collapse:
            kept = collapsed(hits.rows_N[places], self.release.groups_I)
            counted = np.isin(kept, hits.rows_N[: hits.total])
            places, total = _places_of(kept, hits.rows_N), int(counted.sum())
        return places, total

    def _hit(self, hits: Hits, place: int, scored: ScoredItem, text: str) -> ScoredItem:
        marked = highlight_ranges(text, scored.item.title, self.searcher.lexical.synonyms)
        return replace(
            scored, sources=brought(scored, FEATURES, hits.brought_NF[place]), highlights=marked
        )


def _given_up(bounds: dict[str, float]) -> tuple[str, ...]:
    words = {"min_price": "at least", "max_price": "at most"}
    costs = " and ".join(f"{words[name]} {value:g}" for name, value in bounds.items())
    return (f"nothing found costs {costs}: shown at any price",)


def _places_of(rows: Rows, among: Rows) -> Ints:
    """Where each of the rows stands among others that hold it."""
    sorter = np.argsort(among, kind="stable")
    return sorter[np.searchsorted(among, rows, sorter=sorter)]
