"""Hybrid search over rows: lexical (BM25) and dense retrieval, fused by a ranker, the best
re-ranked by a cross-encoder. `pipeline.search` makes an answer of it.

What *matches* does not depend on filters, page or time: every item with enough of the query's
terms, and the nearest neighbours by vector. So facets count what pages show, and the same search
gives the same order on every page."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from recsys.arrays import Requests
from recsys.errors import InputError
from recsys.interfaces import Ranker, Retriever
from recsys.pipeline.hits import FEATURES, Hits
from recsys.ranking.cross_encoder import CrossEncoder
from recsys.ranking.linear import best
from recsys.retrieval.text.bm25 import LexicalRetriever
from recsys.retrieval.vectors.relevance import DenseRelevance
from recsys.types import Floats, Ints, Mask, Rows
from recsys.understanding.query_parser import ParsedQuery

CROSS_ENCODER = FEATURES.index("cross_encoder")
#: A text, parsed, and the vector of what is left of it to search.
EncodedText = tuple[ParsedQuery, Floats]


@dataclass(frozen=True, kw_only=True)
class SearchChoices:
    """Thresholds and depths of a hybrid search: round numbers.

    `min_term_coverage`: the share of the query's terms, weighted by IDF, that an item must contain
    to be a match by its words alone; `dense_k`: nearest neighbours by vector, `partial_k`: of the
    items with fewer words the best by BM25, which both may be matches; `max_candidates`: matches
    that are ranked, at most, the others behind them by BM25; `rerank_depth`: the best candidates
    that the cross-encoder scores, `rerank_batch` in one call."""

    min_term_coverage: float = 0.5
    dense_k: int = 100
    partial_k: int = 1_000
    max_candidates: int = 5_000
    rerank_depth: int = 50
    rerank_batch: int = 10


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


@dataclass(frozen=True)
class _Candidates:
    """The allowed matches before they are ranked: the candidates, ascending by row, with their
    features, and the rest in the order of retrieval."""

    rows_M: Rows
    rest_R: Rows
    features_MF: Floats
    retrieved_MF: Mask


@dataclass(frozen=True, kw_only=True)
class HybridSearcher:
    """The retrievers of a search over one catalogue, and what orders their matches. Safe to call
    from many threads.

    `text_of` gives the texts of rows as the cross-encoder reads them; without a `cross_encoder`
    the ranker's order is final. It stops `reserve_s` before a search's deadline: the rest of the
    answer takes time too. Without a `relevance` nothing matches by its vector. What is not
    `visible_I` matches nothing.
    `user_space_item_vectors_ID` are the items in the user vectors' space, by default their own
    vectors."""

    lexical: LexicalRetriever
    dense: Retriever
    item_vectors_ID: Floats
    ranker: Ranker
    text_of: Callable[[Ints], list[str]]
    popularity_I: Floats
    cross_encoder: CrossEncoder | None = None
    choices: SearchChoices = field(default_factory=SearchChoices)
    user_space_item_vectors_ID: Floats | None = None
    relevance: DenseRelevance | None = None
    visible_I: Mask | None = None
    reserve_s: float = 0.0

    def __post_init__(self) -> None:
        if self.ranker.feature_names != FEATURES:
            raise InputError(
                f"the search ranker weighs {', '.join(self.ranker.feature_names)}: "
                f"make one of {', '.join(FEATURES)} with config.search_ranker"
            )

    @cached_property
    def mean_D(self) -> Floats:
        """The mean of the item vectors."""
        return np.asarray(np.mean(self.item_vectors_ID, axis=0, dtype=np.float64), np.float32)

    def search(
        self,
        parsed: ParsedQuery,
        vector_D: Floats,
        *,
        matches: Matches | None = None,
        allowed_I: Mask | None = None,
        user_D: Floats | None = None,
        deadline: float = np.inf,
        cross_encode: bool = True,
    ) -> Hits:
        """The allowed items that the text matches, in order: those that a code in it identifies,
        then by the ranker.

        `vector_D` is the encoded text, `user_D` the user's vector; zeros are none; `matches` are
        those of the text where they were made before. The cross-encoder scores the best unless
        `cross_encode` is False, until `reserve_s` before the deadline (of time.perf_counter)."""
        clock, text = _Clock(), parsed.understanding.normalised
        matches = matches or self.match(parsed, vector_D)
        clock.lap("match")
        if not matches.matched_I.any():
            return replace(Hits.none(matches.matched_I), stages_ms=clock.stages_ms)
        candidates = self._candidates(
            matches, parsed.code_rows, vector_D, user_D=user_D, allowed_I=allowed_I
        )
        clock.lap("features")
        skipped: tuple[str, ...] = ()
        if cross_encode:
            skipped = self._cross_encode(text, candidates, deadline - self.reserve_s)
        clock.lap("cross_encoder")
        hits = self._rank(candidates, matches, parsed)
        clock.lap("rank")
        return replace(hits, skipped=skipped, stages_ms=clock.stages_ms)

    def score_rows(self, parsed: ParsedQuery, vector_D: Floats, rows: Rows) -> Floats:
        """The score of each of these rows for the text, matched or not, all of them scored by the
        cross-encoder."""
        text = parsed.understanding.normalised
        matches = self.match(parsed, vector_D)
        top = self._candidates(matches, parsed.code_rows, vector_D)
        self._cross_encode(text, top, np.inf)
        features_NF, _ = self._features(rows, matches, vector_D, None)
        if self.cross_encoder:
            features_NF[:, CROSS_ENCODER] = self.cross_encoder.scores(
                [text] * len(rows), self.text_of(rows)
            )
        # Beside the best matches: a ranker may look at the whole list.
        scores_N = self.ranker.score(np.concatenate([features_NF, top.features_MF])[None])[0]
        return scores_N[: len(rows)]

    def match(self, parsed: ParsedQuery, vector_D: Floats) -> Matches:
        """What the text matches: items with enough of its terms, or near enough by vector, or
        with something of both; nothing where neither terms nor meaning fit.

        Where no item covers `min_term_coverage`, those that cover the most match, too. A text that
        is nothing but facts, such as a price, matches everything."""
        index, understanding = self.lexical.index, parsed.understanding
        lexical = index.match(understanding.normalised, self.lexical.synonyms)
        scores_I, coverage_I = lexical.scores_I, lexical.coverage_I
        if self.visible_I is not None:
            scores_I[~self.visible_I] = coverage_I[~self.visible_I] = 0
        k = min(self.choices.dense_k, max(1, index.items))
        nearest = self.dense.retrieve(_dense_request(vector_D), k, self.visible_I)
        nearest_N = nearest.rows_BN[0][nearest.rows_BN[0] >= 0]
        if understanding.normalised:
            min_coverage = min(self.choices.min_term_coverage, coverage_I.max(initial=0.0))
            matched_I = (coverage_I >= min_coverage) & (min_coverage > 0)
            rows_N = np.union1d(nearest_N, self._partial_matches(scores_I, coverage_I))
            matched_I[rows_N[self.evidence(vector_D, rows_N, coverage_I[rows_N]) >= 1]] = True
            matched_I[parsed.code_rows] = True
        else:
            matched_I = np.full(len(coverage_I), bool(understanding.facts))
        if self.visible_I is not None:
            matched_I &= self.visible_I
        return Matches(
            matched_I=matched_I,
            scores_I=scores_I,
            coverage_I=coverage_I,
            nearest_N=nearest_N,
            missing_terms=lexical.missing,
        )

    def evidence(self, vector_D: Floats, rows_N: Ints, coverage_N: Floats) -> Floats:
        """[N]: the share of the needed words that each row has, plus that of the needed cosine; 1
        makes a match.

        On Home Depot the sum finds .970 of the relevant items, of which either alone finds .904."""
        words_N = coverage_N / np.float32(self.choices.min_term_coverage)
        if self.relevance is None:
            return words_N
        items_ND, scales_N = self.item_vectors_ID[rows_N], self._item_scales_I[rows_N]
        cosines_N = self.relevance.scaled_cosines(vector_D, items_ND, scales_N)
        meaning_N = np.maximum(cosines_N, 0) / np.float32(self.relevance.min_cosine)
        return np.asarray(words_N + meaning_N, np.float32)

    @cached_property
    def _item_scales_I(self) -> Floats:
        assert self.relevance is not None
        return self.relevance.item_scales(self.item_vectors_ID)

    def _partial_matches(self, scores_I: Floats, coverage_I: Floats) -> Ints:
        """The best by BM25 of the items that have at least half of the needed words, not all."""
        needed = self.choices.min_term_coverage
        rows = np.flatnonzero((coverage_I >= needed / 2) & (coverage_I < needed))
        if len(rows) <= self.choices.partial_k:
            return rows
        best_places = np.lexsort((rows, -scores_I[rows]))[: self.choices.partial_k]
        return np.sort(rows[best_places])

    def _candidates(
        self,
        matches: Matches,
        code_rows: Rows,
        vector_D: Floats,
        *,
        user_D: Floats | None = None,
        allowed_I: Mask | None = None,
    ) -> _Candidates:
        rows_M, rest_R = self._allowed_matches(matches, code_rows, allowed_I)
        return _Candidates(rows_M, rest_R, *self._features(rows_M, matches, vector_D, user_D))

    def _allowed_matches(
        self, matches: Matches, code_rows: Rows, allowed_I: Mask | None
    ) -> tuple[Rows, Rows]:
        """The allowed matches, ascending; of more than `max_candidates` the best by BM25, ties by
        popularity, and all that are nearest neighbours or named by a code. And the others, in that
        order."""
        rows = np.flatnonzero(_and(matches.matched_I, allowed_I)).astype(np.int32)
        limit = self.choices.max_candidates
        if len(rows) <= limit:
            return rows, rows[:0]
        rows = rows[np.lexsort((-self.popularity_I[rows], -matches.scores_I[rows]))]
        chosen_N = np.isin(rows, np.concatenate([matches.nearest_N, code_rows]))
        chosen_N[:limit] = True
        return np.sort(rows[chosen_N]), rows[~chosen_N]

    def _features(
        self, rows_N: Rows, matches: Matches, vector_D: Floats, user_D: Floats | None
    ) -> tuple[Floats, Mask]:
        """[N, F] of FEATURES, and which source retrieved the row. The cross-encoder's column is
        still 0."""
        lexical_N = matches.scores_I[rows_N]
        zeros_N = np.zeros(len(rows_N), np.float32)
        # Some encoders put everything near everything: what counts is how much nearer than the
        # rest.
        dense_N = self.item_vectors_ID[rows_N] @ vector_D - self.mean_D @ vector_D
        items_ID = self.user_space_item_vectors_ID
        items_ID = self.item_vectors_ID if items_ID is None else items_ID
        personal_N = zeros_N if user_D is None else items_ID[rows_N] @ user_D
        retrieved_NF = np.zeros((len(rows_N), len(FEATURES)), bool)
        retrieved_NF[:, 0] = lexical_N > 0
        retrieved_NF[:, 1] = np.isin(rows_N, matches.nearest_N)
        return np.stack([lexical_N, dense_N, personal_N, zeros_N], axis=1), retrieved_NF

    def _cross_encode(self, text: str, candidates: _Candidates, deadline: float) -> tuple[str, ...]:
        """Fills the cross-encoder's column for the best `rerank_depth` matches, best first, until
        the deadline; says where it stopped."""
        rows_M, features_MF = candidates.rows_M, candidates.features_MF
        if self.cross_encoder is None or not len(rows_M):
            return ()
        scores_M = self.ranker.score(features_MF[None])[0]
        places = best(rows_M[None], scores_M[None], self.choices.rerank_depth)[0][0]
        for start in range(0, len(places), self.choices.rerank_batch):
            if time.perf_counter() >= deadline:
                return (f"cross_encoder: read {start} of the best {len(places)}",)
            batch = places[start : start + self.choices.rerank_batch]
            features_MF[batch, CROSS_ENCODER] = self.cross_encoder.scores(
                [text] * len(batch), self.text_of(rows_M[batch])
            )
        return ()

    def _rank(self, candidates: _Candidates, matches: Matches, parsed: ParsedQuery) -> Hits:
        """The candidates in order: those that a code identifies, then the others, each by score,
        ties by row; behind them the rest, with scores that fall by 1 and mean nothing else."""
        rows_M, rest_R = candidates.rows_M, candidates.rest_R
        scores_M = self.ranker.score(candidates.features_MF[None])[0]
        first = parsed.code_rows if parsed.understanding.exact else rows_M[:0]
        order_M = np.lexsort((rows_M, -scores_M, ~np.isin(rows_M, first)))
        below_R = scores_M.min(initial=0) - 1 - np.arange(len(rest_R), dtype=np.float32)
        words_RF = np.zeros((len(rest_R), len(FEATURES)), np.float32)
        words_RF[:, 0] = matches.scores_I[rest_R]
        return Hits(
            rows_N=np.concatenate([rows_M[order_M], rest_R]),
            scores_N=np.concatenate([scores_M[order_M], below_R]),
            features_NF=np.concatenate([candidates.features_MF[order_M], words_RF]),
            retrieved_NF=np.concatenate([candidates.retrieved_MF[order_M], words_RF > 0]),
            matched_I=matches.matched_I,
            relaxed=self._relaxed(parsed, matches),
        )

    def _relaxed(self, parsed: ParsedQuery, matches: Matches) -> tuple[str, ...]:
        """In words, where no item has all terms of the query."""
        text = parsed.understanding.normalised
        if not text or parsed.understanding.exact or matches.best_coverage > 0.999:
            return ()
        if missing := matches.missing_terms:
            return (f"no item has {', '.join(map(repr, missing))}: found without",)
        return ("no item has all of the words: found by most of them",)


class _Clock:
    """Milliseconds between laps."""

    def __init__(self) -> None:
        self.stages_ms: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, stage: str) -> None:
        now = time.perf_counter()
        self.stages_ms[stage], self._last = (now - self._last) * 1000, now


def _dense_request(vector_D: Floats) -> Requests:
    return Requests(size=1, vectors_BD=vector_D[None])


def _and(matched_I: Mask, allowed_I: Mask | None) -> Mask:
    return matched_I if allowed_I is None else matched_I & allowed_I
