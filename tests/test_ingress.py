"""A request is asked again when nothing came, and never when something did."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from starlette.types import Message, Receive, Scope, Send

from serve.ingress import MAX_BODY_BYTES, TRIES, RetryOnNoResponse, middlewares

ANSWER: list[Message] = [
    {"type": "http.response.start", "status": 200, "headers": []},
    {"type": "http.response.body", "body": b"here"},
]


class Replicas:
    """Stands for Ray's proxy before replicas of which the first ones die; keeps the bodies that
    they got."""

    def __init__(self, dying: int) -> None:
        self.dying, self.bodies = dying, list[bytes]()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["path"] = "spoiled"
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message.get("body", b""), message.get("more_body", False)
        self.bodies.append(body)
        if len(self.bodies) > self.dying:
            for told in ANSWER:
                await send(told)


def asked(replicas: Replicas, *pieces: bytes, scope: Scope | None = None) -> list[Message]:
    sent: list[Message] = []
    coming: Iterator[Message] = iter(
        [
            {"type": "http.request", "body": piece, "more_body": piece is not pieces[-1]}
            for piece in pieces
        ]
    )

    async def receive() -> Message:
        return next(coming, {"type": "http.disconnect"})

    async def send(message: Message) -> None:
        sent.append(message)

    asyncio.run(RetryOnNoResponse(replicas)(scope or {"type": "http", "path": "/"}, receive, send))
    return sent


@pytest.mark.parametrize("dying", range(TRIES))
def test_another_replica_gets_the_whole_request(dying: int) -> None:
    replicas = Replicas(dying)
    assert asked(replicas, b"one ", b"two") == ANSWER
    assert replicas.bodies == [b"one two"] * (dying + 1)


def test_after_so_many_it_is_given_up() -> None:
    replicas = Replicas(99)
    assert asked(replicas, b"") == []
    assert len(replicas.bodies) == TRIES


def test_what_is_too_long_to_keep_is_asked_once() -> None:
    replicas = Replicas(1)
    assert asked(replicas, b"a" * MAX_BODY_BYTES, b"a") == []
    assert len(replicas.bodies) == 1


def test_a_client_who_has_gone_is_not_asked_for_again() -> None:
    replicas = Replicas(1)
    assert asked(replicas) == []
    assert len(replicas.bodies) == 1


def test_rays_proxy_takes_it() -> None:
    from ray.serve._private.http_util import validate_http_proxy_callback_return

    assert validate_http_proxy_callback_return(middlewares())
