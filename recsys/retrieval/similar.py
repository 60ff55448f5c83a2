"""Items like an item, by content: the nearest vectors, found once per distinct text."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from recsys.retrieval.exact import top_k
from recsys.types import Candidates, Floats, Mask


def nearest_items(items_ID: Floats, texts_I: NDArray[np.int64], block: range, n: int, allowed_I: Mask) -> Candidates:
    """For each item of `block` the n allowed items of largest inner product, itself left out; exact.

    `texts_I` numbers the distinct texts (items of one text share one vector). The n best items always lie in the n
    texts that score best, so the product is texts x texts, not items x items; of equal scores the lower text comes
    first, then the lower row. An item whose vector is zero has none.
    """
    members, starts = _members(texts_I, allowed_I)
    first_T = np.full(len(starts) - 1, 0)
    first_T[texts_I[::-1]] = np.arange(len(texts_I))[::-1]
    asked, of_item_B = np.unique(texts_I[block.start : block.stop], return_inverse=True)
    stocked = np.diff(starts) > 0
    near_AK, scores_AK = top_k(items_ID[first_T[asked]], items_ID[first_T], n + 1, allowed_I=stocked)
    silent_A = ~items_ID[first_T[asked]].any(axis=1)
    rows_BN = np.full((len(block), n), -1, np.int32)
    scores_BN = np.full((len(block), n), -np.inf, np.float32)
    lists = [
        _expand(near_K, scores_K, members, starts, n + 1) for near_K, scores_K in zip(near_AK, scores_AK, strict=True)
    ]
    for place, (row, text) in enumerate(zip(block, of_item_B, strict=True)):
        rows, scores = lists[text]
        if silent_A[text]:
            continue
        others = rows != row
        rows, scores = rows[others][:n], scores[others][:n]
        rows_BN[place, : len(rows)], scores_BN[place, : len(rows)] = rows, scores
    return Candidates("content", rows_BN, scores_BN)


def _members(texts_I: NDArray[np.int64], allowed_I: Mask) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The allowed items of each text, laid end to end, and where each text's begin."""
    rows = np.flatnonzero(allowed_I)
    members = rows[np.argsort(texts_I[rows], kind="stable")]
    counts = np.bincount(texts_I[rows], minlength=int(texts_I.max(initial=-1)) + 1)
    return members, np.concatenate([[0], np.cumsum(counts)])


def _expand(
    near_K: NDArray[np.int32], scores_K: Floats, members: NDArray[np.int64], starts: NDArray[np.int64], most: int
) -> tuple[NDArray[np.int32], Floats]:
    """The first `most` items of the texts, in the texts' order."""
    found: list[NDArray[np.int64]] = []
    total = 0
    for text in near_K[near_K >= 0]:
        found.append(members[starts[text] : starts[text] + most - total])
        found[-1] = found[-1][: starts[text + 1] - starts[text]]
        total += len(found[-1])
        if total >= most:
            break
    rows = np.concatenate(found) if found else np.empty(0, np.int64)
    return rows.astype(np.int32), np.repeat(scores_K[: len(found)], [len(part) for part in found]).astype(np.float32)
