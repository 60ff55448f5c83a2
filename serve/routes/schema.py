"""The OpenAPI description, true to what the routes do: every refusal in our one shape, every bound
of the setup."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.openapi.utils import get_openapi
from fastapi.responses import Response

from recsys.config import Day
from serve.access import needs
from serve.routes import wire
from serve.routes.wire import Json

DESCRIPTION = (
    "Search and recommendations. Every answer names its request and the release that it came from."
)
ERRORS = {
    "400": "The body is no JSON.",
    "401": "The key is missing, unknown or expired.",
    "403": "The key has not the role, or there are no keys and a stranger asks.",
    "404": "There is no such item, request or release.",
    "405": "The route is not asked in this way.",
    "409": "The release cannot serve here.",
    "413": "The body is too long.",
    "414": "The URL is too long.",
    "415": "The body is of another type than application/json.",
    "422": "A parameter or a field cannot be used: `field` names it, `allowed` says what it may hold.",
    "429": "More requests came than the key's rate: `Retry-After` says when to ask again.",
    "500": "Something failed here.",
    "503": "There is no release to answer from, or too much waits: ask again.",
}
#: A text as `wire.Text` checks it, in the words of JSON Schema's regular expressions.
_CONTROL = r"\u0000-\u001f\u007f-\u009f"
_PRINTABLE = rf"^[^{_CONTROL}]*[^\s{_CONTROL}][^{_CONTROL}]*$"

_ONE = {"anyOf": [wire.Event.model_json_schema(), wire.Shown.model_json_schema()]}
_SEVERAL = {"type": "array", "minItems": 1, "maxItems": wire.MAX_EVENTS, "items": _ONE}
_WRAPPED = {
    "type": "object",
    "properties": {"events": _SEVERAL},
    "required": ["events"],
    "additionalProperties": False,
}
_CLICK = {"user_id": "u1", "item_id": "i1", "type": "click"}
#: What `POST /events` takes, which checks its body by itself.
EVENTS: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": {"anyOf": [_ONE, _SEVERAL, _WRAPPED]}, "example": _CLICK}
        },
    }
}
_ERROR = {
    "type": "object",
    "required": ["error", "request_id"],
    "additionalProperties": False,
    "properties": {
        "request_id": {"type": "string"},
        "error": {
            "type": "object",
            "required": ["message", "field", "value", "allowed"],
            "additionalProperties": False,
            "properties": {
                "message": {"type": "string"},
                "field": {"type": ["string", "null"]},
                "value": {"type": ["string", "integer", "boolean", "null"]},
                "allowed": {"type": ["string", "null"]},
            },
        },
    },
}
_EXAMPLES = {"q": "red chair", "user_id": "u1", "item_id": "i1", "k": 10}


def openapi(api: FastAPI, day: Day) -> dict[str, Any]:
    """Made once, at the first call."""
    if not api.openapi_schema:
        described = get_openapi(
            title=api.title, version="1", description=api.description, routes=api.routes
        )
        parts = described.setdefault("components", {})
        parts["securitySchemes"] = {
            "bearer": {"type": "http", "scheme": "bearer"},
            "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
        }
        parts["schemas"] = {"Error": _ERROR} | {
            name: schema
            for name, schema in parts.get("schemas", {}).items()
            if "ValidationError" not in name
        }
        for path, methods in described["paths"].items():
            for operation in methods.values():
                _operation(path, operation, day)
        api.openapi_schema = _patterns(described)
    return api.openapi_schema or {}


def _operation(path: str, operation: dict[str, Any], day: Day) -> None:
    content = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    errors = {
        status: {"description": words, "content": content} for status, words in ERRORS.items()
    }
    answers = {
        status: answer for status, answer in operation["responses"].items() if status not in errors
    }
    if path == "/healthz":  # says what it has to say with 503 too
        errors["503"] = {**answers["200"], "description": "There is no release to answer from."}
    operation["responses"] = answers | errors
    operation["security"] = [] if path == "/healthz" else [{"bearer": []}, {"key": []}, {}]
    for parameter in operation.get("parameters", []):
        _bounds(parameter, day)


def _bounds(parameter: dict[str, Any], day: Day) -> None:
    """What the setup alone knows of a parameter."""
    name, schema = parameter["name"], parameter["schema"]
    if name in _EXAMPLES:
        parameter["example"] = min(10, day.max_k) if name == "k" else _EXAMPLES[name]
    if name == "k":
        schema.update(minimum=1, maximum=day.max_k)
    if name in ("q", "interest"):
        texts = [each for each in schema.get("anyOf", [schema]) if each.get("type") == "string"]
        texts[0].update(minLength=1, maxLength=day.max_query_characters)


def _patterns(node: Any) -> Any:
    """The same with our patterns as ECMA-262 knows them."""
    if isinstance(node, list):
        return [_patterns(each) for each in node]
    if isinstance(node, dict):
        return {
            name: _PRINTABLE if name == "pattern" and each == wire.PRINTABLE else _patterns(each)
            for name, each in node.items()
        }
    return node


def pages(api: FastAPI) -> APIRouter:
    """/docs and /openapi.json: no secret, and no business of strangers."""
    routes = APIRouter(include_in_schema=False, dependencies=[needs("admin")])

    @routes.get("/openapi.json")
    async def described() -> Response:
        return Json(api.openapi())

    @routes.get("/docs")
    async def docs() -> Response:
        return get_swagger_ui_html(openapi_url="openapi.json", title=api.title)

    return routes
