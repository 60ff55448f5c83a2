"""Hybrid search over rows: lexical (BM25) and dense retrieval, fused by a ranker, the best
re-ranked by a cross-encoder. `pipeline.search` makes an answer of it.

What *matches* does not depend on filters, page or time: every item with enough of the query's
terms, and the nearest neighbours by vector. So facets count what pages show, and the same search
gives the same order on every page."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from recsys.arrays import Requests
from recsys.errors import InputError
from recsys.interfaces import Ranker, Retriever
from recsys.ranking.cross_encoder import CrossEncoder
from recsys.ranking.linear import best
from recsys.retrieval.text.bm25 import LexicalRetriever
from recsys.types import Floats, Ints, Mask, Rows
from recsys.understanding.query_parser import ParsedQuery

#: The features that a search's ranker may weigh, in the order of the table.
FEATURES = ("lexical", "dense", "personal", "cross_encoder")
CROSS_ENCODER = FEATURES.index("cross_encoder")
#: A text, parsed, and the vector of what is left of it to search.
EncodedText = tuple[ParsedQuery, Floats]


@dataclass(frozen=True, kw_only=True)
class SearchChoices:
    """Thresholds and depths of a hybrid search. Only `min_margin` was chosen by measurement; the
    others are round numbers.

    `min_term_coverage`: the share of the query's terms, weighted by IDF, that an item must contain
    to be a lexical match; `dense_k`: nearest neighbours by vector; `max_candidates`: lexical
    matches that are ranked, at most; `rerank_depth`: the best candidates that the cross-encoder
    scores, `rerank_batch` in one call. Where the catalogue has none of the query's terms, the
    cosine of the nearest item must exceed the catalogue's mean by `min_margin` to be a match: of
    300 real queries and 100 of made-up words, .38 separates all but a twentieth of each for
    MiniLM."""

    min_term_coverage: float = 0.5
    dense_k: int = 100
    max_candidates: int = 5_000
    rerank_depth: int = 50
    rerank_batch: int = 10
    min_margin: float = 0.38


@dataclass(frozen=True, kw_only=True)
class Hits:
    """The matches that pass the filters, best first; after the first `total` come fill-ins: other
    items that pass, nearest first, where filters left too few. A longer list begins with the
    shorter one.

    `matched_I` is what the text matches, unfiltered; `retrieved_NF` says which source retrieved
    each row."""

    rows_N: Rows
    scores_N: Floats
    features_NF: Floats
    retrieved_NF: Mask
    matched_I: Mask
    total: int
    relaxed: tuple[str, ...] = ()
    no_good_match: bool = False
    skipped: tuple[str, ...] = ()
    stages_ms: dict[str, float] = field(default_factory=dict)

    @classmethod
    def none(cls, matched_I: Mask) -> Hits:
        """Nothing matches."""
        return cls(
            rows_N=np.empty(0, np.int32),
            scores_N=np.empty(0, np.float32),
            features_NF=np.empty((0, len(FEATURES)), np.float32),
            retrieved_NF=np.empty((0, len(FEATURES)), bool),
            matched_I=matched_I,
            total=0,
            no_good_match=True,
        )


@dataclass(frozen=True)
class Matches:
    """Retrieval scores of a text: BM25 and term coverage of all items, the nearest neighbours by
    vector, and how far the nearest lies above the catalogue's mean cosine."""

    scores_I: Floats
    coverage_I: Floats
    nearest_N: Rows
    margin: float

    @property
    def best_coverage(self) -> float:
        return float(self.coverage_I.max(initial=0.0))


