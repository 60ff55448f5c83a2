"""Shared by the sources over behaviour: histories as sparse rows, and the top k of ragged score
lists.

Legend: B requests, I items, E entries.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from recsys.arrays import Candidates, Histories, Requests
from recsys.types import EVENT_TYPES, Floats, Ints, Mask, Rows

if TYPE_CHECKING:
    from scipy.sparse import csr_array

#: The implicit feedback of one event of each of EVENT_TYPES.
EVENT_WEIGHTS = np.array(
    [{"view": 0.1, "click": 0.2, "cart": 0.5, "purchase": 1.0}[name] for name in EVENT_TYPES]
)


def decayed_interests(histories: Histories, item_count: int, half_life_days: float) -> csr_array:
    """[B, I]: each user's event weights summed per item, halved for every half-life before their
    own last event.

    Only ratios within a user mean something: an exponential decay counted from another day scales
    them all alike."""
    owners_E = histories.owners_E
    last_B = np.full(len(histories), -np.inf)
    np.maximum.at(last_B, owners_E, histories.days)
    weights_E = EVENT_WEIGHTS[histories.types] * 0.5 ** (
        (last_B[owners_E] - histories.days) / half_life_days
    )
    return sparse_rows(owners_E, histories.items, weights_E, len(histories), item_count)


def sparse_rows(
    owners_E: Ints, items_E: Ints, weights_E: NDArray[np.float64], size: int, width: int
) -> csr_array:
    """[size, width] float32 of summed weights, columns in order within a row."""
    from scipy.sparse import coo_array

    matrix = coo_array(
        (weights_E.astype(np.float32), (owners_E, items_E)), shape=(size, width)
    ).tocsr()
    matrix.sum_duplicates()
    return matrix


def is_bought(histories: Histories, owners_E: Ints, items_E: Ints) -> Mask:
    """[E]: whether request owners_E[e] bought item items_E[e]."""
    offsets, bought = histories.bought()
    width = 1 + max(bought.max(initial=0), items_E.max(initial=0))
    keys = np.repeat(np.arange(len(histories), dtype=np.int64), np.diff(offsets)) * width + bought
    return np.isin(owners_E.astype(np.int64) * width + items_E, keys)


def ragged_top_k(
    owners_E: Ints, items_E: Ints, scores_E: Floats, size: int, k: int
) -> tuple[NDArray[np.int32], Floats]:
    """The k best entries of each of `size` requests: rows_BK int32 (-1 pads) and scores_BK (-inf
    pads), K <= k.

    `owners_E` ascends. Best first, ties by item, also at the cut: the result of a request does not
    depend on the others."""
    counts_B = np.bincount(owners_E, minlength=size)
    if k < counts_B.max(initial=0):
        reaches = scores_E >= _kth_best(scores_E, counts_B, k)[owners_E]
        owners_E, items_E, scores_E = owners_E[reaches], items_E[reaches], scores_E[reaches]
    order = np.lexsort((items_E, -scores_E, owners_E))
    owners_E, items_E, scores_E = owners_E[order], items_E[order], scores_E[order]
    ranks_E = _ranks(owners_E, np.bincount(owners_E, minlength=size))
    top_E = ranks_E < k
    rows_BK = np.full((size, min(k, counts_B.max(initial=0))), -1, np.int32)
    scores_BK = np.full(rows_BK.shape, -np.inf, np.float32)
    rows_BK[owners_E[top_E], ranks_E[top_E]] = items_E[top_E]
    scores_BK[owners_E[top_E], ranks_E[top_E]] = scores_E[top_E]
    return rows_BK, scores_BK


def _kth_best(scores_E: Floats, counts_B: Ints, k: int) -> Floats:
    """Each request's k-th best score, -inf where it has no more than k.

    Requests of like length are partitioned together: padding them all to the longest takes
    gigabytes where one item has 20,000 neighbours and most have ten."""
    bounds_B = np.full(len(counts_B), -np.inf, np.float32)
    starts_B = np.cumsum(counts_B) - counts_B
    sizes_B = np.where(counts_B > k, np.ceil(np.log2(np.maximum(counts_B, 1))), -1)
    for size in np.unique(sizes_B[sizes_B >= 0]):
        members = np.flatnonzero(sizes_B == size)
        lengths = counts_B[members]
        rows = np.repeat(np.arange(len(members)), lengths)
        columns = np.arange(len(rows)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        padded = np.full((len(members), lengths.max()), -np.inf, np.float32)
        padded[rows, columns] = scores_E[np.repeat(starts_B[members], lengths) + columns]
        bounds_B[members] = np.partition(padded, -k, axis=1)[:, -k]
    return bounds_B


def _ranks(owners_E: Ints, counts_B: NDArray[np.int64]) -> NDArray[np.int64]:
    """0, 1, 2 ... within each owner's run."""
    return np.arange(len(owners_E)) - (np.cumsum(counts_B) - counts_B)[owners_E]


def pad_lists(rows_BK: Rows, scores_BK: Floats, width: int) -> tuple[Rows, Floats]:
    """The same lists, [B, width]: rows padded with -1, scores with -inf."""
    columns = ((0, 0), (0, width - rows_BK.shape[1]))
    rows_BN = np.pad(rows_BK, columns, constant_values=-1)
    return rows_BN, np.pad(scores_BK, columns, constant_values=-np.inf)


def top_unbought(
    source: str, requests: Requests, scores_BI: csr_array, k: int, allowed: Mask | None
) -> Candidates:
    """The k best of the nonzero scores of each request, without purchased and disallowed items."""
    entries = scores_BI.tocoo()
    owners_E, rows_E = entries.coords
    histories = requests.histories or Histories.empty(requests.size)
    open_E = ~is_bought(histories, owners_E, rows_E)
    if allowed is not None:
        open_E &= allowed[rows_E]
    top = ragged_top_k(owners_E[open_E], rows_E[open_E], entries.data[open_E], requests.size, k)
    return Candidates(source, *top)
