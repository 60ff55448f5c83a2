"""Bodies of the routes that change the catalogue, as the rows that `read_changes` judges."""

from __future__ import annotations

import json
from typing import Any

from pydantic import BaseModel

from recsys.catalogue.changes import Kind
from serve.limits import JSON_LINES
from serve.routes.errors import RequestError

#: Items of one call.
MAX_ITEMS = 1000
_SHAPE = (
    f'a list of 1 to {MAX_ITEMS:,} items, {{"items": [...]}}, or an item a line as {JSON_LINES[0]}'
)


class DeleteParams(BaseModel):
    """A delete has no body: its version is in the URL."""

    if_version: int | None = None
    updated_at: str | None = None


def parse_item(body: bytes, kind: Kind, item_id: str) -> dict[str, Any]:
    """The item of the path. Raises RequestError where the body is of another one."""
    content = _parse(body, "an object with the item's fields, as JSON")
    if not isinstance(content, dict):
        raise RequestError("body", content, "an object with the item's fields")
    for name, value in (("item_id", item_id), ("op", kind)):
        if name in content and str(content[name]) != value:
            raise RequestError(name, content[name], f"{value!r} as the request says, or leave it")
    return {**content, "op": kind, "item_id": item_id}


def parse_items(body: bytes, media_type: str) -> list[Any]:
    """Rows of a list or of lines; a line that is no JSON stays text, which is no item."""
    if media_type in JSON_LINES:
        rows = [_parse_line(line) for line in body.split(b"\n") if line.strip()]
    else:
        content = _parse(body, _SHAPE)
        is_wrapped = isinstance(content, dict) and set(content) == {"items"}
        rows = content["items"] if is_wrapped else content
    if not isinstance(rows, list) or not 1 <= len(rows) <= MAX_ITEMS:
        value = f"{len(rows):,} items" if isinstance(rows, list) else rows
        raise RequestError("body", value, _SHAPE)
    return rows


def _parse(body: bytes, shape: str) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        text = body[:100].decode("utf-8", "replace")
        raise RequestError("body", text, shape, status=400) from None


def _parse_line(line: bytes) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return line[:200].decode("utf-8", "replace")
