"""What the application counts and logs of every request.

Prometheus finds each name with `ray_` before it. The counters work without a running Ray too, and
count nothing there."""

from __future__ import annotations

import logging
import time
import traceback
import uuid
from collections.abc import Callable

from ray.util.metrics import Counter, Gauge, Histogram
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve.routes import wire

logger = logging.getLogger("ray.serve")

_MS = [1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0, 2000.0, 5000.0]

REQUESTS = Counter("nightshelf_requests_total", "HTTP requests answered", ("route", "status"))
REQUEST_MS = Histogram(
    "nightshelf_request_ms", "Milliseconds from request to answer", _MS, ("route",)
)
STAGE_MS = Histogram(
    "nightshelf_stage_ms", "Milliseconds an answer spent in one stage", _MS, ("route", "stage")
)
EMPTY_ANSWERS = Counter("nightshelf_empty_answers_total", "Answers that showed no item", ("route",))
EVENTS = Counter(
    "nightshelf_events_total", "Events received, quarantined or seen before", ("type", "outcome")
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
    "nightshelf_forgetting_waits_seconds", "Seconds that somebody has waited to leave a release"
)
FORGOTTEN = Counter("nightshelf_forgotten_total", "Users who were forgotten over HTTP")
IMPRESSIONS_DROPPED = Counter(
    "nightshelf_impressions_dropped_total", "Impressions that were never written"
)


def route_of(scope: Scope) -> str:
    return getattr(scope.get("route"), "path", "other").replace(":path", "")


class Observed:
    """Around every request: its id, its milliseconds, one log line, and no stack trace out.

    What was asked, and by whom, is in no line unless `log_queries`.
    """

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
                if (
                    trace is None
                ):  # Ray's proxy gives each request one of its own, and puts that on the answer
                    message["headers"] = [
                        *message.get("headers", []),
                        (b"x-request-id", request_id.encode()),
                    ]
            await send(message)

        try:
            await self.app(scope, receive, send_observed)
        except Exception as error:
            logger.error("request %s failed: %s", request_id, told(error, self.log_queries))
            if status:  # the server would log it with its message
                raise RuntimeError(
                    f"request {request_id} failed after its answer had begun"
                ) from None
            body = wire.error(
                "something failed here: report the request_id to the shop's operators", request_id
            )
            await wire.Json(body, 500)(scope, receive, send_observed)
        finally:
            self._note(scope, status, (time.perf_counter() - started) * 1000, trace)

    def _note(self, scope: Scope, status: int, milliseconds: float, trace: bytes | None) -> None:
        route, state = route_of(scope), scope["state"]
        REQUESTS.inc(tags={"route": route, "status": str(status)})
        REQUEST_MS.observe(milliseconds, {"route": route})
        more: dict[str, object] = {
            "request_id": state["request_id"],
            "route": route,
            "status": status,
            "milliseconds": round(milliseconds, 2),
            "release": state.get("release") or self.release(),
            "trace_id": _safe(trace),
            "client": state.get("client"),
            "skip_context_filter": True,  # else Serve puts its own ids in the place of ours
        }
        if self.log_queries:
            more["asked"] = (
                scope["path"],
                scope["query_string"].decode("latin-1"),
                state.get("asked"),
            )
        logger.info("%s %s", route, status, extra=more)


def told(error: BaseException, with_message: bool) -> str:
    """The stack of an error, and of what it came from. Its message often quotes what was asked:
    only `with_message`."""
    if with_message:
        return "".join(traceback.format_exception(error))
    causes, each = list[BaseException](), error
    while each is not None and each not in causes:
        causes.append(each)
        each = each.__cause__ or each.__context__  # type: ignore[assignment]
    stacks = (
        f"{type(e).__name__}\n{''.join(traceback.format_tb(e.__traceback__))}" for e in causes
    )
    return "from ".join(stacks)


def _safe(trace: bytes | None) -> str:
    """A client's own id for a request as far as it looks like one: a header may hold anything."""
    text = (trace or b"")[:64].decode("latin-1")
    return text if all(character.isalnum() or character in "-_." for character in text) else ""
