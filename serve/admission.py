"""Admission control: bounded concurrency and a bounded queue. What cannot be answered before its
deadline is refused at once."""

from __future__ import annotations

import asyncio
import math
import time

from starlette.types import ASGIApp, Receive, Scope, Send

from recsys.config import Day
from serve.routes.errors import error_body
from serve.routes.responses import JsonResponse

#: Never refused: health checks must get through to an overloaded replica too.
EXEMPT_PATHS = ("/healthz", "/releases", "/docs", "/openapi.json", "/")
#: How long a request may wait, as a share of its deadline: the rest is for the answer.
WAIT_SHARE = 1 / 3
#: The Retry-After of a refusal, in seconds.
RETRY_AFTER_S = 1


class Admission:
    """ASGI middleware: `day.max_ongoing` requests run at once and `day.max_queued` wait, first come
    first served, WAIT_SHARE of `day.deadline_ms` at most. Others get 503 with Retry-After.

    `state["deadline"]` of a request is when its answer is due, of time.perf_counter."""

    def __init__(self, app: ASGIApp, day: Day) -> None:
        self.app, self.day = app, day
        self.waiting = 0
        self.slots = asyncio.Semaphore(day.max_ongoing)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in EXEMPT_PATHS:
            return await self.app(scope, receive, send)
        deadline = time.perf_counter() + self.day.deadline_ms / 1000
        scope.setdefault("state", {})["deadline"] = deadline
        if not await self._acquire_slot():
            return await self._refuse(scope, receive, send)
        try:
            await self.app(scope, receive, send)
        finally:
            self.slots.release()

    async def _acquire_slot(self) -> bool:
        """Whether a slot was free in time; a request that would exceed the queue does not wait."""
        if self.slots.locked() and self.waiting >= self.day.max_queued:
            return False
        self.waiting += 1
        try:
            async with asyncio.timeout(WAIT_SHARE * self.day.deadline_ms / 1000):
                await self.slots.acquire()
            return True
        except TimeoutError:
            return False
        finally:
            self.waiting -= 1

    async def _refuse(self, scope: Scope, receive: Receive, send: Send) -> None:
        message = (
            f"more requests came than can be answered in time: try again after {RETRY_AFTER_S} s"
        )
        body = error_body(message, scope["state"].get("request_id", ""))
        response = JsonResponse(body, 503, {"Retry-After": str(RETRY_AFTER_S)})
        await response(scope, receive, send)


def deadline_of(scope: Scope) -> float:
    """When the answer is due, of time.perf_counter; infinity without admission control."""
    return float(scope.get("state", {}).get("deadline", math.inf))
