"""POST /search/photo: a photo as the question. Its bytes are read, looked at and forgotten."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException

from serve.access import require_role
from serve.limits import MAX_PHOTO_BYTES, UPLOAD, media_type, read_body
from serve.routes import answers
from serve.routes.errors import RequestError
from serve.routes.requests import PhotoParams, accept_only
from serve.routes.search import answer_search, query_of
from serve.routes.shop import Photo, shop_of

router = APIRouter(tags=["answers"])
#: Name of the photo in a form.
FIELD = "photo"
BODY = {
    "required": True,
    "content": {
        "image/*": {"schema": {"type": "string", "format": "binary"}},
        UPLOAD: {
            "schema": {
                "type": "object",
                "required": [FIELD],
                "properties": {FIELD: {"type": "string", "format": "binary"}},
            }
        },
    },
}


@router.post(
    "/search/photo",
    response_model=answers.SearchAnswer,
    dependencies=[require_role("read"), accept_only(PhotoParams)],
    openapi_extra={"requestBody": BODY},
)
async def post_photo(request: Request, params: Annotated[PhotoParams, Query()]) -> Response:
    """The body is a JPEG, PNG, WebP, GIF, AVIF or HEIC, or a form with one in its field `photo`."""
    photo = Photo(await _photo(request), params.box(), params.photo_weight)
    query = query_of(request, params)
    query = replace(query, text=query.text or None)
    return answer_search(request, await shop_of(request).search_photo(query, photo), query)


async def _photo(request: Request) -> bytes:
    content = await read_body(request, MAX_PHOTO_BYTES)
    if media_type(request.headers) == UPLOAD:
        content = await _form_photo(request, content)
    if not content:
        raise RequestError("body", "0 bytes", "a photo: a JPEG, PNG, WebP or HEIC")
    return content


async def _form_photo(request: Request, body: bytes) -> bytes:
    """Of a body that was read within its limit."""
    request._body = body  # what `form` parses, instead of the stream that is read
    try:
        async with request.form(max_files=1, max_fields=0) as form:
            upload = form.get(FIELD)
            if isinstance(upload, UploadFile):
                return await upload.read()
    except HTTPException as error:
        raise RequestError("body", str(error.detail), f"a form with one file, {FIELD}") from None
    raise RequestError("body", f"a form without {FIELD}", f"a form with one file, {FIELD}")
