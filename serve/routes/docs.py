"""/docs and /openapi.json, for administrators: no secret, but nobody else needs them.

Swagger UI comes from a package: a browser without internet sees it, and no other host is asked."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import fastapi_offline
from fastapi import APIRouter, Request
from fastapi.responses import Response

from recsys.errors import NotFoundError
from serve.access import require_role
from serve.routes.responses import JsonResponse
from serve.web.pages import ASSET_TYPES, FOLDER, compressed

#: Swagger UI draws its arrows from data URLs.
DOCS_POLICY = "; ".join([
    "default-src 'none'",
    "script-src 'self'",
    "style-src 'self'",
    "img-src 'self' data:",
    "connect-src 'self'",
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
])  # fmt: skip
FILES = {
    "swagger-ui-bundle.js": Path(fastapi_offline.__file__).parent / "static",
    "swagger-ui.css": Path(fastapi_offline.__file__).parent / "static",
    "docs.js": FOLDER / "assets",
}
PAGE = """<!doctype html>
<html lang="en">
<head>
  <meta charset="utf-8">
  <meta name="viewport" content="width=device-width, initial-scale=1">
  <title>Nightshelf API</title>
  <link rel="stylesheet" href="docs/assets/swagger-ui.css">
  <script src="docs/assets/swagger-ui-bundle.js" defer></script>
  <script src="docs/assets/docs.js" defer></script>
</head>
<body><main id="swagger-ui"></main></body>
</html>
"""

router = APIRouter(include_in_schema=False, dependencies=[require_role("admin")])


@router.get("/openapi.json")
async def get_description(request: Request) -> Response:
    return JsonResponse(request.app.openapi())


@router.get("/docs")
async def get_docs() -> Response:
    headers = {"Content-Security-Policy": DOCS_POLICY}
    return Response(PAGE, media_type="text/html; charset=utf-8", headers=headers)


@router.get("/docs/assets/{name}")
async def get_docs_asset(request: Request, name: str) -> Response:
    if name not in FILES:
        raise NotFoundError(f"there is no {name[:100]!r}: /docs names its files")
    response = compressed(request, _read(name), ASSET_TYPES[Path(name).suffix])
    response.headers["Cache-Control"] = "private, max-age=3600"
    return response


@lru_cache
def _read(name: str) -> bytes:
    return (FILES[name] / name).read_bytes()
