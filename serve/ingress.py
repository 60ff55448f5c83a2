"""Retries in the proxies before the replicas: where a replica died without a response, another one
gets the request.

Ray's proxies do not retry by themselves: HAProxy does by its own rule, Ray's Python proxy by
`middlewares`. Every route of ours may be called twice: an event with an `event_id` counts once."""

from __future__ import annotations

from starlette.middleware import Middleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

#: The environment in which every node's Ray must be started.
ENVIRONMENT = {
    "RAY_SERVE_HAPROXY_RETRY_ON": "conn-failure empty-response",
    "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH": "serve.ingress.middlewares",
}
#: Attempts for one request, the first included.
TRIES = 3
#: A longer body gets one attempt, as with HAProxy, which retries only what its buffer holds.
MAX_BODY_BYTES = 16_384


def middlewares() -> list[Middleware]:
    """Called by Ray's Python proxy, which wraps itself in them."""
    return [Middleware(RetryOnNoResponse)]


class RetryOnNoResponse:
    """ASGI middleware: calls the application again where it returned without a response, as Ray's
    proxy does when a replica has died."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        request = _ReplayableRequest(receive)
        for _ in range(TRIES):
            response = _ResponseProbe(send)
            await self.app(dict(scope), request.replay(), response)
            if response.started or not request.is_complete:
                return None
        return None


class _ResponseProbe:
    """Passes a response on, and remembers whether there was one."""

    def __init__(self, send: Send) -> None:
        self.send, self.started = send, False

    async def __call__(self, message: Message) -> None:
        self.started = True
        await self.send(message)


class _ReplayableRequest:
    """Buffers a request's messages for another attempt. `is_complete` is False once a message is
    missing from the buffer: the client left, or the body is too long."""

    def __init__(self, receive: Receive) -> None:
        self.receive, self.buffer, self.is_complete = receive, list[Message](), True
        self.size = 0

    def replay(self) -> Receive:
        """The buffered messages, then new ones."""
        messages = iter(list(self.buffer))

        async def receive() -> Message:
            return next(messages, None) or self._record(await self.receive())

        return receive

    def _record(self, message: Message) -> Message:
        self.size += len(message.get("body", b""))
        if message["type"] != "http.request" or self.size > MAX_BODY_BYTES:
            self.is_complete = False
        else:
            self.buffer.append(message)
        return message
