"""Changes of the catalogue by day: an item by PUT, PATCH and DELETE, up to 1,000 by POST /items."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response
from starlette.concurrency import run_in_threadpool

from recsys.catalogue.changes import ChangeResult
from recsys.catalogue.validation import InvalidChange
from recsys.errors import NotFoundError
from serve.access import require_role
from serve.limits import MAX_ITEMS_BYTES, media_type, read_body
from serve.routes import change_answers, schema
from serve.routes.changes import DeleteParams, parse_item, parse_items
from serve.routes.errors import RequestError
from serve.routes.requests import Id, accept_only
from serve.routes.responses import JsonResponse
from serve.routes.shop import shop_of

router = APIRouter(tags=["catalogue"], dependencies=[require_role("catalogue")])


@router.post(
    "/items",
    response_model=change_answers.ChangesAnswer,
    dependencies=[accept_only()],
    openapi_extra=schema.ITEMS_BODY,
)
async def post_items(request: Request) -> Response:
    """Each row is judged by itself: what is wrong with one stops no other."""
    body = await read_body(request, MAX_ITEMS_BYTES)
    rows = await run_in_threadpool(parse_items, body, media_type(request.headers))
    shop = shop_of(request)
    outcomes = await shop.change_items(rows)
    request_id, release = request.state.request_id, shop.health().release
    return JsonResponse(change_answers.changes_answer(request_id, release, rows, outcomes))


@router.put(
    "/items/{item_id:path}",
    response_model=change_answers.ChangeAnswer,
    dependencies=[accept_only()],
    openapi_extra=schema.ITEM_BODY,
)
async def put_item(request: Request, item_id: Id) -> Response:
    """The whole item: a field that the body lacks has no value any more."""
    return await _change(request, parse_item(await read_body(request), "put", item_id))


@router.patch(
    "/items/{item_id:path}",
    response_model=change_answers.ChangeAnswer,
    dependencies=[accept_only()],
    openapi_extra=schema.ITEM_BODY,
)
async def patch_item(request: Request, item_id: Id) -> Response:
    """The fields that the body names; 404 for an item that never was, of which it says too little
    to make one."""
    return await _change(request, parse_item(await read_body(request), "patch", item_id))


@router.delete(
    "/items/{item_id:path}",
    response_model=change_answers.ChangeAnswer,
    dependencies=[accept_only(DeleteParams)],
)
async def delete_item(
    request: Request, item_id: Id, params: Annotated[DeleteParams, Query()]
) -> Response:
    row = {"op": "delete", "item_id": item_id, **params.model_dump()}
    return await _change(request, row)


async def _change(request: Request, row: dict[str, Any]) -> Response:
    shop = shop_of(request)
    [outcome] = await shop.change_items([row])
    release = shop.health().release
    if isinstance(outcome, InvalidChange):
        raise _refusal(outcome, row)
    if outcome.status == "missing":
        raise NotFoundError(change_answers.missing_sentence(row["item_id"], row["op"], release))
    assert isinstance(outcome, ChangeResult)
    body = change_answers.change_answer(request.state.request_id, release, row, outcome)
    return JsonResponse(body)


def _refusal(invalid: InvalidChange, row: dict[str, Any]) -> RequestError:
    allowed = invalid.reason.partition(": ")[2]
    return RequestError(invalid.field, row.get(invalid.field), allowed, message=invalid.reason)
