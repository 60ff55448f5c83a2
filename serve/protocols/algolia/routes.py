"""The part of Algolia's search API that its clients and InstantSearch use: see docs/front-ends.md.

Each route translates: a request to `recsys.types.Query`, an answer back. What it finds and how it
ranks is what `/search` finds."""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import time
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response

from recsys.errors import NotFoundError
from recsys.types import ValueFacets
from serve.access import require_role
from serve.admission import deadline_of
from serve.limits import read_body
from serve.protocols.algolia import answers
from serve.protocols.algolia.answers import Answer
from serve.protocols.algolia.fields import FacetField, record_of, retrieved
from serve.protocols.algolia.parameters import SearchRequest, read_parameters, search_request
from serve.routes.errors import RequestError
from serve.routes.requests import anonymous_if_refused
from serve.routes.responses import JsonResponse
from serve.routes.search import observe_ranking
from serve.routes.shop import shop_of

router = APIRouter(include_in_schema=False)
READ, CATALOGUE = require_role("read"), require_role("catalogue")
UNSUPPORTED = "X-Nightshelf-Unsupported"
#: Queries or objects of one request.
MAX_QUERIES = 50
#: Completions that one prefix has.
MAX_SUGGESTIONS = 50
#: Parameters of a GET that are of the client, not of the query.
_CLIENT = ("x-algolia-agent", "x-algolia-api-key", "x-algolia-application-id")
INDICES = "/1/indexes"


@router.post(f"{INDICES}/*/queries", dependencies=[READ])
async def post_queries(request: Request) -> Response:
    body = await read_object(request)
    queries = body.get("requests")
    if not isinstance(queries, list) or not 1 <= len(queries) <= MAX_QUERIES:
        count = f"{len(queries)} queries" if isinstance(queries, list) else queries
        raise RequestError("requests", count, f"a list of 1 to {MAX_QUERIES} queries")
    strategy = body.get("strategy", "none")
    if strategy not in ("none", "stopIfEnoughMatches"):
        raise RequestError("strategy", strategy, "none or stopIfEnoughMatches")
    for query in queries:
        if not isinstance(query, Mapping):
            raise RequestError("requests", query, "a list of objects with indexName")
    parameters = [read_parameters(query) for query in queries]
    if strategy == "stopIfEnoughMatches":
        results = await _until_enough(request, parameters)
    else:
        results = await asyncio.gather(*(_answer(request, each) for each in parameters))
    return _respond({"results": [each.body for each in results]}, results)


@router.post(f"{INDICES}/*/objects", dependencies=[READ])
async def post_objects(request: Request) -> Response:
    body = await read_object(request)
    objects = body.get("requests")
    if not isinstance(objects, list) or not 1 <= len(objects) <= MAX_QUERIES:
        raise RequestError("requests", objects, f"a list of 1 to {MAX_QUERIES} objects")
    results = [await _object(request, each) for each in objects]
    missing = [
        each.get("objectID") for each, record in zip(objects, results, strict=True) if not record
    ]
    message = {"message": f"ObjectID {missing[0]} does not exist."} if missing else {}
    return _respond({"results": results} | message)


@router.post(f"{INDICES}/{{index}}/query", dependencies=[READ])
async def post_query(request: Request, index: str) -> Response:
    answer = await _answer(request, await _parameters(request, index))
    return _respond(answer.body, [answer])


@router.get(f"{INDICES}/{{index}}", dependencies=[READ])
async def get_query(request: Request, index: str) -> Response:
    parameters = {
        name: value
        for name, value in read_parameters({"params": request.url.query}).items()
        if name.lower() not in _CLIENT
    }
    answer = await _answer(request, {**parameters, "indexName": index})
    return _respond(answer.body, [answer])


@router.post(f"{INDICES}/{{index}}/facets/{{facet}}/query", dependencies=[READ])
async def post_facet_query(request: Request, index: str, facet: str) -> Response:
    parameters = await _parameters(request, index)
    answer = await _answer(request, {**parameters, "type": "facet", "facet": facet})
    return _respond(answer.body, [answer])


@router.post(f"{INDICES}/{{index}}/browse", dependencies=[CATALOGUE])
async def post_browse(request: Request, index: str) -> Response:
    """All items, page by page, of the state that the first page was of."""
    parameters, started = await _parameters(request, index), time.perf_counter()
    browse = _read(request, {"hitsPerPage": 1_000, **parameters})
    offset, snapshot = _read_cursor(browse.text("cursor"))
    query = replace(browse.query, sort="popularity", offset=offset, snapshot=snapshot, logged=False)
    ranking = await shop_of(request).search(query)
    answer = answers.search_result(replace(browse, query=query), ranking, started)
    if answers.sees_more(query, ranking.total or 0):
        cursor = f"{offset + query.k} {ranking.snapshot}"
        answer.body["cursor"] = base64.urlsafe_b64encode(cursor.encode()).decode()
    return _respond(answer.body)


