"""Chance that can be replayed: numbers and generators drawn from names by a hash."""

from __future__ import annotations

from hashlib import blake2b

import numpy as np

_SEPARATOR = "\x1f"  # ids have no control characters


def point(*parts: object) -> float:
    """A number in [0, 1), uniform over the parts' values and always the same for the same ones."""
    return _number(parts) / 2**64


def rng_of(request_id: str, purpose: str) -> np.random.Generator:
    """A generator for one request and purpose: the same draws whenever and wherever it is asked
    again."""
    return np.random.default_rng(_number((purpose, request_id)))


def _number(parts: tuple[object, ...]) -> int:
    text = _SEPARATOR.join(map(str, parts))
    return int.from_bytes(blake2b(text.encode("utf-8", "replace"), digest_size=8).digest(), "big")
