"""What a search finds, before it is a page: rows in order, with their features."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from recsys.types import Floats, Mask, Rows

#: The features that a search's ranker may weigh, in the order of the table.
FEATURES = ("lexical", "dense", "personal", "cross_encoder")


@dataclass(frozen=True, kw_only=True)
class Hits:
    """All matches that pass the filters, best first; behind the best `max_candidates` the features
    are those of the words alone.

    `matched_I` is what the text matches, unfiltered; `retrieved_NF` says which source retrieved
    each row."""

    rows_N: Rows
    scores_N: Floats
    features_NF: Floats
    retrieved_NF: Mask
    matched_I: Mask
    relaxed: tuple[str, ...] = ()
    no_good_match: bool = False
    skipped: tuple[str, ...] = ()
    stages_ms: dict[str, float] = field(default_factory=dict)

    @classmethod
    def none(cls, matched_I: Mask) -> Hits:
        """Nothing matches."""
        return cls(
            rows_N=np.empty(0, np.int32),
            scores_N=np.empty(0, np.float32),
            features_NF=np.empty((0, len(FEATURES)), np.float32),
            retrieved_NF=np.empty((0, len(FEATURES)), bool),
            matched_I=matched_I,
            no_good_match=True,
        )
