"""GET /pictures/HASH.webp: small copies of the items' pictures, by the hash of their content."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Request
from fastapi.responses import Response

from serve.routes.shop import shop_of

#: The same hash is always the same picture.
HEADERS = {"Cache-Control": "public, max-age=31536000, immutable"}


async def check_picture_access(request: Request) -> None:
    """Whoever may see the storefront's pages may see their pictures; else the role read."""
    access = request.app.state.access
    if request.app.state.has_storefront:
        access.check_visitor(request)
    else:
        access.check(request, "read")


check_picture_access.role = "read"  # type: ignore[attr-defined]
router = APIRouter(tags=["pictures"], dependencies=[Depends(check_picture_access)])


@router.get("/pictures/{content_hash}.webp", response_class=Response)
async def get_thumbnail(
    request: Request, content_hash: Annotated[str, Path(pattern="^[0-9a-f]{32}$")]
) -> Response:
    thumbnail = await shop_of(request).thumbnail(content_hash)
    return Response(thumbnail, media_type="image/webp", headers=HEADERS)
