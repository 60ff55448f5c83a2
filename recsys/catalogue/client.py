"""A client of `POST /items`: rows of any number, sent again for as long as the shop cannot take
them."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import httpx

from recsys.errors import InputError, StoreDownError

#: Of one call: the route takes as many, and twice the bytes.
CALL_ROWS, CALL_BYTES = 1_000, 8 << 20
TRIES, FIRST_WAIT_S, LONGEST_WAIT_S = 10, 0.5, 30.0
#: Answers that say to come again.
_LATER = (429, 502, 503, 504)


class CatalogueClient:
    """Of the application at `url`. Changes are idempotent, so what may have arrived is sent
    again."""

    def __init__(
        self, url: str, key: str | None = None, transport: httpx.BaseTransport | None = None
    ) -> None:
        headers = {"Content-Type": "application/x-ndjson"}
        if key:
            headers["Authorization"] = f"Bearer {key}"
        self.url = url.rstrip("/")
        self._http = httpx.Client(headers=headers, timeout=60, transport=transport)

    def send(self, rows: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
        """What became of each row, in order, as the route says it (`ChangedRow`); `index` is the
        row's place among all. Raises InputError where the application refuses the call,
        StoreDownError where it does not answer at all."""
        start = 0
        for lines in _calls(rows):
            for row in self._call(b"\n".join(lines)):
                yield {**row, "index": start + row["index"]}
            start += len(lines)

    def close(self) -> None:
        self._http.close()

    def _call(self, body: bytes) -> list[dict[str, Any]]:
        wait_s, reason = FIRST_WAIT_S, ""
        for attempts_left in range(TRIES - 1, -1, -1):
            try:
                response = self._http.post(f"{self.url}/items", content=body)
            except httpx.TransportError as error:
                reason = f"{type(error).__name__}: {error}"
            else:
                if response.is_success:
                    return list(response.json()["items"])
                reason = _reason(response)
                if response.status_code not in _LATER:
                    raise InputError(f"{self.url} refuses changes: {reason}")
                wait_s = max(wait_s, float(response.headers.get("retry-after", 0)))
            if attempts_left:
                time.sleep(wait_s)
                wait_s = min(2 * wait_s, LONGEST_WAIT_S)
        raise StoreDownError(f"{self.url} took no changes {TRIES} times ({reason}): is it up?")


def _calls(rows: Sequence[Mapping[str, Any]]) -> Iterator[list[bytes]]:
    """Lines of JSON, as many as one call may have."""
    lines, size = list[bytes](), 0
    for row in rows:
        line = json.dumps(row, ensure_ascii=False).encode("utf-8", "replace")
        if lines and (len(lines) == CALL_ROWS or size + len(line) > CALL_BYTES):
            yield lines
            lines, size = [], 0
        lines.append(line)
        size += len(line) + 1
    if lines:
        yield lines


def _reason(response: httpx.Response) -> str:
    try:
        return str(response.json()["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return f"status {response.status_code}"
