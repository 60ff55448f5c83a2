"""Filters by attributes as query parameters: `filter[colour]=red`, `filter[width][lte]=60cm`."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from recsys.types import ATTRIBUTE_OPERATORS, AttributeFilter
from serve.routes.errors import RequestError

PREFIX = "filter["
#: Conditions of one request.
MAX_CONDITIONS = 50
MAX_VALUE = 256
_NAME = re.compile(
    r"^filter\[(?P<name>[^\[\]\x00-\x1f]{1,64})\]"
    rf"(?:\[(?P<operator>{'|'.join(ATTRIBUTE_OPERATORS)})\])?$"
)
_FORM = f"filter[NAME] or filter[NAME][OPERATOR], OPERATOR one of {', '.join(ATTRIBUTE_OPERATORS)}"
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")

#: The parameter as OpenAPI has it; it has no way to say that a value may have an operator.
PARAMETER: dict[str, Any] = {
    "name": "filter",
    "in": "query",
    "required": False,
    "style": "deepObject",
    "explode": True,
    "description": (
        "What the items' attributes must be, one parameter a condition: filter[colour]=red, "
        "filter[waterproof]=true, filter[width][lte]=60cm (operators: eq, gte, lte, gt, lt; a "
        "number without a unit is in the attribute's own), filter[width]=40-60 as facets name "
        "ranges. Of a condition without an operator that comes twice an item needs one value; all "
        "attributes must fit. A value has 1 to 256 characters, a request at most 50 conditions. "
        "An attribute that the shop does not filter by is refused with those it does."
    ),
    "schema": {"type": "object", "additionalProperties": {"type": "string"}},
    "example": {"colour": "red"},
}


def parse_attribute_filters(parameters: Iterable[tuple[str, str]]) -> tuple[AttributeFilter, ...]:
    """The conditions among the query parameters, in their order; RequestError names a bad one."""
    filters = []
    for name, value in parameters:
        if not name.startswith(PREFIX):
            continue
        if (match := _NAME.match(name)) is None:
            message = f"parameter {name[:100]!r} is no filter: give {_FORM}"
            raise RequestError(name[:100], value, _FORM, message=message)
        if not value.strip() or len(value) > MAX_VALUE or _CONTROL.search(value):
            allowed = f"1 to {MAX_VALUE} characters, not all spaces, without control characters"
            raise RequestError(name, value, allowed)
        operator = match["operator"] or "eq"
        filters.append(AttributeFilter(match["name"].strip(), operator, value.strip()))
    if len(filters) > MAX_CONDITIONS:
        raise RequestError("filter", len(filters), f"at most {MAX_CONDITIONS} conditions")
    return tuple(filters)
