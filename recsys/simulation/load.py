"""Shoppers over real HTTP: many at once, each waiting for his answer, or arriving at a constant
rate, answered or not.

`Traffic` draws what they ask from a release: words of its titles, its items, its users. `Load`
sends it and keeps one `Answered` a request; `summary` makes numbers of them. Knows nothing of Ray.
"""

from __future__ import annotations

import asyncio
import json
import math
import multiprocessing
import socket
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import numpy as np
from numpy.random import Generator

from recsys.release.release import Release

#: Of 100 requests so many ask each route.
MIX = {"search": 45, "recommend": 30, "similar": 15, "events": 10}
#: Of 100 shoppers so many were here before, come for the first time, or do not say who they are.
WHO = {"known": 70, "new": 15, "nobody": 15}
#: An answer that takes longer counts as none.
TIMEOUT_S = 10.0
#: Sooner than this a waiting load looks whether it was told to stop.
LOOK_S = 0.05


@dataclass(frozen=True)
class Call:
    """One request to come: a GET of `path`, or a POST of `body`."""

    route: str
    path: str
    params: Mapping[str, str] = field(default_factory=dict)
    body: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Answered:
    """What became of one request. `due_s` is when it was due, in seconds after the load began, and
    `latency_ms` counts from then, not from when it could at last be sent: a server that stands
    still is not asked less for that.

    `status` is 0 where no answer came. `failure` is empty for an answer that is what it should be,
    "shed" for a 503 or 429 that says when to come again, otherwise the kind of failure. `events`
    are the ids of acknowledged events."""

    route: str
    status: int
    due_s: float
    latency_ms: float
    failure: str = ""
    release: str | None = None
    degraded: bool = False
    events: tuple[str, ...] = ()


#: What is wrong with the body of a 200, in a word or two; empty where nothing is.
Check = Callable[[Call, Mapping[str, Any]], str]


def whole(call: Call, body: Mapping[str, Any]) -> str:
    """The least that an answer must be: of a named release, without an item twice."""
    items = [item["item_id"] for item in body.get("items", ())]
    if not body.get("release") or not body.get("request_id"):
        return "no release"
    return "repeated items" if len(set(items)) < len(items) else ""


@dataclass(frozen=True)
class Traffic:
    """What shoppers ask of one release, drawn by `mix`: pickles small enough to travel to a process
    of its own."""

    titles: tuple[str, ...]
    item_ids: tuple[str, ...]
    user_ids: tuple[str, ...]
    mix: Mapping[str, int] = field(default_factory=lambda: dict(MIX))
    k: int = 10

    @classmethod
    def of(cls, release: Release, mix: Mapping[str, int] = MIX, items: int = 5_000) -> Traffic:
        """Titles and ids of `items` items, the popular more often, as they are asked for more
        often."""
        rng = np.random.default_rng(0)
        weights_I = np.asarray(release.popularity_I, np.float64) + 1e-3
        rows = rng.choice(len(weights_I), items, p=weights_I / weights_I.sum())
        chosen = release.items.select(["item_id", "title"]).take(rows).to_pylist()
        users = [str(user) for user in release.users["user_id"].to_pylist()]
        titled = tuple(item["title"] or "" for item in chosen)
        return cls(titled, tuple(item["item_id"] for item in chosen), tuple(users), dict(mix))

    def calls(self, seed: int = 0) -> Iterator[Call]:
        """Without end; the same seed asks the same, but for the ids of new events and shoppers."""
        rng, routes = np.random.default_rng(seed), list(self.mix)
        shares = np.array([self.mix[route] for route in routes], float)
        while True:
            for route in rng.choice(routes, 256, p=shares / shares.sum()).tolist():
                yield getattr(self, f"_{route}")(rng)

    def _search(self, rng: Generator) -> Call:
        """One to three words of a title in their order; every fourth search counts facets, every
        fifth filters."""
        words = self.titles[rng.integers(len(self.titles))].split() or ["milk"]
        count = min(len(words), int(rng.integers(1, 4)))
        start = int(rng.integers(len(words) - count + 1))
        params = {
            "q": " ".join(words[start : start + count])[:200],
            "k": str(self.k),
            **self._user(rng),
        }
        if rng.random() < 0.25:
            params["facets"] = "true"
        if rng.random() < 0.2:
            params["in_stock"] = "true"
        return Call("search", "/search", params)

    def _recommend(self, rng: Generator) -> Call:
        return Call("recommend", "/recommend", {"k": str(self.k), **self._user(rng)})

    def _similar(self, rng: Generator) -> Call:
        return Call("similar", f"/similar/{self._item(rng)}", {"k": str(self.k)})

    def _events(self, rng: Generator) -> Call:
        user = self._user(rng).get("user_id") or _new(rng)
        kind = str(rng.choice(["view", "click", "cart", "purchase"], p=[0.5, 0.3, 0.1, 0.1]))
        event = {
            "event_id": uuid.uuid4().hex,
            "user_id": user,
            "item_id": self._item(rng),
            "type": kind,
        }
        return Call("events", "/events", {}, event)

    def _item(self, rng: Generator) -> str:
        return self.item_ids[rng.integers(len(self.item_ids))]

    def _user(self, rng: Generator) -> dict[str, str]:
        who = str(rng.choice(list(WHO), p=np.array(list(WHO.values())) / sum(WHO.values())))
        if who == "nobody":
            return {}
        known = who == "known" and self.user_ids
        return {"user_id": self.user_ids[rng.integers(len(self.user_ids))] if known else _new(rng)}


