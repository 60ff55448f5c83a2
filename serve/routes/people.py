"""What people decide about their data: forgetting, opting out; and looking again whether anything
is left.

`DELETE` answers at once, with what is left: from then on the user is a stranger to every replica.
What was published is amended in the background, all who wait at once."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, Protocol

from fastapi import APIRouter, Request
from fastapi.responses import Response

from recsys.config import Setup
from recsys.interfaces import EventStore
from recsys.privacy import forget as forgetting
from recsys.privacy.erasure import GRACE_S
from recsys.privacy.forget import Receipt
from recsys.types import Query
from serve import metrics
from serve.routes import answers, wire
from serve.routes.wire import Json

logger = logging.getLogger("ray.serve")

#: An amendment that failed is tried again after so long.
RETRY_S = 5.0


class People(Protocol):
    """What the routes here ask of a replica."""

    async def forget(self, user_id: str) -> Receipt: ...

    async def look_again(self, receipt: str) -> tuple[datetime, dict[str, int]]:
        """When he was forgotten, and what is left now. NotFoundError for what is no receipt of this
        shop."""
        ...

    async def opt_out(self, user_id: str, out: bool) -> None: ...


def routes(shop: People, dependencies: Sequence[Any]) -> APIRouter:
    """For administrators: `dependencies` see to that."""
    people = APIRouter(tags=["people"], dependencies=list(dependencies))

    @people.delete("/users/{user_id:path}/opt-out", response_model=answers.OptOutAnswer)
    async def opt_in(request: Request, user_id: wire.Id) -> Response:
        await shop.opt_out(user_id, False)
        return Json({"request_id": request.state.request_id, "opted_out": False})

    @people.put("/users/{user_id:path}/opt-out", response_model=answers.OptOutAnswer)
    async def opt_out(request: Request, user_id: wire.Id) -> Response:
        await shop.opt_out(user_id, True)
        return Json({"request_id": request.state.request_id, "opted_out": True})

    @people.delete("/users/{user_id:path}", status_code=202, response_model=answers.ForgottenAnswer)
    async def forget(request: Request, user_id: wire.Id) -> Response:
        made = await shop.forget(user_id)
        told = {
            "receipt": made.token,
            "forgotten": made.forgotten.isoformat(),
            "gone": made.gone,
            "left": made.left,
        }
        return Json({"request_id": request.state.request_id, **told, "done": not made.left}, 202)

    @people.get("/receipts/{receipt}", response_model=answers.ReceiptAnswer)
    async def look_again(request: Request, receipt: str) -> Response:
        forgotten, left = await shop.look_again(receipt)
        told = {"forgotten": forgotten.isoformat(), "left": left, "done": not left}
        return Json({"request_id": request.state.request_id, **told})

    return people


class Decisions:
    """What users decided, asked once a request; and the thread that amends releases for those who
    left."""

    def __init__(self, setup: Setup, events: EventStore, closed: threading.Event) -> None:
        self.setup, self.events, self.closed = setup, events, closed
        self.grace_s = GRACE_S
        self._waiting: set[str] = set()
        self._news = threading.Condition()
        self.thread = threading.Thread(target=self._follow, daemon=True)
        self.thread.start()

    def seen(self, query: Query, created: datetime) -> tuple[Query, bool]:
        """The query as a release of that time may see it, and whether the user's answers are
        logged."""
        if query.user_id is None:
            return query, True
        standing = self.events.privacy_state(query.user_id)
        known = standing.allows(created)
        return (query if known else replace(query, user_id=None)), not standing.opted_out

    def forget(self, user_id: str) -> Receipt:
        """At once in the log; the releases follow."""
        made = forgetting.forget(self.setup, self.events, user_id)
        metrics.FORGOTTEN.inc()
        with self._news:
            self._waiting.add(user_id)
            self._news.notify()
        return made

    def opt_out(self, user_id: str, out: bool) -> None:
        """From the next request on, on every replica."""
        self.events.set_privacy_state(
            user_id, replace(self.events.privacy_state(user_id), opted_out=out)
        )

    def look_again(self, receipt: str) -> tuple[datetime, dict[str, int]]:
        """Looks, and does not remember."""
        user_id, forgotten = forgetting.unsealed(self.events, receipt)
        return forgotten, forgetting.left(self.setup, self.events, user_id, forgotten)

    def _follow(self) -> None:
        due, since, amended = math.inf, math.inf, set[str]()
        while not self.closed.is_set():
            with self._news:
                self._news.wait_for(lambda: bool(self._waiting), timeout=0.2)
                users, self._waiting = self._waiting, set()
            if users or time.monotonic() >= due:
                since = min(since, time.monotonic())
                due = self._erase(users | amended, bool(users))
                amended = users | amended if users and due else set()
            since = since if self._waiting or due < math.inf else math.inf
            metrics.FORGETTING_WAITS.set(max(0.0, time.monotonic() - since))

    def _erase(self, users: set[str], again: bool) -> float:
        """Amends for all of them, and deletes what was replaced long enough ago; when to do that
        next: `again` where some of them are new. A night finishes what a replica that is killed
        here has begun."""
        try:
            gone = forgetting.erase(self.setup, self.events, users, self.grace_s)
            logger.info("%d users left %d releases", len(users), len(gone))
            return time.monotonic() + self.grace_s if again else math.inf
        except Exception as error:  # whatever a store raises must not end the thread
            why = metrics.told(error, self.setup.day.log_queries)
            logger.error(
                "releases were not amended: it is tried again in %g s, and by the night: %s",
                RETRY_S,
                why,
            )
            self.closed.wait(RETRY_S)
            with self._news:
                self._waiting |= users
            return 0.0
