"""Releases and health, for operators: list and promote published releases, /healthz."""

from __future__ import annotations

from datetime import UTC, datetime

from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse, Response

from serve.access import require_role
from serve.routes import answers
from serve.routes.requests import Version, accept_only
from serve.routes.responses import JsonResponse
from serve.routes.shop import shop_of

router = APIRouter(tags=["operations"])
ADMIN = require_role("admin")


@router.get("/releases", response_model=answers.ReleasesAnswer, dependencies=[ADMIN, accept_only()])
async def get_releases(request: Request) -> Response:
    shop = shop_of(request)
    body = {
        "request_id": request.state.request_id,
        "release": shop.health().release,
        "releases": await shop.releases(),
    }
    return JsonResponse(body)


@router.post(
    "/releases/{version}/promote",
    response_model=answers.PromoteAnswer,
    dependencies=[ADMIN, accept_only()],
)
async def promote_release(request: Request, version: Version) -> Response:
    await shop_of(request).promote(version)
    return JsonResponse({"request_id": request.state.request_id, "release": version})


@router.get("/healthz", response_model=answers.HealthAnswer, dependencies=[accept_only()])
async def get_health(request: Request) -> Response:
    """503 while there is no release to answer from."""
    health = shop_of(request).health()
    age_s = None
    if health.created:
        age_s = round((datetime.now(UTC) - health.created).total_seconds(), 1)
    body = {
        "request_id": request.state.request_id,
        "release": health.release,
        "age_s": age_s,
        "space": health.space,
        "refused": health.refused,
    }
    return JsonResponse(body, 200 if health.release else 503)


@router.get("/", include_in_schema=False)
async def get_start(request: Request) -> Response:
    return RedirectResponse("shop/" if request.app.state.has_storefront else "docs")
