"""What a learned user model must beat: floors, and simple rules that are hard to beat.

A contender's factory fits it to what a split allows and gives a function of histories: rows_UK,
best first, without the history's items (-1 pads). All constants were chosen on the validation
targets of Amazon Beauty and Sports 2014. Legend: U users asked, B users of a block, I items, W
words, K places, D dimensions."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from recsys.errors import InputError
from recsys.evaluation.histories import Split
from recsys.retrieval.behaviour.sparse import sparse_rows
from recsys.retrieval.behaviour.successors import recency_weights, successor_weights
from recsys.retrieval.vectors.exact import top_k_columns
from recsys.types import Floats, Histories, Ints, Rows

if TYPE_CHECKING:
    pass

USERS_PER_BLOCK = 256

#: How much the cosine of words counts beside item_knn.
WORDS = 0.15
#: EASE's ridge, and the most items it takes: 12,101 are 64 seconds on one busy core, and the time
#: grows by the cube.
RIDGE, EASE_ITEMS = 100.0, 15_000

Score = Callable[[Histories], Floats]
Recommend = Callable[[Histories, int], Rows]
Say = Callable[[str], None]
#: (split, table of items, items_ID or none, seed, say) -> a contender; InputError, a sentence,
#: where it cannot be.
Factory = Callable[[Split, pa.Table, Floats, int, Say], Recommend]


def by_scores(score: Score, counts_I: Ints | None = None) -> Recommend:
    """The best of scores_BI, a block of users at a time, without their histories; equal scores by
    row.

    With `counts_I` items that score nothing follow by popularity: a user without neighbours gets
    the popular ones."""
    below_I = None if counts_I is None else -1 / (1 + counts_I).astype(np.float32)

    def recommend(histories: Histories, k: int) -> Rows:
        found = [np.empty((0, k), np.int32)]
        for block in _blocks(histories):
            scores_BI = score(block)
            if below_I is not None:
                scores_BI = np.where(scores_BI > 0, scores_BI, below_I)
            scores_BI[block.owners_E, block.items] = -np.inf
            found.append(top_k_columns(scores_BI, k)[0])
        return np.concatenate(found)

    return recommend


def _blocks(histories: Histories) -> Iterator[Histories]:
    for start in range(0, len(histories), USERS_PER_BLOCK):
        yield histories.slice(start, min(start + USERS_PER_BLOCK, len(histories)))


def random(split: Split, items: pa.Table, items_ID: Floats, seed: int, say: Say) -> Recommend:
    """The floor under all floors."""
    noise = np.random.default_rng(seed)
    return by_scores(lambda asked: noise.random((len(asked), split.item_count), np.float32))


def popularity(split: Split, items: pa.Table, items_ID: Floats, seed: int, say: Say) -> Recommend:
    """The same list for everybody: by number of events."""
    counts_I = split.counts_I.astype(np.float32)
    return by_scores(lambda asked: np.tile(counts_I, (len(asked), 1)))


def item_knn(split: Split, items: pa.Table, items_ID: Floats, seed: int, say: Say) -> Recommend:
    """Neighbours of what was done lately: see `retrieval.follows`."""
    return by_scores(_knn_scores(split), split.counts_I)


def tfidf(split: Split, items: pa.Table, items_ID: Floats, seed: int, say: Say) -> Recommend:
    """Titles that share words with the titles of what was done lately: needs no other user."""
    return by_scores(_word_scores(split, items), split.counts_I)


def item_knn_tfidf(
    split: Split, items: pa.Table, items_ID: Floats, seed: int, say: Say
) -> Recommend:
    """The sum of both, words counting WORDS: they decide where the neighbours have little to
    say."""
    near, words = _knn_scores(split), _word_scores(split, items)
    return by_scores(lambda asked: near(asked) + WORDS * words(asked), split.counts_I)


def content(split: Split, items: pa.Table, items_ID: Floats, seed: int, say: Say) -> Recommend:
    """Items whose vectors lie nearest to the mean of the history's, the latest counting most."""
    if len(items_ID) != split.item_count:
        raise InputError(
            f"{len(items_ID)} vectors for {split.item_count} items: encode the whole catalogue"
        )
    unit_ID = items_ID / np.maximum(np.linalg.norm(items_ID, axis=1, keepdims=True), 1e-12)
    return by_scores(lambda asked: (recency_weights(asked, split.item_count) @ unit_ID) @ unit_ID.T)


def ease(split: Split, items: pa.Table, items_ID: Floats, seed: int, say: Say) -> Recommend:
    """The item-to-item weights of least squared error with an empty diagonal, in closed form: with
    the inverse P of X^T X + RIDGE, B_ij = -P_ij / P_jj (Steck, WWW 2019).

    It is asked with `recency_weights` like the others; with ones, as published, it finds a twelfth less.
    InputError above EASE_ITEMS items."""
    if split.item_count > EASE_ITEMS:
        raise InputError(
            f"ease inverts {split.item_count:,} x {split.item_count:,}: it takes up to {EASE_ITEMS:,} items"
        )
    weights_II = ease_weights(split.fitted, split.item_count)
    return by_scores(lambda asked: recency_weights(asked, split.item_count) @ weights_II)


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


def _knn_scores(split: Split) -> Score:
    weights_II = successor_weights([split.fitted], range(split.item_count), split.item_count)
    return lambda asked: (recency_weights(asked, split.item_count) @ weights_II).toarray()


def _word_scores(split: Split, items: pa.Table) -> Score:
    from sklearn.feature_extraction.text import TfidfVectorizer

    titles = [title or "" for title in items["title"].to_pylist()]
    # A second kind of token, of one character: titles in languages without spaces, and a catalogue
    # without a word.
    model = TfidfVectorizer(sublinear_tf=True, token_pattern=r"(?u)\b\w+\b", dtype=np.float32)
    words_IW = model.fit_transform([*titles, "word"])[:-1].tocsr()
    words_WI = words_IW.T.tocsr()
    return lambda asked: (recency_weights(asked, split.item_count) @ words_IW @ words_WI).toarray()


RIVALS: dict[str, Factory] = {
    "random": random,
    "popularity": popularity,
    "content": content,
    "tfidf": tfidf,
    "item_knn": item_knn,
    "ease": ease,
    "item_knn+tfidf": item_knn_tfidf,
}
#: Whose answers depend on the seed; the others are asked once.
SEEDED = frozenset({"random"})
