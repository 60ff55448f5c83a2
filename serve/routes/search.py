"""GET routes that answer shoppers: search, recommendations, similar items, what goes with
one, completions, one item; and the explanation of an answer, for operators."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from recsys import types
from serve import metrics
from serve.access import require_role
from serve.admission import deadline_of
from serve.routes import answers, explain_answers
from serve.routes.attribute_filters import parse_attribute_filters
from serve.routes.requests import (
    ExplainParams,
    Id,
    PageParams,
    RecommendParams,
    SearchParams,
    SuggestParams,
    accept_only,
    anonymous_if_refused,
    build_query,
    check_bounds,
)
from serve.routes.responses import JsonResponse
from serve.routes.shop import shop_of

router = APIRouter(tags=["answers"])
READ, ADMIN = require_role("read"), require_role("admin")


@router.get(
    "/search",
    response_model=answers.SearchAnswer,
    dependencies=[READ, accept_only(SearchParams)],
)
async def get_search(request: Request, params: Annotated[SearchParams, Query()]) -> Response:
    query = query_of(request, params)
    ranking = await shop_of(request).search(query)
    return answer_search(request, ranking, query)


@router.get(
    "/suggest",
    response_model=answers.SuggestAnswer,
    dependencies=[READ, accept_only(SuggestParams)],
)
async def get_suggestions(request: Request, params: Annotated[SuggestParams, Query()]) -> Response:
    shop = shop_of(request)
    check_bounds(params, shop.day)
    release, suggestions = await shop.suggest(params.q, params.k)
    request.state.release = release
    return JsonResponse(answers.suggest_answer(request.state.request_id, release, suggestions))


@router.get(
    "/recommend",
    response_model=answers.RankingAnswer,
    dependencies=[READ, accept_only(RecommendParams)],
)
async def get_recommendations(
    request: Request, params: Annotated[RecommendParams, Query()]
) -> Response:
    ranking = await shop_of(request).recommend(query_of(request, params))
    return _respond(request, ranking, answers.ranking_answer(ranking))


@router.get(
    "/similar/{item_id:path}",
    response_model=answers.RankingAnswer,
    dependencies=[READ, accept_only(PageParams)],
)
async def get_similar(
    request: Request, item_id: Id, params: Annotated[PageParams, Query()]
) -> Response:
    ranking = await shop_of(request).similar(query_of(request, params), item_id)
    return _respond(request, ranking, answers.ranking_answer(ranking))


@router.get(
    "/complements/{item_id:path}",
    response_model=answers.RankingAnswer,
    dependencies=[READ, accept_only(PageParams)],
)
async def get_complements(
    request: Request, item_id: Id, params: Annotated[PageParams, Query()]
) -> Response:
    ranking = await shop_of(request).complements(query_of(request, params), item_id)
    return _respond(request, ranking, answers.ranking_answer(ranking))


@router.get(
    "/items/{item_id:path}",
    response_model=answers.ItemAnswer,
    dependencies=[READ, accept_only()],
)
async def get_item(request: Request, item_id: Id) -> Response:
    shop = shop_of(request)
    release, item = await shop.item(item_id)
    changed = await shop.changed_fields(item_id)
    return JsonResponse(answers.item_answer(request.state.request_id, release, item, changed))


@router.get(
    "/explain",
    response_model=explain_answers.ExplainAnswer,
    dependencies=[ADMIN, accept_only(ExplainParams)],
)
async def get_explanation(request: Request, params: Annotated[ExplainParams, Query()]) -> Response:
    explanation = await shop_of(request).explain(params.request_id, params.item_id)
    request.state.release = explanation.release
    return JsonResponse(explain_answers.explain_answer(request.state.request_id, explanation))


def query_of(request: Request, params: PageParams) -> types.Query:
    query = build_query(request.state.request_id, params, shop_of(request).day)
    attributes = parse_attribute_filters(request.query_params.multi_items())
    filters = replace(query.filters, attributes=attributes)
    query = replace(query, deadline=deadline_of(request.scope), filters=filters)
    return anonymous_if_refused(request, query)


def answer_search(request: Request, ranking: types.Ranking, query: types.Query) -> Response:
    """A search's answer, observed."""
    return _respond(request, ranking, answers.search_answer(ranking, query))


def _respond(
    request: Request,
    ranking: types.Ranking,
    body: answers.RankingAnswer | answers.SearchAnswer,
) -> Response:
    observe_ranking(request, ranking)
    return JsonResponse(body)


def observe_ranking(request: Request, ranking: types.Ranking) -> None:
    """Metrics of an answer, and its release for the log line."""
    route = metrics.route_of(request.scope)
    for stage, milliseconds in ranking.stages_ms.items():
        metrics.STAGE_MS.observe(milliseconds, {"route": route, "stage": stage})
    if not ranking.items and not ranking.total:
        metrics.EMPTY_ANSWERS.inc(tags={"route": route})
    request.state.release = ranking.release
