"""The OpenAPI description, true to what the routes do: every refusal in our one shape, every bound
of the setup; and the routes that serve it."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from recsys.catalogue.validation import KINDS
from recsys.config import Day
from serve.routes.attribute_filters import PARAMETER
from serve.routes.changes import MAX_ITEMS
from serve.routes.requests import MAX_EVENTS, PRINTABLE, ImpressionEvent, InteractionEvent

DESCRIPTION = (
    "Search and recommendations. Every answer names its request and the release that it came from."
)
ERRORS = {
    "400": "The body is no JSON.",
    "401": "The key is missing, unknown or expired.",
    "403": "The key lacks the role, or there are no keys and the request is not from this machine.",
    "404": "There is no such item, request or release.",
    "405": "The route has no such method.",
    "409": "The release cannot be served by this application.",
    "413": "The body is too long.",
    "414": "The URL is too long.",
    "415": "The body is of a type that the route does not read.",
    "422": "A parameter or a field cannot be used: `field` names it, `allowed` its values.",
    "429": "More requests came than the key's rate: `Retry-After` says when to try again.",
    "500": "An internal error.",
    "503": "There is no release to answer from, or the replica is overloaded: try again.",
}
#: `requests.PRINTABLE` as an ECMA-262 regular expression, which JSON Schema uses.
_CONTROL = r"\u0000-\u001f\u007f-\u009f"
_ECMA_PRINTABLE = rf"^[^{_CONTROL}]*[^\s{_CONTROL}][^{_CONTROL}]*$"

_EVENT = {"anyOf": [InteractionEvent.model_json_schema(), ImpressionEvent.model_json_schema()]}
_EVENT_LIST = {"type": "array", "minItems": 1, "maxItems": MAX_EVENTS, "items": _EVENT}
_EVENTS_OBJECT = {
    "type": "object",
    "properties": {"events": _EVENT_LIST},
    "required": ["events"],
    "additionalProperties": False,
}
_CLICK = {"user_id": "u1", "item_id": "i1", "type": "click"}
#: The body of `POST /events`, which FastAPI does not check.
EVENTS_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {"anyOf": [_EVENT, _EVENT_LIST, _EVENTS_OBJECT]},
                "example": _CLICK,
            }
        },
    }
}
#: The body of a tracker: its own documentation says what is in it.
EVENT_BATCH: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": {"type": "object"}}},
    }
}
_ITEM = {"type": "object", "example": {"title": "red chair", "price": 10.0, "in_stock": True}}
_CHANGED_ITEM = {
    "type": "object",
    "required": ["item_id"],
    "properties": {"item_id": {"type": "string"}, "op": {"enum": list(KINDS)}},
}
_ITEM_LIST = {"type": "array", "minItems": 1, "maxItems": MAX_ITEMS, "items": _CHANGED_ITEM}
_ITEMS_OBJECT = {
    "type": "object",
    "properties": {"items": _ITEM_LIST},
    "required": ["items"],
    "additionalProperties": False,
}
#: The bodies of `PUT` and `PATCH /items/{item_id}`, and of `POST /items`.
ITEM_BODY: dict[str, Any] = {
    "requestBody": {"required": True, "content": {"application/json": {"schema": _ITEM}}}
}
ITEMS_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": {"anyOf": [_ITEM_LIST, _ITEMS_OBJECT]}},
            "application/x-ndjson": {"schema": {"type": "string"}},
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
    """The whole description, built at the first call."""
    if not api.openapi_schema:
        description = get_openapi(
            title=api.title, version="1", description=api.description, routes=api.routes
        )
        components = description.setdefault("components", {})
        components["securitySchemes"] = {
            "bearer": {"type": "http", "scheme": "bearer"},
            "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
        }
        components["schemas"] = {"Error": _ERROR} | {
            name: schema
            for name, schema in components.get("schemas", {}).items()
            if "ValidationError" not in name
        }
        for path, methods in description["paths"].items():
            for operation in methods.values():
                _complete_operation(path, operation, day)
        api.openapi_schema = _with_ecma_patterns(description)
    return api.openapi_schema or {}


def _complete_operation(path: str, operation: dict[str, Any], day: Day) -> None:
    """Adds error responses, security and the setup's bounds in place."""
    content = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    errors = {
        status: {"description": words, "content": content} for status, words in ERRORS.items()
    }
    successes = {
        status: response
        for status, response in operation["responses"].items()
        if status not in errors
    }
    if path == "/healthz":  # has the same body with 503
        errors["503"] = {**successes["200"], "description": "There is no release to answer from."}
    operation["responses"] = successes | errors
    operation["security"] = [] if path == "/healthz" else [{"bearer": []}, {"key": []}, {}]
    for parameter in operation.get("parameters", []):
        _add_bounds(parameter, day)
    if path in ("/search", "/search/photo", "/recommend"):
        operation["parameters"].append(PARAMETER)


def _add_bounds(parameter: dict[str, Any], day: Day) -> None:
    """Adds an example, and the bounds that the setup decides, in place."""
    name, schema = parameter["name"], parameter["schema"]
    if name in _EXAMPLES:
        parameter["example"] = min(10, day.max_k) if name == "k" else _EXAMPLES[name]
    if name == "k":
        schema.update(minimum=1, maximum=day.max_k)
    if name in ("q", "interest"):
        texts = [each for each in schema.get("anyOf", [schema]) if each.get("type") == "string"]
        texts[0].update(minLength=1, maxLength=day.max_query_characters)


def _with_ecma_patterns(node: Any) -> Any:
    """A copy with our patterns in ECMA-262's syntax."""
    if isinstance(node, list):
        return [_with_ecma_patterns(each) for each in node]
    if isinstance(node, dict):
        return {
            name: _ECMA_PRINTABLE
            if name == "pattern" and each == PRINTABLE
            else _with_ecma_patterns(each)
            for name, each in node.items()
        }
    return node
