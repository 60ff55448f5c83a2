"""The searchable fields of an item and their boosts."""

from __future__ import annotations

from collections.abc import Collection

import pyarrow as pa

#: How often a term of each field counts (simple BM25F).
FIELD_BOOSTS = {"title": 3, "brand": 2, "category": 1, "description": 1, "attributes": 1}


def searchable_fields(
    items: pa.Table, fields: Collection[str] = FIELD_BOOSTS
) -> dict[str, list[str]]:
    """One text an item for each of these fields, "" where it has none."""
    return {name: [value or "" for value in items[name].to_pylist()] for name in fields}
