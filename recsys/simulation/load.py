"""A load generator over HTTP, in a closed loop (clients that wait for their answers) or an open one
(a constant arrival rate). Knows nothing of Ray."""

from __future__ import annotations

import asyncio
import json
import math
import multiprocessing
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp
import numpy as np

from recsys.simulation.traffic import Call, Traffic

#: An answer that takes longer counts as none.
TIMEOUT_S = 10.0
#: A load that waits for the next arrival sees within this time that it was stopped.
POLL_S = 0.05


@dataclass(frozen=True)
class LoadShape:
    """How calls arrive: from `clients` concurrent clients, each waiting for its answer (closed
    loop), or `rate` a second whether answered or not (open loop). Ends after `seconds`, or after
    `requests`, or when stopped. Raises ValueError unless exactly one of both is given."""

    clients: int = 0
    rate: float = 0.0
    seconds: float = math.inf
    requests: int | None = None

    def __post_init__(self) -> None:
        if (self.clients > 0) == (self.rate > 0):
            raise ValueError(
                f"{self.clients} clients and a rate of {self.rate}: give one of them, above 0"
            )


@dataclass(frozen=True, kw_only=True)
class CallResult:
    """The outcome of a call. `due_s` is its scheduled time in seconds after the start, and
    `latency_ms` counts from then rather than from when it could be sent: a stalled server is not
    spared the requests that arrive meanwhile (no coordinated omission).

    `status` is 0 without an answer. `failure` is empty for a valid answer, "shed" for a 503 or 429
    with a Retry-After, otherwise the kind of failure. `events` are acknowledged event ids."""

    route: str
    status: int
    due_s: float
    latency_ms: float
    failure: str = ""
    release: str | None = None
    degraded: bool = False
    events: tuple[str, ...] = ()


#: Validates the body of a 200: the kind of failure, or an empty string.
Check = Callable[[Call, Mapping[str, Any]], str]


def check_answer(call: Call, body: Mapping[str, Any]) -> str:
    """The minimum of a valid answer: it names its release and its request, and repeats no item."""
    items = [item["item_id"] for item in body.get("items", ())]
    if not body.get("release") or not body.get("request_id"):
        return "no release"
    return "repeated items" if len(set(items)) < len(items) else ""


