"""Signed feature hashing: an encoder without weights, for tests and for shops without a model."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from zlib import crc32

import numpy as np
import pyarrow as pa

from recsys.retrieval.text.analysis import index_terms
from recsys.types import Floats


class HashingEncoder:
    """Words and character trigrams, each added with a sign to one of `dim` buckets (Weinberger et
    al., ICML 2009).

    Texts that share words or spelling are near; it knows nothing of meaning.
    """

    def __init__(self, dim: int = 256) -> None:
        if dim < 1:
            raise ValueError(f"dim is {dim}: give at least 1")
        self.dim = dim
        # The version counts up when the terms that `index_terms` makes of a text change.
        self.space = f"hashing-{dim}-v3"

    def tokenize(self, texts: Sequence[str]) -> pa.ListArray:
        """A token is 31 bits of its feature's CRC-32; a text without words has the one feature
        ""."""
        hashes = [
            [crc32(feature.encode("utf-8", "replace")) >> 1 for feature in _features(text)]
            for text in texts
        ]
        return pa.array(hashes, pa.list_(pa.int32()))

    def load(self) -> None: ...

    def encode_tokens(self, tokens: pa.ListArray) -> Floats:
        hashes = tokens.flatten().to_numpy().astype(np.int64)
        owners = np.repeat(np.arange(len(tokens)), tokens.value_lengths().to_numpy())
        buckets = owners * self.dim + (hashes >> 1) % self.dim
        sums = np.bincount(
            buckets, weights=1.0 - 2.0 * (hashes & 1), minlength=len(tokens) * self.dim
        )
        sums_ND = sums.reshape(len(tokens), self.dim)
        sums_ND[~sums_ND.any(axis=1), 0] = 1.0  # all signs cancelled: still a vector of length 1
        return (sums_ND / np.linalg.norm(sums_ND, axis=1, keepdims=True)).astype(np.float32)

    def encode_items(self, texts: Sequence[str]) -> Floats:
        return self.encode_tokens(self.tokenize(texts))

    def encode_queries(self, texts: Sequence[str]) -> Floats:
        return self.encode_tokens(self.tokenize(texts))


def _features(text: str) -> list[str]:
    terms = index_terms(text)
    return [*terms, *chain.from_iterable(map(_trigrams, terms))] or [""]


def _trigrams(term: str) -> list[str]:
    delimited = f"^{term}$"
    return [delimited[at : at + 3] for at in range(len(delimited) - 2)]
