"""A client of a running shop that takes nothing but good answers: every other one is a
RecsysError."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import Any

import httpx

from recsys.errors import RecsysError
from recsys.evaluation.results import Column, text_table
from recsys.simulation.processes import poll

Answer = dict[str, Any]


class ShopClient:
    """The routes of a shop at `url`, closed with the block."""

    def __init__(self, url: str) -> None:
        self.client = httpx.Client(base_url=url, timeout=10)

    def __enter__(self) -> ShopClient:
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.client.close()

    def get(self, path: str, **params: Any) -> Answer:
        """An answer that lists items."""
        response = self.client.get(path, params=params)
        answer = _body(response, f"GET {path}")
        if not answer["items"]:
            raise RecsysError(f"GET {path} found nothing")
        return answer

    def explain(self, request_id: str, item_id: str) -> Answer:
        """Why an item is in an answer, or is not. Answers reach the log a moment later: it waits
        for that."""
        params = {"request_id": request_id, "item_id": item_id}
        for _ in poll(0.1, 10, f"request {request_id} is not in the log after 10 s"):
            response = self.client.get("/explain", params=params)
            if response.status_code == 200:
                break
        return _body(response, "GET /explain")

    def click(self, user_id: str, answer: Answer) -> None:
        """The user clicks the first item of an answer."""
        event = {"user_id": user_id, "item_id": answer["items"][0]["item_id"], "type": "click"}
        event["request_id"] = answer["request_id"]
        _body(self.client.post("/events", json=event), "the click")

    def promote(self, version: str) -> None:
        _body(self.client.post(f"/releases/{version}/promote"), f"the promotion of {version}")


def _body(response: httpx.Response, request: str) -> Answer:
    if response.status_code != 200:
        raise RecsysError(f"{request} answered {response.status_code}: {response.text}")
    body: Answer = response.json()
    return body


def item_ids(answer: Answer) -> list[str]:
    return [item["item_id"] for item in answer["items"]]


def answer_table(answer: Answer, before: Answer | None = None) -> str:
    """The items of an answer, its release and request; those that moved since `before` are
    marked."""
    positions = {item: n for n, item in enumerate(item_ids(before), 1)} if before else None
    rows = []
    for position, item in enumerate(answer["items"], start=1):
        row = {
            "name": f"{position:>6}",
            "title": item["title"][:44],
            "brand": item["brand"][:9],
            "price": item["price"],
            "sources": ", ".join(item["sources"]),
        }
        if positions is not None:
            row["moved"] = _moved(positions, item["item_id"], position)
        rows.append(row)
    columns = "title", "brand", Column("price", ".2f"), "sources", Column("moved", heading="")
    identity = f"        release {answer['release']}, request {answer['request_id']}"
    return f"{text_table(rows, columns)}\n{identity}"


def _moved(positions: Mapping[str, int], item_id: str, position: int) -> str:
    before = positions.get(item_id)
    if before is None:
        return "new"
    return "" if before == position else f"was {before}"
