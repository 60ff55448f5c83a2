"""POST /events: interactions, and impressions of lists that a client assembled itself."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import Response

from serve.access import require_role
from serve.limits import read_body
from serve.routes import answers, schema
from serve.routes.requests import (
    ImpressionEvent,
    InteractionEvent,
    accept_only,
    hash_address,
    parse_events,
)
from serve.routes.responses import JsonResponse
from serve.routes.shop import shop_of

router = APIRouter(tags=["events"])


@router.post(
    "/events",
    response_model=answers.EventsAnswer,
    dependencies=[require_role("events"), accept_only()],
    openapi_extra=schema.EVENTS_BODY,
)
async def post_events(request: Request) -> Response:
    (events, rejected), shop = parse_events(await read_body(request)), shop_of(request)
    request.state.user_ids = [event.user_id for event in events]
    release = shop.health().release
    origin = hash_address(request.client.host if request.client else None)
    interactions = [e.interaction(origin) for e in events if isinstance(e, InteractionEvent)]
    impressions = [e.impression(release or "") for e in events if isinstance(e, ImpressionEvent)]
    recorded = await shop.record(interactions, impressions)
    body = {
        "request_id": request.state.request_id,
        "release": release,
        **vars(recorded),
        "event_ids": [event.event_id for event in events],
        "rejected": [answers.rejected_event(each) for each in rejected],
    }
    return JsonResponse(body)
