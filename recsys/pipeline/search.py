"""A search as an answer: hits re-ranked, filtered, sorted, collapsed, paged, counted by facets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property

import numpy as np

from recsys.arrays import Histories
from recsys.attributes.declaration import fold_name
from recsys.pipeline.candidates import timed
from recsys.pipeline.facet_values import count_values
from recsys.pipeline.facets import collapse, count_facets, sort_rows
from recsys.pipeline.hits import FEATURES, Hits
from recsys.pipeline.photo_search import PhotoSearcher
from recsys.pipeline.price_bounds import in_words, usable_bounds
from recsys.pipeline.rerank import FIRST, Pool, Reranked, Reranker, request_context
from recsys.pipeline.searcher import HybridSearcher
from recsys.ranking.item_features import Context
from recsys.release.release import Release
from recsys.retrieval.text.highlights import Highlighter
from recsys.types import (
    AttributeFilter,
    FacetCount,
    FeatureTable,
    Filters,
    Floats,
    Ints,
    Mask,
    NumberStatistics,
    Query,
    QueryUnderstanding,
    Ranking,
    Rows,
    ScoredItem,
)
from recsys.understanding.query_parser import ParsedQuery

#: Filters, and in words what of the text they leave out.
Reading = tuple[Filters, tuple[str, ...]]
#: Counts and statistics of facets, and the stages that were skipped.
Facets = tuple[
    Mapping[str, tuple[FacetCount, ...]], Mapping[str, NumberStatistics], tuple[str, ...]
]


@dataclass(frozen=True, kw_only=True)
class SearchResults:
    """The hits of a text, the filters that they pass, what of the text was dropped for them (in
    words, and as the `stricter` filters that nothing passed); and the hits as a pool, re-ranked."""

    hits: Hits
    filters: Filters
    relaxed: tuple[str, ...]
    stricter: tuple[Filters, ...]
    context: Context
    pool: Pool
    reranked: Reranked
    skipped: tuple[str, ...] = ()
    stages_ms: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class SearchPage:
    """Search result pages over one release. Of a photo no ranker changes the order."""

    release: Release
    searcher: HybridSearcher | PhotoSearcher
    reranker: Reranker

    def answer(self, query: Query, vector_D: Floats, parsed: ParsedQuery) -> Ranking:
        """The hits in the requested order, from `offset` on.

        `vector_D` is the encoded `parsed.understanding.normalised`, in the release's space. Price
        words count as filters, for facets too, unless the request has price bounds of its own;
        where no match passes them they are dropped, and the answer says so; likewise the values of
        variants that the text names. The pages of all offsets are one list of every match that
        passes, and `total` is its length. The user vector is last night's, so that pages fit
        together while the user acts. After the deadline there is no re-ranking, and there are no
        facets."""
        results, understanding = self.results(query, vector_D, parsed), parsed.understanding
        items, features, total = self._page(query, results, understanding)
        facets, statistics, skipped = self._facets(query, results)
        return Ranking(
            request_id=query.request_id,
            release=self.release.version,
            items=items,
            features=features,
            personalised=bool(results.context.user_BP.any()),
            understanding=understanding,
            total=total,
            facets=facets,
            statistics=statistics,
            relaxed=(*results.relaxed, *results.hits.relaxed),
            no_good_match=results.hits.no_good_match,
            skipped=(*results.hits.skipped, *results.skipped, *skipped),
            stages_ms=results.stages_ms,
            ranker=results.reranked.ranker,
            arms=results.reranked.arms,
        )

    def _page(
        self, query: Query, results: SearchResults, understanding: QueryUnderstanding
    ) -> tuple[tuple[ScoredItem, ...], FeatureTable, int]:
        """The items of the requested page, their features, and how many items all pages have."""
        with timed(results.stages_ms, "page"):
            # Price words alone match everything: best sellers first.
            browses = query.sort == "relevance" and not (understanding.normalised or self._by_photo)
            sort = "popularity" if browses else query.sort
            places = self._sorted_places(query, sort, results.hits, results.reranked)
        with timed(results.stages_ms, "explain"):
            items, features = self.reranker.select(
                query,
                results.pool,
                results.reranked,
                places[query.offset : query.offset + query.k],
                context=results.context,
                item_of=self.release.item,
                explore=sort == "relevance"
                and not (self._by_photo or query.offset or understanding.exact),
            )
            highlighter = Highlighter(understanding.normalised, self.searcher.lexical.synonyms)
            items = tuple(
                replace(item, highlights=highlighter.ranges(item.item.title)) for item in items
            )
            if query.collapse:
                items = tuple(self._with_variants(item) for item in items)
        return items, features, len(places)

    def _facets(self, query: Query, results: SearchResults) -> Facets:
        """The requested facets; after the deadline none, and the name of the skipped stage."""
        requested = query.facets or query.value_facets is not None
        skips = requested and query.past_deadline
        with timed(results.stages_ms, "facets"):
            if not requested or skips:
                return {}, {}, ("facets",) if skips else ()
            products_I = self.release.products_I if query.collapse else None
            if query.value_facets is not None:
                rows = np.flatnonzero(_passed(self.release, results))
                return *count_values(self.release, rows, query.value_facets, products_I), ()
            counts = count_facets(
                self.release,
                results.hits.matched_I,
                results.filters,
                stricter=results.stricter,
                products_I=products_I,
            )
            return counts, {}, ()

    def results(self, query: Query, vector_D: Floats, parsed: ParsedQuery) -> SearchResults:
        """All hits, in the order that all pages share."""
        stages_ms, understanding = dict[str, float](), parsed.understanding
        row = self.release.user_ids.row(query.user_id) if query.user_id else None
        user_D = None if row is None else self.release.user_vectors_UD[row]
        with timed(stages_ms, "match"):
            matches = self.searcher.match(parsed, vector_D)
        with timed(stages_ms, "filter"):
            reading, allowed_I, stricter = self._passed(query, understanding, matches.matched_I)
        hits = self.searcher.search(
            parsed,
            vector_D,
            matches=matches,
            allowed_I=allowed_I,
            user_D=user_D,
            deadline=query.deadline,
            cross_encode=query.k > 0,
        )
        for stage, milliseconds in hits.stages_ms.items():
            stages_ms[stage] = stages_ms.get(stage, 0.0) + milliseconds
        with timed(stages_ms, "rerank"):
            context = self._context(row, user_D, vector_D, understanding.intent)
            skips = query.past_deadline and self.reranker.needs_rerank(query, "search")
            pool = pool_of(hits)
            fixed = self._by_photo or understanding.exact or understanding.phrases or not query.k
            if skips or fixed or query.sort != "relevance":
                reranked = Reranked.unchanged(pool, FIRST)
            else:
                reranked = self.reranker.rerank(query, "search", pool, context)
        return SearchResults(
            hits=hits,
            filters=reading[0],
            relaxed=reading[1],
            stricter=stricter,
            context=context,
            pool=pool,
            reranked=reranked,
            skipped=("rerank",) if skips else (),
            stages_ms=stages_ms,
        )

    def _context(
        self, row: int | None, user_D: Floats | None, vector_D: Floats, intent: str | None
    ) -> Context:
        """As of the night: an order that moved with the clock would not fit together from page to
        page."""
        return request_context(
            self.release,
            "search",
            Histories.empty() if row is None else self.release.history(row),
            user_D=user_D,
            query_D=vector_D,
            intent=intent,
            now=datetime.fromisoformat(self.release.manifest.created),
        )

    def _passed(
        self, query: Query, understanding: QueryUnderstanding, matched_I: Mask
    ) -> tuple[Reading, Mask | None, tuple[Filters, ...]]:
        """The first of the readings that some of the matches pass, else the first one; which items
        pass it; and the filters of those before it."""
        readings = self._readings(query.filters, understanding)
        masks = [self.release.filter_mask(readings[0][0])]
        for at, reading in enumerate(readings):
            masks += [self.release.filter_mask(reading[0])] if at else []
            if _any_passes(matched_I, masks[at]):
                return reading, masks[at], tuple(filters for filters, _ in readings[:at])
        return readings[0], masks[0], ()

    def _readings(self, own: Filters, understanding: QueryUnderstanding) -> list[Reading]:
        """The request's filters with the price bounds and variants that the text names, and with
        less and less of them; each with what was dropped in words."""
        facts, within = understanding.facts, own
        currency = self._currency if understanding.price_currency else ""
        bounds, unused = usable_bounds(understanding, own, currency)
        readings: list[Reading] = [(own, unused)]
        if bounds:
            low, high = bounds.get("min_price"), bounds.get("max_price")
            within = replace(own, min_price=low, max_price=high)
            dropped = f"nothing found costs {in_words(bounds)}: shown at any price"
            readings = [(within, ()), (own, (dropped,))]
        filtered = {fold_name(each.name) for each in own.attributes}
        named = tuple(
            AttributeFilter(each.name, "eq", str(facts[each.name]))
            for each in self.release.attributes.variants
            if each.name in facts and fold_name(each.name) not in filtered
        )
        if not named or understanding.exact:
            return readings
        values = ", ".join(each.value for each in named)
        dropped = f"nothing found comes in {values}: shown in others"
        readings = [(filters, (*relaxed, dropped)) for filters, relaxed in readings]
        return [(replace(within, variants=named), unused), *readings]

    @property
    def _by_photo(self) -> bool:
        return isinstance(self.searcher, PhotoSearcher)

    @cached_property
    def _currency(self) -> str:
        """Of the shop's prices, "" where nothing says it."""
        if "currency" not in self.release.items.column_names:
            return ""
        codes = self.release.items["currency"].unique().to_pylist()
        return next((code for code in codes if code), "")

    def _sorted_places(self, query: Query, sort: str, hits: Hits, reranked: Reranked) -> Ints:
        """Places of `hits` in the requested order, collapsed if requested."""
        places = reranked.order_N
        if sort != "relevance":
            rows = sort_rows(self.release, hits.rows_N, sort, np.asarray(self.release.popularity_I))
            places = _places_of(rows, hits.rows_N)
        if query.collapse:
            rows = collapse(hits.rows_N[places], self.release.groups_I)
            places = _places_of(rows, hits.rows_N)
        return places

    def _with_variants(self, item: ScoredItem) -> ScoredItem:
        row = self.release.item_ids.row(item.item.item_id)
        return item if row is None else replace(item, variants=self.release.variants(row))


def pool_of(hits: Hits) -> Pool:
    """The hits as candidates of the reranker."""
    return Pool(
        rows_N=hits.rows_N,
        scores_N=hits.scores_N,
        names=FEATURES,
        signals_NF=hits.features_NF,
        retrieved_NF=hits.retrieved_NF,
    )


def _passed(release: Release, results: SearchResults) -> Mask:
    """[I]: the matches that pass the filters."""
    allowed_I = release.filter_mask(results.filters)
    return results.hits.matched_I if allowed_I is None else results.hits.matched_I & allowed_I


def _any_passes(matched_I: Mask, allowed_I: Mask | None) -> bool:
    return bool((matched_I if allowed_I is None else matched_I & allowed_I).any())


def _places_of(rows: Rows, among: Rows) -> Ints:
    """Where each of the rows stands among others that contain it."""
    sorter = np.argsort(among, kind="stable")
    return sorter[np.searchsorted(among, rows, sorter=sorter)]
