"""Prometheus metrics and the log line of every request.

Prometheus sees each name with `ray_` before it. Without a running Ray the metrics can be used too,
and record nothing."""

from __future__ import annotations

import logging
import re
import time
import traceback
import uuid
from collections import Counter as Tally
from collections.abc import Callable, Sequence

from ray.util.metrics import Counter, Gauge, Histogram
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from recsys.catalogue.validation import CONTROLS
from recsys.errors import RecsysError
from recsys.tables import ITEMS_RAW
from serve.routes.errors import error_body
from serve.routes.responses import JsonResponse

logger = logging.getLogger("ray.serve")

#: What a row of a change may name.
CHANGE_FIELDS = frozenset((*ITEMS_RAW.names, *CONTROLS))
#: Keys that other protocols put into the URL.
_SECRETS = re.compile(r"(x-algolia-api-key|api_secret)=[^&]*", re.IGNORECASE)
_MS = [1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0, 2000.0, 5000.0]

REQUESTS = Counter("nightshelf_requests_total", "HTTP requests answered", ("route", "status"))
REQUEST_MS = Histogram(
    "nightshelf_request_ms", "Milliseconds from request to response", _MS, ("route",)
)
STAGE_MS = Histogram(
    "nightshelf_stage_ms", "Milliseconds an answer spent in one stage", _MS, ("route", "stage")
)
EMPTY_ANSWERS = Counter("nightshelf_empty_answers_total", "Answers without any item", ("route",))
EVENTS = Counter(
    "nightshelf_events_total", "Events by outcome: received, quarantined, ...", ("type", "outcome")
)
CHANGES = Counter(
    "nightshelf_catalogue_changes_total",
    "Changes of items by outcome: accepted, unchanged, stale, missing, invalid",
    ("outcome",),
)
CHANGES_INVALID = Counter(
    "nightshelf_catalogue_invalid_total", "Changes of items that are none, by field", ("field",)
)
CHANGES_APPLIED = Counter(
    "nightshelf_catalogue_applied_total", "Changed items that this replica serves"
)
CHANGE_DELAY = Histogram(
    "nightshelf_catalogue_delay_ms", "Milliseconds from a change's acceptance to its service", _MS
)
SEGMENT_SHARE = Gauge(
    "nightshelf_catalogue_segment_share",
    "Items that came or were rewritten since the night, over those of the release",
)
CATALOGUE_LAG = Gauge(
    "nightshelf_catalogue_lag_seconds", "Seconds that changes have been waiting for their log"
)
CATALOGUE_WAITING = Gauge(
    "nightshelf_catalogue_waiting", "Changes that wait on this host for their log"
)
RELEASE_AGE = Gauge(
    "nightshelf_release_age_seconds", "Seconds since the night of the live release began"
)
RELEASES_REFUSED = Counter("nightshelf_release_refused_total", "Releases that could not be loaded")
LOG_LAG = Gauge(
    "nightshelf_log_lag_seconds", "Seconds that impressions have been waiting for the event log"
)
LOG_WAITING = Gauge(
    "nightshelf_log_waiting_rows", "Rows that wait on this host's disk for the event log"
)
LOG_DOWN = Gauge("nightshelf_log_down_seconds", "Seconds that the event log has been out of reach")
FORGETTING_WAITS = Gauge(
    "nightshelf_forgetting_waits_seconds", "Seconds that the oldest erasure has been pending"
)
FORGOTTEN = Counter("nightshelf_forgotten_total", "Users who were forgotten over HTTP")
IMPRESSIONS_DROPPED = Counter(
    "nightshelf_impressions_dropped_total", "Impressions that were never written"
)


def route_of(scope: Scope) -> str:
    """The route's path with its parameters' names: bounded, whatever URLs come."""
    return getattr(scope.get("route"), "path", "other").replace(":path", "")


