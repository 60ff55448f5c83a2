"""Search by photo: the items that look like it, ordered by look, or by look and words.

A `PhotoSearcher` is what `pipeline.search.SearchPage` takes for its searcher, so that filters,
facets, pages and sorts are those of a search. With words it is they that decide what matches, and
look and words together that decide the order: "like this but blue"."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from recsys.errors import NotFoundError
from recsys.pipeline.hits import FEATURES, Hits
from recsys.pipeline.matching import Matches
from recsys.pipeline.searcher import HybridSearcher
from recsys.release.release import Release
from recsys.retrieval.text.bm25 import LexicalRetriever
from recsys.retrieval.vectors.exact import top_k
from recsys.types import Floats, Mask, Rows
from recsys.understanding.query_parser import ParsedQuery

#: Without words the items that look most like the photo match, so many.
PHOTO_MATCHES = 200
NOTHING_LIKE_IT = "nothing here looks like the photo: shown is what comes nearest"
NO_SUCH_WORDS = "nothing fits the words: found by the photo alone"


@dataclass(frozen=True, kw_only=True)
class PhotoSearcher:
    """One photo, as `PhotoHead.queries` gives it, before a release; `photo_weight` from 0, by words
    alone, to 1, by look alone."""

    release: Release
    words: HybridSearcher
    photo_H: Floats
    photo_weight: float = 0.5

    @classmethod
    def of(
        cls, release: Release, words: HybridSearcher, descriptor_H: Floats, photo_weight: float
    ) -> PhotoSearcher:
        """`descriptor_H` of `pictures.descriptors`. Raises NotFoundError where the release has no
        pictures."""
        if (head := release.photo_head) is None:
            raise NotFoundError(
                f"release {release.version} has no pictures to compare a photo with: give the "
                "setup pictures, and run python -m jobs.nightly"
            )
        photo_H = head.queries(descriptor_H[None])[0]
        return cls(release=release, words=words, photo_H=photo_H, photo_weight=photo_weight)

    @property
    def lexical(self) -> LexicalRetriever:
        return self.words.lexical

    def match(self, parsed: ParsedQuery, vector_D: Floats) -> Matches:
        """By the words; by look where there are none, or nothing that has a picture fits them."""
        matches = self.words.match(parsed, vector_D)
        pictured_I = self._pictured(self.release.visible_I)
        if parsed.understanding.normalised:
            matches.matched_I[:] &= pictured_I
            if matches.matched_I.any():
                return matches
        matches.matched_I[:] = False
        rows, _ = self._nearest(pictured_I)
        matches.matched_I[rows] = True
        matches.scores_I[:] = 0
        return matches

    def search(
        self,
        parsed: ParsedQuery,
        vector_D: Floats,
        *,
        matches: Matches,
        allowed_I: Mask | None = None,
        **choices: Any,
    ) -> Hits:
        """The allowed matches; without words the allowed items that look most like the photo,
        matched or not: a filter leaves no page empty that could be full."""
        text = parsed.understanding.normalised
        by_words = bool(text) and self._fits(parsed, vector_D)
        if not by_words:
            rows_N, cosines_N = self._nearest(self._pictured(allowed_I))
            matched_I = matches.matched_I.copy()
            matched_I[rows_N] = True
            matches = replace(matches, matched_I=matched_I)
            scores_N, words_N = cosines_N, np.zeros(len(rows_N), np.float32)
        else:
            hits = self.words.search(
                parsed, vector_D, matches=matches, allowed_I=allowed_I, cross_encode=False
            )
            cosines_N = self._cosines(hits.rows_N)
            scores_N = self.photo_weight * _standard(cosines_N)
            scores_N += (1 - self.photo_weight) * _standard(hits.scores_N)
            order_N = np.lexsort((hits.rows_N, -scores_N))
            rows_N, scores_N = hits.rows_N[order_N], scores_N[order_N]
            words_N, cosines_N = hits.features_NF[order_N, 0], cosines_N[order_N]
        return self._hits(rows_N, scores_N, words_N, matches, bool(text) and not by_words)

    def _fits(self, parsed: ParsedQuery, vector_D: Floats) -> bool:
        matched_I = self.words.match(parsed, vector_D).matched_I
        return bool((matched_I & self._pictured(None)).any())

    def _hits(
        self, rows_N: Rows, scores_N: Floats, words_N: Floats, matches: Matches, relaxed: bool
    ) -> Hits:
        features_NF = np.zeros((len(rows_N), len(FEATURES)), np.float32)
        features_NF[:, 0] = words_N
        unlike = self._is_like_nothing()
        sentences = (NO_SUCH_WORDS,) * relaxed + (NOTHING_LIKE_IT,) * unlike
        return Hits(
            rows_N=rows_N,
            scores_N=np.asarray(scores_N, np.float32),
            features_NF=features_NF,
            retrieved_NF=features_NF > 0,
            matched_I=matches.matched_I,
            relaxed=sentences,
            no_good_match=unlike or not len(rows_N),
        )

    def _is_like_nothing(self) -> bool:
        """Whether the photo is further from every item of the night than the head's bound: what
        filters leave out counts, for it is there."""
        head = self.release.photo_head
        if head is None or head.min_cosine is None:
            return False
        _, cosines_1K = top_k(self.photo_H[None], self.release.photo_vectors_IH, 1)
        return bool(cosines_1K[0, 0] < head.min_cosine)

    def _pictured(self, allowed_I: Mask | None) -> Mask:
        """[I] of now: the allowed items that had a picture at night, and are visible."""
        then = self._rows_then()
        vectors_IH = self.release.photo_vectors_IH
        pictured_I = np.append(np.any(vectors_IH, axis=1), False)[then]
        for mask_I in (allowed_I, self.release.visible_I):
            if mask_I is not None:
                pictured_I &= mask_I
        return pictured_I

    def _rows_then(self) -> Rows:
        return self.release.rows_then(np.arange(len(self.release.item_vectors_ID), dtype=np.int32))

    def _nearest(self, allowed_I: Mask) -> tuple[Rows, Floats]:
        """The allowed items of now that look most like the photo, best first, and their cosines."""
        then = self._rows_then()
        vectors_IH = self.release.photo_vectors_IH
        night_I = np.zeros(len(vectors_IH), bool)
        night_I[then[allowed_I]] = True
        rows_1K, cosines_1K = top_k(
            self.photo_H[None], vectors_IH, PHOTO_MATCHES, allowed_I=night_I
        )
        present_K = rows_1K[0] >= 0
        now = self.release.rows_now(rows_1K[0][present_K])
        return now, cosines_1K[0][present_K]

    def _cosines(self, rows_N: Rows) -> Floats:
        vectors_NH = self.release.photo_vectors_IH[self.release.rows_then(rows_N)]
        return np.asarray(vectors_NH @ self.photo_H, np.float32)


def _standard(scores_N: Floats) -> Floats:
    """With mean 0 and deviation 1, so that weights mean the same for look and words."""
    if not len(scores_N):
        return scores_N
    deviation = float(scores_N.std())
    return (scores_N - scores_N.mean()) / (deviation or 1.0)
