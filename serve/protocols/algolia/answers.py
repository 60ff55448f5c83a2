"""What goes out: our rankings as Algolia's search results."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import orjson

from recsys.attributes.declaration import fold_name
from recsys.types import BELOW, FacetCount, Query, Ranking, ScoredItem
from recsys.understanding.suggestions import Suggestion
from serve.protocols.algolia.fields import FacetField, facet_name, record_of, retrieved
from serve.protocols.algolia.highlights import QueryHighlights
from serve.protocols.algolia.parameters import SearchRequest, last_page, values_limit

#: Levels of categories that `*` counts.
LEVELS = 5
VALUES_PER_FACET, FACET_HITS = 100, 10


@dataclass(frozen=True)
class Answer:
    """A result, and what of its request is not supported."""

    body: dict[str, Any]
    unsupported: tuple[str, ...] = ()


def search_result(request: SearchRequest, ranking: Ranking, started: float) -> Answer:
    """`started` is of time.perf_counter."""
    understanding = ranking.understanding
    text = understanding.normalised if understanding else ""
    highlights = _highlights(request, text)
    total = int(ranking.total or 0)
    body = _frame(request, total, started) | {
        "hits": [_hit(request, each, highlights, ranking) for each in ranking.items],
        "exhaustive": {"nbHits": True, "typo": True, "facetsCount": True},
    }
    missing = tuple[str, ...]()
    if request.facets:
        facets, missing = _facets(request, ranking)
        body["facets"] = facets
        if statistics := _statistics(request, ranking):
            body["facets_stats"] = statistics
    if request.query.logged and request.flag("clickAnalytics"):
        body["queryID"] = ranking.request_id
    if understanding and understanding.corrections:
        body["queryAfterRemoval"] = text
    body["nightshelf"] = {
        "release": ranking.release,
        "request_id": ranking.request_id if request.query.logged else None,
        "no_good_match": ranking.no_good_match,
        "relaxed": [*ranking.relaxed],
        "corrections": [*understanding.corrections] if understanding else [],
        "skipped": [*ranking.skipped],
    }
    return Answer(_chosen_fields(request, body), (*request.unsupported, *missing))


def suggestions_result(
    request: SearchRequest, suggestions: Sequence[Suggestion], started: float
) -> Answer:
    """Completions as the hits of an index of query suggestions."""
    query, highlights = request.query, _highlights(request, request.query.text or "")
    hits = []
    for suggestion in suggestions[query.offset : query.offset + query.k]:
        record = {
            "objectID": suggestion.text,
            "query": suggestion.text,
            "popularity": suggestion.weight,
            "nb_words": len(suggestion.text.split()),
            "kind": suggestion.kind,
        }
        hits.append(record | {"_highlightResult": highlights.of(record, ["query"])})
    body = _frame(request, len(suggestions), started) | {"hits": hits}
    return Answer(_chosen_fields(request, body), request.unsupported)


def unprocessed_result(request: SearchRequest) -> Answer:
    """Of a query that the strategy `stopIfEnoughMatches` left out."""
    body = _frame(request, 0, time.perf_counter())
    return Answer(body | {"hits": [], "processed": False}, request.unsupported)


def facet_result(
    request: SearchRequest, attribute: str, ranking: Ranking, started: float
) -> Answer | None:
    """The values of a facet that its `facetQuery` begins words of; None without that facet."""
    facet = FacetField.of(attribute)
    counts = _counts(ranking, facet)
    if counts is None:
        return None
    highlights = _highlights(request, request.text("facetQuery"))
    limit = min(values_limit(request.parameters, "maxFacetHits", FACET_HITS), 100)
    values = [(facet.shown(each.value), each.count) for each in counts if facet.holds(each.value)]
    body = {
        "facetHits": [
            {"value": value, "highlighted": highlights.marked(value), "count": count}
            for value, count in values[:limit]
        ],
        "exhaustiveFacetsCount": True,
        "processingTimeMS": _milliseconds(started),
    }
    return Answer(body, request.unsupported)


def _highlights(request: SearchRequest, text: str) -> QueryHighlights:
    return QueryHighlights(
        text,
        before=request.text("highlightPreTag", "<em>"),
        after=request.text("highlightPostTag", "</em>"),
        ellipsis=request.text("snippetEllipsisText", "…"),
    )


def _frame(request: SearchRequest, total: int, started: float) -> dict[str, Any]:
    """What every result has."""
    query, parameters = request.query, request.parameters
    frame: dict[str, Any] = {
        "nbHits": total,
        "page": request.page,
        "nbPages": last_page(total, query.k),
        "hitsPerPage": query.k,
        "exhaustiveNbHits": True,
        "exhaustiveFacetsCount": True,
        "exhaustiveTypo": True,
        "query": request.text("query"),
        "params": _params(parameters),
        "index": request.index,
        "renderingContent": {},
        "processingTimeMS": _milliseconds(started),
    }
    if "offset" in parameters or "length" in parameters:
        del frame["page"], frame["nbPages"], frame["hitsPerPage"]
        frame |= {"offset": query.offset, "length": query.k}
    if request.flag("getRankingInfo"):
        frame |= {"indexUsed": request.index, "serverUsed": "nightshelf", "timeoutCounts": False}
    return frame


def _milliseconds(started: float) -> int:
    return max(1, round((time.perf_counter() - started) * 1000))


def _params(parameters: Mapping[str, Any]) -> str:
    """As in a URL."""
    own = ("indexName", "type", "facet")
    values = {name: value for name, value in parameters.items() if name not in own}
    return urlencode(
        {
            name: value if isinstance(value, str) else orjson.dumps(value).decode()
            for name, value in values.items()
        }
    )


def _hit(
    request: SearchRequest, scored: ScoredItem, highlights: QueryHighlights, ranking: Ranking
) -> dict[str, Any]:
    record = record_of(scored.item)
    if variants := scored.variants:
        record["variants"] = vars(variants)
    hit = retrieved(record, request.names("attributesToRetrieve"))
    highlighted = request.names("attributesToHighlight")
    if highlighted != []:
        hit["_highlightResult"] = highlights.of(record, highlighted)
    if snippets := request.names("attributesToSnippet"):
        hit["_snippetResult"] = highlights.snippets(record, snippets)
    if request.flag("getRankingInfo"):
        hit["_rankingInfo"] = _ranking_info(scored, highlights, ranking)
    if variants and variants.count > 1:
        hit["_distinctSeqID"] = 0
    return hit


def _ranking_info(
    scored: ScoredItem, highlights: QueryHighlights, ranking: Ranking
) -> dict[str, Any]:
    """Of Algolia's criteria those that mean something here, and our score with its sources."""
    corrections = ranking.understanding.corrections if ranking.understanding else ()
    return {
        "nbTypos": len(corrections),
        "words": len(highlights.words_in(scored.item.title)),
        "nbExactWords": len(highlights.words_in(scored.item.title)),
        **dict.fromkeys(("firstMatchedWord", "proximityDistance", "filters", "userScore"), 0),
        **dict.fromkeys(("geoDistance", "geoPrecision"), 0),
        "score": scored.score if math.isfinite(scored.score) else 0.0,
        "sources": {name: x for name, x in scored.sources.items() if math.isfinite(x)},
    }


