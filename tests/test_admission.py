"""The gate of a replica: who is let in, who waits, who is turned away with a word."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import httpx

from recsys.config import Day
from recsys.types import Query, Ranking
from serve.routes.api import build_api
from tests.fake_shop import FakeShop


class HeldShop(FakeShop):
    """Answers nobody before `free` is set."""

    def __init__(self, **day: Any) -> None:
        super().__init__(day=Day(**day))
        self.free, self.due = asyncio.Event(), list[float]()

    async def recommend(self, query: Query) -> Ranking:
        self.due.append(query.deadline - time.perf_counter())
        await self.free.wait()
        return await super().search(query)


async def asked(shop: HeldShop, requests: int) -> list[httpx.Response]:
    """All at once; the shop answers when one was refused, or all stand in line."""
    transport = httpx.ASGITransport(build_api(shop))
    async with httpx.AsyncClient(transport=transport, base_url="http://shop") as client:
        tasks = [asyncio.create_task(client.get("/recommend")) for _ in range(requests)]
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED, timeout=5)
        assert (await client.get("/healthz")).status_code == 200
        shop.free.set()
        return await asyncio.gather(*tasks)


def test_more_than_stand_inside_and_in_line_are_refused_at_once_in_our_words() -> None:
    shop = HeldShop(max_ongoing=2, max_queued=3, deadline_ms=60_000)
    answers = asyncio.run(asked(shop, 10))
    refused = [answer for answer in answers if answer.status_code == 503]
    assert len(refused) == 5
    assert sum(answer.status_code == 200 for answer in answers) == 5
    assert all(answer.headers["retry-after"] == "1" for answer in refused)
    assert all(
        "try again" in answer.json()["error"]["message"] and answer.json()["request_id"]
        for answer in refused
    )


def test_who_waited_a_third_of_his_time_is_refused_and_no_longer_worked_for() -> None:
    shop = HeldShop(max_ongoing=1, max_queued=10, deadline_ms=200)
    answers = asyncio.run(asked(shop, 3))
    assert sorted(answer.status_code for answer in answers) == [200, 503, 503]
    assert len(shop.due) == 1


def test_a_query_knows_when_its_answer_is_due() -> None:
    shop = HeldShop(deadline_ms=5_000)
    shop.free.set()
    asyncio.run(asked(shop, 1))
    assert 0 < shop.due[0] <= 5
