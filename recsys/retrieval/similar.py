"""Content-based similarity of items: nearest vectors and shared words, computed once per distinct
text.

Legend: I items, T distinct texts, b items of a block, Q texts of the block, W word buckets.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from recsys.arrays import Candidates
from recsys.retrieval.text.tfidf import inverse_document_frequencies, term_counts, tfidf_vectors
from recsys.retrieval.vectors.exact import empty_top_k, top_k, top_k_columns
from recsys.types import Floats, Ints, Mask, Rows

if TYPE_CHECKING:
    from scipy.sparse import csr_array

#: The weight of a cosine of words against one of vectors.
WORD_WEIGHT = 1.0
TEXTS_PER_BLOCK = 128


def nearest_items(
    items_ID: Floats,
    texts_I: NDArray[np.int64],
    block: range,
    n: int,
    allowed_I: Mask,
    *,
    words_TW: csr_array | None = None,
) -> Candidates:
    """For each item of `block` the n allowed items of largest inner product, without itself; exact.

    With the texts' words (`tfidf.tfidf_vectors`) their inner product counts too, times WORD_WEIGHT.
    `texts_I` numbers the distinct texts (items of one text share one vector). The n best items
    always lie in the n texts that score best, so the product is texts x texts, not items x items;
    of equal scores the lower text comes first, then the lower row. An item whose vector is zero has
    no neighbours."""
    members, starts = _members(texts_I, allowed_I)
    first_T = np.zeros(len(starts) - 1, np.int64)
    first_T[texts_I[::-1]] = np.arange(len(texts_I))[::-1]
    queries, query_of_item_b = np.unique(texts_I[block.start : block.stop], return_inverse=True)
    vectors_TD, has_items_T = items_ID[first_T], np.diff(starts) > 0
    near_QK, scores_QK = _nearest_texts(vectors_TD, words_TW, queries, n + 1, has_items_T)
    has_vector_Q = np.asarray(vectors_TD[queries].any(axis=1))
    lists = [
        _expand(texts_K, scores_K, members, starts, n + 1)
        for texts_K, scores_K in zip(near_QK, scores_QK, strict=True)
    ]
    rows_bN, scores_bN = empty_top_k(len(block), n)
    for index, (row, query) in enumerate(zip(block, query_of_item_b, strict=True)):
        if has_vector_Q[query]:
            rows, scores = lists[query]
            others = rows != row
            rows, scores = rows[others][:n], scores[others][:n]
            rows_bN[index, : len(rows)], scores_bN[index, : len(rows)] = rows, scores
    return Candidates("content", rows_bN, scores_bN)


def content_neighbours(
    items: pa.Table,
    texts_I: NDArray[np.int64],
    items_ID: Floats,
    block: range,
    n: int,
    *,
    allowed_I: Mask,
) -> Candidates:
    """`nearest_items` by vectors and by the words of the table's fields."""
    counts_TW = term_counts(items.take(pa.array(np.unique(texts_I, return_index=True)[1])))
    words_TW = tfidf_vectors(counts_TW, inverse_document_frequencies(counts_TW))
    return nearest_items(items_ID, texts_I, block, n, allowed_I, words_TW=words_TW)


def _nearest_texts(
    vectors_TD: Floats, words_TW: csr_array | None, queries: Ints, k: int, has_items_T: Mask
) -> tuple[Rows, Floats]:
    """`top_k` over the texts that have items, by vectors and, if given, words."""
    if words_TW is None:
        return top_k(vectors_TD[queries], vectors_TD, k, allowed_I=has_items_T)
    words_WT, parts = words_TW.T.tocsr(), [empty_top_k(0, k)]
    for low in range(0, len(queries), TEXTS_PER_BLOCK):
        some = queries[low : low + TEXTS_PER_BLOCK]
        shared_QT = (words_TW[some] @ words_WT).toarray()
        scores_QT = vectors_TD[some] @ vectors_TD.T + np.float32(WORD_WEIGHT) * shared_QT
        scores_QT[:, ~has_items_T] = -np.inf
        parts.append(top_k_columns(scores_QT, k))
    rows, scores = zip(*parts, strict=True)
    return np.concatenate(rows), np.concatenate(scores)


def _members(
    texts_I: NDArray[np.int64], allowed_I: Mask
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The allowed items of each text, concatenated, and where each text's start."""
    rows = np.flatnonzero(allowed_I)
    members = rows[np.argsort(texts_I[rows], kind="stable")]
    sizes = np.bincount(texts_I[rows], minlength=int(texts_I.max(initial=-1)) + 1)
    return members, np.concatenate([[0], np.cumsum(sizes)])


def _expand(
    texts_K: NDArray[np.int32],
    scores_K: Floats,
    members: NDArray[np.int64],
    starts: NDArray[np.int64],
    limit: int,
) -> tuple[NDArray[np.int32], Floats]:
    """The first `limit` items of the texts, in the texts' order."""
    parts: list[NDArray[np.int64]] = []
    total = 0
    for text in texts_K[texts_K >= 0]:
        stop = min(starts[text + 1], starts[text] + limit - total)
        parts.append(members[starts[text] : stop])
        total += len(parts[-1])
        if total >= limit:
            break
    rows = np.concatenate(parts) if parts else np.empty(0, np.int64)
    scores = np.repeat(scores_K[: len(parts)], [len(part) for part in parts])
    return rows.astype(np.int32), scores.astype(np.float32)
