"""Baselines of next-item recommendation: random, popularity, content, TF-IDF, item kNN, EASE.

A factory fits a system to the split's training data and gives a function of histories: rows_UK,
best first, without the history's items (-1 pads). All constants were chosen on the validation
targets of Amazon Beauty and Sports 2014. Legend: U users, B users of a block, I items, W words, K
positions, D dimensions."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pyarrow as pa

from recsys.arrays import Histories
from recsys.errors import InputError
from recsys.evaluation.leave_one_out import LeaveOneOutSplit
from recsys.retrieval.behaviour.sparse import sparse_rows
from recsys.retrieval.behaviour.successors import recency_weights, successor_weights
from recsys.retrieval.vectors.exact import top_k_columns
from recsys.types import Floats, Ints, Rows

USERS_PER_BLOCK = 256

#: Weight of the cosine of words beside item_knn.
WORDS = 0.15
#: EASE's ridge, and the most items it takes: 12,101 are 64 seconds on one busy core, and the time
#: grows by the cube.
RIDGE, EASE_ITEMS = 100.0, 15_000

Score = Callable[[Histories], Floats]
Recommend = Callable[[Histories, int], Rows]
Say = Callable[[str], None]
#: (split, table of items, items_ID, seed, say) -> a fitted system; InputError where it cannot be
#: fitted.
SystemFactory = Callable[[LeaveOneOutSplit, pa.Table, Floats, int, Say], Recommend]


def by_scores(score: Score, counts_I: Ints | None = None) -> Recommend:
    """The best of scores_BI, a block of users at a time, without their histories; equal scores by
    row.

    With `counts_I` items without a score follow by popularity: a user without neighbours gets the
    popular ones."""
    below_I = None if counts_I is None else -1 / (1 + counts_I).astype(np.float32)

    def recommend(histories: Histories, k: int) -> Rows:
        lists = [np.empty((0, k), np.int32)]
        for block in _blocks(histories):
            scores_BI = score(block)
            if below_I is not None:
                scores_BI = np.where(scores_BI > 0, scores_BI, below_I)
            scores_BI[block.owners_E, block.items] = -np.inf
            lists.append(top_k_columns(scores_BI, k)[0])
        return np.concatenate(lists)

    return recommend


def _blocks(histories: Histories) -> Iterator[Histories]:
    for start in range(0, len(histories), USERS_PER_BLOCK):
        yield histories.slice(start, min(start + USERS_PER_BLOCK, len(histories)))


def random_baseline(
    split: LeaveOneOutSplit, items: pa.Table, items_ID: Floats, seed: int, say: Say
) -> Recommend:
    """Uniformly random scores: the lowest baseline."""
    noise = np.random.default_rng(seed)
    return by_scores(lambda histories: noise.random((len(histories), split.item_count), np.float32))


def popularity_baseline(
    split: LeaveOneOutSplit, items: pa.Table, items_ID: Floats, seed: int, say: Say
) -> Recommend:
    """Items by number of events: one list for all users."""
    counts_I = split.counts_I.astype(np.float32)
    return by_scores(lambda histories: np.tile(counts_I, (len(histories), 1)))


def item_knn_baseline(
    split: LeaveOneOutSplit, items: pa.Table, items_ID: Floats, seed: int, say: Say
) -> Recommend:
    """Item neighbours of the newest events: see `retrieval.behaviour.successors`."""
    return by_scores(_knn_scores(split), split.counts_I)


def tfidf_baseline(
    split: LeaveOneOutSplit, items: pa.Table, items_ID: Floats, seed: int, say: Say
) -> Recommend:
    """Cosine of the titles' TF-IDF with those of the newest events: needs no other user."""
    return by_scores(_word_scores(split, items), split.counts_I)


def item_knn_tfidf_baseline(
    split: LeaveOneOutSplit, items: pa.Table, items_ID: Floats, seed: int, say: Say
) -> Recommend:
    """item_knn plus WORDS times tfidf, which decides where neighbours have few events."""
    near, words = _knn_scores(split), _word_scores(split, items)
    return by_scores(lambda histories: near(histories) + WORDS * words(histories), split.counts_I)