@dataclass(frozen=True, kw_only=True)
class HybridSearcher:
    """The retrievers of a search over one catalogue, and what orders their matches. Safe to call
    from many threads.

    `text_of` gives the texts of rows as the cross-encoder reads them; without a `cross_encoder`
    the ranker's order is final. It stops `reserve_s` before a search's deadline: the rest of the
    answer takes time too. `user_space_item_vectors_ID` are the items in the user vectors' space, by
    default their own vectors."""

    lexical: LexicalRetriever
    dense: Retriever
    item_vectors_ID: Floats
    ranker: Ranker
    text_of: Callable[[Ints], list[str]]
    popularity_I: Floats
    cross_encoder: CrossEncoder | None = None
    choices: SearchChoices = field(default_factory=SearchChoices)
    user_space_item_vectors_ID: Floats | None = None
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
        allowed_I: Mask | None = None,
        user_D: Floats | None = None,
        fill: int = 0,
        deadline: float = np.inf,
        cross_encode: bool = True,
    ) -> Hits:
        """The allowed items that the text matches, in order: those that a code in it identifies,
        then by the ranker.

        `vector_D` is the encoded text, `user_D` the user's vector; zeros are none. Where fewer than
        `fill` pass the filters, the nearest that pass follow. The cross-encoder scores the best
        unless `cross_encode` is False, until `reserve_s` before the deadline (of
        time.perf_counter)."""
        clock, text = _Clock(), parsed.understanding.normalised
        matches = self._match(text, vector_D)
        clock.lap("match")
        matched_I = self._matched(matches, parsed)
        if not matched_I.any():
            return replace(Hits.none(matched_I), stages_ms=clock.stages_ms)
        rows_M = self._candidates(matches, matched_I, parsed.code_rows, allowed_I)
        fill_R = self._nearest_others(vector_D, allowed_I, matched_I, fill - len(rows_M))
        rows_N = np.concatenate([rows_M, fill_R])
        features_NF, retrieved_NF = self._features(rows_N, matches, vector_D, user_D)
        clock.lap("features")
        skipped: tuple[str, ...] = ()
        if cross_encode:
            skipped = self._cross_encode(text, rows_M, features_NF, deadline - self.reserve_s)
        clock.lap("cross_encoder")
        scores_N = self._scores(features_NF, len(rows_M))
        first = parsed.code_rows if parsed.understanding.exact else rows_M[:0]
        order_N = self._order(rows_M, scores_N, first)
        clock.lap("rank")
        total = self._total(rows_M, matched_I, allowed_I)
        relaxed = self._relaxed(text, matches, parsed)
        return Hits(
            rows_N=rows_N[order_N],
            scores_N=scores_N[order_N],
            features_NF=features_NF[order_N],
            retrieved_NF=retrieved_NF[order_N],
            matched_I=matched_I,
            total=total,
            relaxed=(*relaxed, *(_filled(total) if len(fill_R) else ())),
            skipped=skipped,
            stages_ms=clock.stages_ms,
        )

    def score_rows(self, parsed: ParsedQuery, vector_D: Floats, rows: Rows) -> Floats:
        """The score of each of these rows for the text, matched or not, all of them scored by the
        cross-encoder."""
        text = parsed.understanding.normalised
        matches = self._match(text, vector_D)
        matched_I = self._matched(matches, parsed)
        top = self._candidates(matches, matched_I, parsed.code_rows, None)
        features_NF, _ = self._features(np.concatenate([rows, top]), matches, vector_D, None)
        self._cross_encode(text, top, features_NF[len(rows) :], np.inf)
        if self.cross_encoder:
            features_NF[: len(rows), CROSS_ENCODER] = self.cross_encoder.scores(
                [text] * len(rows), self.text_of(rows)
            )
        return self.ranker.score(features_NF[None])[0][: len(rows)]

    def _match(self, text: str, vector_D: Floats) -> Matches:
        index, synonyms = self.lexical.index, self.lexical.synonyms
        k = min(self.choices.dense_k, max(1, index.items))
        nearest = self.dense.retrieve(_dense_request(vector_D), k)
        margin = float(nearest.scores_BN.max(initial=-np.inf)) - float(self.mean_D @ vector_D)
        nearest_N = nearest.rows_BN[0][nearest.rows_BN[0] >= 0]
        scores_I, coverage_I = index.scores(text, synonyms), index.coverage(text, synonyms)
        return Matches(scores_I, coverage_I, nearest_N, margin)

    def _matched(self, matches: Matches, parsed: ParsedQuery) -> Mask:
        """[I]: enough terms or near enough; nothing where neither terms nor meaning fit.

        Where no item covers `min_term_coverage`, those that cover the most match. A text that is
        nothing but facts, such as a price, matches everything."""
        if not parsed.understanding.normalised:
            return np.full(len(matches.coverage_I), bool(parsed.understanding.facts))
        enough = min(self.choices.min_term_coverage, matches.best_coverage)
        if enough > 0:
            matched_I = matches.coverage_I >= enough
        else:
            matched_I = np.zeros(len(matches.coverage_I), bool)
        if enough > 0 or matches.margin >= self.choices.min_margin:
            matched_I[matches.nearest_N] = True
        matched_I[parsed.code_rows] = True
        return matched_I

    def _candidates(
        self, matches: Matches, matched_I: Mask, code_rows: Rows, allowed_I: Mask | None
    ) -> Rows:
        """The allowed matches, ascending; of more than `max_candidates` the best by BM25, ties by
        popularity, and all that are nearest neighbours or named by a code."""
        rows = np.flatnonzero(_and(matched_I, allowed_I)).astype(np.int32)
        limit = self.choices.max_candidates
        if len(rows) <= limit:
            return rows
        best_places = np.lexsort((-self.popularity_I[rows], -matches.scores_I[rows]))[:limit]
        certain = np.flatnonzero(np.isin(rows, np.concatenate([matches.nearest_N, code_rows])))
        return rows[np.union1d(best_places, certain)]

    def _nearest_others(
        self, vector_D: Floats, allowed_I: Mask | None, matched_I: Mask, count: int
    ) -> Rows:
        """Of the allowed rows that do not match, nearest first."""
        if count <= 0 or allowed_I is None:
            return np.empty(0, np.int32)
        others_I = allowed_I & ~matched_I
        nearest = self.dense.retrieve(_dense_request(vector_D), count, others_I).rows_BN[0]
        return nearest[nearest >= 0]

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

    def _cross_encode(
        self, text: str, rows_M: Rows, features_NF: Floats, deadline: float
    ) -> tuple[str, ...]:
        """Fills the cross-encoder's column for the best `rerank_depth`, best first, until the
        deadline; says where it stopped."""
        if self.cross_encoder is None or not len(rows_M):
            return ()
        scores_M = self.ranker.score(features_NF[None, : len(rows_M)])[0]
        places = best(rows_M[None], scores_M[None], self.choices.rerank_depth)[0][0]
        for start in range(0, len(places), self.choices.rerank_batch):
            if time.perf_counter() >= deadline:
                return (f"cross_encoder: read {start} of the best {len(places)}",)
            batch = places[start : start + self.choices.rerank_batch]
            features_NF[batch, CROSS_ENCODER] = self.cross_encoder.scores(
                [text] * len(batch), self.text_of(rows_M[batch])
            )
        return ()

    def _scores(self, features_NF: Floats, match_count: int) -> Floats:
        """Of the first `match_count` rows without regard to the fill-ins: how many of these there
        are depends on the page."""
        scores_M = self.ranker.score(features_NF[None, :match_count])[0]
        if match_count == len(features_NF):
            return scores_M
        return np.concatenate([scores_M, self.ranker.score(features_NF[None])[0][match_count:]])

    def _order(self, rows_M: Rows, scores_N: Floats, first: Rows) -> Ints:
        """`first`, then the other matches, each by score, ties by row; then the fill-ins as they
        came."""
        count = len(rows_M)
        order_M = np.lexsort((rows_M, -scores_N[:count], ~np.isin(rows_M, first)))
        return np.concatenate([order_M, np.arange(count, len(scores_N))])

    def _total(self, rows_M: Rows, matched_I: Mask, allowed_I: Mask | None) -> int:
        if len(rows_M) < self.choices.max_candidates:
            return len(rows_M)
        return int(_and(matched_I, allowed_I).sum())

    def _relaxed(self, text: str, matches: Matches, parsed: ParsedQuery) -> tuple[str, ...]:
        """In words, where no item has all terms of the query."""
        if not text or parsed.understanding.exact or matches.best_coverage > 0.999:
            return ()
        missing = self.lexical.index.missing_terms(text, self.lexical.synonyms)
        if missing:
            return (f"no item has {', '.join(repr(term) for term in missing)}: found without",)
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


def _filled(total: int) -> Sequence[str]:
    return (f"the filters leave {total} of what was found: the nearest that pass them follow",)
