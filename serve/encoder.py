"""Query encoding as a deployment: many requests in one call of the model."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from ray import serve
from ray.exceptions import RayTaskError

from recsys.config import Setup
from recsys.errors import NotFoundError, RecsysError
from recsys.models.composition import serving_setup
from recsys.pictures.decode import decode_picture
from recsys.pictures.descriptors import describe_photos
from recsys.types import Floats, Vectors
from recsys.understanding.query_parser import ParsedQuery

#: Texts of changed items are encoded again after this.
ITEMS_TIMEOUT_S = 60.0
#: Item texts that are encoded between two queries.
ITEMS_AT_ONCE = 4
#: Left, top, right and bottom of a part of a picture, as shares of its width and height.
Box = tuple[float, float, float, float]


@dataclass(frozen=True, kw_only=True)
class EncodedText:
    """A text, parsed and encoded; `skipped` says what there was no time or no encoder for."""

    parsed: ParsedQuery
    vector_D: Floats
    stages_ms: dict[str, float]
    skipped: tuple[str, ...]


class EncoderReplica:
    """Query texts to vectors. A deployment of its own in the split layout; in the fused layout a
    part of each Shop replica."""

    def __init__(self, setup: Setup) -> None:
        self._encoder = serving_setup(setup).encoder()
        self.space = self._encoder.space
        self._encoder.encode_queries(["warm up"])
        self._pictures = setup.pictures.encoder() if setup.pictures else None
        if self._pictures:
            self._pictures.load()
        if "torch" in sys.modules:
            # One thread a replica: replicas share the host's cores, and more of them scale better
            # than threads.
            sys.modules["torch"].set_num_threads(1)
        self._pool = ThreadPoolExecutor(1, "encode")
        # On the instance: setups differ in size and wait, and a queue belongs to one event loop.
        batch = serve.batch(
            max_batch_size=setup.day.batch_size, batch_wait_timeout_s=setup.day.batch_wait_ms / 1000
        )
        self._batched: Callable[[str], Awaitable[Vectors | Exception]] = batch(self.encode_batch)

    async def encode(self, text: str) -> Vectors:
        """One vector, with its space. Raises what the model raises for this text."""
        result = await self._batched(text)
        if isinstance(result, Exception):
            raise result
        return result

    async def encode_photo(self, content: bytes, crop: Box | None = None) -> Floats:
        """[H] of `pictures.descriptors`, decoded and encoded off the event loop. `crop` is left,
        top, right, bottom as shares of the upright photo. Raises InputError for what is no picture,
        NotFoundError where the setup reads no pictures."""
        if (encoder := self._pictures) is None:
            raise NotFoundError("this shop reads no pictures: give its setup pictures")

        def work() -> Floats:
            photo = decode_picture(content)
            if crop:
                sides = (photo.width, photo.height) * 2
                left, top, right, bottom = (
                    round(share * side) for share, side in zip(crop, sides, strict=True)
                )
                photo = photo.crop((left, top, max(right, left + 1), max(bottom, top + 1)))
            return describe_photos(encoder, [photo])[0]

        return await asyncio.get_running_loop().run_in_executor(self._pool, work)

    async def encode_items(self, texts: list[str]) -> Floats:
        """Item texts of today, [N, D], a few at a time between queries."""
        loop = asyncio.get_running_loop()
        parts = [
            await loop.run_in_executor(self._pool, self._encoder.encode_items, batch)
            for batch in _batches(texts)
        ]
        return np.concatenate(parts)

    def encode_items_here(self, texts: Sequence[str]) -> Floats:
        """The same from a thread of the same process."""
        parts = [
            self._pool.submit(self._encoder.encode_items, batch).result()
            for batch in _batches(texts)
        ]
        return np.concatenate(parts)

    async def encode_batch(self, texts: list[str]) -> list[Vectors | Exception]:
        """One call of the model, off the event loop; where that fails, one call per text, so that
        a bad text fails alone."""
        loop = asyncio.get_running_loop()
        try:
            matrix_ND = await loop.run_in_executor(self._pool, self._encoder.encode_queries, texts)
        except Exception as error:
            if len(texts) == 1:
                return [error]
            return [result for text in texts for result in await self.encode_batch([text])]
        return [
            Vectors((text,), matrix_ND[at : at + 1], self.space) for at, text in enumerate(texts)
        ]


def remote_photos(encoder: Any) -> Callable[[bytes, Box | None], Awaitable[Floats]]:
    """`EncoderReplica.encode_photo` of a deployment, with errors as it raised them."""

    async def encode(content: bytes, crop: Box | None) -> Floats:
        try:
            return np.asarray(await encoder.encode_photo.remote(content, crop))
        except RayTaskError as error:
            if isinstance(error.cause, RecsysError):
                raise error.cause from None
            raise

    return encode


def _batches(texts: Sequence[str]) -> list[list[str]]:
    """Small ones: a query waits for one at most."""
    return [list(texts[at : at + ITEMS_AT_ONCE]) for at in range(0, len(texts), ITEMS_AT_ONCE)]


def remote_items(encoder: Any) -> Callable[[Sequence[str]], Floats]:
    """Encodes item texts in a deployment, from a thread of this one."""

    def encode(texts: Sequence[str]) -> Floats:
        return encoder.encode_items.remote(list(texts)).result(timeout_s=ITEMS_TIMEOUT_S)

    return encode
