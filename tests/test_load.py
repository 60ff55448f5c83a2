"""The load generator against a real server on a free port: what it counts, and from when."""

from __future__ import annotations

import itertools
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import uvicorn

from recsys.simulation.load import CallResult, LoadGenerator, LoadShape, in_background, summarize
from recsys.simulation.traffic import Call, Traffic
from serve.routes.api import build_api
from tests.fake_shop import FakeShop


@contextmanager
def served(app: Any) -> Iterator[str]:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        server = uvicorn.Server(uvicorn.Config(app, log_level="error"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


class Scripted:
    """An ASGI app that answers the n-th request with the n-th status, then always the last one. The
    first request blocks the event loop for `pause_s`."""

    def __init__(
        self, *statuses: int, pause_s: float = 0.0, headers: tuple[tuple[bytes, bytes], ...] = ()
    ) -> None:
        self.statuses, self.pause_s, self.headers = list(statuses), pause_s, headers

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        time.sleep(self.pause_s)  # blocking: nobody else is answered either
        self.pause_s = 0.0
        status = self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0]
        body = b'{"request_id": "r", "release": "v1", "items": [], "skipped": ["facets"]}'
        await send({"type": "http.response.start", "status": status, "headers": list(self.headers)})
        await send({"type": "http.response.body", "body": body})


SEARCH = Call("search", "/search", {"q": "chair"})
TRAFFIC = Traffic(("red chair", "lamp"), ("i1", "a/b"), ("u1", "u2"))


def searches(url: str, shape: LoadShape, **options: Any) -> list[CallResult]:
    return LoadGenerator(url, itertools.repeat(SEARCH), shape, **options).run()


def test_all_routes_of_the_application_answer_the_traffic() -> None:
    shop = FakeShop()
    with served(build_api(shop)) as url:
        results = LoadGenerator(url, TRAFFIC.calls(), LoadShape(clients=4, requests=100)).run()
    assert len(results) == summarize(results).answered == 100
    assert {each.route for each in results} == {"search", "recommend", "similar", "events"}
    assert {event for each in results for event in each.events} >= set(shop.stored)
    assert summarize(results).releases == {"v1": sum(each.release == "v1" for each in results)}


def test_traffic_of_one_seed_is_repeatable() -> None:
    first, again, other = (itertools.islice(TRAFFIC.calls(seed), 20) for seed in (1, 1, 2))
    calls = [(call.path, call.params) for call in first]
    assert calls == [(call.path, call.params) for call in again]
    assert calls != [(call.path, call.params) for call in other]


def test_traffic_of_one_route_is_that_of_the_mix() -> None:
    mixed = [call for call in itertools.islice(TRAFFIC.calls(1), 50) if call.route == "similar"]
    assert list(itertools.islice(TRAFFIC.route_calls("similar"), len(mixed))) == mixed != []


def test_latency_counts_from_the_scheduled_time_while_the_server_stalls() -> None:
    with served(Scripted(200, pause_s=0.5)) as url:
        results = searches(url, LoadShape(rate=50, requests=40))
    late = [each for each in results if each.due_s < 0.25]
    assert len(results) == 40
    assert len(late) >= 10
    assert min(each.latency_ms for each in late) > 200
    due = sorted(each.due_s for each in results)
    assert [round(due_s * 50) for due_s in due] == list(range(40))


def test_shed_requests_are_no_failures() -> None:
    with served(Scripted(503, headers=((b"retry-after", b"1"),))) as url:
        summary = summarize(searches(url, LoadShape(clients=1, requests=3)))
    assert (summary.shed, summary.failed, summary.answered) == (3, 0, 0)


def test_failures_are_counted_by_kind() -> None:
    with served(Scripted(200, 503, 500)) as url:
        summary = summarize(searches(url, LoadShape(clients=1, requests=5)))
    assert summary.failures == {"HTTP 503": 1, "HTTP 500": 3}
    assert (summary.answered, summary.degraded) == (1, 1)
    stopped = summarize(searches(url, LoadShape(clients=1, requests=1)))
    assert stopped.failures == {"ClientConnectorError": 1}


def test_answers_are_validated_by_the_check() -> None:
    with served(Scripted(200)) as url:
        results = searches(url, LoadShape(clients=1, requests=2), check=lambda *_: "mixed")
    assert summarize(results).failures == {"mixed": 2}


def test_a_load_in_the_background_ends_with_the_block() -> None:
    shape = LoadShape(clients=2)
    with (
        served(Scripted(200)) as url,
        in_background(LoadGenerator(url, itertools.repeat(SEARCH), shape)) as load,
    ):
        while len(load.results) < 20:
            time.sleep(0.01)
    assert not summarize(load.results).failed


def test_a_shape_is_a_closed_loop_or_an_open_one() -> None:
    with pytest.raises(ValueError, match="give one of them"):
        LoadShape()
