"""The one place that turns an item into the text that is encoded, and a text into its content
hash."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import pyarrow as pa

_FIELDS = ("title", "brand", "category", "description", "attributes")


def item_texts(items: pa.Table) -> list[str]:
    """One text an item: the fields that are there, joined by ". "; an item with none has the empty
    text."""
    # Not pc.binary_join_element_wise: pyarrow 26 drops a trailing row whose values are all skipped.
    columns = [[(value or "").strip() for value in items[name].to_pylist()] for name in _FIELDS]
    return [". ".join(filter(None, values)) for values in zip(*columns, strict=True)]


def text_hashes(texts: Iterable[str]) -> pa.FixedSizeBinaryArray:
    """blake2b-128 of each text: what the night compares to know whether a vector can be carried
    over."""
    hashes = [
        hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=16).digest() for text in texts
    ]
    return pa.array(hashes, pa.binary(16))
