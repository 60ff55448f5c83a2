"""What users of like taste buy lately.

Legend: B requests, U peers, I items.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from recsys.retrieval.behaviour.sparse import EVENT_WEIGHTS, is_bought, ragged_top_k, sparse_rows
from recsys.retrieval.vectors.exact import check_k
from recsys.types import Candidates, Floats, Histories, Mask, Requests, Rows

if TYPE_CHECKING:
    from scipy.sparse import csr_array

#: Of a larger shop only so many users are peers, the latest active: 20,000 of 100 events take 50
#: MB.
MAX_NEIGHBOURS = 20_000
HALF_LIFE_DAYS = 7.0
#: What is older than so many half-lives is left out: it weighs less than a thousandth.
FORGOTTEN = 10


def most_recent_users(
    parts: Iterable[Histories], limit: int = MAX_NEIGHBOURS
) -> tuple[Histories, NDArray[np.int64]]:
    """The `limit` users whose last event is the latest, and the position of each among all users
    of the parts, in the parts' order.

    Parts are disjoint in users. Memory: those users and one part. A user without events is
    nobody's neighbour."""
    kept, places, seen = Histories.empty(0), np.empty(0, np.int64), 0
    for part in parts:
        places = np.concatenate([places, np.arange(seen, seen + len(part))])
        kept, chosen_B = _latest(_beside(kept, part), limit)
        places, seen = places[chosen_B], seen + len(part)
    return kept, places


def _beside(left: Histories, right: Histories) -> Histories:
    """`left`'s users, then `right`'s."""
    columns = {
        name: np.concatenate([getattr(left, name), getattr(right, name)])
        for name in ("items", "types", "days")
    }
    offsets = np.concatenate([left.offsets, right.offsets[1:] + left.offsets[-1]])
    return Histories(offsets=offsets, **columns)


def _latest(known: Histories, most: int) -> tuple[Histories, NDArray[np.bool_]]:
    sizes_B = np.diff(known.offsets)
    last_B = np.full(len(known), -np.inf)
    last_B[sizes_B > 0] = known.days[known.offsets[1:][sizes_B > 0] - 1]
    kept_B = np.zeros(len(known), bool)
    kept_B[np.argsort(-last_B, kind="stable")[:most]] = True
    kept_B &= sizes_B > 0
    kept_E = np.repeat(kept_B, sizes_B)
    offsets = np.concatenate([[0], np.cumsum(sizes_B[kept_B])]).astype(np.int64)
    return Histories(
        offsets=offsets,
        items=known.items[kept_E],
        types=known.types[kept_E],
        days=known.days[kept_E],
    ), kept_B


class UserKnnRetriever:
    """User neighbourhoods: sum over peers u of likeness(user, u)^2 x what u did with the item,
    faded.

    Likeness is the cosine of two users' sets of items, an item counting ln((1 + U) / its peers),
    both squared norms plus 1, so that one shared item does not make twins; squared, the near ones
    outweigh the many. A peer's events count by type and are halved every HALF_LIFE_DAYS before
    `now_days` (days since 1970). User-based collaborative filtering: Herlocker et al. 1999; inverse
    user frequency: Breese, Heckerman & Kadie 1998."""

    source = "peers"

    def __init__(
        self,
        histories: Histories,
        item_count: int,
        now_days: float,
        half_life_days: float = HALF_LIFE_DAYS,
    ) -> None:
        """`histories` of the peers, as `most_recent_users` gives them."""
        touched_UI = _touched(histories, item_count)
        peers_I = np.bincount(touched_UI.indices, minlength=item_count)
        self._weights_I = np.log((1 + len(histories)) / np.maximum(peers_I, 1)).astype(np.float32)
        self._unit_IU = self._unit(touched_UI).T.tocsr()
        fading_E = 0.5 ** (np.maximum(now_days - histories.days, 0) / half_life_days)
        weights_E, kept_E = EVENT_WEIGHTS[histories.types] * fading_E, fading_E > 0.5**FORGOTTEN
        owners_E, items_E = histories.owners_E[kept_E], histories.items[kept_E]
        self._lately_UI = sparse_rows(
            owners_E, items_E, weights_E[kept_E], len(histories), item_count
        )

    def retrieve(self, requests: Requests, k: int, allowed: Mask | None = None) -> Candidates:
        check_k(k)
        histories = requests.histories
        if histories is None or not len(histories.items):
            return Candidates.none(self.source, requests.size)
        found = self._scores(histories).tocoo()
        owners, rows = found.coords
        kept = ~is_bought(histories, owners, rows)
        if allowed is not None:
            kept &= allowed[rows]
        return Candidates(
            self.source, *ragged_top_k(owners[kept], rows[kept], found.data[kept], requests.size, k)
        )

    def score(self, requests: Requests, rows_BN: Rows) -> Floats:
        """As `retrieve` scores them; 0 for what no peer did."""
        histories = requests.histories
        if histories is None or not len(histories.items) or not rows_BN.size:
            return np.zeros(rows_BN.shape, np.float32)
        owners = np.repeat(np.arange(requests.size), rows_BN.shape[1])
        found = self._scores(histories)[owners, rows_BN.ravel()]
        values = found.toarray() if hasattr(found, "toarray") else np.asarray(found)
        return values.reshape(rows_BN.shape).astype(np.float32)

    def _scores(self, histories: Histories) -> csr_array:
        """[B, I], without zeros."""
        likeness_BU = self._unit(_touched(histories, len(self._weights_I))) @ self._unit_IU
        return (likeness_BU.power(2) @ self._lately_UI).tocsr()

    def _unit(self, touched_BI: csr_array) -> csr_array:
        """Rows weighted by how rare an item is, and divided by the root of their squared length
        plus 1."""
        rows = touched_BI.copy()
        rows.data = rows.data * self._weights_I[rows.indices]
        lengths_B = np.sqrt(1 + rows.power(2).sum(axis=1))
        rows.data = (rows.data / np.repeat(lengths_B, np.diff(rows.indptr))).astype(np.float32)
        return rows


def _touched(histories: Histories, item_count: int) -> csr_array:
    """[B, I]: summed event weights, at most 1."""
    weights_E = EVENT_WEIGHTS[histories.types]
    rows = sparse_rows(histories.owners_E, histories.items, weights_E, len(histories), item_count)
    rows.data = np.minimum(rows.data, 1)
    return rows
