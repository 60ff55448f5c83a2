"""A search over rows: what the text finds, fused, its best read again. `Recommender.search` makes
an answer of it.

What is *found* does not depend on filters, page or time: every item that has enough of the query's
words, and the nearest by vector. So facets count what pages show, and the same search gives the
same order on every page."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from recsys.errors import InputError
from recsys.interfaces import Ranker, Retriever
from recsys.ranking.cross_encoder import CrossEncoder
from recsys.ranking.linear import best
from recsys.retrieval.text.bm25 import LexicalRetriever
from recsys.types import Floats, Ints, Mask, Requests, Rows
from recsys.understanding.query_parser import ParsedQuery

#: The features that a search's ranker may weigh, in the order of the table.
FEATURES = ("lexical", "dense", "personal", "cross_encoder")
CROSS_ENCODER = FEATURES.index("cross_encoder")


@dataclass(frozen=True)
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


@dataclass(frozen=True)
class Hits:
    """Everything found that passes the filters, best first; after `total` places come others that
    pass, nearest first, where filters left too little. A longer list begins with the shorter one.

    `found_I` is what the text found, unfiltered; `brought_NF` says which source brought each row.
    """

    rows_N: Rows
    scores_N: Floats
    features_NF: Floats
    brought_NF: Mask
    found_I: Mask
    total: int
    relaxed: tuple[str, ...] = ()
    no_good_match: bool = False
    skipped: tuple[str, ...] = ()
    stages_ms: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Matches:
    """What the text itself finds: BM25 and the share of its words for all items, and the nearest by
    vector."""

    scores_I: Floats
    covered_I: Floats
    near_N: Rows
    nearest: float

    @property
    def best_covered(self) -> float:
        return float(self.covered_I.max(initial=0.0))


@dataclass(frozen=True)
class HybridSearcher:
    """The sources of a search over one catalogue, and what orders them. Safe to call from many
    threads.

    `text_of` gives the texts of rows, as the cross-encoder reads them; without a `reader` nothing
    is re-ranked. `user_space_item_vectors_ID` are the items where user vectors are, by default their own
    vectors."""

    lexical: LexicalRetriever
    dense: Retriever
    item_vectors_ID: Floats
    ranker: Ranker
    text_of: Callable[[Ints], list[str]]
    popularity_I: Floats
    reader: CrossEncoder | None = None
    choices: SearchChoices = field(default_factory=SearchChoices)
    user_space_item_vectors_ID: Floats | None = None

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

    def find(
        self,
        understood: ParsedQuery,
        vector_D: Floats,
        allowed_I: Mask | None = None,
        taste_D: Floats | None = None,
        fill: int = 0,
        deadline: float = np.inf,
    ) -> Hits:
        """What the text finds among the allowed items, in order: what a text that is a code names,
        then by the ranker.

        `vector_D` is the encoded text, `taste_D` the user's vector; zeros are none. Where fewer
        than `fill` pass the filters, the nearest that pass are put behind. After `deadline` (of
        time.perf_counter) nothing more is read by the cross-encoder."""
        stages_ms: dict[str, float] = {}
        clock = _Clock(stages_ms)
        text = understood.understanding.normalised
        matches = self._matches(text, vector_D)
        clock.lap("match")
        found_I = self._found(matches, understood)
        if not found_I.any():
            return self._nothing(found_I, stages_ms)
        rows_N = self._passing(matches, found_I, understood.code_rows, allowed_I)
        filled_N = self._nearest(vector_D, allowed_I, found_I, fill - len(rows_N))
        features_NF, brought_NF = self._features(
            np.concatenate([rows_N, filled_N]), matches, vector_D, taste_D
        )
        clock.lap("features")
        skipped = self._read(text, rows_N, features_NF, deadline)
        clock.lap("cross_encoder")
        scores_N = self._scores(features_NF, len(rows_N))
        first = understood.code_rows if understood.understanding.exact else rows_N[:0]
        order = self._order(rows_N, scores_N, first)
        clock.lap("rank")
        total = (
            len(rows_N)
            if len(rows_N) < self.choices.max_candidates
            else int(_and(found_I, allowed_I).sum())
        )
        relaxed = (
            *self._relaxed(text, matches, understood),
            *(_filled(total) if len(filled_N) else ()),
        )
        return Hits(
            np.concatenate([rows_N, filled_N])[order],
            scores_N[order],
            features_NF[order],
            brought_NF[order],
            found_I,
            total,
            relaxed,
            False,
            skipped,
            stages_ms,
        )

    def judge(self, understood: ParsedQuery, vector_D: Floats, rows: Rows) -> Floats:
        """The score that each of these rows gets for the text, found or not, all of them read by
        the cross-encoder."""
        text = understood.understanding.normalised
        matches = self._matches(text, vector_D)
        top = self._passing(matches, self._found(matches, understood), understood.code_rows, None)
        features_NF, _ = self._features(np.concatenate([rows, top]), matches, vector_D, None)
        self._read(text, top, features_NF[len(rows) :], np.inf)
        if self.reader:
            features_NF[: len(rows), CROSS_ENCODER] = self.reader.scores(
                [text] * len(rows), self.text_of(rows)
            )
        return self.ranker.score(features_NF[None])[0][: len(rows)]

    def _matches(self, text: str, vector_D: Floats) -> Matches:
        index, synonyms = self.lexical.index, self.lexical.synonyms
        near = self.dense.retrieve(
            Requests(size=1, texts=None, vectors_BD=vector_D[None]),
            min(self.choices.dense_k, max(1, index.items)),
        )
        nearest = float(near.scores_BN.max(initial=-np.inf)) - float(self.mean_D @ vector_D)
        near_N = near.rows_BN[0][near.rows_BN[0] >= 0]
        return Matches(
            index.scores(text, synonyms), index.coverage(text, synonyms), near_N, nearest
        )

    def _found(self, matches: Matches, understood: ParsedQuery) -> Mask:
        """[I] enough words or near enough; nothing where neither words nor meaning fit.

        Where no item has `covered` of the words, those that have the most of them are found. A text
        that is nothing but facts, such as a price, finds everything."""
        if not understood.understanding.normalised:
            return np.full(len(matches.covered_I), bool(understood.understanding.facts))
        enough = min(self.choices.min_term_coverage, matches.best_covered)
        found_I = (
            matches.covered_I >= enough if enough > 0 else np.zeros(len(matches.covered_I), bool)
        )
        if enough > 0 or matches.nearest >= self.choices.min_margin:
            found_I[matches.near_N] = True
        found_I[understood.code_rows] = True
        return found_I

    def _passing(
        self, matches: Matches, found_I: Mask, code_rows: Rows, allowed_I: Mask | None
    ) -> Rows:
        """Ascending; of more than `ranked` those that BM25 puts first, the popular before equals;
        and all that are near or named by a code."""
        rows = np.flatnonzero(_and(found_I, allowed_I)).astype(np.int32)
        if len(rows) <= self.choices.max_candidates:
            return rows
        kept = np.lexsort((-self.popularity_I[rows], -matches.scores_I[rows]))[
            : self.choices.max_candidates
        ]
        certain = np.flatnonzero(np.isin(rows, np.concatenate([matches.near_N, code_rows])))
        return rows[np.union1d(kept, certain)]

    def _nearest(
        self, vector_D: Floats, allowed_I: Mask | None, found_I: Mask, wanted: int
    ) -> Rows:
        """Of the allowed rows that were not found, nearest first."""
        if wanted <= 0 or allowed_I is None:
            return np.empty(0, np.int32)
        near = self.dense.retrieve(
            Requests(size=1, texts=None, vectors_BD=vector_D[None]), wanted, allowed_I & ~found_I
        ).rows_BN[0]
        return near[near >= 0]

    def _features(
        self, rows_N: Rows, matches: Matches, vector_D: Floats, taste_D: Floats | None
    ) -> tuple[Floats, Mask]:
        """One column for each of FEATURES, and who brought the row. The cross-encoder has read
        nothing yet."""
        lexical_N = matches.scores_I[rows_N]
        nothing_N = np.zeros(len(rows_N), np.float32)
        # Some encoders put everything near everything: what counts is how much nearer than the
        # rest.
        dense_N = self.item_vectors_ID[rows_N] @ vector_D - self.mean_D @ vector_D
        tasted_ID = (
            self.item_vectors_ID
            if self.user_space_item_vectors_ID is None
            else self.user_space_item_vectors_ID
        )
        personal_N = nothing_N if taste_D is None else tasted_ID[rows_N] @ taste_D
        brought_NF = np.zeros((len(rows_N), len(FEATURES)), bool)
        brought_NF[:, 0], brought_NF[:, 1] = lexical_N > 0, np.isin(rows_N, matches.near_N)
        return np.stack([lexical_N, dense_N, personal_N, nothing_N], axis=1), brought_NF

    def _read(
        self, text: str, rows_N: Rows, features_NF: Floats, deadline: float
    ) -> tuple[str, ...]:
        """Fills the cross-encoder's column for the best `window`, best first, while there is
        time."""
        if self.reader is None or not len(rows_N):
            return ()
        first_N = self.ranker.score(features_NF[None, : len(rows_N)])[0]
        places = best(rows_N[None], first_N[None], self.choices.rerank_depth)[0][0]
        for at in range(0, len(places), self.choices.rerank_batch):
            if time.perf_counter() >= deadline:
                return (f"cross_encoder: read {at} of the best {len(places)}",)
            now = places[at : at + self.choices.rerank_batch]
            features_NF[now, CROSS_ENCODER] = self.reader.scores(
                [text] * len(now), self.text_of(rows_N[now])
            )
        return ()

    def _scores(self, features_NF: Floats, found: int) -> Floats:
        """Of the first `found` rows without regard to the others: how many fill up depends on the
        page."""
        scores_N = self.ranker.score(features_NF[None, :found])[0]
        if found == len(features_NF):
            return scores_N
        return np.concatenate([scores_N, self.ranker.score(features_NF[None])[0][found:]])

    def _order(self, rows_N: Rows, scores_N: Floats, first: Rows) -> Ints:
        """`first`, then what was found, each by score, ties by row; then what fills up, as it
        came."""
        found = len(rows_N)
        order_N = np.lexsort((rows_N, -scores_N[:found], ~np.isin(rows_N, first)))
        return np.concatenate([order_N, np.arange(found, len(scores_N))])

    def _relaxed(self, text: str, matches: Matches, understood: ParsedQuery) -> tuple[str, ...]:
        """In words, where no item has all of the query's."""
        if not text or understood.understanding.exact or matches.best_covered > 0.999:
            return ()
        missing = self.lexical.index.missing_terms(text, self.lexical.synonyms)
        if missing:
            return (f"no item has {', '.join(repr(term) for term in missing)}: found without",)
        return ("no item has all of the words: found by most of them",)

    def _nothing(self, found_I: Mask, stages_ms: dict[str, float]) -> Hits:
        none, width = np.empty(0, np.int32), len(FEATURES)
        empty = np.empty((0, width), np.float32)
        return Hits(
            none,
            np.empty(0, np.float32),
            empty,
            empty.astype(bool),
            found_I,
            0,
            (),
            True,
            (),
            stages_ms,
        )


class _Clock:
    """Milliseconds between laps."""

    def __init__(self, stages_ms: dict[str, float]) -> None:
        self.stages_ms, self.last = stages_ms, time.perf_counter()

    def lap(self, stage: str) -> None:
        now = time.perf_counter()
        self.stages_ms[stage], self.last = (now - self.last) * 1000, now


def _and(found_I: Mask, allowed_I: Mask | None) -> Mask:
    return found_I if allowed_I is None else found_I & allowed_I


def _filled(total: int) -> Sequence[str]:
    return (f"the filters leave {total} of what was found: the nearest that pass them follow",)