def _facets(
    request: SearchRequest, ranking: Ranking
) -> tuple[dict[str, dict[str, int]], tuple[str, ...]]:
    """Counts by facet and value under the names of the request, and the facets that are none of
    this shop."""
    limit = values_limit(request.parameters, "maxValuesPerFacet", VALUES_PER_FACET)
    by_name = request.text("sortFacetValuesBy", "count") == "alpha"
    facets, missing = dict[str, dict[str, int]](), list[str]()
    names = [each for each in request.facets if each != "*"]
    if "*" in request.facets:
        names += _all_facets(ranking)
    for attribute in dict.fromkeys(names):
        facet = FacetField.of(attribute)
        counts = _counts(ranking, facet)
        if counts is None:
            missing.append(f"facets->{attribute}")
            continue
        values = [each for each in counts if facet.holds(each.value)]
        if by_name:
            values = sorted(values, key=lambda each: each.value.casefold())
        if values:
            facets[attribute] = {facet.shown(each.value): each.count for each in values[:limit]}
    return facets, () if ranking.skipped else tuple(missing)


def _all_facets(ranking: Ranking) -> Iterable[str]:
    """What `*` stands for: a category by its levels."""
    for name, counts in ranking.facets.items():
        if name == "category":
            depths = {each.value.count(BELOW) for each in counts}
            yield from (f"categories.lvl{depth}" for depth in sorted(depths) if depth < LEVELS)
        else:
            yield facet_name(name)


def _counts(ranking: Ranking, facet: FacetField) -> Sequence[FacetCount] | None:
    folded = fold_name(facet.name)
    return next((c for name, c in ranking.facets.items() if fold_name(name) == folded), None)


def _statistics(request: SearchRequest, ranking: Ranking) -> dict[str, dict[str, float]]:
    """`facets_stats`, under the names of the request."""
    statistics = {fold_name(name): each for name, each in ranking.statistics.items()}
    names = [each for each in request.facets if each != "*"]
    if "*" in request.facets:
        names += map(facet_name, ranking.statistics)
    return {
        name: {"min": each.low, "max": each.high, "avg": each.mean, "sum": each.total}
        for name in names
        if (each := statistics.get(fold_name(FacetField.of(name).name)))
    }


def _chosen_fields(request: SearchRequest, body: dict[str, Any]) -> dict[str, Any]:
    names = request.names("responseFields")
    if names is None or "*" in names:
        return body
    return {name: value for name, value in body.items() if name in names}


def sees_more(query: Query, total: int) -> bool:
    """Whether there is anything behind a page."""
    return query.offset + query.k < total
