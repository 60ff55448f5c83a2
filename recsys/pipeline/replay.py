"""A logged request run again on the release that answered it: the same sources and scores, as of
the time of the request."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from recsys.errors import InputError
from recsys.events.impressions import filters_of
from recsys.interfaces import Ranker
from recsys.pipeline.hits import Hits
from recsys.pipeline.recommender import Recommender
from recsys.pipeline.rerank import Pool, Reranked
from recsys.pipeline.searcher import EncodedText
from recsys.types import Filters, Floats, Impression, Interaction, Query

#: More candidates than sources retrieve.
ALL = 1_000_000


@dataclass(frozen=True, kw_only=True)
class Replay:
    """A request's candidates, re-ranked; their feature table; and the first stage's ranker.

    `live` and `encoded` are what the request was replayed with; a search also has its hits."""

    impression: Impression
    query: Query
    live: Sequence[Interaction]
    encoded: EncodedText | None
    pool: Pool
    reranked: Reranked
    features_NF: Floats
    first_ranker: Ranker
    filters: Filters
    hits: Hits | None = None


def query_from_impression(impression: Impression) -> Query:
    """The request that an impression answered."""
    parameters: dict[str, Any] = dict(impression.parameters)
    names = Filters.__dataclass_fields__.keys() & parameters.keys()
    filters = filters_of({name: parameters.pop(name) for name in names})
    parameters |= {
        "user_id": impression.user_id,
        "text": impression.query,
        "offset": impression.offset,
    }
    return Query(request_id=impression.request_id, **parameters, filters=filters)


def replay(
    shop: Recommender,
    impression: Impression,
    live: Sequence[Interaction],
    encoded: EncodedText | None,
) -> Replay:
    """Raises InputError for a search without its encoded text."""
    query = query_from_impression(impression)
    if query.text is None:
        return _replay_recommendation(shop, impression, query, live, encoded)
    if encoded is None:
        raise InputError("a search is explained with its text understood and encoded: give both")
    results = shop.search_page.results(query, encoded[1], encoded[0])
    return Replay(
        impression=impression,
        query=query,
        live=live,
        encoded=encoded,
        pool=results.pool,
        reranked=results.reranked,
        features_NF=shop.reranker.feature_table(results.pool, results.context),
        first_ranker=shop.searcher.ranker,
        filters=results.filters,
        hits=results.hits,
    )


def _replay_recommendation(
    shop: Recommender,
    impression: Impression,
    query: Query,
    live: Sequence[Interaction],
    encoded: EncodedText | None,
) -> Replay:
    first_stage = shop.candidate_pool(
        query, live, encoded, stages_ms={}, now=impression.time, depth=ALL
    )
    pool, context = first_stage.pool, first_stage.context
    return Replay(
        impression=impression,
        query=query,
        live=live,
        encoded=encoded,
        pool=pool,
        reranked=shop.reranker.rerank(query, "recommend", pool, context),
        features_NF=shop.reranker.feature_table(pool, context),
        first_ranker=first_stage.ranker,
        filters=replace(query.filters, in_stock=True),
    )
