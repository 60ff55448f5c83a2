"""Pictures over HTTP: within limits, a host at its pace, only from public addresses."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import NamedTuple, Protocol

import aiohttp
from yarl import URL

from recsys.errors import InputError
from recsys.pictures.addresses import AddressGuard, PrivateAddressError
from recsys.pictures.choices import FetchLimits

REDIRECTS = 5
_PIECE = 1 << 16
#: What may be otherwise a moment later.
_PASSING = (408, 425, 429, 500, 502, 503, 504)
_HEADERS = {
    "Accept": "image/*",
    "Accept-Encoding": "identity",  # pictures are compressed already
    "User-Agent": "nightshelf/0.1 (pictures of a catalogue)",
}


class Validators(Protocol):
    """By what a host knows a version of a picture again."""

    @property
    def etag(self) -> str: ...
    @property
    def last_modified(self) -> str: ...


class WebAnswer(NamedTuple):
    """`data` is None where it is what the validators are of."""

    data: bytes | None
    etag: str
    last_modified: str


class PassingError(InputError):
    """What may go through later: after `wait_s`, where the host says so."""

    def __init__(self, sentence: str, wait_s: float | None = None) -> None:
        super().__init__(sentence)
        self.wait_s = wait_s


@dataclass
class _Host:
    """A host's pace and health. `begins` is when the next request to it may begin."""

    slots: asyncio.Semaphore
    begins: float = 0.0
    failures: int = 0
    last: str = ""

    @asynccontextmanager
    async def turn(self, pause_s: float) -> AsyncIterator[None]:
        async with self.slots:
            begin = max(self.begins, time.monotonic())
            self.begins = begin + pause_s
            await asyncio.sleep(begin - time.monotonic())
            yield


