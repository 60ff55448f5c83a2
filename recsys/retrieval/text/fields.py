"""The searchable fields of an item and their boosts."""

from __future__ import annotations

import pyarrow as pa

#: How often a term of each field counts (simple BM25F).
FIELD_BOOSTS = {"title": 3, "brand": 2, "category": 1, "description": 1, "attributes": 1}


def searchable_fields(items: pa.Table) -> dict[str, list[str]]:
    """One text an item for each field of FIELD_BOOSTS, "" where it has none."""
    return {name: [value or "" for value in items[name].to_pylist()] for name in FIELD_BOOSTS}
