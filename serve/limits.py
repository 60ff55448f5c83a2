"""Limits on every request, whatever its route: sizes and content type; response headers for
browsers; CORS."""

from __future__ import annotations

from fastapi import FastAPI, Request
from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from recsys.config import Day
from serve.routes.errors import RequestError, request_error_response

MAX_BODY_BYTES = 1 << 20
#: Of many items at once.
MAX_ITEMS_BYTES = 16 << 20
#: A photo as phones take them.
MAX_PHOTO_BYTES = 12 << 20
PHOTO_PATH = "/search/photo"
UPLOAD = "multipart/form-data"
#: Media types of photos, and what clients send that do not know.
PHOTOS = (
    *(f"image/{name}" for name in ("jpeg", "png", "webp", "heic", "heif", "gif", "avif")),
    UPLOAD,
    "application/octet-stream",
)
JSON = "application/json"
#: Media types of JSON with a line a row; none is registered.
JSON_LINES = ("application/x-ndjson", "application/ndjson", "application/jsonl")
#: Of the storefront's forms.
FORM = "application/x-www-form-urlencoded"
#: Browsers' clients of other search engines and trackers call JSON so, which needs no preflight.
DISGUISES = ("text/plain", FORM)
#: Paths of their protocols.
DISGUISED_PATHS = ("/1/", "/events/ga4", "/events/segment")
MAX_URL_BYTES = 16 << 10
#: Of one query string: a few facets with all their values, and all the rest.
MAX_PARAMETERS = 200
#: Answers belong to one user: no cache may store, no browser sniff, no page frame them.
SECURITY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "frame-ancestors 'none'",
}


def add_limits(api: FastAPI, day: Day) -> None:
    """Browser pages of other sites may call only where `day.cors_origins` names them."""
    api.add_middleware(RequestLimits)
    if day.cors_origins:
        api.add_middleware(
            CORSMiddleware,
            allow_origins=day.cors_origins,
            allow_methods=["GET", "POST", "DELETE"],
            allow_headers=[
                *("Authorization", "X-API-Key", "Content-Type"),
                *("X-Algolia-API-Key", "X-Algolia-Application-Id", "X-Algolia-Agent"),
            ],
            expose_headers=["X-Request-Id", "Retry-After", "X-Nightshelf-Unsupported"],
        )


class RequestLimits:
    """ASGI middleware: refuses what is too large before anybody reads it, and adds
    SECURITY_HEADERS."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)

        async def send_secured(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in SECURITY_HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        if (error := check_head(scope)) is None:
            return await self.app(scope, receive, send_secured)
        response = request_error_response(error, scope["state"]["request_id"])
        return await response(scope, receive, send_secured)


def check_head(scope: Scope) -> RequestError | None:
    """What is wrong with a request by its URL and headers alone."""
    query, headers = scope["query_string"], Headers(scope=scope)
    length = len(scope.get("raw_path") or scope["path"].encode()) + len(query)
    if length > MAX_URL_BYTES:
        return RequestError("url", f"{length:,} bytes", f"at most {MAX_URL_BYTES:,}", status=414)
    if (count := query.count(b"&") + 1) > MAX_PARAMETERS:
        return RequestError("url", f"{count:,} parameters", f"at most {MAX_PARAMETERS}")
    many, photo = scope["path"] == "/items", scope["path"] == PHOTO_PATH
    limit = MAX_ITEMS_BYTES if many else MAX_PHOTO_BYTES if photo else MAX_BODY_BYTES
    size = headers.get("content-length", "0")
    if size.isdecimal() and (len(size) > 18 or int(size) > limit):
        return _body_too_large(limit)
    kinds: tuple[str, ...] = PHOTOS if photo else (JSON, *JSON_LINES) if many else (JSON,)
    path = scope["path"].removeprefix(scope.get("root_path", ""))
    kinds += (FORM,) if path.startswith("/shop/") else ()
    kinds += DISGUISES if path.startswith(DISGUISED_PATHS) else ()
    if scope["method"] in ("POST", "PUT", "PATCH") and (kind := media_type(headers)) not in kinds:
        return RequestError("content-type", kind, " or ".join(kinds[:2]), status=415)
    return None


def media_type(headers: Headers) -> str:
    """Of a body, in lower case and without parameters."""
    return headers.get("content-type", JSON).partition(";")[0].strip().lower()


async def read_body(request: Request, limit: int = MAX_BODY_BYTES) -> bytes:
    """The whole body, or RequestError as soon as more than `limit` bytes came."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit:
            raise _body_too_large(limit)
    return bytes(body)


def _body_too_large(limit: int) -> RequestError:
    fewer = "fewer events or items a call, or a smaller photo"
    return RequestError("body", f"over {limit:,} bytes", fewer, status=413)
