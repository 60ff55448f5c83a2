"""The text of an item that encoders read, and the content hash of a text."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import pyarrow as pa

_FIELDS = ("title", "brand", "category", "description", "attributes")


def item_texts(items: pa.Table) -> list[str]:
    """One text an item: its non-empty fields, joined by ". "; an item with none has the empty
    text."""
    # Not pc.binary_join_element_wise: pyarrow 26 drops a trailing row whose values are all skipped.
    columns = [[(value or "").strip() for value in items[name].to_pylist()] for name in _FIELDS]
    return [". ".join(filter(None, values)) for values in zip(*columns, strict=True)]


def text_hashes(texts: Iterable[str]) -> pa.FixedSizeBinaryArray:
    """blake2b-128 of each text: the key by which a night reuses the vector of the night before."""
    hashes = [
        hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=16).digest() for text in texts
    ]
    return pa.array(hashes, pa.binary(16))
