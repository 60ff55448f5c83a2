"""Privacy requests, for administrators: forget a user, opt out and in, check a receipt.

`DELETE /users/{id}` returns at once with what is left to erase: from then on no replica knows the
user, and releases are erased in the background (`serve.erasure`)."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import Response

from serve.access import require_role
from serve.routes import answers
from serve.routes.requests import Id, accept_only
from serve.routes.responses import JsonResponse
from serve.routes.shop import shop_of

router = APIRouter(tags=["people"], dependencies=[require_role("admin"), accept_only()])


@router.delete("/users/{user_id:path}/opt-out", response_model=answers.OptOutAnswer)
async def opt_in_user(request: Request, user_id: Id) -> Response:
    return await _set_opt_out(request, user_id, False)


@router.put("/users/{user_id:path}/opt-out", response_model=answers.OptOutAnswer)
async def opt_out_user(request: Request, user_id: Id) -> Response:
    return await _set_opt_out(request, user_id, True)


async def _set_opt_out(request: Request, user_id: str, opted_out: bool) -> Response:
    await shop_of(request).opt_out(user_id, opted_out)
    return JsonResponse({"request_id": request.state.request_id, "opted_out": opted_out})


@router.delete("/users/{user_id:path}", status_code=202, response_model=answers.ForgottenAnswer)
async def delete_user(request: Request, user_id: Id) -> Response:
    receipt = await shop_of(request).forget(user_id)
    body = {
        "request_id": request.state.request_id,
        "receipt": receipt.token,
        "forgotten": receipt.forgotten.isoformat(),
        "gone": receipt.gone,
        "left": receipt.left,
        "done": not receipt.left,
    }
    return JsonResponse(body, 202)


@router.get("/receipts/{receipt}", response_model=answers.ReceiptAnswer)
async def check_receipt(request: Request, receipt: str) -> Response:
    forgotten, left = await shop_of(request).check_receipt(receipt)
    body = {
        "request_id": request.state.request_id,
        "forgotten": forgotten.isoformat(),
        "left": left,
        "done": not left,
    }
    return JsonResponse(body)