class RequestMetrics:
    """ASGI middleware around every request: its id, its duration, one log line, and a 500 without
    a stack trace for what fails.

    Query texts and user ids are in no log line unless `log_queries`."""

    def __init__(
        self, app: ASGIApp, release: Callable[[], str | None], log_queries: bool = False
    ) -> None:
        self.app, self.release, self.log_queries = app, release, log_queries

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        started, request_id, status = time.perf_counter(), uuid.uuid4().hex, 0
        scope.setdefault("state", {})["request_id"] = request_id
        trace = dict(scope["headers"]).get(b"x-request-id")

        async def send_observed(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                if trace is None:  # else Ray's proxy, which set it, puts it on the response too
                    header = (b"x-request-id", request_id.encode())
                    message["headers"] = [*message.get("headers", []), header]
            await send(message)

        try:
            await self.app(scope, receive, send_observed)
        except Exception as error:
            logger.error("request %s failed: %s", request_id, format_error(error, self.log_queries))
            if status:  # the server would log the original with its message
                raise RuntimeError(f"request {request_id} failed while it was answered") from None
            message = "an internal error: report the request_id to the shop's operators"
            await JsonResponse(error_body(message, request_id), 500)(scope, receive, send_observed)
        finally:
            self._record(scope, status, (time.perf_counter() - started) * 1000, trace)

    def _record(self, scope: Scope, status: int, milliseconds: float, trace: bytes | None) -> None:
        route, state = route_of(scope), scope["state"]
        REQUESTS.inc(tags={"route": route, "status": str(status)})
        REQUEST_MS.observe(milliseconds, {"route": route})
        fields: dict[str, object] = {
            "request_id": state["request_id"],
            "route": route,
            "status": status,
            "milliseconds": round(milliseconds, 2),
            "release": state.get("release") or self.release(),
            "trace_id": _sanitise(trace),
            "client": state.get("client"),
            "skip_context_filter": True,  # else Serve's own ids replace ours
        }
        if self.log_queries:
            query_string = _SECRETS.sub(r"\1=...", scope["query_string"].decode("latin-1"))
            fields["asked"] = (scope["path"], query_string, state.get("user_ids"))
        logger.info("%s %s", route, status, extra=fields)


def count_events(types: Sequence[str], outcomes: dict[str, int]) -> None:
    """One `received` per event's type, and a number of events for each further outcome."""
    for event_type in types:
        EVENTS.inc(tags={"type": event_type, "outcome": "received"})
    for outcome, count in outcomes.items():
        if count:
            EVENTS.inc(count, {"type": "any", "outcome": outcome})


def count_changes(statuses: Sequence[str], invalid_fields: Sequence[str]) -> None:
    """Fields are a client's words: one that no item has is "unknown"."""
    outcomes = Tally([*statuses, *["invalid"] * len(invalid_fields)])
    fields = Tally([name if name in CHANGE_FIELDS else "unknown" for name in invalid_fields])
    for outcome, count in outcomes.items():
        CHANGES.inc(count, {"outcome": outcome})
    for field, count in fields.items():
        CHANGES_INVALID.inc(count, {"field": field})


def format_error(error: BaseException, with_message: bool) -> str:
    """An error's stack, and its causes'. Messages often quote the request: only
    `with_message`."""
    if with_message:
        return "".join(traceback.format_exception(error))
    causes, cause = list[BaseException](), error
    while cause is not None and cause not in causes:
        causes.append(cause)
        cause = cause.__cause__ or cause.__context__  # type: ignore[assignment]
    stacks = (
        f"{type(e).__name__}\n{''.join(traceback.format_tb(e.__traceback__))}" for e in causes
    )
    return "from ".join(stacks)


def describe_error(error: Exception) -> str:
    """One sentence: our own errors are one, of others the type is named first."""
    return str(error) if isinstance(error, RecsysError) else f"{type(error).__name__}: {error}"


def _sanitise(trace: bytes | None) -> str:
    """A client's own id for a request, "" where it does not look like one: a header may hold
    anything."""
    text = (trace or b"")[:64].decode("latin-1")
    return text if all(character.isalnum() or character in "-_." for character in text) else ""
