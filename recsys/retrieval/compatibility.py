"""What goes together: a conditional logit over pairs of items, learned from baskets.

Of a basket each item in turn is taken out, and the rest must find it among others: the log odds of
an item are a weighted sum of CHANNELS, means over the rest of the basket, and of a bilinear form of
what the items look and read like (`ItemContent.style_IS`): a learned compatibility, which likeness
is not. The baskets are counted without the example's own, so that an item that is in no other is
a new one there: the weights say what co-occurrence is worth where there is some, and what an item
without any still is. McFadden, Conditional logit analysis of qualitative choice behavior, 1974; for
the bilinear form McAuley et al., Image-based recommendations on styles and substitutes, 2015.

Legend: I items, R baskets, M items of one, N candidates, X examples, F channels, S numbers of a
style, W word buckets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from recsys.retrieval.behaviour.cooccurrence import SHRINKAGE
from recsys.retrieval.text.tfidf import inverse_document_frequencies, term_counts, tfidf_vectors
from recsys.types import Floats, Ints, Mask, Rows

if TYPE_CHECKING:
    from scipy.sparse import csr_array

#: Cosines of texts, of titles' words and of pictures; whether the category is the same;
#: co-occurrence as `cooccurrence` measures it; log(1 + baskets with the item); whether it is in
#: none.
CHANNELS = ("text", "words", "picture", "category", "baskets", "popular", "new")
#: Numbers that the bilinear form reads of each medium, and rows that its axes are found from.
STYLE, STYLE_ROWS = 64, 20_000


@dataclass(frozen=True, kw_only=True)
class ItemContent:
    """What is known of items without behaviour, [I] each: texts and pictures as unit vectors less
    their mean (zeros where there is none; no columns in a shop without pictures), the titles'
    words, categories (-1: none)."""

    texts_ID: Floats
    pictures_IE: Floats
    words_IW: csr_array
    categories_I: Ints
    style_IS: Floats

    @classmethod
    def of(
        cls, items: pa.Table, texts_ID: Floats, categories_I: Ints, pictures_IE: Floats | None
    ) -> ItemContent:
        """`items` has the titles; `pictures_IE` are the vectors of the main pictures."""
        media = [_centred(texts_ID)]
        if pictures_IE is not None:
            media.append(_centred(pictures_IE))
        counts_IW = term_counts(items, ("title",))
        return cls(
            texts_ID=media[0],
            pictures_IE=media[1] if media[1:] else np.zeros((len(texts_ID), 0), np.float32),
            words_IW=tfidf_vectors(counts_IW, inverse_document_frequencies(counts_IW)),
            categories_I=categories_I,
            style_IS=np.concatenate([_principal_parts(each) for each in media], axis=1),
        )

    def likeness(self, left_M: Ints, right_N: Ints) -> Floats:
        """[M, N, 4]: the first of CHANNELS."""
        of_left_M, of_right_N = self.categories_I[left_M], self.categories_I[right_N]
        same_MN = (of_left_M[:, None] == of_right_N) & (of_right_N >= 0)
        words_MN = (self.words_IW[left_M] @ self.words_IW[right_N].T).toarray()
        return np.stack(
            [
                self.texts_ID[left_M] @ self.texts_ID[right_N].T,
                words_MN,
                self.pictures_IE[left_M] @ self.pictures_IE[right_N].T,
                same_MN,
            ],
            axis=2,
            dtype=np.float32,
        )


@dataclass(frozen=True, kw_only=True)
class Behaviour:
    """Baskets, counted: [I] how many have an item, [I, I] how many have two (its diagonal is not
    read)."""

    counts_I: Floats
    pairs_II: csr_array

    @classmethod
    def of(cls, baskets_RI: csr_array) -> Behaviour:
        """Rows of zeros and ones."""
        return cls(
            counts_I=np.asarray(baskets_RI.sum(axis=0), np.float32).ravel(),
            pairs_II=(baskets_RI.T @ baskets_RI).tocsr(),
        )

    def channels(self, left_M: Ints, right_N: Ints, own_N: Mask | None = None) -> Floats:
        """[M, N, 3]: the last of CHANNELS. With `own_N`, as if the basket that all of `left_M` and
        these of `right_N` are in did not exist."""
        together_MN = self.pairs_II[left_M][:, right_N].toarray().astype(np.float32)
        left_counts_M, right_counts_N = self.counts_I[left_M], self.counts_I[right_N]
        if own_N is not None:
            together_MN -= own_N
            left_counts_M, right_counts_N = left_counts_M - 1, right_counts_N - own_N
        scale_MN = np.sqrt((left_counts_M[:, None] + SHRINKAGE) * (right_counts_N + SHRINKAGE))
        return _channels(np.maximum(together_MN, 0) / scale_MN, right_counts_N)


@dataclass(frozen=True, kw_only=True)
class ListedBehaviour:
    """The same of a whole log, as `cooccurrence` lists its strongest pairs; `counts_I` on the scale
    of the sample that was learned from."""

    counts_I: Floats
    cosines_II: csr_array

    @classmethod
    def of(cls, counts_I: Floats, rows_IN: Rows, scores_IN: Floats) -> ListedBehaviour:
        from scipy.sparse import csr_array

        filled_IN = np.asarray(rows_IN) >= 0
        offsets = np.concatenate([[0], np.cumsum(filled_IN.sum(axis=1))])
        values = np.asarray(scores_IN)[filled_IN], np.asarray(rows_IN)[filled_IN], offsets
        return cls(counts_I=counts_I, cosines_II=csr_array(values, shape=(len(rows_IN),) * 2))

    def channels(self, left_M: Ints, right_N: Ints) -> Floats:
        """[M, N, 3]: the last of CHANNELS."""
        cosines_MN = self.cosines_II[left_M][:, right_N].toarray().astype(np.float32)
        return _channels(cosines_MN, self.counts_I[right_N])


def _channels(cosines_MN: Floats, counts_N: Floats) -> Floats:
    return np.stack(
        [
            cosines_MN,
            np.broadcast_to(np.log1p(counts_N), cosines_MN.shape),
            np.broadcast_to(counts_N == 0, cosines_MN.shape),
        ],
        axis=2,
        dtype=np.float32,
    )


@dataclass(frozen=True, kw_only=True)
class Compatibility:
    """`weights_F` of CHANNELS, and the bilinear form `form_SS` of styles."""

    weights_F: Floats
    form_SS: Floats

    def score(
        self,
        content: ItemContent,
        behaviour: Behaviour | ListedBehaviour,
        left_M: Ints,
        right_N: Ints,
    ) -> Floats:
        """[M, N]: how well each of `right_N` goes with each of `left_M`; of several that are had,
        the mean counts."""
        channels_MNF = np.concatenate(
            [content.likeness(left_M, right_N), behaviour.channels(left_M, right_N)], axis=2
        )
        styles_MN = content.style_IS[left_M] @ self.form_SS @ content.style_IS[right_N].T
        return np.asarray(channels_MNF @ self.weights_F + styles_MN, np.float32)


def _centred(vectors_ID: Floats) -> Floats:
    """Less the mean of the rows that are not zero, of length 1; zeros stay."""
    present_I = np.asarray(vectors_ID).any(axis=1)
    centred_ID = np.zeros(vectors_ID.shape, np.float32)
    if present_I.any():
        shifted_ID = vectors_ID[present_I].astype(np.float32)
        shifted_ID = shifted_ID - shifted_ID.mean(axis=0)
        lengths_I1 = np.linalg.norm(shifted_ID, axis=1, keepdims=True)
        centred_ID[present_I] = shifted_ID / np.maximum(lengths_I1, 1e-9)
    return centred_ID


def _principal_parts(vectors_ID: Floats) -> Floats:
    """[I, STYLE]: on the largest principal axes of an even sample, of mean length 1."""
    sample = vectors_ID[:: max(1, len(vectors_ID) // STYLE_ROWS)].astype(np.float64)
    _, axes_DD = np.linalg.eigh(sample.T @ sample)
    parts_IS = vectors_ID @ axes_DD[:, ::-1][:, :STYLE].astype(np.float32)
    scale = np.sqrt((parts_IS**2).sum(axis=1).mean())
    return np.asarray(parts_IS / max(float(scale), 1e-9), np.float32)
