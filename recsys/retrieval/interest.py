"""Declared interests (stated preferences): a source of the items that a search returns for what
users say they want, and a ranker that weighs it."""

from __future__ import annotations

import numpy as np

from recsys.arrays import Candidates, Histories, Requests
from recsys.interfaces import ExplainableRanker, Ranker
from recsys.ranking.linear import LinearRanker
from recsys.retrieval.behaviour.sparse import is_bought, ragged_top_k
from recsys.retrieval.vectors.exact import check_k
from recsys.types import Floats, Mask, Rows

SOURCE = "interest"
#: The weight of the interest against all other sources together: without a history, and after a
#: long one (above new items, below repurchases); half way between after HALFWAY_EVENTS events.
#: Round numbers: no data set here has declared interests.
MAX_WEIGHT, MIN_WEIGHT, HALFWAY_EVENTS = 3.0, 0.5, 5.0


class DeclaredInterest:
    """One list of search results for every request, without purchased items; items with a score of
    0 or less are left out.

    Takes each row once, in any order.
    """

    source = SOURCE

    def __init__(self, rows_N: Rows, scores_N: Floats) -> None:
        ascending = np.argsort(rows_N)
        order = ascending[scores_N[ascending] > 0]
        self._rows_N, self._scores_N = rows_N[order], scores_N[order]

    def __len__(self) -> int:
        return len(self._rows_N)

    def retrieve(self, requests: Requests, k: int, allowed: Mask | None = None) -> Candidates:
        check_k(k)
        allowed_N = slice(None) if allowed is None else allowed[self._rows_N]
        rows_N, scores_N = self._rows_N[allowed_N], self._scores_N[allowed_N]
        owners_E = np.repeat(np.arange(requests.size), len(rows_N))
        rows_E, scores_E = np.tile(rows_N, requests.size), np.tile(scores_N, requests.size)
        histories = requests.histories or Histories.empty(requests.size)
        unbought_E = ~is_bought(histories, owners_E, rows_E)
        owners_E, rows_E, scores_E = owners_E[unbought_E], rows_E[unbought_E], scores_E[unbought_E]
        return Candidates(self.source, *ragged_top_k(owners_E, rows_E, scores_E, requests.size, k))

    def score(self, requests: Requests, rows_BN: Rows) -> Floats:
        """The search's scores of these rows, 0 for those that it did not return."""
        positions_BN = np.searchsorted(self._rows_N, rows_BN)
        rows_N, scores_N = np.append(self._rows_N, -2), np.append(self._scores_N, 0)
        matches_BN = rows_N[positions_BN] == rows_BN
        return np.where(matches_BN, scores_N[positions_BN], 0).astype(np.float32)


class InterestRanker:
    """A weighted sum of another ranker's scores and the interest, each divided by its largest in
    the request.

    `features_BNF` has the interest as its last column, after the other ranker's features.
    """

    def __init__(self, ranker: Ranker, events: int) -> None:
        """`events`: the length of the user's history."""
        self._ranker = ranker
        weight = MIN_WEIGHT + (MAX_WEIGHT - MIN_WEIGHT) * HALFWAY_EVENTS / (HALFWAY_EVENTS + events)
        self._both = LinearRanker({"others": 1.0, SOURCE: weight})
        self.feature_names = (*ranker.feature_names, SOURCE)

    def score(self, features_BNF: Floats) -> Floats:
        others_BN = self._ranker.score(features_BNF[:, :, :-1])
        return self._both.score(np.stack([others_BN, features_BNF[:, :, -1]], axis=2))

    def contributions(self, features_BNF: Floats) -> Floats:
        """Of a ranker that explains itself: its contributions, scaled to the share that its score
        has, then the interest's."""
        assert isinstance(self._ranker, ExplainableRanker)
        others_BN = self._ranker.score(features_BNF[:, :, :-1])
        both_BN3 = self._both.contributions(np.stack([others_BN, features_BNF[:, :, -1]], axis=2))
        nonzero_BN1 = others_BN[:, :, None] != 0
        divisors_BN1 = np.where(nonzero_BN1, others_BN[:, :, None], 1)
        share_BN1 = np.where(nonzero_BN1, both_BN3[:, :, :1] / divisors_BN1, 0)
        inner_BNF = self._ranker.contributions(features_BNF[:, :, :-1]) * share_BN1
        parts = [inner_BNF[:, :, :-1], both_BN3[:, :, 1:2], inner_BNF[:, :, -1:]]
        return np.concatenate(parts, axis=2)
