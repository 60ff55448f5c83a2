"""Events of GA4 and Segment as they are sent, read by the same lines as exports of their files.

`POST /events/ga4` takes the body of the Measurement Protocol, `POST /events/segment` track calls,
one or a batch. What is no interaction with an item is left out and counted; so are returns, which
the night reads from files."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response

from recsys.datasets.platforms import ga4, segment
from recsys.datasets.platforms.adapter import Extract
from recsys.datasets.validate import check_events
from recsys.tables import EVENTS
from serve.access import require_role
from serve.limits import read_body
from serve.protocols.recording import record_rows
from serve.routes.errors import RequestError
from serve.routes.requests import MAX_EVENTS
from serve.routes.schema import EVENT_BATCH

router = APIRouter(tags=["events"], dependencies=[require_role("events")])
Record = Mapping[str, Any]


@router.post("/events/ga4", openapi_extra=EVENT_BATCH)
async def post_ga4(request: Request, item_key: str = "item_id") -> Response:
    records = list(_ga4_records(await _body(request)))
    return await _record(request, ga4.extract_records(records, item_key))


@router.post("/events/segment", openapi_extra=EVENT_BATCH)
async def post_segment(request: Request, item_key: str = "product_id") -> Response:
    body = await _body(request)
    calls = _objects("batch", body["batch"]) if "batch" in body else [body]
    return await _record(request, segment.extract_calls(calls, item_key))


async def _body(request: Request) -> dict[str, Any]:
    content = await read_body(request)
    try:
        body = json.loads(content)
    except (ValueError, RecursionError):
        text = content[:100].decode("utf-8", "replace")
        raise RequestError("body", text, "an object as JSON", status=400) from None
    if not isinstance(body, dict):
        raise RequestError("body", body, "an object as JSON")
    return body


def _objects(name: str, value: Any) -> list[Record]:
    allowed = f"a list of 1 to {MAX_EVENTS:,} objects"
    if not isinstance(value, list) or not 1 <= len(value) <= MAX_EVENTS:
        raise RequestError(name, value, allowed)
    for each in value:
        if not isinstance(each, Mapping):
            raise RequestError(name, each, allowed)
    return value


def _ga4_records(body: Record) -> Iterator[Record]:
    """What is sent, as the export to BigQuery has it."""
    now = time.time_ns() // 1_000
    for event in _objects("events", body.get("events")):
        params = event.get("params") or {}
        if not isinstance(params, Mapping):
            raise RequestError("params", params, "an object")
        items = params.get("items") or []
        yield {
            "event_name": event.get("name"),
            "event_timestamp": event.get("timestamp_micros") or body.get("timestamp_micros") or now,
            "user_pseudo_id": body.get("client_id") or body.get("app_instance_id"),
            "user_id": body.get("user_id"),
            "ecommerce": {"transaction_id": params.get("transaction_id")},
            "items": [*_objects("items", items)] if items else None,
        }


async def _record(request: Request, extract: Extract) -> Response:
    """As the night cleans them; what it would quarantine is named."""
    left_out = dict(extract.left_out)
    checked = check_events(extract.rows, "request", 0, datetime.now(UTC))
    rows = checked.good.select(EVENTS.names).to_pylist()
    sales = [row for row in rows if row["quantity"] is None or row["quantity"] > 0]
    if len(sales) < len(rows):
        left_out["returns: the night reads them from files"] = len(rows) - len(sales)
    for reason in checked.quarantined["reason"].to_pylist():
        left_out[reason] = left_out.get(reason, 0) + 1
    cleaned = [{name: v for name, v in _plain(row).items() if v is not None} for row in sales]
    return await record_rows(request, cleaned, {"left_out": left_out})


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    return {**row, "time": row["time"].isoformat()}
