"""Batches of token ids: padded to the longest text, or packed end to end in rows of one size."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from recsys.types import Ints


def pad_batch(tokens: pa.ListArray, pad: int) -> tuple[Ints, Ints]:
    """Ids [B, T] int64, padded on the right to the longest, and lengths [B]."""
    lengths_B = tokens.value_lengths().to_numpy().astype(np.int64)
    mask_BT = np.arange(lengths_B.max(initial=0)) < lengths_B[:, None]
    ids_BT = np.full(mask_BT.shape, pad, np.int64)
    ids_BT[mask_BT] = tokens.flatten().to_numpy()
    return ids_BT, lengths_B


def pack_sequences(
    ids: Ints, lengths_N: Ints, size: int
) -> Iterator[tuple[int, int, NDArray[np.int32]]]:
    """Texts `start` to `stop` as one row [3, size]: their ids, and for each token where its text
    begins and ends. The rest of a row is filled with texts of one token, id 0. ValueError for a
    text longer than a row."""
    if lengths_N.max(initial=0) > size:
        raise ValueError(
            f"a text has {lengths_N.max()} tokens and a row {size}: raise row_tokens, or cut texts"
        )
    ends_N, stop = np.cumsum(lengths_N), 0
    while (start := stop) < len(ends_N):
        begin = ends_N[start] - lengths_N[start]
        stop = int(np.searchsorted(ends_N, begin + size, side="right"))
        used, lengths = ends_N[stop - 1] - begin, lengths_N[start:stop]
        row_3T = np.arange(size, dtype=np.int32) + np.array([[0], [0], [1]], np.int32)
        row_3T[0, used:] = 0
        row_3T[0, :used] = ids[begin : begin + used]
        row_3T[1, :used] = np.repeat(ends_N[start:stop] - lengths - begin, lengths)
        row_3T[2, :used] = np.repeat(ends_N[start:stop] - begin, lengths)
        yield start, stop, row_3T


def random_tokens(max_tokens: int, vocabulary: int) -> pa.ListArray:
    """64 texts of 1 to `max_tokens` random ids, to compare two implementations of an encoder."""
    random = np.random.default_rng(0)
    ends = np.concatenate([[0], np.cumsum(random.integers(1, max_tokens + 1, 64))])
    # Not the first ids: among them are pads, which some models skip.
    ids = random.integers(min(100, vocabulary - 1), min(10_000, vocabulary), ends[-1])
    return pa.ListArray.from_arrays(pa.array(ends, pa.int32()), pa.array(ids, pa.int32()))
