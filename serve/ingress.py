"""What stands before the replicas asks a second one where the first died without a word.

Ray's proxies do not, unless told: HAProxy by its own rule, Ray's Python proxy by `middlewares`.
Every route of ours may be asked twice: an event that carries an `event_id` counts once."""

from __future__ import annotations

from starlette.middleware import Middleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

#: What every node's Ray must find in its environment when it starts.
ENVIRONMENT = {
    "RAY_SERVE_HAPROXY_RETRY_ON": "conn-failure empty-response",
    "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH": "serve.ingress.middlewares",
}
#: Replicas that are asked for one answer.
TRIES = 3
#: A longer body is passed through once, as by HAProxy, which asks again only for what its buffer
#: holds.
MAX_BODY_BYTES = 16_384


def middlewares() -> list[Middleware]:
    """What Ray's Python proxy puts around itself."""
    return [Middleware(AskAgain)]


class AskAgain:
    """Asks the application again when it returned without a word, which Ray's proxy does when a
    replica has died."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        request = _Replayed(receive)
        for _ in range(TRIES):
            answer = _Noted(send)
            await self.app(dict(scope), request.again(), answer)
            if answer.started or not request.whole:
                return None
        return None


class _Noted:
    def __init__(self, send: Send) -> None:
        self.send, self.started = send, False

    async def __call__(self, message: Message) -> None:
        self.started = True
        await self.send(message)


class _Replayed:
    """A request's messages, kept so that they can be given again; `whole` while that is so."""

    def __init__(self, receive: Receive) -> None:
        self.receive, self.kept, self.whole = receive, list[Message](), True
        self.size = 0

    def again(self) -> Receive:
        given = iter(list(self.kept))

        async def receive() -> Message:
            return next(given, None) or self._note(await self.receive())

        return receive

    def _note(self, message: Message) -> Message:
        self.size += len(message.get("body", b""))
        if message["type"] != "http.request" or self.size > MAX_BODY_BYTES:
            self.whole = False  # the client has gone, or sent too much to be kept
        else:
            self.kept.append(message)
        return message
