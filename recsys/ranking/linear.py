"""A weighted sum of the sources, and the final cut."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from recsys.types import Floats

#: Found by `jobs.evaluate_retail --validation` on both retail sets together.
RETAIL_WEIGHTS = {"buy_again": 1.0, "co_occurrence": 0.05, "discovery": 0.05, "popularity": 0.05}
#: Words and untuned MiniLM, by `fusion.SignalTable.fit_weights` on Home Depot's validation queries:
#: recall@10 .545, words alone .531, as much of both .526. Taste only breaks near ties; no data set
#: here judges it.
SEARCH_WEIGHTS = {"lexical": 1.0, "dense": 0.15, "personal": 0.05}


class WeightedSum:
    """Scores an item by the sum over sources of weight x score: for sources that score on one
    scale."""

    def __init__(self, weights: Mapping[str, float]) -> None:
        self.feature_names = tuple(weights)
        self._weights_F = np.array(list(weights.values()), np.float32)

    def score(self, features_BNF: Floats) -> Floats:
        if features_BNF.shape[-1] != len(self.feature_names):
            raise ValueError(
                f"{features_BNF.shape[-1]} features came for the weights of "
                f"{', '.join(self.feature_names)}: merge exactly these sources, in this order"
            )
        return features_BNF @ self._weights_F

    def contributions(self, features_BNF: Floats) -> Floats:
        """Weight x score of each source, and 0 to begin from (`interfaces.ExplainableRanker`)."""
        base_BN1 = np.zeros((*features_BNF.shape[:2], 1), np.float32)
        return np.concatenate([features_BNF * self._weights_F, base_BN1], axis=2)


class LinearRanker(WeightedSum):
    """The same over scores divided by the source's largest magnitude in this request: for sources
    of any scale."""

    def score(self, features_BNF: Floats) -> Floats:
        return super().score(_shares(features_BNF))

    def contributions(self, features_BNF: Floats) -> Floats:
        return super().contributions(_shares(features_BNF))


def _shares(features_BNF: Floats) -> Floats:
    largest_B1F = np.abs(features_BNF).max(axis=1, keepdims=True, initial=np.finfo(np.float32).tiny)
    return features_BNF / largest_B1F


def best(rows_BN: NDArray[np.int32], scores_BN: Floats, k: int) -> tuple[NDArray[np.int64], Floats]:
    """Where in its request the k best stand: places_BK and their scores, best first, K = min(k, N).

    Ties by row; pads (row -1) last, with -inf. `np.take_along_axis(rows_BN, places_BK, axis=1)` are
    the rows."""
    scores_BN = np.where(rows_BN < 0, -np.inf, scores_BN).astype(np.float32)
    places_BK = np.lexsort((rows_BN, -scores_BN, rows_BN < 0), axis=1)[:, :k]
    return places_BK, np.take_along_axis(scores_BN, places_BK, axis=1)
