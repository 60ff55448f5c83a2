"""The one place that turns an item into the text that is encoded, and a text into its content hash."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import pyarrow as pa
import pyarrow.compute as pc

_FIELDS = ("title", "brand", "category", "description", "attributes")


def item_texts(items: pa.Table) -> pa.StringArray:
    """One text an item: the fields that are there, joined by ". "; an item with none has the empty text."""
    columns = [pc.utf8_trim_whitespace(items[name].combine_chunks()) for name in _FIELDS]
    missing = pa.scalar(None, pa.string())
    filled = [pc.if_else(pc.equal(column, ""), missing, column) for column in columns]
    return pc.binary_join_element_wise(*filled, ". ", null_handling="skip")


def text_hashes(texts: Iterable[str]) -> pa.FixedSizeBinaryArray:
    """blake2b-128 of each text: what the night compares to know whether a vector can be carried over."""
    hashes = [hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=16).digest() for text in texts]
    return pa.array(hashes, pa.binary(16))
