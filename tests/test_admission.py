"""Admission control of a replica: how many run, how many wait, how long, and what the others are
told."""

from __future__ import annotations

import asyncio
import selectors
import time
from typing import Any

import httpx
import pytest
from starlette.types import Message, Receive, Scope, Send

from recsys.config import Day
from recsys.types import Query, Ranking
from serve.admission import Admission, deadline_of
from serve.routes.api import build_api
from tests.fake_shop import FakeShop


class GatedShop(FakeShop):
    """Answers nobody before `gate` is set."""

    def __init__(self, **day: Any) -> None:
        super().__init__(day=Day(**day))
        self.gate, self.seconds_left = asyncio.Event(), list[float]()

    async def recommend(self, query: Query) -> Ranking:
        self.seconds_left.append(query.deadline - time.perf_counter())
        await self.gate.wait()
        return await super().search(query)


async def get_all(shop: GatedShop, requests: int) -> list[httpx.Response]:
    """All at once; the gate opens when one was refused, or all run or wait."""
    transport = httpx.ASGITransport(build_api(shop))
    async with httpx.AsyncClient(transport=transport, base_url="http://shop") as client:
        tasks = [asyncio.create_task(client.get("/recommend")) for _ in range(requests)]
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED, timeout=5)
        assert (await client.get("/healthz")).status_code == 200
        shop.gate.set()
        return await asyncio.gather(*tasks)


def test_requests_beyond_running_and_waiting_are_refused_at_once_in_our_words() -> None:
    shop = GatedShop(max_ongoing=2, max_queued=3, deadline_ms=60_000)
    answers = asyncio.run(get_all(shop, 10))
    refusals = [answer for answer in answers if answer.status_code == 503]
    assert len(refusals) == 5
    assert sum(answer.status_code == 200 for answer in answers) == 5
    assert all(answer.headers["retry-after"] == "1" for answer in refusals)
    assert all(
        "try again" in answer.json()["error"]["message"] and answer.json()["request_id"]
        for answer in refusals
    )


def test_a_request_that_waited_too_long_is_refused_and_no_longer_worked_for() -> None:
    shop = GatedShop(max_ongoing=1, max_queued=10, deadline_ms=200)
    answers = asyncio.run(get_all(shop, 3))
    assert sorted(answer.status_code for answer in answers) == [200, 503, 503]
    assert len(shop.seconds_left) == 1


def test_a_query_knows_its_deadline() -> None:
    shop = GatedShop(deadline_ms=5_000)
    shop.gate.set()
    asyncio.run(get_all(shop, 1))
    assert 4 < shop.seconds_left[0] <= 5


# On a virtual clock, straight at the middleware


class VirtualClock(selectors.SelectSelector):
    """The event loop's waits take no time, and count as if they had."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds = 0.0

    def select(self, timeout: float | None = None) -> Any:
        self.seconds += timeout or 0.0
        return super().select(0)


class VirtualLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self.clock = VirtualClock()
        super().__init__(self.clock)

    def time(self) -> float:
        return self.clock.seconds


async def status_of(app: Admission, path: str = "/recommend") -> int:
    messages: list[Message] = []

    async def send(message: Message) -> None:
        messages.append(message)

    async def receive() -> Message:
        return {"type": "http.request"}

    await app({"type": "http", "path": path, "method": "GET"}, receive, send)
    return int(messages[0]["status"])


async def answer_ok(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body"})


def admission(seconds: float, **day: Any) -> Admission:
    """Over an application that takes that long for each answer."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await asyncio.sleep(seconds)
        await answer_ok(scope, receive, send)

    return Admission(app, Day(**day))


@pytest.mark.parametrize(("deadline_ms", "wait_s"), [(600, 0.2), (3_000, 1.0)])
def test_a_request_waits_for_a_third_of_its_deadline(deadline_ms: float, wait_s: float) -> None:
    async def waited(slot_free_after: float) -> tuple[int, float]:
        app = admission(slot_free_after, max_ongoing=1, max_queued=1, deadline_ms=deadline_ms)
        first = asyncio.create_task(status_of(app))
        await asyncio.sleep(0)
        begin = asyncio.get_running_loop().time()
        status = await status_of(app)
        waited_s = asyncio.get_running_loop().time() - begin
        await first
        return status, waited_s

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        status, waited_s = runner.run(waited(10 * wait_s))
        assert (status, waited_s) == (503, pytest.approx(wait_s, abs=1e-3))
        assert runner.run(waited(0.95 * wait_s))[0] == 200
        assert runner.run(waited(1.05 * wait_s))[0] == 503


def test_a_slot_is_free_again_after_an_answer_and_after_a_failure() -> None:
    async def fail(scope: Scope, receive: Receive, send: Send) -> None:
        raise ZeroDivisionError

    async def use_twice(app: Admission) -> int:
        app.app = fail
        with pytest.raises(ZeroDivisionError):
            await status_of(app)
        app.app = answer_ok
        assert await status_of(app) == 200
        return await status_of(app)

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        assert runner.run(use_twice(admission(0, max_ongoing=1, max_queued=0))) == 200


@pytest.mark.parametrize("path", ["/healthz", "/releases", "/docs", "/openapi.json", "/"])
def test_operators_reach_an_overloaded_replica(path: str) -> None:
    async def status() -> int:
        app = admission(3_600, max_ongoing=1, max_queued=0)
        shopper = asyncio.create_task(status_of(app))
        await asyncio.sleep(0)
        assert await status_of(app) == 503
        app.app = answer_ok
        result = await status_of(app, path)
        shopper.cancel()
        return result

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        assert runner.run(status()) == 200


def test_without_admission_control_there_is_no_deadline() -> None:
    assert deadline_of({"type": "http"}) == float("inf")
