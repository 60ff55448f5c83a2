"""Isolates inputs that an encoder fails on, by bisection; the rest is encoded.

An input that raises is isolated at once, by calling again on smaller pieces. One that kills the
process is isolated over its successors: each records what it is about to encode, and cuts a piece
that a predecessor died of into smaller ones."""

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
FAN_OUT = 16
#: One text is given up when so many processes died of it alone: the first may have been killed for
#: something else.
MAX_DEATHS = 2


def pieces(start: int, stop: int) -> list[tuple[int, int]]:
    """The range in up to `FAN_OUT` pieces, in order."""
    cuts = sorted({start + (stop - start) * cut // FAN_OUT for cut in range(FAN_OUT + 1)})
    return list(pairwise(cuts))


def bisect(work: Callable[[int, int], T], start: int, stop: int) -> tuple[list[T], dict[int, str]]:
    """What `work` returned for the range, piece by piece in order, and the errors of single
    inputs."""
    try:
        return [work(start, stop)], {}
    except Exception as error:  # whatever an encoder may raise
        if stop - start == 1:
            return [], {start: f"{type(error).__name__}: {error}"}
    results, errors = list[T](), dict[int, str]()
    for piece in pieces(start, stop):
        piece_results, piece_errors = bisect(work, *piece)
        results, errors = results + piece_results, errors | piece_errors
    return results, errors


@dataclass
class FailureIsolator:
    """Encodes texts 0..n-1 of one shard. The file `path` counts deaths by range: of the range at
    work, and of those that killed a predecessor."""

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
        """[size, dim] vectors, zeros where the encoder fails, and why it does."""
        vectors_ND, errors = np.zeros((size, dim), np.float32), dict[int, str]()

        def piece(start: int, stop: int) -> None:
            piece_ND = work(start, stop)
            if not np.isfinite(piece_ND).all():
                raise ValueError("its vector is not finite")
            vectors_ND[start:stop] = piece_ND

        for start, stop in self._safe_pieces(0, size):
            if self.deaths.get((start, stop), 0) >= MAX_DEATHS:
                errors[start] = "the encoder's process died of it"
                continue
            self._count(start, stop, 1)
            errors |= bisect(piece, start, stop)[1]
            self._count(start, stop, -1)
        return vectors_ND, errors

    def _safe_pieces(self, start: int, stop: int) -> list[tuple[int, int]]:
        """The range in pieces that no process died of, but for single texts."""
        if start == stop:
            return []
        if stop - start == 1 or not self.deaths.get((start, stop)):
            return [(start, stop)]
        return [each for piece in pieces(start, stop) for each in self._safe_pieces(*piece)]

    def _count(self, start: int, stop: int, change: int) -> None:
        """A death is counted before it happens, and taken back when it did not."""
        self.deaths[start, stop] = self.deaths.get((start, stop), 0) + change
        counts = [[*piece, count] for piece, count in sorted(self.deaths.items()) if count]
        self.store.write(self.path, json.dumps(counts).encode())
