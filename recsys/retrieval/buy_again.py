"""What a user buys again and again."""

from __future__ import annotations

import numpy as np

from recsys.retrieval.exact import check_k
from recsys.retrieval.sparse import best_of, interests, is_bought
from recsys.types import Candidates, Floats, Mask, Requests

HALF_LIFE_DAYS = 90.0
POPULARITY_POWER = 0.1
POPULARITY_FLOOR = 0.05


class BuyAgain:
    """The items that the request's own history bought, most often and latest first.

    The score is the user's events with the item, weighted by type, halved every HALF_LIFE_DAYS before his last event;
    with `popularity_I` (of `popularity.popularity`) times (popularity + floor) ^ POPULARITY_POWER, which settles what
    his own counts leave open: most items were bought once.
    """

    source = "buy_again"

    def __init__(self, popularity_I: Floats | None = None) -> None:
        self._prior_I = None
        if popularity_I is not None:
            self._prior_I = ((np.asarray(popularity_I) + POPULARITY_FLOOR) ** POPULARITY_POWER).astype(np.float32)

    def retrieve(self, requests: Requests, k: int, allowed: Mask | None = None) -> Candidates:
        check_k(k)
        histories = requests.histories
        if histories is None or not len(histories.items):
            return Candidates.none(self.source, requests.size)
        found = interests(histories, int(histories.items.max()) + 1, HALF_LIFE_DAYS).tocoo()
        owners, rows = found.coords
        scores = found.data if self._prior_I is None else found.data * self._prior_I[rows]
        kept = is_bought(histories, owners, rows)
        if allowed is not None:
            kept &= allowed[rows]
        return Candidates(self.source, *best_of(owners[kept], rows[kept], scores[kept], requests.size, k))
