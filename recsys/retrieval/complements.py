"""What goes with each item, as lists, by a learned compatibility.

Legend: I items, b of a block, K of a list, N candidates."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from recsys.retrieval.compatibility import Compatibility, ItemContent, ListedBehaviour
from recsys.retrieval.vectors.exact import empty_top_k, top_k_columns
from recsys.types import Floats, Ints, Mask, Rows

#: Up to so many items all of them are candidates for each.
ALL_BELOW = 20_000
#: In a larger catalogue: items by baskets and by content, and so many of those of each of so many.
NEXT, OF_EACH = 10, 10
ITEMS_PER_BLOCK = 64


def complement_lists(
    model: Compatibility,
    content: ItemContent,
    behaviour: ListedBehaviour,
    block: range,
    k: int,
    *,
    content_rows_IC: Rows,
    sellable_I: Mask,
    groups_I: Ints,
) -> tuple[Rows, Floats]:
    """The k items that go best with each of the block: rows_bK (-1 pads), and by how much their
    log odds are above those of the first that was left out, or of the last (-inf pads).

    Sellable ones, and no variants (`groups_I`, -1: none). Candidates are all items, or in a
    catalogue of more than ALL_BELOW what is bought with it, what is like it, and both of those."""
    rows_bK, scores_bK = empty_top_k(len(block), k)
    every_I = np.flatnonzero(sellable_I)
    if len(sellable_I) <= ALL_BELOW:
        parts: Iterator[tuple[slice, Ints]] = (
            (slice(low, min(low + ITEMS_PER_BLOCK, len(block))), every_I)
            for low in range(0, len(block), ITEMS_PER_BLOCK)
        )
    else:
        parts = (
            (slice(place, place + 1), _pool(row, behaviour, content_rows_IC, sellable_I))
            for place, row in enumerate(block)
        )
    for places, pool_N in parts:
        left_M = np.arange(block.start, block.stop)[places]
        scores_MN = model.score(content, behaviour, left_M, pool_N)
        scores_MN[_same_product(left_M, pool_N, groups_I)] = -np.inf
        rows_bK[places], scores_bK[places] = _margins(pool_N, scores_MN, k)
    return rows_bK, scores_bK


def _pool(
    row: int, behaviour: ListedBehaviour, content_rows_IC: Rows, sellable_I: Mask
) -> NDArray[np.int64]:
    """Candidates of one item, ascending."""
    cosines = behaviour.cosines_II

    def bought_with(item: int) -> NDArray[np.int64]:
        """Best first, as `ListedBehaviour.of` lists them."""
        return cosines.indices[cosines.indptr[item] : cosines.indptr[item + 1]].astype(np.int64)

    def like(item: int) -> NDArray[np.int64]:
        rows = np.asarray(content_rows_IC[item]).astype(np.int64)
        return rows[rows >= 0]

    bought, alike = bought_with(row), like(row)
    further = [like(item)[:OF_EACH] for item in bought[:NEXT].tolist()]
    further += [bought_with(item)[:OF_EACH] for item in alike[:NEXT].tolist()]
    pool = np.unique(np.concatenate([bought, alike, *further]))
    return pool[sellable_I[pool]]


def _same_product(left_M: Ints, pool_N: Ints, groups_I: Ints) -> Mask:
    """[M, N]: the item itself, and its variants."""
    groups_M1 = groups_I[left_M][:, None]
    return (left_M[:, None] == pool_N) | ((groups_M1 == groups_I[pool_N]) & (groups_M1 >= 0))


def _margins(pool_N: Ints, scores_MN: Floats, k: int) -> tuple[Rows, Floats]:
    rows_MK, scores_MK = empty_top_k(len(scores_MN), k + 1)
    if len(pool_N):
        columns, values = top_k_columns(scores_MN, min(k + 1, len(pool_N)))
        values = np.where(columns >= 0, values, -np.inf)
        rows_MK[:, : columns.shape[1]] = np.where(np.isfinite(values), pool_N[columns], -1)
        scores_MK[:, : columns.shape[1]] = values
    lowest_M1 = np.min(scores_MK, axis=1, keepdims=True, where=rows_MK >= 0, initial=np.inf)
    margins_MK = np.where(rows_MK >= 0, scores_MK - lowest_M1, -np.inf)
    return rows_MK[:, :k], margins_MK[:, :k].astype(np.float32)
