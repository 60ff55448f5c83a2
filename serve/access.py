"""Who may ask what: keys with roles and rates, kept as hashes in the file that $NIGHTSHELF_KEYS
names.

A key is 256 random bits, so one SHA-256 of it is as good as a slow hash: slow hashes are for what
people think up, and nobody guesses 256 bits. Without a file everything is open to this machine and
to nobody else."""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import math
import os
import re
import secrets
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from fastapi import Depends, Request
from starlette.exceptions import HTTPException

from recsys.errors import InputError
from recsys.storage.artifacts import write_whole

logger = logging.getLogger("ray.serve")

ROLES = ("read", "events", "admin")
#: What tells that a request was passed on by somebody: it can shut a stranger out, never let one
#: in.
PASSED_ON = ("forwarded", "x-forwarded-for", "x-real-ip", "via")
#: The file is looked at this often, in seconds.
LOOK_AGAIN_S = 1.0


@dataclass(frozen=True)
class Key:
    """Of one client, who may have several at once. `rate`: requests a second, of each replica.
    `admin` may everything.

    Raises InputError where a value cannot be meant.
    """

    client: str
    sha256: str
    roles: tuple[str, ...]
    rate: float = 100.0
    not_after: str | None = None

    def __post_init__(self) -> None:
        if not (isinstance(self.client, str) and re.fullmatch(r"[\w.-]{1,64}", self.client)):
            raise InputError(
                f"client is {str(self.client)[:100]!r}: give 1 to 64 letters, digits, dots or dashes"
            )
        if not (isinstance(self.sha256, str) and re.fullmatch(r"[0-9a-f]{64}", self.sha256)):
            raise InputError(
                f"the key of {self.client} has no SHA-256 of 64 hexadecimal digits: make it anew"
            )
        if not self.roles or set(self.roles) - set(ROLES):
            raise InputError(
                f"roles of {self.client} are {list(self.roles)}: give some of {', '.join(ROLES)}"
            )
        if (
            isinstance(self.rate, bool)
            or not isinstance(self.rate, int | float)
            or not 0 < self.rate < math.inf
        ):
            raise InputError(
                f"rate of {self.client} is {self.rate!r}: give requests a second, above 0"
            )
        if self.not_after is not None:
            _time(self.not_after)

    def valid(self, now: datetime) -> bool:
        return self.not_after is None or now < _time(self.not_after)

    def may(self, role: str) -> bool:
        return role in self.roles or "admin" in self.roles


def _time(text: str) -> datetime:
    with suppress(ValueError, TypeError):
        if (time := datetime.fromisoformat(text)).tzinfo:
            return time
    raise InputError(f"not_after is {str(text)[:100]!r}: give an ISO 8601 time with its zone")


def make(
    client: str, roles: Iterable[str], rate: float, not_after: str | None = None
) -> tuple[str, Key]:
    """A new secret, which is kept nowhere, and what is kept of it."""
    secret = secrets.token_urlsafe(32)
    return secret, Key(client, digest(secret), tuple(roles), rate, not_after)


def digest(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "replace")).hexdigest()


def read(path: Path) -> list[Key]:
    """Raises InputError where the file is not there or cannot be used: half a list of keys would
    lock people out."""
    try:
        rows = json.loads(path.read_bytes())["keys"]
        return [Key(**{**row, "roles": tuple(row["roles"])}) for row in rows]
    except InputError as error:
        raise InputError(f"keys file {path}: {error}") from None
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise InputError(
            f"keys file {path} cannot be read ({type(error).__name__}): make it with python -m jobs.make_key"
        ) from None


def write(path: Path, keys: Sequence[Key]) -> None:
    """Whole or not at all, readable by its owner alone."""
    write_whole(
        path, [json.dumps({"keys": [asdict(key) for key in keys]}, indent=1).encode()], 0o600
    )


class Bucket:
    """A token bucket that holds one second's worth, and one at least."""

    def __init__(self, rate: float) -> None:
        self.rate, self.most = rate, max(1.0, rate)
        self.left, self.at = self.most, time.monotonic()

    def wait(self) -> float:
        """0 where a request may pass, which is then counted; else seconds until one may."""
        now = time.monotonic()
        self.left, self.at = min(self.most, self.left + (now - self.at) * self.rate), now
        if self.left < 1:
            return (1 - self.left) / self.rate
        self.left -= 1
        return 0.0