class LoadGenerator:
    """Sends calls to one URL. `results` grows in the order of the answers. `stop` may be called
    from any thread; calls that are under way are still awaited."""

    def __init__(
        self,
        url: str,
        calls: Iterator[Call],
        shape: LoadShape,
        *,
        check: Check = check_answer,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self.url, self.calls, self.shape = url.rstrip("/"), calls, shape
        self.check, self.headers = check, headers or {}
        self.results: list[CallResult] = []
        self.seconds = 0.0
        self._stop = threading.Event()
        self._count = 0

    def stop(self) -> None:
        self._stop.set()

    def run(self) -> list[CallResult]:
        """Sends everything and returns `results`; blocks until then."""
        asyncio.run(self._run())
        return self.results

    async def _run(self) -> None:
        timeout, connector = aiohttp.ClientTimeout(TIMEOUT_S), aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(
            connector=connector, timeout=timeout, headers=self.headers
        ) as session:
            # aiohttp would silently repeat a GET whose connection broke
            session._retry_connection = False
            self._start = time.perf_counter()
            await (self._open_loop(session) if self.shape.rate else self._closed_loop(session))
        self.seconds = time.perf_counter() - self._start

    @property
    def _now_s(self) -> float:
        return time.perf_counter() - self._start

    def _goes_on(self) -> bool:
        enough = self.shape.requests is not None and self._count >= self.shape.requests
        return not (enough or self._stop.is_set() or self._now_s >= self.shape.seconds)

    async def _closed_loop(self, session: aiohttp.ClientSession) -> None:
        async def client() -> None:
            while self._goes_on():
                self._count += 1
                await self._send(session, next(self.calls), self._now_s)

        await asyncio.gather(*(client() for _ in range(self.shape.clients)))

    async def _open_loop(self, session: aiohttp.ClientSession) -> None:
        pending: set[asyncio.Task[None]] = set()
        while self._goes_on():
            due_s = self._count / self.shape.rate
            if (early_s := due_s - self._now_s) > 0:
                await asyncio.sleep(min(early_s, POLL_S))
                continue
            self._count += 1
            task = asyncio.create_task(self._send(session, next(self.calls), due_s))
            pending.add(task)
            task.add_done_callback(pending.discard)
            await asyncio.sleep(0)
        await asyncio.gather(*pending)

    async def _send(self, session: aiohttp.ClientSession, call: Call, due_s: float) -> None:
        status, failure, body, retry = 0, "", dict[str, Any](), False
        method, url = "GET" if call.body is None else "POST", self.url + call.path
        try:
            async with session.request(method, url, params=call.params, json=call.body) as response:
                content = await response.read()
                status, retry = response.status, "retry-after" in response.headers
            body = json.loads(content) if status == 200 else {}
        except TimeoutError:
            failure = "timeout"
        except (aiohttp.ClientError, OSError) as error:
            failure = type(error).__name__
        except ValueError:
            failure = "not JSON"
        latency_ms = (self._now_s - due_s) * 1000
        failure = failure or self._failure(call, status, retry, body)
        answer = body if isinstance(body, dict) else {}
        result = CallResult(
            route=call.route,
            status=status,
            due_s=due_s,
            latency_ms=latency_ms,
            failure=failure,
            release=answer.get("release"),
            degraded=bool(answer.get("skipped")),
            events=(call.body["event_id"],) if call.body and not failure else (),
        )
        self.results.append(result)

    def _failure(self, call: Call, status: int, retry: bool, body: Any) -> str:
        if status in (429, 503) and retry:
            return "shed"
        if status != 200:
            return f"HTTP {status}"
        return self.check(call, body) if isinstance(body, dict) else "not an object"


@contextmanager
def in_background(load: LoadGenerator) -> Iterator[LoadGenerator]:
    """Runs the load in a thread while the block runs; at its end the load is stopped and what is
    under way awaited."""
    thread = threading.Thread(target=load.run, name="load")
    thread.start()
    try:
        yield load
    finally:
        load.stop()
        thread.join()


def run_in_child(url: str, traffic: Traffic, shape: LoadShape, seed: int = 0) -> list[CallResult]:
    """Runs the load in a process of its own, so that it shares no interpreter with the caller."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_run_load, (url, traffic, shape, seed))


def _run_load(url: str, traffic: Traffic, shape: LoadShape, seed: int) -> list[CallResult]:
    return LoadGenerator(url, traffic.calls(seed), shape).run()


@dataclass(frozen=True, kw_only=True)
class LoadSummary:
    """Counts, latency percentiles and throughput of a load. Milliseconds are those of valid
    answers; `shed` were rejected with a Retry-After, `failures` count the other failures by kind,
    and `releases` the answers by release."""

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
        """Neither answered nor shed."""
        return sum(self.failures.values())


def summarize(results: Sequence[CallResult], route: str | None = None) -> LoadSummary:
    """Of all calls, or of those to one route; NaN milliseconds where nothing was answered."""
    results = [each for each in results if route in (None, each.route)]
    valid = [each for each in results if not each.failure]
    latencies = [each.latency_ms for each in valid] or [math.nan]
    ends = [each.due_s + each.latency_ms / 1000 for each in results]
    seconds = max(ends, default=0.0) - min((each.due_s for each in results), default=0.0)
    return LoadSummary(
        requests=len(results),
        answered=len(valid),
        shed=sum(each.failure == "shed" for each in results),
        degraded=sum(each.degraded for each in valid),
        p50_ms=float(np.percentile(latencies, 50)),
        p99_ms=float(np.percentile(latencies, 99)),
        requests_per_s=len(valid) / seconds if seconds else 0.0,
        failures=Counter(each.failure for each in results if each.failure not in ("", "shed")),
        releases=Counter(each.release for each in valid if each.release),
    )
