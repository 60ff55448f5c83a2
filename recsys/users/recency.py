"""A user as the recency-weighted mean of their items: no training, and the baseline of every other
user model."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from scipy.sparse import csr_array

from recsys.arrays import Histories
from recsys.types import EVENT_TYPES, Floats


class RecencyMean:
    """The mean of the item vectors, each weighted by its event type and by 2^(-age / half-life).

    Age counts from the user's own newest event, so that the vector of a shopper who comes back
    after a year has not faded."""

    def __init__(
        self, half_life_days: float = 30.0, type_weights: Sequence[float] = (1.0, 2.0, 3.0, 4.0)
    ) -> None:
        """`type_weights` in the order of EVENT_TYPES."""
        if half_life_days <= 0:
            raise ValueError(f"half_life_days is {half_life_days}: give more than 0")
        if len(type_weights) != len(EVENT_TYPES):
            raise ValueError(
                f"{len(type_weights)} type weights: give one each for {', '.join(EVENT_TYPES)}"
            )
        self.half_life_days = half_life_days
        self.type_weights = np.asarray(type_weights, np.float64)

    def embed_items(self, items: pa.Table, vectors_ID: Floats) -> Floats:
        """The vectors of their texts."""
        return vectors_ID

    def encode_history(self, histories: Histories, items_ID: Floats) -> Floats:
        """[B, D] float32 of length 1, or zeros; events of items outside the catalogue (row -1) are
        ignored."""
        listed_E = histories.items >= 0
        counts_B = np.bincount(histories.owners_E[listed_E], minlength=len(histories))
        ends = np.cumsum(counts_B)
        days_E, types_E = histories.days[listed_E], histories.types[listed_E]
        newest_E = np.repeat(days_E[ends[counts_B > 0] - 1], counts_B[counts_B > 0])
        weights_E = self.type_weights[types_E] * np.exp2((days_E - newest_E) / self.half_life_days)
        offsets = np.concatenate([[0], ends])
        # float32 weights: with float64 ones scipy would copy the whole item matrix to float64.
        history_BI = csr_array(
            (weights_E.astype(np.float32), histories.items[listed_E], offsets),
            shape=(len(histories), len(items_ID)),
        )
        return unit_rows(history_BI @ items_ID)


def unit_rows(sums_BD: Floats) -> Floats:
    """Rows of length 1; a row of zeros stays."""
    lengths_B = np.linalg.norm(sums_BD, axis=1, keepdims=True)
    return np.divide(sums_BD, lengths_B, out=np.zeros_like(sums_BD), where=lengths_B > 0)
