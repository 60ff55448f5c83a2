"""The one JSON response class of all routes."""

from __future__ import annotations

import json
from typing import Any

import orjson
from fastapi.responses import Response


class JsonResponse(Response):
    """UTF-8 JSON without NaN or infinity, which become null. A lone surrogate, which JSON can carry
    and UTF-8 cannot, becomes "?"."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        try:
            return orjson.dumps(content)
        except TypeError:  # a lone surrogate, or an integer beyond 64 bits
            return _dumps_any(content)


def _dumps_any(content: Any) -> bytes:
    encoded = json.dumps(content, ensure_ascii=False).encode("utf-8", "replace")
    finite = json.loads(encoded, parse_constant=lambda _: None)
    return json.dumps(finite, ensure_ascii=False, separators=(",", ":")).encode()
