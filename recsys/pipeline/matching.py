"""Which items a text matches: those that are relevant by a probability made of words and meaning.

The weights were learned on Home Depot's train split with four encoders together (MiniLM,
multilingual-e5-small, one distilled, hashing; alone each gives about the same), over features that
mean the same in all of them: the night measures for each encoder and shop which cosines are chance
(`DenseRelevance`), and likeness counts in standard deviations over the catalogue."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from recsys.arrays import stacked
from recsys.retrieval.vectors.relevance import DenseRelevance
from recsys.types import Floats, Ints, Mask, Rows

#: Log odds of relevance: of the share of the query's words; of that over the largest share that an
#: item has; of the likeness to the query, and to the mean of the BEST, in standard deviations.
COVERAGE, RELATIVE_COVERAGE, LIKENESS, LIKENESS_TO_BEST, BASE = 2.7, 3.1, 0.4, 0.9, -11.0
#: How many of the best stand for what was meant (pseudo relevance feedback, Rocchio 1971).
BEST = 5
#: Standard deviations beyond which likeness counts no more: of the cosines between items a
#: thousandth is beyond 4.9 (MiniLM, distilled, hashing) or 5.3 (e5), the largest, by encoder, 8 to
#: 13.
MAX_LIKENESS = 5.0
#: Items that the spread of cosines is measured on.
SAMPLE = 10_000
#: Less than that is rounding: all items are alike.
MIN_SPREAD = 1e-3
ALL_WORDS = 0.999
#: A cosine so many times the one that chance reaches says the same in other words.
NEAR = 1.3


@dataclass(frozen=True, kw_only=True)
class Matches:
    """What a text matches in the whole catalogue, and its retrieval scores: BM25 and term coverage
    of all items, the nearest neighbours by vector; and which of its terms no item has."""

    matched_I: Mask
    scores_I: Floats
    coverage_I: Floats
    nearest_N: Rows
    missing_terms: tuple[str, ...] = ()

    @property
    def best_coverage(self) -> float:
        return float(self.coverage_I.max(initial=0.0))


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """Matches have log odds of `min_log_odds` at least, and no more than `margin` below the best,
    where the text fits something: by `min_fit`, or `min_term_coverage` of its words are there."""

    min_fit: float
    min_term_coverage: float
    min_log_odds: float
    margin: float


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """Of N candidates: the log odds that each is relevant, and the least of a match; infinite where
    the text fits nothing. `fit` is the evidence that it does fit something: the share of its words
    that the best candidate has, plus its cosine over the one that chance reaches."""

    log_odds_N: Floats
    needed: float
    fit: float

    @property
    def matched_N(self) -> Mask:
        return self.log_odds_N >= self.needed


@dataclass(frozen=True)
class RelevanceModel:
    """The probability of relevance in one catalogue, by its vectors and what chance is there."""

    item_vectors_ID: Floats
    dense: DenseRelevance

    def judge(
        self,
        vector_D: Floats,
        rows_N: Ints,
        coverage_N: Floats,
        bounds: Bounds,
    ) -> Judgement:
        """An item with all words matches in any case, and so does one that is NEAR."""
        if not len(rows_N):
            return Judgement(log_odds_N=np.empty(0, np.float32), needed=np.inf, fit=0.0)
        items_ND, scales_N = self.item_vectors_ID[rows_N], self._item_scales_I[rows_N]
        mean_D = self.dense.item_mean_D
        query_D = self.dense.centred_queries(vector_D[None])[0]
        cosines_N = (items_ND @ query_D - mean_D @ query_D) * scales_N
        near_N = np.maximum(cosines_N, 0) / np.float32(self.dense.min_cosine)
        is_certain_N, fit_N = (coverage_N >= ALL_WORDS) | (near_N >= NEAR), coverage_N + near_N
        words_N = COVERAGE * coverage_N + BASE
        words_N += RELATIVE_COVERAGE * coverage_N / max(coverage_N.max(), 0.01)
        like_N = self._standardised(cosines_N, query_D)
        first_N = words_N + (LIKENESS + LIKENESS_TO_BEST) * like_N
        best = np.argsort(-first_N, kind="stable")[:BEST]
        best_D = ((items_ND[best] - mean_D) * scales_N[best, None]).mean(axis=0)
        like_best_N = self._standardised((items_ND @ best_D - mean_D @ best_D) * scales_N, best_D)
        log_odds_N = words_N + LIKENESS * like_N + LIKENESS_TO_BEST * like_best_N
        top, fit = log_odds_N.max(), float(fit_N.max())
        covered = coverage_N.max() >= bounds.min_term_coverage
        fits = fit >= bounds.min_fit or covered
        needed = min(max(bounds.min_log_odds, top - bounds.margin), top) if fits else np.inf
        return Judgement(
            log_odds_N=np.where(is_certain_N, np.maximum(log_odds_N, needed), log_odds_N),
            needed=float(needed),
            fit=fit,
        )

    def followed_by(self, later_SD: Floats) -> RelevanceModel:
        """With more items behind; what chance is there stays that of these."""
        model = RelevanceModel(stacked(self.item_vectors_ID, later_SD), self.dense)
        scales_S = self.dense.item_scales(later_SD)
        model.__dict__["_item_scales_I"] = np.concatenate([self._item_scales_I, scales_S])
        model.__dict__["_background"] = self._background
        return model

    def _standardised(self, cosines_N: Floats, direction_D: Floats) -> Floats:
        """In standard deviations over the catalogue from its mean, MAX_LIKENESS at most."""
        mean_D, covariance_DD = self._background
        spread = max(float(direction_D @ covariance_DD @ direction_D), 0.0) ** 0.5
        likeness_N = (cosines_N - mean_D @ direction_D) / max(spread, MIN_SPREAD)
        return np.minimum(likeness_N, MAX_LIKENESS, dtype=np.float32)

    @cached_property
    def _item_scales_I(self) -> Floats:
        return self.dense.item_scales(self.item_vectors_ID)

    @cached_property
    def _background(self) -> tuple[Floats, Floats]:
        """Mean and covariance of the sample's items: the cosines' of any direction come of them in
        a fifth of the time that the sample itself takes."""
        count = len(self.item_vectors_ID)
        rows = np.unique(np.linspace(0, max(count - 1, 0), min(SAMPLE, count)).astype(np.int64))
        sample_SD = self.dense.centred_items(self.item_vectors_ID[rows])
        size = np.float32(max(1, len(sample_SD)))
        mean_D = sample_SD.sum(axis=0) / size
        return mean_D, (sample_SD - mean_D).T @ (sample_SD - mean_D) / size
