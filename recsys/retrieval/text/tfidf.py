"""Items as weighted words, without a dictionary: what makes "same words" a number.

Legend: I items, W word buckets.
"""

from __future__ import annotations

import zlib
from collections import Counter
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from recsys.retrieval.text.analysis import index_terms
from recsys.retrieval.text.fields import searchable_fields
from recsys.types import Floats

if TYPE_CHECKING:
    from scipy.sparse import csr_array

#: Words share buckets by hash, so that a new item's words need no dictionary of the old ones.
BUCKETS = 1 << 15


def term_counts(items: pa.Table) -> csr_array:
    """[I, W]: how often each item has a word of each bucket, anywhere in its fields."""
    from scipy.sparse import csr_array

    texts_of = searchable_fields(items)
    names = tuple(texts_of)
    counted = [Counter(_buckets(names, texts)) for texts in zip(*texts_of.values(), strict=True)]
    columns = np.fromiter((bucket for buckets in counted for bucket in buckets), np.int32)
    values = np.fromiter((count for buckets in counted for count in buckets.values()), np.float32)
    offsets = np.concatenate([[0], np.cumsum([len(buckets) for buckets in counted])])
    return csr_array((values, columns, offsets), shape=(len(counted), BUCKETS))


def _buckets(names: tuple[str, ...], texts: tuple[str, ...]) -> list[int]:
    """Attributes are words of their own: "12" there is no number in a title."""
    found = [
        f"{name}:{word}" if name == "attributes" else word
        for name, text in zip(names, texts, strict=True)
        for word in index_terms(text)
    ]
    return [zlib.crc32(word.encode("utf-8", "replace")) % BUCKETS for word in found]


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