def content_baseline(
    split: LeaveOneOutSplit, items: pa.Table, items_ID: Floats, seed: int, say: Say
) -> Recommend:
    """Items whose vectors are nearest to the history's recency-weighted mean."""
    if len(items_ID) != split.item_count:
        raise InputError(
            f"{len(items_ID)} vectors for {split.item_count} items: encode the whole catalogue"
        )
    unit_ID = items_ID / np.maximum(np.linalg.norm(items_ID, axis=1, keepdims=True), 1e-12)
    return by_scores(
        lambda histories: (recency_weights(histories, split.item_count) @ unit_ID) @ unit_ID.T
    )


def ease_baseline(
    split: LeaveOneOutSplit, items: pa.Table, items_ID: Floats, seed: int, say: Say
) -> Recommend:
    """The item-to-item weights of least squared error with an empty diagonal, in closed form: with
    the inverse P of X^T X + RIDGE, B_ij = -P_ij / P_jj (Steck, WWW 2019).

    The history is weighted by `recency_weights` as in the others; with ones, as published, recall
    is a twelfth less. InputError above EASE_ITEMS items."""
    if split.item_count > EASE_ITEMS:
        raise InputError(
            f"ease inverts {split.item_count:,} x {split.item_count:,}: "
            f"it takes up to {EASE_ITEMS:,} items"
        )
    weights_II = ease_weights(split.past, split.item_count)
    return by_scores(lambda histories: recency_weights(histories, split.item_count) @ weights_II)


def ease_weights(past: Histories, item_count: int) -> Floats:
    """[I, I]: EASE's B. Counts an item once a history."""
    once_UI = sparse_rows(
        past.owners_E, past.items, np.ones(len(past.items)), len(past), item_count
    ).sign()
    gram_II = (once_UI.T @ once_UI).toarray()
    gram_II[np.diag_indices(item_count)] += RIDGE
    weights_II = _inverse(gram_II)
    weights_II /= -np.diag(weights_II)
    np.fill_diagonal(weights_II, 0)
    return weights_II


def _inverse(gram_II: Floats) -> Floats:
    """Of a symmetric positive definite matrix, by Cholesky in float32: half the time and memory of
    an LU in float64."""
    from scipy.linalg.lapack import spotrf, spotri

    factor_II, _ = spotrf(np.asfortranarray(gram_II), lower=1, overwrite_a=1)
    inverse_II, _ = spotri(factor_II, lower=1, overwrite_c=1)
    below_II = np.tril(inverse_II, -1)
    return np.ascontiguousarray(np.tril(inverse_II) + below_II.T)


def _knn_scores(split: LeaveOneOutSplit) -> Score:
    weights_II = successor_weights([split.past], range(split.item_count), split.item_count)
    return lambda histories: (recency_weights(histories, split.item_count) @ weights_II).toarray()


def _word_scores(split: LeaveOneOutSplit, items: pa.Table) -> Score:
    from sklearn.feature_extraction.text import TfidfVectorizer

    titles = [title or "" for title in items["title"].to_pylist()]
    # A second kind of token, of one character: titles in languages without spaces, and a catalogue
    # without a word.
    model = TfidfVectorizer(sublinear_tf=True, token_pattern=r"(?u)\b\w+\b", dtype=np.float32)
    words_IW = model.fit_transform([*titles, "word"])[:-1].tocsr()
    words_WI = words_IW.T.tocsr()
    return lambda histories: (
        recency_weights(histories, split.item_count) @ words_IW @ words_WI
    ).toarray()


BASELINES: dict[str, SystemFactory] = {
    "random": random_baseline,
    "popularity": popularity_baseline,
    "content": content_baseline,
    "tfidf": tfidf_baseline,
    "item_knn": item_knn_baseline,
    "ease": ease_baseline,
    "item_knn+tfidf": item_knn_tfidf_baseline,
}
#: Baselines that depend on the seed; the others run once.
SEEDED = frozenset({"random"})
