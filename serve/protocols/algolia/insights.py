"""`POST /1/events`: the events of search-insights as ours.

| theirs | ours |
|---|---|
| view of one object | view: of a product's page |
| view of several, or by InstantSearch itself | none: that list is logged as an impression |
| click | click |
| conversion, subtype addToCart | cart |
| conversion, subtype purchase | purchase |
| conversion without subtype | as its name says ("Product Purchased"), else cart |
| of filters; InstantSearch's of its own use | none |
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from hashlib import blake2b
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response

from recsys.datasets.event_words import meaning_of
from serve.access import require_role
from serve.protocols.algolia.routes import read_object
from serve.protocols.recording import record_rows
from serve.routes.errors import RequestError
from serve.routes.requests import MAX_EVENTS

router = APIRouter(include_in_schema=False)
_SUBTYPES = {"addToCart": "cart", "purchase": "purchase"}
_TYPES = ("view", "click", "conversion", "instantsearch")


@router.post("/1/events", dependencies=[require_role("events")])
async def post_insights(request: Request) -> Response:
    body = await read_object(request)
    events = body.get("events")
    if not isinstance(events, list) or not 1 <= len(events) <= MAX_EVENTS:
        raise RequestError("events", events, f"a list of 1 to {MAX_EVENTS:,} events")
    rows = [row for place, event in enumerate(events) for row in _rows(place, event)]
    return await record_rows(request, rows, {"status": 200, "message": "OK"})


def _rows(place: int, event: Any) -> Iterator[dict[str, Any]]:
    """An event of ours for each object; none for what is no interaction."""
    if not isinstance(event, Mapping) or event.get("eventType") not in _TYPES:
        raise RequestError(f"events[{place}]", event, f"an eventType of {', '.join(_TYPES)}")
    objects = event.get("objectIDs") or []
    if not isinstance(objects, list):
        raise RequestError(f"events[{place}].objectIDs", objects, "a list of objectIDs")
    type = _type(event, objects)
    if type is None:
        return
    data = event.get("objectData")
    data = data if isinstance(data, list) and len(data) == len(objects) else [{}] * len(objects)
    for number, (item_id, details) in enumerate(zip(objects, data, strict=True)):
        details = details if isinstance(details, Mapping) else {}
        row = {
            "event_id": _event_id(event, item_id, number),
            "type": type,
            "user_id": event.get("authenticatedUserToken") or event.get("userToken"),
            "item_id": item_id,
            "request_id": details.get("queryID") or event.get("queryID"),
            "quantity": details.get("quantity"),
            "price": details.get("price"),
            "time": _time(place, event.get("timestamp")),
        }
        yield {name: value for name, value in row.items() if value is not None}


def _type(event: Mapping[str, Any], objects: Sequence[Any]) -> str | None:
    sources = event.get("algoliaSource") or ()
    match event["eventType"]:
        case "view" if len(objects) == 1 and "instantsearch-internal" not in sources:
            return "view"
        case "click":
            return "click"
        case "conversion":
            subtype = _SUBTYPES.get(str(event.get("eventSubtype")))
            by_name = meaning_of(str(event.get("eventName")))
            return subtype or ("purchase" if by_name == "purchase" else "cart")
        case _:
            return None


def _time(place: int, timestamp: Any) -> str | None:
    """Milliseconds since 1970, as an ISO time."""
    if timestamp is None:
        return None
    try:
        return datetime.fromtimestamp(timestamp / 1000, UTC).isoformat()
    except (TypeError, ValueError, OverflowError, OSError):
        allowed = "milliseconds since 1970"
        raise RequestError(f"events[{place}].timestamp", timestamp, allowed) from None


def _event_id(event: Mapping[str, Any], item_id: Any, number: int) -> str:
    """The same for an event that comes again, where its own time tells it from the others."""
    if event.get("timestamp") is None:
        return uuid.uuid4().hex
    content = json.dumps([event, item_id, number], sort_keys=True, default=str)
    return blake2b(content.encode("utf-8", "replace"), digest_size=16).hexdigest()
