"""Refusals in Algolia's shape, {"message", "status"}, on Algolia's paths."""

from __future__ import annotations

import json
from typing import Any

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve.routes.responses import JsonResponse

PREFIX = "/1/"


class AlgoliaErrors:
    """ASGI middleware around everything that may refuse: rewrites the bodies of our errors. A
    search that cannot be understood is 400, as there; events that cannot, 422."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not _path(scope).startswith(PREFIX):
            return await self.app(scope, receive, send)
        start: Message | None = None
        body = bytearray()

        async def send_rewritten(message: Message) -> None:
            nonlocal start
            if message["type"] == "http.response.start" and message["status"] >= 400:
                start = message
            elif start is None:
                await send(message)
            else:
                body.extend(message.get("body", b""))
                if not message.get("more_body"):
                    await _send_error(scope, start, bytes(body), send)

        return await self.app(scope, receive, send_rewritten)


async def _send_error(scope: Scope, start: Message, body: bytes, send: Send) -> None:
    status = start["status"]
    if status == 422 and _path(scope) != "/1/events":
        status = 400
    content = JsonResponse(_body(body, status)).body
    headers = MutableHeaders(raw=list(start.get("headers", [])))
    headers["content-length"] = str(len(content))
    headers["content-type"] = JsonResponse.media_type
    await send({**start, "status": status, "headers": headers.raw})
    await send({"type": "http.response.body", "body": content})


def _body(body: bytes, status: int) -> dict[str, Any]:
    """Of ours, or of Starlette's where no route was found."""
    try:
        error = json.loads(body)
        message = error["error"]["message"]
        return {"message": message, "status": status, "request_id": error["request_id"]}
    except (ValueError, KeyError, TypeError):
        return {"message": body[:200].decode("utf-8", "replace"), "status": status}


def _path(scope: Scope) -> str:
    path: str = scope["path"]
    return path.removeprefix(scope.get("root_path", ""))
