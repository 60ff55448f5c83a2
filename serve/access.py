"""Access control: API keys with roles and rates, or, without keys, this machine alone."""

from __future__ import annotations

import hmac
import logging
import math
import os
import time
from base64 import b64decode
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

from fastapi import Depends, Request
from starlette.exceptions import HTTPException

from recsys.errors import InputError
from serve.keys import ROLES, ApiKey, hash_secret, read_keys

logger = logging.getLogger("ray.serve")

#: Headers of proxies. They can shut a client out, never let one in: anybody may send them.
FORWARDING_HEADERS = ("forwarded", "x-forwarded-for", "x-real-ip", "via")
#: The keys file is checked for changes this often.
RELOAD_S = 1.0


class Access(Protocol):
    """Decides who may call what. Belongs to one event loop."""

    def check(self, request: Request, role: str) -> None:
        """HTTPException 401, 403 or 429 where this request may not."""
        ...

    def check_visitor(self, request: Request) -> None:
        """HTTPException 403 where this request may not see the storefront's pages, which ask for no
        key."""
        ...


class OpenAccess:
    """Everybody may call everything: for tests, and for applications behind access control of their
    own."""

    def check(self, request: Request, role: str) -> None: ...

    def check_visitor(self, request: Request) -> None: ...


class TokenBucket:
    """Rate limiter that lets a burst of one second's worth pass, and one request at least."""

    def __init__(self, rate: float) -> None:
        self.rate, self.capacity = rate, max(1.0, rate)
        self.tokens, self.updated = self.capacity, time.monotonic()

    def take(self) -> float:
        """0 where a request may pass, which then uses a token; else the seconds until one may."""
        now = time.monotonic()
        self.tokens = min(self.capacity, self.tokens + (now - self.updated) * self.rate)
        self.updated = now
        if self.tokens < 1:
            return (1 - self.tokens) / self.rate
        self.tokens -= 1
        return 0.0


