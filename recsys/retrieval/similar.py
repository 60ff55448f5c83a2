"""Items like an item, by content: the nearest vectors and the same words, found once per distinct
text."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from recsys.retrieval.text.tfidf import inverse_document_frequencies, term_counts, tfidf_vectors
from recsys.retrieval.vectors.exact import top_k, top_k_columns
from recsys.types import Candidates, Floats, Ints, Mask, Rows

if TYPE_CHECKING:
    from scipy.sparse import csr_array

#: What a cosine of words counts beside one of vectors.
WORDS = 1.0
TEXTS_PER_BLOCK = 128


def nearest_items(
    items_ID: Floats,
    texts_I: NDArray[np.int64],
    block: range,
    n: int,
    allowed_I: Mask,
    words_TW: csr_array | None = None,
) -> Candidates:
    """For each item of `block` the n allowed items of largest inner product, itself left out;
    exact.

    With the texts' words (`words.tfidf`) their inner product counts too, WORDS times. `texts_I`
    numbers the distinct texts (items of one text share one vector). The n best items always lie in
    the n texts that score best, so the product is texts x texts, not items x items; of equal scores
    the lower text comes first, then the lower row. An item whose vector is zero has none."""
    members, starts = _members(texts_I, allowed_I)
    first_T = np.full(len(starts) - 1, 0)
    first_T[texts_I[::-1]] = np.arange(len(texts_I))[::-1]
    asked, of_item_B = np.unique(texts_I[block.start : block.stop], return_inverse=True)
    stocked = np.diff(starts) > 0
    vectors_TD = items_ID[first_T]
    if words_TW is None:
        near_AK, scores_AK = top_k(vectors_TD[asked], vectors_TD, n + 1, allowed_I=stocked)
    else:
        near_AK, scores_AK = _near_texts(vectors_TD, words_TW, asked, n + 1, stocked)
    silent_A = ~vectors_TD[asked].any(axis=1)
    rows_BN = np.full((len(block), n), -1, np.int32)
    scores_BN = np.full((len(block), n), -np.inf, np.float32)
    lists = [
        _expand(near_K, scores_K, members, starts, n + 1)
        for near_K, scores_K in zip(near_AK, scores_AK, strict=True)
    ]
    for place, (row, text) in enumerate(zip(block, of_item_B, strict=True)):
        rows, scores = lists[text]
        if silent_A[text]:
            continue
        others = rows != row
        rows, scores = rows[others][:n], scores[others][:n]
        rows_BN[place, : len(rows)], scores_BN[place, : len(rows)] = rows, scores
    return Candidates("content", rows_BN, scores_BN)


def content_neighbours(
    items: pa.Table,
    texts_I: NDArray[np.int64],
    items_ID: Floats,
    block: range,
    n: int,
    allowed_I: Mask,
) -> Candidates:
    """`nearest_items` by vectors and by the words of the table's fields."""
    counts_TW = term_counts(items.take(pa.array(np.unique(texts_I, return_index=True)[1])))
    words_TW = tfidf_vectors(counts_TW, inverse_document_frequencies(counts_TW))
    return nearest_items(items_ID, texts_I, block, n, allowed_I, words_TW)


def _near_texts(
    vectors_TD: Floats, words_TW: csr_array, asked: Ints, k: int, stocked_T: Mask
) -> tuple[Rows, Floats]:
    """`top_k` over texts, by vectors and words."""
    found = []
    turned_WT = words_TW.T.tocsr()
    for low in range(0, len(asked), TEXTS_PER_BLOCK):
        some = asked[low : low + TEXTS_PER_BLOCK]
        scores_AT = (
            vectors_TD[some] @ vectors_TD.T
            + np.float32(WORDS) * (words_TW[some] @ turned_WT).toarray()
        )
        scores_AT[:, ~stocked_T] = -np.inf
        found.append(top_k_columns(scores_AT, k))
    if not found:
        return np.empty((0, k), np.int32), np.empty((0, k), np.float32)
    return np.concatenate([rows for rows, _ in found]), np.concatenate(
        [scores for _, scores in found]
    )


def _members(
    texts_I: NDArray[np.int64], allowed_I: Mask
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The allowed items of each text, laid end to end, and where each text's begin."""
    rows = np.flatnonzero(allowed_I)
    members = rows[np.argsort(texts_I[rows], kind="stable")]
    sizes = np.bincount(texts_I[rows], minlength=int(texts_I.max(initial=-1)) + 1)
    return members, np.concatenate([[0], np.cumsum(sizes)])


def _expand(
    near_K: NDArray[np.int32],
    scores_K: Floats,
    members: NDArray[np.int64],
    starts: NDArray[np.int64],
    most: int,
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
    return rows.astype(np.int32), np.repeat(
        scores_K[: len(found)], [len(part) for part in found]
    ).astype(np.float32)
