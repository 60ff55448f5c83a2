"""What everybody buys lately: the source that always has an answer."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from recsys.retrieval.exact import check_k
from recsys.retrieval.sparse import EVENT_WEIGHTS, best_of, is_bought
from recsys.types import Candidates, Floats, Histories, Mask, Requests, Rows

HALF_LIFE_DAYS = 7.0


def popularity(
    parts: Iterable[Histories], item_count: int, now_days: float, half_life_days: float = HALF_LIFE_DAYS
) -> Floats:
    """[I] float32: event weights summed per item, halved for every half-life before `now_days` (days since 1970)."""
    scores_I = np.zeros(item_count)
    for part in parts:
        fading = 0.5 ** (np.maximum(now_days - part.days, 0) / half_life_days)
        scores_I += np.bincount(part.items, EVENT_WEIGHTS[part.types] * fading, minlength=item_count)
    return scores_I.astype(np.float32)


class Popularity:
    """The best of one list for everybody, less what each request bought. An item nobody bought comes last, with 0."""

    source = "popularity"

    def __init__(self, scores_I: Floats) -> None:
        self._scores_I = scores_I
        self._best_first_I = np.argsort(-scores_I, kind="stable").astype(np.int32)

    def retrieve(self, requests: Requests, k: int, allowed: Mask | None = None) -> Candidates:
        check_k(k)
        histories = requests.histories or Histories.empty(requests.size)
        ordered = self._best_first_I if allowed is None else self._best_first_I[allowed[self._best_first_I]]
        longest = int(np.diff(histories.bought()[0]).max(initial=0))
        pool = ordered[: k + longest]
        owners, rows = _pairs(requests.size, pool)
        kept = ~is_bought(histories, owners, rows)
        owners, rows = owners[kept], rows[kept]
        return Candidates(self.source, *best_of(owners, rows, self._scores_I[rows], requests.size, k))

    def score(self, requests: Requests, rows_BN: Rows) -> Floats:
        """The rows' popularity, the same for everybody."""
        return self._scores_I[rows_BN]


def _pairs(size: int, pool: NDArray[np.int32]) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    return np.repeat(np.arange(size), len(pool)), np.tile(pool, size)