class KeyAccess:
    """Keys of a file, which is reloaded when it changes; of a file that cannot be read the log says
    so, and the last good keys stay.

    Each replica counts by itself, so N replicas let N times a key's rate pass."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._buckets: dict[str, TokenBucket] = {}
        self._checked_at, self._stamp = time.monotonic(), self._file_stamp()
        self._keys = read_keys(path)

    def check(self, request: Request, role: str) -> None:
        key = self._authenticate(request)
        request.state.client = key.client
        if wait_s := self._buckets.setdefault(key.sha256, TokenBucket(key.rate)).take():
            message = (
                f"more than {key.rate:g} requests a second came with this key: "
                "wait as Retry-After says"
            )
            raise HTTPException(429, message, {"Retry-After": str(math.ceil(wait_s))})
        if not key.has_role(role):
            raise HTTPException(403, f"this key has no role {role}: ask for one that has")

    def check_visitor(self, request: Request) -> None:
        """Anybody: where there are keys, the setup says whether there is a storefront."""

    def _authenticate(self, request: Request) -> ApiKey:
        self._reload_if_changed()
        secret = _secret(request)
        sha256, now, match = hash_secret(secret), datetime.now(UTC), None
        for key in self._keys:  # always all of them, so that the time taken says nothing
            if hmac.compare_digest(key.sha256, sha256) and key.is_valid(now):
                match = key
        if match is None:
            message = (
                "the key is missing, unknown or expired: send one as Authorization: Bearer KEY"
            )
            raise HTTPException(401, message, {"WWW-Authenticate": "Bearer"})
        return match

    def _reload_if_changed(self) -> None:
        if time.monotonic() - self._checked_at < RELOAD_S:
            return
        self._checked_at = time.monotonic()
        if (stamp := self._file_stamp()) == self._stamp:
            return
        self._stamp = stamp
        try:
            self._keys = read_keys(self._path)
        except InputError as error:
            logger.error("%s; the keys read before stay valid", error)
            return
        rates = {key.sha256: key.rate for key in self._keys}
        self._buckets = {
            sha256: bucket
            for sha256, bucket in self._buckets.items()
            if rates.get(sha256) == bucket.rate
        }
        logger.info("keys file reloaded: %d keys", len(self._keys))

    def _file_stamp(self) -> tuple[int, ...] | None:
        with suppress(OSError):
            status = self._path.stat()
            return status.st_mtime_ns, status.st_size, status.st_ino
        return None


class LocalAccess:
    """Without keys: requests from this machine may call everything, all others nothing.

    `sees_clients` says whether a request's address is its client's. Behind a proxy that hides
    clients and listens beyond this machine it is not, and everybody is refused. Browser pages of
    `origins` may call."""

    def __init__(self, sees_clients: bool = True, origins: Sequence[str] = ()) -> None:
        self._sees_clients, self._origins = sees_clients, origins
        answers = "this machine alone" if sees_clients else "nobody: HTTP may listen beyond it"
        logger.warning("NO KEYS: NIGHTSHELF_KEYS names no file, so answers go to %s", answers)

    def check(self, request: Request, role: str) -> None:
        if reason := self._refusal_reason(request):
            raise HTTPException(
                403, f"{reason}: the operators must set NIGHTSHELF_KEYS before others may call"
            )

    def check_visitor(self, request: Request) -> None:
        self.check(request, "read")

    def _refusal_reason(self, request: Request) -> str | None:
        if not self._sees_clients:
            return "this service may listen beyond its own machine, and has no keys"
        if not _is_loopback(request.client.host if request.client else None):
            return "without keys this service answers its own machine alone"
        if any(name in request.headers for name in FORWARDING_HEADERS):
            return "this request was passed on by a proxy"
        if not _is_loopback(_host(f"//{request.headers.get('host', '')}")):
            # DNS rebinding: a stranger's name that resolves to this machine.
            return "this request names another host than its own machine"
        if self._is_cross_site(request):
            return "a page of another site calls through this machine's browser"
        return None

    def _is_cross_site(self, request: Request) -> bool:
        origin = request.headers.get("origin")
        if origin is None:
            return request.headers.get("sec-fetch-site") == "cross-site"
        return origin not in self._origins and not _is_loopback(_host(origin))


def _secret(request: Request) -> str:
    """The key as the request has it: as a bearer, in a header, or where the protocol of another
    engine or tracker puts its own."""
    scheme, _, credentials = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return credentials.strip()
    if secret := request.headers.get("x-api-key", ""):
        return secret
    path = request.scope["path"].removeprefix(request.scope.get("root_path", ""))
    if path.startswith("/1/"):  # Algolia's; its clients in browsers put it into the URL
        parameters = {name.lower(): value for name, value in request.query_params.items()}
        name = "x-algolia-api-key"
        return request.headers.get(name) or parameters.get(name, "")
    if path == "/events/ga4":
        return request.query_params.get("api_secret", "")
    if path == "/events/segment" and scheme.lower() == "basic":
        with suppress(ValueError):  # the key is the name, and there is no password
            return b64decode(credentials, validate=True).decode("utf-8", "replace").split(":")[0]
    return ""


def require_role(role: str) -> Any:
    """A route's dependency: the request must have the role, as `build_api`'s `access` judges."""
    assert role in ROLES

    async def check(request: Request) -> None:
        request.app.state.access.check(request, role)

    check.role = role  # type: ignore[attr-defined]
    return Depends(check)


def require_visitor() -> Any:
    """A dependency of the storefront's routes."""

    async def check(request: Request) -> None:
        request.app.state.access.check_visitor(request)

    return Depends(check)


def configured_access(origins: Sequence[str] = (), http_host: str | None = None) -> Access:
    """As $NIGHTSHELF_KEYS says: KeyAccess where it names a file, else LocalAccess.

    `http_host` is where HTTP listens, None where that is unknown. HAProxy hides its clients'
    addresses behind its own: without keys it is trusted only where it listens on loopback alone."""
    if path := os.environ.get("NIGHTSHELF_KEYS"):
        return KeyAccess(Path(path))
    behind_haproxy = os.environ.get("RAY_SERVE_ENABLE_HA_PROXY", "0") == "1"
    return LocalAccess(not behind_haproxy or _is_loopback(http_host), origins)


def _host(url: str) -> str | None:
    with suppress(ValueError):
        return urlsplit(url).hostname
    return None


def _is_loopback(host: str | None) -> bool:
    if host == "localhost":
        return True
    with suppress(ValueError):
        return bool(host) and ip_address(str(host)).is_loopback
    return False
