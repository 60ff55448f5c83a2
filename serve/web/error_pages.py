"""Refusals and failures below /shop/ as pages: a browser would show JSON as it is."""

from __future__ import annotations

import json
from typing import Any

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve.web.pages import is_fragment, page_response
from serve.web.visitor import visitor_of

#: Then the page asks again by itself.
TEMPORARY = (429, 502, 503, 504)


class ErrorPages:
    """ASGI middleware: where a browser asked for a page below /shop/ and gets an error as JSON, it
    gets the page of that error, with the same status and headers."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not _wants_page(scope):
            await self.app(scope, receive, send)
            return
        start: Message | None = None
        body = bytearray()

        async def send_page(message: Message) -> None:
            nonlocal start
            if message["type"] == "http.response.start" and _is_json_error(message):
                start = message
            elif start is None:
                await send(message)
            else:
                body.extend(message.get("body", b""))
                if not message.get("more_body"):
                    await _send_page(scope, receive, send, start, bytes(body))

        await self.app(scope, receive, send_page)


def _wants_page(scope: Scope) -> bool:
    path = scope["path"].removeprefix(scope.get("root_path", ""))
    accepts = "text/html" in Headers(scope=scope).get("accept", "")
    return path.startswith("/shop") and accepts and not is_fragment(Request(scope))


def _is_json_error(message: Message) -> bool:
    content_type = Headers(raw=message["headers"]).get("content-type", "")
    return message["status"] >= 400 and content_type.startswith("application/json")


async def _send_page(
    scope: Scope, receive: Receive, send: Send, start: Message, body: bytes
) -> None:
    request, status = Request(scope), start["status"]
    context: dict[str, Any] = {
        "status": status,
        "is_temporary": status in TEMPORARY,
        "message": _message(body),
        "visitor": visitor_of(request),
    }
    headers = Headers(raw=start["headers"])
    headers_out = {
        name: headers[name] for name in ("retry-after", "x-request-id") if name in headers
    }
    response = page_response(request, "error.html", context, status, headers_out)
    await response(scope, receive, send)


def _message(body: bytes) -> str:
    try:
        return str(json.loads(body)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return ""