@dataclass
class HttpPictures:
    """Keeps connections between pictures; used in one event loop, and closed there."""

    limits: FetchLimits
    _hosts: dict[str, _Host] = field(default_factory=dict)
    _session: aiohttp.ClientSession | None = None

    def __post_init__(self) -> None:
        # Not the connector's limit: time is not counted while a request waits for its turn.
        self._slots = asyncio.Semaphore(self.limits.concurrency)

    async def get(self, url: str, previous: Validators | None) -> WebAnswer:
        """InputError says why there is no picture."""
        target = _parse(url)
        host = self._host(target)
        for attempt in range(self.limits.retries + 1):
            if host.failures >= self.limits.host_failures:
                raise PassingError(
                    f"{target.host} failed {host.failures} times in a row ({host.last}): it is "
                    "not asked again by this run"
                )
            try:
                async with host.turn(self.limits.host_pause_s), self._slots:
                    answer = await self._request(target, previous)
                host.failures = 0
                return answer
            except PassingError as error:
                host.failures, host.last = host.failures + 1, str(error)
                if attempt == self.limits.retries:
                    raise
                await self._wait(host, error, attempt)
        raise AssertionError

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    async def _wait(self, host: _Host, error: PassingError, attempt: int) -> None:
        """As long as the host says, which then holds for all requests to it; else longer each
        time."""
        wait_s = 0.5 * 2**attempt if error.wait_s is None else error.wait_s
        if wait_s > self.limits.longest_wait_s:
            raise PassingError(f"{error}, and not to ask for {wait_s:,.0f} s") from error
        if error.wait_s is not None:
            host.begins = max(host.begins, time.monotonic() + wait_s)
        await asyncio.sleep(wait_s)

    def _host(self, url: URL) -> _Host:
        if (name := str(url.origin())) not in self._hosts:
            self._hosts[name] = _Host(asyncio.Semaphore(self.limits.host_concurrency))
        return self._hosts[name]

    async def _request(self, url: URL, previous: Validators | None) -> WebAnswer:
        try:
            async with self._open().get(
                url, headers=_conditions(previous), max_redirects=REDIRECTS + 1
            ) as response:
                return await self._read(response, previous)
        except aiohttp.TooManyRedirects as error:
            raise InputError(_redirects(error)) from error
        except aiohttp.NonHttpUrlRedirectClientError as error:
            raise InputError(f"it redirects to {error}, which is no URL of HTTP") from error
        except aiohttp.InvalidURL as error:
            raise InputError(f"it is no URL, or leads to none ({error})") from error
        except TimeoutError as error:
            raise PassingError(
                f"it took longer than {self.limits.connect_s:g} s to connect or "
                f"{self.limits.total_s:g} s in all"
            ) from error
        except aiohttp.ClientConnectorError as error:
            if isinstance(error.os_error, PrivateAddressError):
                raise InputError(str(error.os_error)) from error
            raise PassingError(f"no connection ({error.os_error})") from error
        except aiohttp.ClientPayloadError as error:
            raise PassingError("it ended before the length that it announced") from error
        except (aiohttp.ClientError, OSError) as error:
            raise PassingError(f"the connection failed ({error})") from error

    async def _read(
        self, response: aiohttp.ClientResponse, previous: Validators | None
    ) -> WebAnswer:
        headers = response.headers
        etag, last_modified = headers.get("ETag", ""), headers.get("Last-Modified", "")
        if response.status == 304 and previous is not None:
            return WebAnswer(None, etag or previous.etag, last_modified or previous.last_modified)
        if response.status in _PASSING:
            raise PassingError(f"it answers {response.status}", _retry_after(headers))
        if response.status != 200:
            raise InputError(f"it answers {response.status}")
        if (response.content_length or 0) > self.limits.max_bytes:
            raise InputError(too_large(self.limits.max_bytes, response.content_length))
        pieces, size = [], 0
        async for piece in response.content.iter_chunked(_PIECE):
            pieces.append(piece)
            if (size := size + len(piece)) > self.limits.max_bytes:
                raise InputError(too_large(self.limits.max_bytes))
        return WebAnswer(b"".join(pieces), etag, last_modified)

    def _open(self) -> aiohttp.ClientSession:
        """Neither proxies, credentials nor cookies but what the URL itself says."""
        if self._session is None:
            guard, limits = AddressGuard(self.limits.private_networks), self.limits
            connector = aiohttp.TCPConnector(resolver=guard, socket_factory=guard.socket, limit=0)
            self._session = aiohttp.ClientSession(
                connector=connector,
                headers=_HEADERS,
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(limits.total_s, sock_connect=limits.connect_s),
                trust_env=False,
            )
        return self._session


def too_large(limit: int, size: int | None = None) -> str:
    """The sentence of a picture of more bytes than are read."""
    written = f"{size:,} bytes" if size else "more bytes than that"
    return f"it has {written}, and {limit:,} are read: give a smaller one, or raise max_bytes"


def _parse(url: str) -> URL:
    try:
        target = URL(f"https:{url}" if url.startswith("//") else url)
    except ValueError as error:
        raise InputError(f"it is no URL ({error})") from error
    if target.scheme not in ("http", "https") or not target.host:
        raise InputError("it is no URL of HTTP: write https://host/path")
    return target


def _conditions(previous: Validators | None) -> dict[str, str]:
    if previous is None:
        return {}
    headers = {"If-None-Match": previous.etag, "If-Modified-Since": previous.last_modified}
    return {name: value for name, value in headers.items() if value}


def _redirects(error: aiohttp.TooManyRedirects) -> str:
    urls = [str(response.url) for response in error.history]
    if len(set(urls)) < len(urls):
        return f"it redirects in a circle, again to {urls[-1]}"
    return f"it redirects more than {REDIRECTS} times, last from {urls[-1]}"


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds, of a number or a time."""
    value = headers.get("Retry-After", "")
    if value.isascii() and value.isdigit():
        return float(value)
    with suppress(ValueError):
        at = parsedate_to_datetime(value)
        return max(0.0, (at - datetime.now(at.tzinfo or UTC)).total_seconds())
    return None
