"""Item texts, their vectors, and incomplete catalogues for the evaluation of histories."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys.encoders.text import item_texts
from recsys.errors import InputError
from recsys.interfaces import Encoder
from recsys.training.vectors import item_vectors
from recsys.types import Floats, Mask

#: Groups of fields that an item loses together: its text, its category and attributes, its price.
FIELDS = (("title", "description"), ("attributes", "category", "brand"), ("price",))


def cache_folder() -> Path:
    """Where vectors are cached by encoder and texts."""
    return Path.home() / ".cache" / "nightshelf" / "evaluate"


def encoder_texts(items: pa.Table) -> list[str]:
    """The texts that are encoded. Attributes are left out: in these data sets they are numbers,
    noise to a language model."""
    index = items.schema.get_field_index("attributes")
    return item_texts(items.set_column(index, "attributes", pa.nulls(items.num_rows, pa.string())))


def encoded_items(items: pa.Table, encoder: Encoder) -> Floats:
    """[I, D]: the vectors of the items' texts, from the cache where they are in it."""
    return np.array(item_vectors(encoder, encoder_texts(items), cache_folder()))


def with_dropped_fields(items: pa.Table, encoder: Encoder, share: float) -> tuple[pa.Table, Floats]:
    """The items and their vectors after `drop_fields`; the vectors are of the remaining texts."""
    complete = encoder_texts(items)
    items, items_ID = drop_fields(items, encoded_items(items, encoder), share, seed=0)
    texts = encoder_texts(items)
    changed = [row for row in np.flatnonzero(items_ID.any(axis=1)) if texts[row] != complete[row]]
    if changed:
        items_ID[changed] = encoder.encode_items([texts[row] for row in changed])
    return items, items_ID


def drop_fields(
    items: pa.Table, items_ID: Floats, share: float, seed: int
) -> tuple[pa.Table, Floats]:
    """A catalogue with missing fields: a random share of the items loses one group of FIELDS, null
    from then on.

    The group is drawn for each item from those that it has; an item with none loses none. Without
    text there is no vector: a row of zeros. InputError for a share not within 0..1."""
    if not 0 <= share <= 1:
        raise InputError(f"a share of {share:g} of the items: give a number from 0 to 1")
    rng = np.random.default_rng(seed)
    present_IF = np.stack([_has_value(items, names) for names in FIELDS], axis=1)
    draws_IF = np.where(present_IF, rng.random(present_IF.shape), -1)
    lost_IF = present_IF & (draws_IF == draws_IF.max(axis=1, keepdims=True))
    lost_IF &= (rng.random(len(present_IF)) < share)[:, None]
    for names, lost_I in zip(FIELDS, lost_IF.T, strict=True):
        for name in names:
            field, index = items.schema.field(name), items.schema.get_field_index(name)
            null = pa.scalar(None, field.type)
            column = pc.if_else(pa.array(lost_I), null, items[name])
            items = items.set_column(index, field, column)
    return items, np.where(lost_IF[:, :1], 0, items_ID).astype(items_ID.dtype)


def _has_value(items: pa.Table, names: Sequence[str]) -> Mask:
    """[I]: whether the item has a value in one of these columns; an empty text is none."""
    values = [
        pc.fill_null(pc.not_equal(items[name].cast(pa.string()), ""), False) for name in names
    ]
    return np.any([np.asarray(value.to_numpy(), bool) for value in values], axis=0)
