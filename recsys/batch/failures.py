"""Texts through an encoder that may fail on some of them: what it fails on is found and named, the
rest goes on.

What raises is found at once, by asking again for smaller pieces. What kills the process is found
over its successors: each writes down what it is about to encode, and asks a piece that somebody
died of again in smaller ones."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TypeVar

import numpy as np

from recsys.storage.artifacts import ArtifactStore
from recsys.types import Floats

T = TypeVar("T")
#: A piece that failed is cut into so many. 16: a shard of 16,384 texts is down to one after four
#: cuts.
WAYS = 16
#: One text is refused when so many processes died of it alone: the first may have been killed for
#: something else.
DEATHS = 2


def pieces(start: int, stop: int) -> list[tuple[int, int]]:
    """The range in up to `WAYS` pieces, in order."""
    cuts = sorted({start + (stop - start) * way // WAYS for way in range(WAYS + 1)})
    return list(pairwise(cuts))


def bisect(work: Callable[[int, int], T], start: int, stop: int) -> tuple[list[T], dict[int, str]]:
    """What `work` made of the range, piece by piece in order, and why single places failed."""
    try:
        return [work(start, stop)], {}
    except Exception as error:  # whatever an encoder may raise
        if stop - start == 1:
            return [], {start: f"{type(error).__name__}: {error}"}
    made, failed = list[T](), dict[int, str]()
    for piece in pieces(start, stop):
        more, why = bisect(work, *piece)
        made, failed = made + more, failed | why
    return made, failed


@dataclass
class FailureIsolator:
    """Encodes texts 0..n-1 of one shard; `path` holds, while it works, what it works on and what
    was died of."""

    store: ArtifactStore
    path: str
    deaths: dict[tuple[int, int], int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.store.exists(self.path):
            return
        for start, stop, count in json.loads(self.store.read(self.path)):
            self.deaths[start, stop] = count

    def encode(
        self, work: Callable[[int, int], Floats], size: int, dim: int
    ) -> tuple[Floats, dict[int, str]]:
        """[size, dim] vectors, zeros for what the encoder refuses, and why it does."""
        vectors_ND, refused = np.zeros((size, dim), np.float32), dict[int, str]()

        def piece(start: int, stop: int) -> None:
            found_ND = work(start, stop)
            if not np.isfinite(found_ND).all():
                raise ValueError("its vector is not finite")
            vectors_ND[start:stop] = found_ND

        for start, stop in self._unbroken(0, size):
            if self.deaths.get((start, stop), 0) >= DEATHS:
                refused[start] = "the encoder's process died of it"
                continue
            self._note(start, stop, 1)
            refused |= bisect(piece, start, stop)[1]
            self._note(start, stop, -1)
        return vectors_ND, refused

    def _unbroken(self, start: int, stop: int) -> list[tuple[int, int]]:
        """The range in pieces that nobody died of, but for single texts."""
        if start == stop:
            return []
        if stop - start == 1 or not self.deaths.get((start, stop)):
            return [(start, stop)]
        return [each for piece in pieces(start, stop) for each in self._unbroken(*piece)]

    def _note(self, start: int, stop: int, change: int) -> None:
        """A death is counted before it happens, and taken back when it did not."""
        self.deaths[start, stop] = self.deaths.get((start, stop), 0) + change
        told = [[*piece, count] for piece, count in sorted(self.deaths.items()) if count]
        self.store.write(self.path, json.dumps(told).encode())
