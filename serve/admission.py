"""Who is let in, and until when his answer is due: what cannot be answered in time is refused at
once, with a word."""

from __future__ import annotations

import asyncio
import math
import time

from starlette.types import ASGIApp, Receive, Scope, Send

from recsys.config import Day
from serve.routes import wire

#: Who looks whether the replica is well must hear of it when it is busy, too.
ALWAYS = ("/healthz", "/releases", "/docs", "/openapi.json", "/")
#: A refused shopper is asked to come again after so many seconds.
RETRY_AFTER_S = 1


class Admission:
    """`day.max_ongoing` requests are inside at once and `day.max_queued` wait, first come first served, a
    third of `day.deadline_ms` at most: the rest is for the answer. Others get 503 with Retry-After.
    `state["due"]` of a request is when its answer is due, of time.perf_counter."""

    def __init__(self, app: ASGIApp, day: Day) -> None:
        self.app, self.day = app, day
        self.waiting = 0
        self.places = asyncio.Semaphore(day.max_ongoing)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in ALWAYS:
            return await self.app(scope, receive, send)
        due = time.perf_counter() + self.day.deadline_ms / 1000
        scope.setdefault("state", {})["due"] = due
        if not await self._entered():
            return await self._refuse(scope, receive, send)
        try:
            await self.app(scope, receive, send)
        finally:
            self.places.release()

    async def _entered(self) -> bool:
        """Whether there was a place in time; nobody waits who would be one too many."""
        if self.places.locked() and self.waiting >= self.day.max_queued:
            return False
        self.waiting += 1
        try:
            async with asyncio.timeout(self.day.deadline_ms / 3000):
                await self.places.acquire()
            return True
        except TimeoutError:
            return False
        finally:
            self.waiting -= 1

    async def _refuse(self, scope: Scope, receive: Receive, send: Send) -> None:
        sentence = f"more is asked than can be answered in time: try again after {RETRY_AFTER_S} s"
        refused = wire.Json(wire.error(sentence, scope["state"].get("request_id", "")), 503)
        refused.headers["retry-after"] = str(RETRY_AFTER_S)
        await refused(scope, receive, send)


def due_of(scope: Scope) -> float:
    """When the answer is due, of time.perf_counter; never, where no gate stands."""
    return float(scope.get("state", {}).get("due", math.inf))
