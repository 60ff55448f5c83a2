"""Every refusal as one JSON shape: {"error": {message, field, value, allowed}, "request_id"}."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from pydantic import ValidationError
from starlette.exceptions import HTTPException

from recsys.errors import (
    FilterError,
    InputError,
    NotFoundError,
    RecsysError,
    ReleaseError,
    SpaceMismatchError,
    StoreDownError,
)
from serve.routes.responses import JsonResponse
from serve.routes.shop import NotReadyError

#: Longer values are cut in an error's body.
MAX_VALUE_CHARACTERS = 100
#: The first class that an error is an instance of decides; any other is a 500.
STATUSES: dict[type[RecsysError], int] = {
    NotReadyError: 503,
    StoreDownError: 503,
    NotFoundError: 404,
    SpaceMismatchError: 409,
    ReleaseError: 409,
    InputError: 422,
}


class RequestError(InputError):
    """A request that cannot be used: `field` has `value`, and `allowed` says what it may have."""

    def __init__(
        self, field: str, value: Any, allowed: str, *, status: int = 422, message: str = ""
    ) -> None:
        super().__init__(message or f"{field} is {short_value(value)!r}: give {allowed}")
        self.field, self.value, self.allowed, self.status = field, value, allowed, status


def error_body(
    message: str,
    request_id: str,
    field: str | None = None,
    value: Any = None,
    allowed: str | None = None,
) -> dict[str, Any]:
    """The body of every response with a status above 399."""
    error = {"message": message, "field": field, "value": short_value(value), "allowed": allowed}
    return {"error": error, "request_id": request_id}


def request_error_response(error: RequestError, request_id: str) -> JsonResponse:
    body = error_body(str(error), request_id, error.field, error.value, error.allowed)
    return JsonResponse(body, error.status)


def short_value(value: Any) -> str | int | bool | None:
    """A value as an error repeats it: short, and never NaN."""
    if value is None or isinstance(value, bool) or (isinstance(value, int) and abs(value) < 2**53):
        return value
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= MAX_VALUE_CHARACTERS else f"{text[:MAX_VALUE_CHARACTERS]}..."


def from_pydantic(errors: Sequence[Mapping[str, Any]], allowed: Mapping[str, str]) -> RequestError:
    """The first of pydantic's errors; `allowed` says in words what each field may hold."""
    error = errors[0]
    field = next((str(part) for part in reversed(error["loc"]) if isinstance(part, str)), "body")
    if error["type"] == "missing":
        message = f"{field} is missing: give {allowed.get(field, 'it')}"
        return RequestError(field, None, allowed.get(field, ""), message=message)
    if error["type"] == "extra_forbidden":
        return RequestError(
            field, error["input"], "only the fields of an event, as /docs lists them"
        )
    return RequestError(field, error["input"], allowed.get(field, error["msg"]))


def add_error_handlers(api: FastAPI, allowed: Mapping[str, str]) -> None:
    """`allowed` says in words what each field may hold (`requests.allowed_values`)."""

    @api.exception_handler(RequestError)
    async def bad_request(request: Request, error: RequestError) -> Response:
        return request_error_response(error, request.state.request_id)

    @api.exception_handler(RequestValidationError)
    @api.exception_handler(ValidationError)
    async def bad_fields(
        request: Request, error: RequestValidationError | ValidationError
    ) -> Response:
        return await bad_request(request, from_pydantic(error.errors(), allowed))

    @api.exception_handler(FilterError)
    async def bad_filter(request: Request, error: FilterError) -> Response:
        body = error_body(
            str(error), request.state.request_id, error.field, error.value, error.allowed
        )
        return JsonResponse(body, 422)

    @api.exception_handler(RecsysError)
    async def recsys_error(request: Request, error: RecsysError) -> Response:
        field, value = next(iter(request.path_params.items()), (None, None))
        body = error_body(str(error), request.state.request_id, field, value)
        return JsonResponse(body, _status(error))

    @api.exception_handler(HTTPException)
    async def http_error(request: Request, error: HTTPException) -> Response:
        body = error_body(str(error.detail), request.state.request_id)
        return JsonResponse(body, error.status_code, error.headers)


def _status(error: RecsysError) -> int:
    return next((status for kind, status in STATUSES.items() if isinstance(error, kind)), 500)