def _new(rng: Generator) -> str:
    return f"new-{rng.integers(1 << 40):x}"


@dataclass(frozen=True)
class Shape:
    """How the calls come: from `clients`, each waiting for his answer, or, with a `rate`, so many
    each second. Until `seconds` are over, `requests` are sent, or it is told to stop. Raises
    ValueError unless one of both is given."""

    clients: int = 0
    rate: float = 0.0
    seconds: float = math.inf
    requests: int | None = None

    def __post_init__(self) -> None:
        if (self.clients > 0) == (self.rate > 0):
            raise ValueError(
                f"{self.clients} clients and a rate of {self.rate}: give one of them, above 0"
            )


class Load:
    """Calls sent to one address. `log` grows while it runs, in the order of the answers; `stop` may
    come from any thread: what was sent by then is still waited for."""

    def __init__(
        self,
        url: str,
        calls: Iterator[Call],
        shape: Shape,
        check: Check = whole,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self.url, self.calls, self.shape, self.check, self.headers = (
            url.rstrip("/"),
            calls,
            shape,
            check,
            headers or {},
        )
        self.log: list[Answered] = []
        self.seconds = 0.0
        self._stopped = threading.Event()
        self._sent = 0

    def stop(self) -> None:
        self._stopped.set()

    def run(self) -> list[Answered]:
        """Sends all of it and returns `log`; blocks until then."""
        asyncio.run(self._run())
        return self.log

    async def _run(self) -> None:
        timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
        async with aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0), timeout=timeout, headers=self.headers
        ) as session:
            session._retry_connection = (
                False  # aiohttp would quietly repeat a GET whose connection broke
            )
            self._begun = time.perf_counter()
            await (self._arrive(session) if self.shape.rate else self._take_turns(session))
        self.seconds = time.perf_counter() - self._begun

    @property
    def _now_s(self) -> float:
        return time.perf_counter() - self._begun

    def _more(self) -> bool:
        enough = self.shape.requests is not None and self._sent >= self.shape.requests
        return not (enough or self._stopped.is_set() or self._now_s >= self.shape.seconds)

    async def _take_turns(self, session: aiohttp.ClientSession) -> None:
        async def client() -> None:
            while self._more():
                self._sent += 1
                await self._ask(session, next(self.calls), self._now_s)

        await asyncio.gather(*(client() for _ in range(self.shape.clients)))

    async def _arrive(self, session: aiohttp.ClientSession) -> None:
        waiting: set[asyncio.Task[None]] = set()
        while self._more():
            due_s = self._sent / self.shape.rate
            if (early_s := due_s - self._now_s) > 0:
                await asyncio.sleep(min(early_s, LOOK_S))
                continue
            self._sent += 1
            task = asyncio.create_task(self._ask(session, next(self.calls), due_s))
            waiting.add(task)
            task.add_done_callback(waiting.discard)
            await asyncio.sleep(0)
        await asyncio.gather(*waiting)

    async def _ask(self, session: aiohttp.ClientSession, call: Call, due_s: float) -> None:
        status, failure, body, retry = 0, "", dict[str, Any](), False
        try:
            method = "GET" if call.body is None else "POST"
            asked = session.request(
                method, self.url + call.path, params=call.params, json=call.body
            )
            async with asked as answer:
                sent = await answer.read()
                status, retry = answer.status, "retry-after" in answer.headers
            body = json.loads(sent) if status == 200 else {}
        except TimeoutError:
            failure = "timeout"
        except (aiohttp.ClientError, OSError) as error:
            failure = type(error).__name__
        except ValueError:
            failure = "not JSON"
        latency_ms = (self._now_s - due_s) * 1000
        failure = failure or self._judged(call, status, retry, body)
        taken = (call.body["event_id"],) if call.body and not failure else ()
        told = (
            (body.get("release"), bool(body.get("skipped")), taken)
            if isinstance(body, dict)
            else (None, False, ())
        )
        self.log.append(Answered(call.route, status, due_s, latency_ms, failure, *told))

    def _judged(self, call: Call, status: int, retry: bool, body: Any) -> str:
        if status in (429, 503) and retry:
            return "shed"
        if status != 200:
            return f"HTTP {status}"
        return self.check(call, body) if isinstance(body, dict) else "not an object"


