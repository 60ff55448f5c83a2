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

from recsys.simulation.load import Call, Load, Shape, Traffic, running, summary
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
    """An ASGI app that answers the n-th request with the n-th status, the last for ever; `pause_s`
    once, everybody."""

    def __init__(
        self, *statuses: int, pause_s: float = 0.0, headers: tuple[tuple[bytes, bytes], ...] = ()
    ) -> None:
        self.statuses, self.pause_s, self.headers = list(statuses), pause_s, headers

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        time.sleep(self.pause_s)  # on the event loop: nobody else is answered either
        self.pause_s = 0.0
        status = self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0]
        body = b'{"request_id": "r", "release": "v1", "items": [], "skipped": ["facets"]}'
        await send({"type": "http.response.start", "status": status, "headers": list(self.headers)})
        await send({"type": "http.response.body", "body": body})


SEARCH = Call("search", "/search", {"q": "chair"})
TRAFFIC = Traffic(("red chair", "lamp"), ("i1", "a/b"), ("u1", "u2"))


def test_all_routes_of_the_application_answer_the_traffic() -> None:
    shop = FakeShop()
    with served(build_api(shop)) as url:
        log = Load(url, TRAFFIC.calls(), Shape(clients=4, requests=100)).run()
    assert len(log) == summary(log).answered == 100
    assert {each.route for each in log} == {"search", "recommend", "similar", "events"}
    assert {event for each in log for event in each.events} >= set(shop.stored)
    assert summary(log).releases == {"v1": sum(each.release == "v1" for each in log)}


def test_the_same_seed_asks_the_same() -> None:
    first, again, other = (itertools.islice(TRAFFIC.calls(seed), 20) for seed in (1, 1, 2))
    asked = [(call.path, call.params) for call in first]
    assert asked == [(call.path, call.params) for call in again]
    assert asked != [(call.path, call.params) for call in other]


def test_who_arrives_while_the_server_stands_still_has_waited_since_he_was_due() -> None:
    with served(Scripted(200, pause_s=0.5)) as url:
        log = Load(url, itertools.repeat(SEARCH), Shape(rate=50, requests=40)).run()
    late = [each for each in log if each.due_s < 0.25]
    assert len(log) == 40
    assert len(late) >= 10
    assert min(each.latency_ms for each in late) > 200
    assert [round(each.due_s * 50) for each in sorted(log, key=lambda each: each.due_s)] == list(
        range(40)
    )


def test_what_is_turned_away_with_a_word_is_no_failure() -> None:
    with served(Scripted(503, headers=((b"retry-after", b"1"),))) as url:
        told = summary(Load(url, itertools.repeat(SEARCH), Shape(clients=1, requests=3)).run())
    assert (told.shed, told.failed, told.answered) == (3, 0, 0)


def test_failures_are_counted_by_kind() -> None:
    with served(Scripted(200, 503, 500)) as url:
        told = summary(Load(url, itertools.repeat(SEARCH), Shape(clients=1, requests=5)).run())
    assert told.failures == {"HTTP 503": 1, "HTTP 500": 3}
    assert (told.answered, told.degraded) == (1, 1)
    nobody = summary(Load(url, itertools.repeat(SEARCH), Shape(clients=1, requests=1)).run())
    assert nobody.failures == {"ClientConnectorError": 1}


def test_a_check_of_ones_own_says_what_is_wrong() -> None:
    with served(Scripted(200)) as url:
        told = summary(
            Load(
                url, itertools.repeat(SEARCH), Shape(clients=1, requests=2), lambda *_: "mixed"
            ).run()
        )
    assert told.failures == {"mixed": 2}


def test_a_running_load_ends_with_the_block() -> None:
    with (
        served(Scripted(200)) as url,
        running(Load(url, itertools.repeat(SEARCH), Shape(clients=2))) as load,
    ):
        while len(load.log) < 20:
            time.sleep(0.01)
    assert not summary(load.log).failed


def test_a_shape_is_one_or_the_other() -> None:
    with pytest.raises(ValueError, match="give one of them"):
        Shape()
