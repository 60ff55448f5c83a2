"""What a user buys again and again."""

from __future__ import annotations

from recsys.retrieval.sparse import best_of, interests, is_bought
from recsys.types import Candidates, Mask, Requests

HALF_LIFE_DAYS = 80.0


class BuyAgain:
    """The items that the request's own history bought, most often and latest first. Nothing is fitted.

    The score is the user's events with the item, weighted by type, halved every HALF_LIFE_DAYS before his last event.
    """

    source = "buy_again"

    def retrieve(self, requests: Requests, k: int, allowed: Mask | None = None) -> Candidates:
        if k < 1:
            raise ValueError(f"k is {k}: ask for at least one item")
        histories = requests.histories
        if histories is None or not len(histories.items):
            return Candidates.none(self.source, requests.size)
        found = interests(histories, int(histories.items.max()) + 1, HALF_LIFE_DAYS).tocoo()
        owners, rows = found.coords
        kept = is_bought(histories, owners, rows)
        if allowed is not None:
            kept &= allowed[rows]
        return Candidates(self.source, *best_of(owners[kept], rows[kept], found.data[kept], requests.size, k))