class Access:
    """What `needs` asks. Belongs to one event loop: each replica counts by itself, so N replicas
    let N times a key's rate pass.

    `path` is the keys file, followed while it changes: a new file counts within a second, a damaged
    one is said in the log and the last good one goes on. Without a path, `clients_seen` says
    whether a request's address is that of who asks; behind a proxy that does not tell, and listens
    to strangers, everybody is refused. Pages of `origins` may ask."""

    def __init__(
        self, path: str | None, clients_seen: bool = True, origins: Sequence[str] = ()
    ) -> None:
        self._path = Path(path) if path else None
        self._clients_seen, self._origins = clients_seen, origins
        self._buckets: dict[str, Bucket] = {}
        self._looked, self._stamp = time.monotonic(), self._stamped()
        self._keys = read(self._path) if self._path else []
        if not self._path:
            whom = (
                "to whoever asks from this machine"
                if clients_seen
                else "to nobody: HTTP listens beyond it"
            )
            logger.warning("NO KEYS: NIGHTSHELF_KEYS names no file, so everything is open %s", whom)

    def check(self, request: Request, role: str) -> None:
        """HTTPException 401, 403 or 429 where this request may not."""
        if self._path is None:
            if reason := self._strange(request):
                raise HTTPException(
                    403, f"{reason}: the operators must set NIGHTSHELF_KEYS before others may ask"
                )
            return
        key = self._known(request)
        request.state.client = key.client
        if wait := self._buckets.setdefault(key.sha256, Bucket(key.rate)).wait():
            message = f"more than {key.rate:g} requests a second came with this key: wait as Retry-After says"
            raise HTTPException(429, message, {"Retry-After": str(math.ceil(wait))})
        if not key.may(role):
            raise HTTPException(403, f"this key has no role {role}: ask for one that has")

    def _known(self, request: Request) -> Key:
        self._look()
        scheme, _, bearer = request.headers.get("authorization", "").partition(" ")
        sent = digest(
            bearer.strip() if scheme.lower() == "bearer" else request.headers.get("x-api-key", "")
        )
        now, found = datetime.now(UTC), None
        for key in self._keys:  # all of them, however soon one fits: time tells nothing
            if hmac.compare_digest(key.sha256, sent) and key.valid(now):
                found = key
        if found is None:
            message = (
                "the key is missing, unknown or expired: send one as Authorization: Bearer KEY"
            )
            raise HTTPException(401, message, {"WWW-Authenticate": "Bearer"})
        return found

    def _look(self) -> None:
        """Reads the file again where it has changed."""
        assert self._path
        if time.monotonic() - self._looked < LOOK_AGAIN_S:
            return
        self._looked = time.monotonic()
        if (stamp := self._stamped()) == self._stamp:
            return
        self._stamp = stamp
        try:
            self._keys = read(self._path)
        except InputError as error:
            logger.error("%s; the keys read before go on", error)
            return
        rates = {key.sha256: key.rate for key in self._keys}
        self._buckets = {
            sha256: b for sha256, b in self._buckets.items() if rates.get(sha256) == b.rate
        }
        logger.info("keys read again: %d", len(self._keys))

    def _stamped(self) -> tuple[int, ...] | None:
        with suppress(OSError):
            if self._path:
                found = self._path.stat()
                return found.st_mtime_ns, found.st_size, found.st_ino
        return None

    def _strange(self, request: Request) -> str | None:
        """Why this request may not have been made on this machine, by its own user."""
        if not self._clients_seen:
            return "this service listens beyond its own machine without keys"
        if not _loopback(request.client.host if request.client else None):
            return "without keys this service answers its own machine alone"
        if any(name in request.headers for name in PASSED_ON):
            return "this request was passed on by a proxy"
        if not _loopback(_host(f"//{request.headers.get('host', '')}")):
            return "this request names another host than its own machine"  # a name that a stranger lets point here
        origin = request.headers.get("origin")
        page = origin is not None and origin not in self._origins and not _loopback(_host(origin))
        if page or (origin is None and request.headers.get("sec-fetch-site") == "cross-site"):
            return "a page of another site asks through this machine's browser"
        return None


class Anybody(Access):
    """Lets everybody do everything: for tests, and for applications with a door of their own."""

    def __init__(self) -> None: ...

    def check(self, request: Request, role: str) -> None: ...


def needs(role: str) -> Any:
    """The dependency of a route: the request's key must have the role; `build_api` says who
    judges."""
    assert role in ROLES

    async def check(request: Request) -> None:
        request.app.state.access.check(request, role)

    check.role = role  # type: ignore[attr-defined]
    return Depends(check)


def of_replica(origins: Sequence[str]) -> Access:
    """For a replica of Ray Serve, or a shop made without Serve.

    HAProxy passes no address on: what arrives is its own, so there nobody's is seen unless it
    listens here alone."""
    seen = os.environ.get("RAY_SERVE_ENABLE_HA_PROXY", "0") != "1" or _loopback(_listens_on())
    return Access(os.environ.get("NIGHTSHELF_KEYS"), seen, origins)


def _listens_on() -> str | None:
    """The host of Serve's HTTP as it was started; None outside of Serve, and where it does not say.
    Waits for Serve's controller."""
    from ray.serve import context  # the one place where Serve keeps it

    if context._INTERNAL_REPLICA_CONTEXT is None:
        return None
    try:
        client = context._get_global_client()  # raises, or never is None
        return str(client.http_config.host) if client else None
    except (
        Exception
    ) as error:  # Serve's own inside may be another in its next version: that lets nobody in
        logger.error(
            "Serve does not say where its HTTP listens: %s: %s", type(error).__name__, error
        )
        return None


def _host(url: str) -> str | None:
    with suppress(ValueError):
        return urlsplit(url).hostname
    return None


def _loopback(host: str | None) -> bool:
    if host == "localhost":
        return True
    with suppress(ValueError):
        return bool(host) and ip_address(str(host)).is_loopback
    return False


def without(keys: Sequence[Key], client: str, prefix: str = "") -> list[Key]:
    """All keys but those of the client whose hash begins with `prefix`. Raises InputError where
    there is none."""
    left = [key for key in keys if not (key.client == client and key.sha256.startswith(prefix))]
    if len(left) == len(keys):
        raise InputError(
            f"no key of {client} begins with {prefix!r}: list them with python -m jobs.make_key --list"
        )
    return left


def ending(keys: Sequence[Key], client: str, not_after: str) -> list[Key]:
    """The same, the client's keys valid no longer than that."""
    until = _time(not_after)
    return [
        replace(key, not_after=not_after)
        if key.client == client and (key.not_after is None or _time(key.not_after) > until)
        else key
        for key in keys
    ]
