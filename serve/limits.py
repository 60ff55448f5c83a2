"""What stands before every route: how long a request may be, what its answer tells browsers, whose
pages may ask."""

from __future__ import annotations

from fastapi import FastAPI, Request
from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from recsys.config import Day
from serve.routes import wire
from serve.routes.wire import RefusedError

#: Answers are of one person: nobody keeps, sniffs or frames them.
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "frame-ancestors 'none'",
}


def build(api: FastAPI, day: Day) -> None:
    """Puts the walls around the application. Pages of other sites may ask only where
    `day.cors_origins` names them."""
    api.add_middleware(RequestLimits)
    if day.cors_origins:
        api.add_middleware(
            CORSMiddleware,
            allow_origins=day.cors_origins,
            allow_methods=["GET", "POST", "DELETE"],
            allow_headers=["Authorization", "X-API-Key", "Content-Type"],
            expose_headers=["X-Request-Id", "Retry-After"],
        )


class RequestLimits:
    """Refuses what is too long before anybody reads it."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        if (error := refusal(scope)) is None:
            await self.app(scope, receive, send_guarded)
            return
        told = wire.error(
            str(error), scope["state"]["request_id"], error.field, error.value, error.allowed
        )
        await wire.Json(told, error.status)(scope, receive, send_guarded)


def refusal(scope: Scope) -> RefusedError | None:
    """What is wrong with a request by its first lines alone."""
    query, headers = scope["query_string"], Headers(scope=scope)
    length = len(scope.get("raw_path") or scope["path"].encode()) + len(query)
    if length > wire.MAX_URL_BYTES:
        return RefusedError(
            "url", f"{length:,} bytes", f"at most {wire.MAX_URL_BYTES:,}", status=414
        )
    if (count := query.count(b"&") + 1) > wire.MAX_PARAMETERS:
        return RefusedError(
            "url", f"{count:,} parameters", f"at most {wire.MAX_PARAMETERS}", status=422
        )
    size = headers.get("content-length", "0")
    if size.isdecimal() and (len(size) > 18 or int(size) > wire.MAX_BODY_BYTES):
        return too_long()
    kind = headers.get("content-type", "application/json").partition(";")[0].strip().lower()
    if scope["method"] == "POST" and kind != "application/json":
        return RefusedError("content-type", kind, "application/json", status=415)
    return None


async def body(request: Request) -> bytes:
    """The body, read no further than it may be long."""
    pieces = bytearray()
    async for piece in request.stream():
        pieces += piece
        if len(pieces) > wire.MAX_BODY_BYTES:
            raise too_long()
    return bytes(pieces)


def too_long() -> RefusedError:
    return RefusedError(
        "body", f"over {wire.MAX_BODY_BYTES:,} bytes", "fewer events a call", status=413
    )