@router.get(f"{INDICES}/{{index}}/{{object_id:path}}", dependencies=[READ])
async def get_object(request: Request, index: str, object_id: str) -> Response:
    attributes = read_parameters({"params": request.url.query}).get("attributesToRetrieve")
    body = {"indexName": index, "objectID": object_id, "attributesToRetrieve": attributes}
    if (record := await _object(request, body)) is None:
        raise NotFoundError("ObjectID does not exist")
    return _respond(record)


async def read_object(request: Request) -> dict[str, Any]:
    """The body, an object as JSON; an empty one is {}."""
    body = await read_body(request)
    try:
        content = json.loads(body or b"{}")
    except (ValueError, RecursionError):
        text = body[:100].decode("utf-8", "replace")
        raise RequestError("body", text, "an object as JSON", status=400) from None
    if not isinstance(content, dict):
        raise RequestError("body", content, "an object as JSON", status=400)
    return content


async def _parameters(request: Request, index: str) -> dict[str, Any]:
    return {**read_parameters(await read_object(request)), "indexName": index}


def _read(request: Request, parameters: Mapping[str, Any]) -> SearchRequest:
    """One query of the request, under an id of its own, as its privacy signals allow."""
    index = parameters.get("indexName")
    if not isinstance(index, str):
        raise RequestError("indexName", index, "the name of an index")
    read = search_request(uuid.uuid4().hex, index, parameters, shop_of(request).day)
    query = replace(read.query, deadline=deadline_of(request.scope))
    return replace(read, query=anonymous_if_refused(request, query))


async def _answer(request: Request, parameters: Mapping[str, Any]) -> Answer:
    """Of a search, a search in suggestions, or one in the values of a facet."""
    shop, started = shop_of(request), time.perf_counter()
    read = _read(request, parameters)
    if read.is_suggestions:
        text = read.query.text or ""
        release, suggestions = await shop.suggest(text, MAX_SUGGESTIONS)
        request.state.release = release
        return answers.suggestions_result(read, suggestions, started)
    if parameters.get("type") == "facet":
        return await _facet_values(request, read, started)
    ranking = await shop.search(read.query)
    observe_ranking(request, ranking)
    return answers.search_result(read, ranking, started)


async def _facet_values(request: Request, read: SearchRequest, started: float) -> Answer:
    attribute = read.text("facet")
    facets = ValueFacets((FacetField.of(attribute).name,), read.text("facetQuery"))
    query = replace(read.query, k=0, offset=0, value_facets=facets, logged=False)
    ranking = await shop_of(request).search(query)
    observe_ranking(request, ranking)
    answer = answers.facet_result(read, attribute, ranking, started)
    if answer is None:
        raise RequestError("facet", attribute, "a facet of this shop: brand, categories.lvl0, ...")
    return answer


async def _until_enough(request: Request, parameters: Iterable[Mapping[str, Any]]) -> list[Answer]:
    """One after the other until one fills its page; the others are not processed."""
    results, enough = list[Answer](), False
    for each in parameters:
        if enough:
            results.append(answers.unprocessed_result(_read(request, each)))
            continue
        results.append(await _answer(request, each))
        body = results[-1].body
        enough = body.get("nbHits", 0) >= body.get("hitsPerPage", body.get("length", 1)) > 0
    return results


async def _object(request: Request, parameters: Any) -> dict[str, Any] | None:
    """The record of an item; None where there is none, or it is hidden."""
    if not isinstance(parameters, Mapping) or not isinstance(parameters.get("objectID"), str):
        raise RequestError("requests", parameters, "objects with indexName and objectID")
    read = _read(request, {"indexName": parameters.get("indexName")})
    try:
        release, item = await shop_of(request).item(parameters["objectID"])
    except NotFoundError:
        return None
    request.state.release = release
    attributes = replace(read, parameters=parameters).names("attributesToRetrieve")
    return None if item.hidden else retrieved(record_of(item), attributes)


def _read_cursor(cursor: str) -> tuple[int, str | None]:
    """The place from which to go on, and the state of the catalogue."""
    if not cursor:
        return 0, None
    try:
        offset, snapshot = base64.urlsafe_b64decode(cursor).decode().split(" ")
        return int(offset), snapshot
    except (ValueError, binascii.Error):
        raise RequestError("cursor", cursor, "the cursor of the page before") from None


def _respond(body: Mapping[str, Any], results: Iterable[Answer] = ()) -> Response:
    """With what was not supported, in a header."""
    names = dict.fromkeys(name for each in results for name in each.unsupported)
    headers = {UNSUPPORTED: ", ".join(names)[:2_000]} if names else {}
    return JsonResponse(body, headers=headers)
