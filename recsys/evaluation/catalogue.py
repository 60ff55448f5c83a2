"""The items of the histories' evaluation as a language model reads them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa

from recsys.encoders.text import item_texts
from recsys.evaluation import histories
from recsys.interfaces import Encoder
from recsys.training.vectors import item_vectors
from recsys.types import Floats


def kept_at() -> Path:
    """Where vectors are kept for who asks again with the same encoder and the same texts."""
    return Path.home() / ".cache" / "nightshelf" / "evaluate"


def texts(items: pa.Table) -> list[str]:
    """What is encoded. Attributes are left out: here they are numbers, which a language model reads
    as noise."""
    place = items.schema.get_field_index("attributes")
    return item_texts(items.set_column(place, "attributes", pa.nulls(items.num_rows, pa.string())))


def vectors(items: pa.Table, encoder: Encoder) -> Floats:
    """[I, D]: the items' texts, encoded once."""
    return np.array(item_vectors(encoder, texts(items), kept_at()))


def with_gaps(items: pa.Table, encoder: Encoder, drop: float) -> tuple[pa.Table, Floats]:
    """The items and their vectors, a share of them without one field (`histories.with_gaps`), which
    is lost to the vector too."""
    known = texts(items)
    items, items_ID = histories.with_gaps(items, vectors(items, encoder), drop, seed=0)
    left = texts(items)
    changed = [row for row in np.flatnonzero(items_ID.any(axis=1)) if left[row] != known[row]]
    if changed:
        items_ID[changed] = encoder.encode_items([left[row] for row in changed])
    return items, items_ID
