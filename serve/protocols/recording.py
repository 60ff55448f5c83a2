"""Events of other trackers, once they are rows of ours, on their way to the log."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import Request
from fastapi.responses import Response

from serve.routes import answers
from serve.routes.requests import InteractionEvent, hash_address, parse_rows
from serve.routes.responses import JsonResponse
from serve.routes.shop import shop_of


async def record_rows(
    request: Request, rows: Sequence[Mapping[str, Any]], frame: Mapping[str, Any]
) -> Response:
    """The answer is `frame`, and beside it what became of the events, as `/events` says it. Raises
    RequestError where there are events and none can be used."""
    shop = shop_of(request)
    events, rejected = parse_rows([*rows], False) if rows else ([], [])
    request.state.user_ids = [event.user_id for event in events]
    origin = hash_address(request.client.host if request.client else None)
    interactions = [e.interaction(origin) for e in events if isinstance(e, InteractionEvent)]
    recorded = await shop.record(interactions, [])
    body = {
        **frame,
        "request_id": request.state.request_id,
        **vars(recorded),
        "rejected": [answers.rejected_event(each) for each in rejected],
    }
    return JsonResponse(body)
