"""HTML responses: templates, security headers, compression; and the built assets."""

from __future__ import annotations

import gzip
import hashlib
from functools import lru_cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import Response

from serve.web.wording import LANGUAGES, Wording, translations_of, wording_of

FOLDER = Path(__file__).parent
#: Nothing but this site's own scripts and styles runs; pictures may be of the shop's own servers.
PAGE_POLICY = "; ".join([
    "default-src 'none'",
    "script-src 'self'",
    "style-src 'self'",
    "font-src 'self'",
    "img-src 'self' https: data: blob:",
    "connect-src 'self'",
    "form-action 'self'",
    "base-uri 'none'",
    "frame-ancestors 'none'",
])  # fmt: skip
PAGE_HEADERS = {
    "Content-Security-Policy": PAGE_POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
    "Referrer-Policy": "same-origin",
    # Of one visitor; without no-store, so that "back" shows the page as it was.
    "Cache-Control": "private, no-cache",
    "Vary": "Accept-Encoding, Accept-Language, Cookie, HX-Request",
}
ASSET_TYPES = {
    ".svg": "image/svg+xml",
    ".css": "text/css",
    ".js": "text/javascript",
    ".woff2": "font/woff2",
}
#: Shorter bodies are sent as they are.
MIN_COMPRESSED = 1_000


def page_response(
    request: Request,
    template: str,
    context: dict[str, Any],
    status: int = 200,
    headers: dict[str, str] | None = None,
) -> Response:
    """A page in the visitor's language. `context` may bring the `wording` itself."""
    wording: Wording = context.get("wording") or wording_of(request)
    html = (
        _environment(wording.language)
        .get_template(template)
        .render(
            {
                "wording": wording,
                "languages": LANGUAGES,
                "root": storefront_path(request),
                "asset": asset_path,
                "is_fragment": is_fragment(request),
                **context,
            }
        )
    )
    response = compressed(request, html.encode("utf-8", "replace"), "text/html; charset=utf-8")
    response.status_code = status
    response.headers.update({**PAGE_HEADERS, **(headers or {})})
    return response


def storefront_path(request: Request) -> str:
    return f"{request.scope.get('root_path', '')}/shop/"


def is_fragment(request: Request) -> bool:
    """Whether htmx asks for a part of the page."""
    headers = request.headers
    return "hx-request" in headers and "hx-history-restore-request" not in headers


def compressed(request: Request, body: bytes, media_type: str) -> Response:
    """By gzip where the browser takes it."""
    response = Response(body, media_type=media_type)
    if len(body) >= MIN_COMPRESSED and "gzip" in request.headers.get("accept-encoding", ""):
        response = Response(gzip.compress(body, 5), media_type=media_type)
        response.headers["Content-Encoding"] = "gzip"
    return response


@lru_cache
def assets() -> dict[str, bytes]:
    """The built files by name."""
    files = sorted((FOLDER / "assets").glob("*"))
    return {file.name: file.read_bytes() for file in files if file.suffix in ASSET_TYPES}


@lru_cache
def _compressed_asset(name: str) -> bytes:
    return gzip.compress(assets()[name], 9)


@lru_cache
def asset_path(name: str) -> str:
    """Relative to the storefront; another one for other bytes, so that browsers may keep it. All
    have one digest: the style sheet names its fonts as neighbours."""
    digest = hashlib.sha256(b"".join(assets().values())).hexdigest()
    return f"assets/{digest[:12]}/{name}"


def asset_response(request: Request, name: str) -> Response | None:
    """None for what was not built."""
    if name not in assets():
        return None
    suffix = Path(name).suffix
    headers = {"Cache-Control": "public, max-age=31536000, immutable", "Vary": "Accept-Encoding"}
    body = assets()[name]
    if suffix != ".woff2" and "gzip" in request.headers.get("accept-encoding", ""):
        headers["Content-Encoding"], body = "gzip", _compressed_asset(name)
    return Response(body, media_type=ASSET_TYPES[suffix], headers=headers)


@lru_cache
def _environment(language: str) -> Environment:
    """Everything that is put into a page is escaped."""
    environment = Environment(
        loader=FileSystemLoader(FOLDER / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        extensions=["jinja2.ext.i18n"],
    )
    environment.install_gettext_translations(  # type: ignore[attr-defined]
        translations_of(language), newstyle=True
    )
    return environment
