"""Ids of events that came without one."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

#: What tells two events apart; equal ones are numbered.
_KEY = ("user_id", "item_id", "type", "time", "request_id", "order_id")
_ODD = np.uint64(0x9E3779B97F4A7C15)


def fill_event_ids(events: pa.Table) -> pa.Array:
    """The event ids, those that are null made of a hash of the event and its number among equal
    ones: the same export read again gives the same ids, and equal lines of one order differ."""
    ids = events["event_id"].combine_chunks()
    missing = events.filter(pc.is_null(ids))
    if not missing.num_rows:
        return ids
    hashes_N = np.zeros(missing.num_rows, np.uint64)
    for name in _KEY:
        hashes_N = hashes_N * _ODD + _hash(missing[name].combine_chunks())
    hashes = pd.Series(hashes_N)
    numbers = hashes.groupby(hashes).cumcount()
    texts = (pa.array(column).cast(pa.string()) for column in (hashes_N, numbers))
    made = pc.binary_join_element_wise("row", *texts, "-")
    return pc.replace_with_mask(ids, pc.is_null(ids), made)


def _hash(column: pa.Array) -> NDArray[np.uint64]:
    if pa.types.is_timestamp(column.type):
        return np.asarray(column.cast(pa.int64())).view(np.uint64)
    coded = pc.fill_null(column, "").dictionary_encode()
    values = coded.dictionary.to_numpy(zero_copy_only=False).astype(object)
    return pd.util.hash_array(values, categorize=False)[np.asarray(coded.indices)]
