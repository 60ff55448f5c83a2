"""What a user says he wants, in words, as a source beside the others: the items that a search finds
for it."""

from __future__ import annotations

import numpy as np

from recsys.interfaces import Explained, Ranker
from recsys.ranking.linear import LinearRanker
from recsys.retrieval.behaviour.sparse import is_bought, ragged_top_k
from recsys.retrieval.vectors.exact import check_k
from recsys.types import Candidates, Floats, Histories, Mask, Requests, Rows

SOURCE = "interest"
#: How often as much as all other sources together the interest counts: without a history, and after
#: a long one (before what is new, behind what is bought again and again); half way between after
#: FADES things that the user did. Round numbers: no data set here has declared interests.
ALONE, LEAST, FADES = 3.0, 0.5, 5.0


class DeclaredInterest:
    """One list of found items for every request, less what each bought; items with a score of 0 or
    less are left out.

    Takes each row once, in any order.
    """

    source = SOURCE

    def __init__(self, rows_N: Rows, scores_N: Floats) -> None:
        ascending = np.argsort(rows_N)
        kept = ascending[scores_N[ascending] > 0]
        self._rows_N, self._scores_N = rows_N[kept], scores_N[kept]

    def __len__(self) -> int:
        return len(self._rows_N)

    def retrieve(self, requests: Requests, k: int, allowed: Mask | None = None) -> Candidates:
        check_k(k)
        kept_N = slice(None) if allowed is None else allowed[self._rows_N]
        rows_N, scores_N = self._rows_N[kept_N], self._scores_N[kept_N]
        owners, rows = (
            np.repeat(np.arange(requests.size), len(rows_N)),
            np.tile(rows_N, requests.size),
        )
        open_N = ~is_bought(requests.histories or Histories.empty(requests.size), owners, rows)
        scores = np.tile(scores_N, requests.size)[open_N]
        return Candidates(
            self.source, *ragged_top_k(owners[open_N], rows[open_N], scores, requests.size, k)
        )

    def score(self, requests: Requests, rows_BN: Rows) -> Floats:
        """The search's scores of these rows, 0 where it did not find one."""
        places_BN = np.searchsorted(self._rows_N, rows_BN)
        rows_N, scores_N = np.append(self._rows_N, -2), np.append(self._scores_N, 0)
        return np.where(rows_N[places_BN] == rows_BN, scores_N[places_BN], 0).astype(np.float32)


class InterestRanker:
    """Another ranker's scores and the interest, each divided by its largest in the request, and
    weighed.

    `features_BNF` has the interest behind the other ranker's features.
    """

    def __init__(self, ranker: Ranker, events: int) -> None:
        """`events`: how many things the user did."""
        self._ranker = ranker
        weight = LEAST + (ALONE - LEAST) * FADES / (FADES + events)
        self._both = LinearRanker({"others": 1.0, SOURCE: weight})
        self.feature_names = (*ranker.feature_names, SOURCE)

    def score(self, features_BNF: Floats) -> Floats:
        others_BN = self._ranker.score(features_BNF[:, :, :-1])
        return self._both.score(np.stack([others_BN, features_BNF[:, :, -1]], axis=2))

    def contributions(self, features_BNF: Floats) -> Floats:
        """Of a ranker that explains itself: its contributions in the share that its score has, then
        the interest."""
        assert isinstance(self._ranker, Explained)
        others_BN = self._ranker.score(features_BNF[:, :, :-1])
        both_BN3 = self._both.contributions(np.stack([others_BN, features_BNF[:, :, -1]], axis=2))
        known_BN1 = others_BN[:, :, None] != 0
        share_BN1 = np.where(
            known_BN1, both_BN3[:, :, :1] / np.where(known_BN1, others_BN[:, :, None], 1), 0
        )
        inner_BNF = self._ranker.contributions(features_BNF[:, :, :-1]) * share_BN1
        return np.concatenate(
            [inner_BNF[:, :, :-1], both_BN3[:, :, 1:2], inner_BNF[:, :, -1:]], axis=2
        )
