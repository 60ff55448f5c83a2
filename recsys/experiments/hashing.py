"""Deterministic randomness: numbers and generators seeded by a hash of names, so that an assignment
or a draw can be replayed anywhere without state."""

from __future__ import annotations

from hashlib import blake2b

import numpy as np

_SEPARATOR = "\x1f"  # ids have no control characters


def uniform_hash(*parts: object) -> float:
    """A number in [0, 1), uniform over the parts' values and always the same for the same ones."""
    return _hash(parts) / 2**64


def seeded_rng(request_id: str, purpose: str) -> np.random.Generator:
    """A generator for one request and purpose: the same draws whenever and wherever it is made."""
    return np.random.default_rng(_hash((purpose, request_id)))


def _hash(parts: tuple[object, ...]) -> int:
    text = _SEPARATOR.join(map(str, parts))
    return int.from_bytes(blake2b(text.encode("utf-8", "replace"), digest_size=8).digest(), "big")
