"""Hybrid search over rows: lexical (BM25) and dense retrieval, fused by a ranker, the best
re-ranked by a cross-encoder. `pipeline.search` makes an answer of it.

What *matches* (`pipeline.matching`) does not depend on filters, page or time. So facets count what
pages show, and the same search gives the same order on every page."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from recsys.arrays import Requests
from recsys.errors import InputError
from recsys.interfaces import Ranker, Retriever
from recsys.pipeline.hits import FEATURES, Hits
from recsys.pipeline.matching import ALL_WORDS, Bounds, Judgement, Matches, RelevanceModel
from recsys.ranking.cross_encoder import CrossEncoder
from recsys.ranking.linear import best
from recsys.retrieval.text.bm25 import LexicalRetriever
from recsys.retrieval.text.phrase_match import contains_phrase
from recsys.retrieval.vectors.relevance import DenseRelevance
from recsys.types import Floats, Ints, Mask, Rows
from recsys.understanding.query_parser import ParsedQuery

CROSS_ENCODER = FEATURES.index("cross_encoder")
#: A text, parsed, and the vector of what is left of it to search.
EncodedText = tuple[ParsedQuery, Floats]

#: Matches whose texts are read for a phrase in quotes, the best by BM25.
PHRASE_DEPTH = 1_000


@dataclass(frozen=True, kw_only=True)
class SearchChoices:
    """Thresholds and depths of a hybrid search: round numbers.

    Matches are judged (`matching.RelevanceModel`) among the `dense_k` nearest neighbours by vector
    and, of the items with half of `min_term_coverage`, a share of the query's terms weighted by
    IDF, the `words_k` best by words: by `min_fit`, `min_log_odds` and `margin`. Where nothing was
    measured to judge by, items with `min_term_coverage` match. `max_candidates`: matches
    that are ranked, at most, the others behind them by BM25; `rerank_depth`: the best candidates
    that the cross-encoder scores, `rerank_batch` in one call."""

    min_term_coverage: float = 0.5
    dense_k: int = 100
    words_k: int = 2_000
    min_fit: float = 1.3
    min_log_odds: float = -6.5
    margin: float = 6.0
    max_candidates: int = 5_000
    rerank_depth: int = 50
    rerank_batch: int = 10


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
        """What the text matches by its words and meaning; nothing where neither fit.

        A text that is nothing but facts, such as a price, matches everything; so does no text."""
        index, understanding = self.lexical.index, parsed.understanding
        matches_all = not understanding.text.strip()
        matches_all |= bool(understanding.facts or understanding.excluded)
        lexical = index.match(understanding.normalised, self.lexical.synonyms)
        scores_I, coverage_I = lexical.scores_I, lexical.coverage_I
        visible_I = self._visible(understanding.excluded)
        if visible_I is not None:
            scores_I[~visible_I] = coverage_I[~visible_I] = 0
        k = min(self.choices.dense_k, max(1, index.items))
        nearest = self.dense.retrieve(_dense_request(vector_D), k, visible_I)
        nearest_N = nearest.rows_BN[0][nearest.rows_BN[0] >= 0]
        matches = Matches(
            matched_I=np.full(len(coverage_I), matches_all),
            scores_I=scores_I,
            coverage_I=coverage_I,
            nearest_N=nearest_N,
            missing_terms=lexical.missing,
        )
        if understanding.normalised:
            matches.matched_I[:] = self._relevant(matches, vector_D)
            matches.matched_I[parsed.code_rows] = True
        if visible_I is not None:
            matches.matched_I[~visible_I] = False
        return matches

    def _visible(self, excluded: Sequence[str]) -> Mask | None:
        """Without the items that have a word which the text excludes."""
        if not excluded:
            return self.visible_I
        index = self.lexical.index
        visible_I = np.ones(index.items, bool) if self.visible_I is None else self.visible_I.copy()
        for words in excluded:
            visible_I[index.rows_to_exclude(words)] = False
        return visible_I

    def judge(self, matches: Matches, vector_D: Floats, rows: Rows) -> tuple[Ints, Judgement]:
        """How relevant the candidates are, and these rows among them."""
        choices, coverage_I = self.choices, matches.coverage_I
        rows_N = np.flatnonzero(coverage_I >= choices.min_term_coverage / 2)
        if len(rows_N) > choices.words_k:
            order_N = np.lexsort((rows_N, -matches.scores_I[rows_N], -coverage_I[rows_N]))
            rows_N = rows_N[order_N[: choices.words_k]]
        candidates_I = np.zeros(len(coverage_I), bool)  # union1d takes ten times as long
        for each in (rows_N, matches.nearest_N, rows):
            candidates_I[each] = True
        rows_N = np.flatnonzero(candidates_I)
        bounds = Bounds(
            min_fit=choices.min_fit,
            min_term_coverage=choices.min_term_coverage,
            min_log_odds=choices.min_log_odds,
            margin=choices.margin,
        )
        assert self.relevance_model is not None
        return rows_N, self.relevance_model.judge(vector_D, rows_N, coverage_I[rows_N], bounds)

    def _relevant(self, matches: Matches, vector_D: Floats) -> Mask:
        coverage_I = matches.coverage_I
        if self.relevance_model is None or not vector_D.any():
            enough = min(self.choices.min_term_coverage, matches.best_coverage)
            return (coverage_I >= enough) & (enough > 0)
        relevant_I = coverage_I >= ALL_WORDS
        rows_N, judgement = self.judge(matches, vector_D, np.empty(0, np.int32))
        relevant_I[rows_N] = judgement.matched_N
        return relevant_I

    @cached_property
    def relevance_model(self) -> RelevanceModel | None:
        if self.relevance is None:
            return None
        return RelevanceModel(self.item_vectors_ID, self.relevance)

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
        """The candidates in order: those that a code identifies, its variants, the others, each by
        score, ties by row; behind them the rest, whose scores fall by 1 and mean nothing else."""
        rows_M, rest_R = candidates.rows_M, candidates.rest_R
        scores_M = self.ranker.score(candidates.features_MF[None])[0]
        first = parsed.code_rows if parsed.understanding.exact else rows_M[:0]
        others_M = ~np.isin(rows_M, first)
        others_M |= np.isin(rows_M, parsed.variant_rows)
        no_phrase_M = self._lacks_phrases(rows_M, matches, parsed.understanding.phrases)
        order_M = np.lexsort((rows_M, -scores_M, no_phrase_M, ~np.isin(rows_M, first), others_M))
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

    def _lacks_phrases(self, rows_M: Rows, matches: Matches, phrases: Sequence[str]) -> Mask:
        """Which rows have not all of the phrases; all, of those that are not the best PHRASE_DEPTH
        by their words."""
        lacks_M = np.ones(len(rows_M), bool)
        if phrases:
            best_places = np.argsort(-matches.scores_I[rows_M], kind="stable")[:PHRASE_DEPTH]
            texts = zip(best_places, self.text_of(rows_M[best_places]), strict=True)
            for place, text in texts:
                lacks_M[place] = not all(contains_phrase(text, phrase) for phrase in phrases)
        return lacks_M

    def _relaxed(self, parsed: ParsedQuery, matches: Matches) -> tuple[str, ...]:
        """In words, what the text excludes, and where no item has all terms of the query."""
        text, excluded = parsed.understanding.normalised, parsed.understanding.excluded
        without = tuple(
            f"items with {words!r} are left out: the text says so" for words in excluded
        )
        if not text or parsed.understanding.exact or matches.best_coverage > 0.999:
            return without
        if missing := matches.missing_terms:
            return (*without, f"no item has {', '.join(map(repr, missing))}: found without")
        return (*without, "no item has all of the words: found by most of them")


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
