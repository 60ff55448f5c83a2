"""TF-IDF vectors of items over hashed words (feature hashing).

Legend: I items, W word buckets.
"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Collection
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from recsys.retrieval.text.analysis import index_terms
from recsys.retrieval.text.fields import FIELD_BOOSTS, searchable_fields
from recsys.types import Floats

if TYPE_CHECKING:
    from scipy.sparse import csr_array

#: Words share buckets by hash, so that a new item's words need no dictionary of the old ones.
BUCKETS = 1 << 15


def term_counts(items: pa.Table, fields: Collection[str] = FIELD_BOOSTS) -> csr_array:
    """[I, W]: how often each item has a word of each bucket, anywhere in its fields."""
    from scipy.sparse import csr_array

    texts_of = searchable_fields(items, fields)
    names = tuple(texts_of)
    counts_I = [Counter(_buckets(names, texts)) for texts in zip(*texts_of.values(), strict=True)]
    columns = np.fromiter((bucket for counts in counts_I for bucket in counts), np.int32)
    values = np.fromiter((count for counts in counts_I for count in counts.values()), np.float32)
    offsets = np.concatenate([[0], np.cumsum([len(counts) for counts in counts_I])])
    return csr_array((values, columns, offsets), shape=(len(counts_I), BUCKETS))


def _buckets(names: tuple[str, ...], texts: tuple[str, ...]) -> list[int]:
    """Words of attributes have buckets of their own: "12" there is no number in a title."""
    keys = [
        f"{name}:{word}" if name == "attributes" else word
        for name, text in zip(names, texts, strict=True)
        for word in index_terms(text)
    ]
    return [zlib.crc32(key.encode("utf-8", "replace")) % BUCKETS for key in keys]


def inverse_document_frequencies(counts_IW: csr_array) -> Floats:
    """[W]: ln((1 + I) / (1 + items with the word)) + 1."""
    frequency_W = np.bincount(counts_IW.indices, minlength=BUCKETS)
    return (np.log((1 + counts_IW.shape[0]) / (1 + frequency_W)) + 1).astype(np.float32)


def tfidf_vectors(counts_IW: csr_array, inverse_W: Floats) -> csr_array:
    """TF-IDF with a sublinear frequency, rows of length 1."""
    weighted = counts_IW.copy()
    weighted.data = (1 + np.log(counts_IW.data)) * inverse_W[counts_IW.indices]
    lengths = np.sqrt(weighted.power(2).sum(axis=1))
    weighted.data /= np.repeat(
        np.maximum(lengths, np.finfo(np.float32).tiny), np.diff(weighted.indptr)
    )
    return weighted