def free_port(host: str = "127.0.0.1") -> int:
    """One that nobody listens on now."""
    with socket.socket() as free:
        free.bind((host, 0))
        return int(free.getsockname()[1])


@contextmanager
def running(load: Load) -> Iterator[Load]:
    """The load in a thread of its own while the block runs; it is stopped, and all is answered,
    when the block ends."""
    thread = threading.Thread(target=load.run, name="load")
    thread.start()
    try:
        yield load
    finally:
        load.stop()
        thread.join()


def apart(url: str, traffic: Traffic, shape: Shape, seed: int = 0) -> list[Answered]:
    """The load in a process of its own, which shares no interpreter with who measures; its log when
    it has ended."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_loaded, (url, traffic, shape, seed))


def _loaded(url: str, traffic: Traffic, shape: Shape, seed: int) -> list[Answered]:
    return Load(url, traffic.calls(seed), shape).run()


@dataclass(frozen=True)
class Summary:
    """Numbers of a log. Milliseconds are those of answers that are what they should be; `shed` were
    turned away with a word, `failures` count what failed by kind, and `releases` who answered."""

    requests: int
    answered: int
    shed: int
    degraded: int
    p50_ms: float
    p99_ms: float
    requests_per_s: float
    failures: Mapping[str, int]
    releases: Mapping[str, int]

    @property
    def failed(self) -> int:
        """Neither answered nor turned away with a word."""
        return sum(self.failures.values())


def summary(log: Sequence[Answered], route: str | None = None) -> Summary:
    """Of all requests, or of one route; NaN milliseconds where nothing was answered."""
    told = [each for each in log if route in (None, each.route)]
    good = [each for each in told if not each.failure]
    latencies = [each.latency_ms for each in good] or [math.nan]
    ends = [each.due_s + each.latency_ms / 1000 for each in told]
    seconds = max(ends, default=0.0) - min((each.due_s for each in told), default=0.0)
    return Summary(
        len(told),
        len(good),
        sum(each.failure == "shed" for each in told),
        sum(each.degraded for each in good),
        float(np.percentile(latencies, 50)),
        float(np.percentile(latencies, 99)),
        len(good) / seconds if seconds else 0.0,
        Counter(each.failure for each in told if each.failure not in ("", "shed")),
        Counter(each.release for each in good if each.release),
    )
