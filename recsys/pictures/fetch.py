"""References to bytes: over HTTP within limits and past the guard, from folders that the setup
names, out of the cell itself, or from the home's store."""

from __future__ import annotations

import asyncio
import base64
import binascii
import threading
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass
from typing import Any, NamedTuple
from urllib.parse import unquote_to_bytes

from recsys.errors import InputError
from recsys.pictures.choices import FetchLimits
from recsys.pictures.folders import PictureFolders
from recsys.pictures.references import STORED, content_hash
from recsys.pictures.store import PictureStore
from recsys.pictures.web import HttpPictures, PassingError, too_large

#: Requests that are under way or wait for a turn, for each that may be at once: of several hosts.
_AHEAD = 4


class PreviousFetch(NamedTuple):
    """What is known of a reference since it was last read."""

    content_hash: bytes
    etag: str
    last_modified: str


@dataclass(frozen=True)
class FetchedPicture:
    """`data` is None where the source says that it is what `PreviousFetch` was of."""

    content_hash: bytes
    data: bytes | None
    etag: str = ""
    last_modified: str = ""


class FetchFailure(NamedTuple):
    """Why there is no picture, as the rest of a sentence about it. What is `passing` may go through
    later: what the reference gave before still holds."""

    reason: str
    passing: bool = False


FetchResult = FetchedPicture | FetchFailure


class PictureFetcher:
    """Reads what references name. What came over HTTP is put into `store`, where there is one;
    `folders` are those that files may lie below. Made where it is used, since it keeps connections;
    its methods may be called from any thread."""

    def __init__(
        self, limits: FetchLimits, store: PictureStore | None = None, folders: Sequence[str] = ()
    ) -> None:
        self.limits, self.store = limits, store
        self._folders = PictureFolders(folders)
        self._web = HttpPictures(limits)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def fetch(self, reference: str, previous: PreviousFetch | None = None) -> FetchResult:
        """With `previous` asks only for what changed since."""
        return self._begin(reference, previous).result()

    def fetch_many(
        self, requests: Iterable[tuple[str, PreviousFetch | None]]
    ) -> Iterator[tuple[str, FetchResult]]:
        """Many at once, as they come in, each with its reference. No more are in memory than are
        under way."""
        pending: dict[Future[FetchResult], str] = {}
        for reference, previous in requests:
            pending[self._begin(reference, previous)] = reference
            if len(pending) >= _AHEAD * self.limits.concurrency:
                yield from _ready(pending)
        while pending:
            yield from _ready(pending)

    def close(self) -> None:
        """Ends its connections; what was under way is given up."""
        asyncio.run_coroutine_threadsafe(self._web.close(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def __enter__(self) -> PictureFetcher:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _begin(self, reference: str, previous: PreviousFetch | None) -> Future[FetchResult]:
        return asyncio.run_coroutine_threadsafe(self._fetch(reference, previous), self._loop)

    async def _fetch(self, reference: str, previous: PreviousFetch | None) -> FetchResult:
        try:
            if reference.lower().startswith(("http://", "https://", "//")):
                return await self._fetch_url(reference, previous)
            return await asyncio.to_thread(self._read, reference, previous)
        except InputError as error:
            return FetchFailure(str(error), isinstance(error, PassingError))
        except OSError as error:
            return FetchFailure(f"it cannot be read ({error})", passing=True)

    async def _fetch_url(self, url: str, previous: PreviousFetch | None) -> FetchedPicture:
        answer = await self._web.get(url, previous)
        if answer.data is None:
            assert previous is not None
            return FetchedPicture(previous.content_hash, None, answer.etag, answer.last_modified)
        if self.store is None:
            digest = content_hash(answer.data)
        else:
            digest = await asyncio.to_thread(self.store.put, answer.data)
        return FetchedPicture(digest, answer.data, answer.etag, answer.last_modified)

    def _read(self, reference: str, previous: PreviousFetch | None) -> FetchedPicture:
        if reference.startswith("data:"):
            return _whole(self._bounded(_data_of(reference)))
        if reference.startswith(STORED):
            return self._stored(reference)
        file = self._folders.find(reference)
        if previous is not None and previous.etag == file.version:
            return FetchedPicture(previous.content_hash, None, file.version)
        if file.size > self.limits.max_bytes:
            raise InputError(too_large(self.limits.max_bytes, file.size))
        data = file.read()
        return FetchedPicture(content_hash(data), data, file.version)

    def _stored(self, reference: str) -> FetchedPicture:
        try:
            digest = bytes.fromhex(reference.removeprefix(STORED))
        except ValueError as error:
            raise InputError(f"{STORED} must be followed by a content hash in hex") from error
        data = self.store.get(digest) if self.store else None
        if data is None:
            raise InputError("its bytes are not in the home any more: take its row in again")
        return FetchedPicture(digest, data)

    def _bounded(self, data: bytes) -> bytes:
        if len(data) > self.limits.max_bytes:
            raise InputError(too_large(self.limits.max_bytes, len(data)))
        return data


def _whole(data: bytes) -> FetchedPicture:
    return FetchedPicture(content_hash(data), data)


def _ready(pending: dict[Future[Any], str]) -> Iterator[tuple[str, Any]]:
    """Waits for one at least, and takes those that are ready out of `pending`."""
    for future in wait(pending, return_when=FIRST_COMPLETED).done:
        yield pending.pop(future), future.result()


def _data_of(reference: str) -> bytes:
    """The bytes of a `data:` URI (RFC 2397)."""
    head, comma, body = reference.partition(",")
    if not comma:
        raise InputError("a data: URI has a comma before its data")
    data = unquote_to_bytes(body)
    if not head.lower().endswith(";base64"):
        return data
    try:
        return base64.b64decode(data, validate=True)
    except binascii.Error as error:
        raise InputError(f"its data: URI is no base64 ({error})") from error
