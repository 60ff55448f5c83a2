"""What a visitor does in the storefront: views and clicks, the basket, an order, privacy.

All of them are events of the visitor that the cookie names, whatever a body says, and only from
this site's own pages."""

from __future__ import annotations

import json
import uuid
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl

from fastapi import APIRouter, Depends, Request
from fastapi.responses import RedirectResponse, Response

from recsys.types import Interaction
from serve.access import require_visitor
from serve.limits import read_body
from serve.routes.errors import RequestError
from serve.routes.requests import InteractionEvent, hash_address
from serve.routes.shop import shop_of
from serve.web import visitor as visitors
from serve.web.pages import is_fragment, page_response, storefront_path
from serve.web.visitor import MAX_COUNT, basket_of, check_same_origin, visitor_of

#: Of one body.
MAX_VISITOR_EVENTS, MAX_FORM_BYTES = 50, 16_384
#: What scripts report; the basket's own events are made here.
REPORTED = ("view", "click")

router = APIRouter(
    prefix="/shop",
    include_in_schema=False,
    dependencies=[require_visitor(), Depends(check_same_origin)],
)


@router.post("/events")
async def post_visitor_events(request: Request) -> Response:
    """Views and clicks of the visitor; nothing is kept of one who wants no record."""
    rows = _rows(await read_body(request, MAX_FORM_BYTES))
    visitor = visitor_of(request)
    if visitor.user_id and not visitor.is_new:
        await _record(request, [_interaction(row, visitor.user_id) for row in rows])
    return Response(status_code=204)


@router.post("/basket")
async def post_basket(request: Request) -> Response:
    """`action` is add, set (to `count`) or remove an item."""
    form = await _form(request)
    item_id, basket = form.get("item_id", ""), basket_of(request)
    _, item = await shop_of(request).item(item_id)
    if form.get("action") == "add":
        basket[item_id] = min(MAX_COUNT, basket.get(item_id, 0) + 1)
        await _record_items(request, "cart", {item_id: 1}, form.get("request_id"))
    else:
        count = form.get("count", "0") if form.get("action") == "set" else "0"
        basket[item_id] = min(MAX_COUNT, int(count[:3])) if count.isdecimal() else 0
    basket = {each: count for each, count in basket.items() if count}
    if is_fragment(request):
        context = {"item": item, "basket_count": sum(basket.values())}
        response = page_response(request, "added.html", context, headers={"HX-Trigger": "basket"})
    else:
        response = _see_other(request, "basket")
    visitors.keep_basket(request, response, basket)
    return response


@router.post("/order")
async def post_order(request: Request) -> Response:
    """Everything in the basket is bought: nothing is charged, and nothing sent."""
    await _form(request)
    basket = basket_of(request)
    await _record_items(request, "purchase", basket)
    response = _see_other(request, "basket?ordered=true")
    visitors.keep_basket(request, response, {})
    return response


@router.post("/privacy")
async def post_privacy(request: Request) -> Response:
    """`action`: stop (nothing is recorded any more), start, or forget what was recorded too."""
    form, visitor = await _form(request), visitor_of(request)
    response = _see_other(request, "")
    if form.get("action") == "start":
        response.delete_cookie(visitors.COOKIE, path=f"{storefront_path(request)[:-1]}")
        return response
    if form.get("action") == "forget" and visitor.user_id and not visitor.is_new:
        await shop_of(request).forget(visitor.user_id)
    visitors.keep_visitor(request, response, visitors.NOBODY)
    return response


def _see_other(request: Request, path: str) -> RedirectResponse:
    return RedirectResponse(f"{storefront_path(request)}{path}", 303)


async def _form(request: Request) -> dict[str, str]:
    body = await read_body(request, MAX_FORM_BYTES)
    return dict(parse_qsl(body.decode("utf-8", "replace"), max_num_fields=20))


def _rows(body: bytes) -> list[Any]:
    try:
        rows = json.loads(body)
    except (ValueError, RecursionError):
        rows = None
    rows = [rows] if isinstance(rows, dict) else rows
    if not isinstance(rows, list) or not 1 <= len(rows) <= MAX_VISITOR_EVENTS:
        allowed = f"a list of at most {MAX_VISITOR_EVENTS} events"
        raise RequestError("body", body[:100].decode("utf-8", "replace"), allowed)
    return rows


def _interaction(row: Any, user_id: str) -> Interaction:
    if not isinstance(row, dict) or row.get("type") not in REPORTED:
        raise RequestError("type", None, f"one of {', '.join(REPORTED)}")
    fields = {
        name: row[name] for name in ("type", "item_id", "request_id", "event_id") if row.get(name)
    }
    return InteractionEvent.model_validate({**fields, "user_id": user_id}).interaction()


async def _record_items(
    request: Request, kind: str, counts: dict[str, int], request_id: str | None = None
) -> None:
    visitor = visitor_of(request)
    if visitor.user_id is None or visitor.is_new:
        return
    events = [
        Interaction(
            event_id=uuid.uuid4().hex,
            user_id=visitor.user_id,
            item_id=item_id,
            type=kind,
            time=datetime.now(UTC),
            quantity=float(count),
            request_id=(request_id or "")[:256] or None,
        )
        for item_id, count in counts.items()
    ]
    await _record(request, events)


async def _record(request: Request, events: list[Interaction]) -> None:
    origin = hash_address(request.client.host if request.client else None)
    if events:
        await shop_of(request).record([replace(event, origin=origin) for event in events], [])
