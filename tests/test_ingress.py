"""A request is retried when there was no response, and never when there was one."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from starlette.types import Message, Receive, Scope, Send

from serve.ingress import ENVIRONMENT, RetryOnNoResponse, middlewares

RESPONSE: list[Message] = [
    {"type": "http.response.start", "status": 200, "headers": []},
    {"type": "http.response.body", "body": b"hello"},
]


class Replicas:
    """Stands for Ray's proxy before replicas of which the first ones die; records the bodies that
    they received. One that dies late has sent the head of its response."""

    def __init__(self, dying: int, late: bool = False) -> None:
        self.dying, self.late, self.bodies = dying, late, list[bytes]()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["path"] == "/"
        scope["path"] = "spoiled"
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message.get("body", b""), message.get("more_body", False)
        self.bodies.append(body)
        if len(self.bodies) > self.dying:
            for message in RESPONSE:
                await send(message)
        elif self.late:
            await send(RESPONSE[0])


def request(replicas: Replicas, *chunks: bytes) -> list[Message]:
    """What the client receives."""
    responses: list[Message] = []
    incoming: Iterator[Message] = iter(
        [
            {"type": "http.request", "body": chunk, "more_body": chunk is not chunks[-1]}
            for chunk in chunks
        ]
    )

    async def receive() -> Message:
        return next(incoming, {"type": "http.disconnect"})

    async def send(message: Message) -> None:
        responses.append(message)

    scope = {"type": "http", "path": "/"}
    asyncio.run(RetryOnNoResponse(replicas)(scope, receive, send))
    return responses


@pytest.mark.parametrize("dying", [0, 1, 2])
def test_another_replica_gets_the_whole_request(dying: int) -> None:
    replicas = Replicas(dying)
    assert request(replicas, b"one ", b"two") == RESPONSE
    assert replicas.bodies == [b"one two"] * (dying + 1)


def test_after_three_attempts_it_is_given_up() -> None:
    replicas = Replicas(99)
    assert request(replicas, b"") == []
    assert len(replicas.bodies) == 3


def test_a_response_that_began_is_never_repeated() -> None:
    replicas = Replicas(1, late=True)
    assert request(replicas, b"") == RESPONSE[:1]
    assert len(replicas.bodies) == 1


@pytest.mark.parametrize(("length", "attempts"), [(16_384, 2), (16_385, 1)])
def test_a_body_of_16_kib_is_buffered_and_a_longer_one_is_not(length: int, attempts: int) -> None:
    replicas = Replicas(1)
    assert bool(request(replicas, b"a" * 16_000, b"b" * (length - 16_000))) == (attempts == 2)
    assert [len(body) for body in replicas.bodies] == [length] * attempts


def test_a_client_who_left_is_not_served_again() -> None:
    replicas = Replicas(1)
    assert request(replicas) == []
    assert len(replicas.bodies) == 1


def test_a_websocket_passes_through() -> None:
    scopes = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        scopes.append(scope)

    asyncio.run(RetryOnNoResponse(app)({"type": "websocket"}, None, None))
    assert scopes == [{"type": "websocket"}]


def test_both_proxies_are_configured() -> None:
    from ray.serve._private.http_util import validate_http_proxy_callback_return

    assert validate_http_proxy_callback_return(middlewares())
    assert ENVIRONMENT == {
        "RAY_SERVE_HAPROXY_RETRY_ON": "conn-failure empty-response",
        "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH": "serve.ingress.middlewares",
    }
