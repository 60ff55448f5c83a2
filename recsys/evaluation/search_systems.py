"""Search systems to evaluate, over one judged catalogue: baselines, parts, and nightshelf."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Protocol

import numpy as np
import pyarrow as pa

from recsys.config import Setup, search_ranker
from recsys.encoders.text import item_texts
from recsys.interfaces import Encoder
from recsys.models.composition import encoder_vocabulary
from recsys.pipeline.matching import Matches
from recsys.pipeline.searcher import HybridSearcher
from recsys.retrieval.text.bm25 import LexicalIndex, LexicalRetriever
from recsys.retrieval.text.fields import FIELD_BOOSTS, searchable_fields
from recsys.retrieval.vectors.exact import ExactRetriever, top_k
from recsys.retrieval.vectors.relevance import DenseRelevance
from recsys.types import Floats, QueryUnderstanding, Rows
from recsys.understanding.codes import CodeIndex
from recsys.understanding.normalisation import normalise
from recsys.understanding.query_parser import ParsedQuery, QueryParser
from recsys.understanding.spelling import Speller

#: Length of the lists.
DEPTH = 100


@dataclass(frozen=True)
class SearchCatalogue:
    """A catalogue with its encoder texts, lexical index and code index."""

    items: pa.Table
    texts: list[str]
    lexical: LexicalIndex
    codes: CodeIndex

    @classmethod
    def of(cls, items: pa.Table) -> SearchCatalogue:
        """`items` has the columns of `tables.ITEMS_IN`."""
        texts = searchable_fields(items)
        codes = CodeIndex.build(items["item_id"].to_pylist(), texts["title"], texts["attributes"])
        return cls(items, item_texts(items), LexicalIndex.build(texts, FIELD_BOOSTS), codes)


class SearchSystem(Protocol):
    """A search that can be evaluated."""

    def rank(self, text: str) -> Rows:
        """Up to DEPTH rows, best first."""
        ...

    def score(self, text: str, rows: Rows) -> Floats:
        """Its score of each of these rows."""
        ...


class RandomSystem:
    """Random order: the lowest baseline."""

    def __init__(self, items: int, seed: int = 0) -> None:
        self.items, self.rng = items, np.random.default_rng(seed)

    def rank(self, text: str) -> Rows:
        return self.rng.choice(self.items, min(DEPTH, self.items), replace=False).astype(np.int32)

    def score(self, text: str, rows: Rows) -> Floats:
        return self.rng.random(len(rows), dtype=np.float32)


class Bm25System:
    """BM25 of the query as typed."""

    def __init__(self, index: LexicalIndex) -> None:
        self.index = index

    def rank(self, text: str) -> Rows:
        scores_I = self.index.scores(normalise(text))
        rows = np.argsort(-scores_I, kind="stable")[:DEPTH]
        return rows[scores_I[rows] > 0].astype(np.int32)

    def score(self, text: str, rows: Rows) -> Floats:
        return self.index.score_rows(normalise(text), rows)


class DenseSystem:
    """Exact dense retrieval."""

    def __init__(self, encoder: Encoder, vectors_ID: Floats) -> None:
        self.encode, self.vectors_ID = cached_query_encoder(encoder), vectors_ID

    def rank(self, text: str) -> Rows:
        rows = top_k(self.encode(text)[None], self.vectors_ID, DEPTH)[0][0]
        return rows[rows >= 0]

    def score(self, text: str, rows: Rows) -> Floats:
        return self.vectors_ID[rows] @ self.encode(text)


class NightshelfSystem:
    """Nightshelf's own search path."""

    def __init__(
        self, parse: Callable[[str], ParsedQuery], searcher: HybridSearcher, encoder: Encoder
    ) -> None:
        self.parse, self.searcher, self.encode = parse, searcher, cached_query_encoder(encoder)

    def rank(self, text: str) -> Rows:
        parsed = self.parse(text)
        return self.searcher.search(parsed, self._vector(parsed)).rows_N[:DEPTH]

    def matches(self, text: str) -> Matches:
        """What the text finds."""
        parsed = self.parse(text)
        return self.searcher.match(parsed, self._vector(parsed))

    def score(self, text: str, rows: Rows) -> Floats:
        parsed = self.parse(text)
        return self.searcher.score_rows(parsed, self._vector(parsed), rows)

    def _vector(self, parsed: ParsedQuery) -> Floats:
        return self.encode(parsed.understanding.normalised)


def cached_query_encoder(encoder: Encoder) -> Callable[[str], Floats]:
    """The encoder with a cache of queries, so that a text is encoded, and timed, once."""

    @cache
    def encode(text: str) -> Floats:
        return encoder.encode_queries([text])[0]

    return encode


def without_understanding(text: str) -> ParsedQuery:
    """The query parsed without corrections or recognised facts."""
    return ParsedQuery(
        QueryUnderstanding(text=text, normalised=normalise(text)), np.empty(0, np.int32)
    )


def search_systems(
    catalogue: SearchCatalogue,
    zero_shot: tuple[Encoder, Floats],
    tuned: tuple[Encoder, Floats],
    setup: Setup,
    hybrid_weights: Mapping[str, float],
) -> dict[str, SearchSystem]:
    """Baselines, parts, and the whole system, by name: each encoder comes with its item vectors,
    `setup` with all trained parts in place."""
    ids, encoder = catalogue.items["item_id"].to_pylist(), tuned[0]
    parser = query_parser(catalogue, encoder_vocabulary(setup.encoder()))
    whole = replace(
        untrained_searcher(catalogue, *tuned),
        ranker=setup.search_ranker(),
        cross_encoder=setup.cross_encoder() if setup.cross_encoder else None,
        choices=setup.search,
    )
    plain = replace(whole, cross_encoder=None, ranker=search_ranker(hybrid_weights))
    return {
        "random": RandomSystem(len(ids)),
        "bm25": Bm25System(catalogue.lexical),
        "dense_zero_shot": DenseSystem(*zero_shot),
        "dense_tuned": DenseSystem(*tuned),
        "hybrid": NightshelfSystem(without_understanding, plain, encoder),
        "nightshelf": NightshelfSystem(parser.parse, whole, encoder),
    }


def query_parser(catalogue: SearchCatalogue, vocabulary: Collection[str] = ()) -> QueryParser:
    """The understanding of queries to a catalogue; words of `vocabulary` are no typos."""
    index, ids = catalogue.lexical, catalogue.items["item_id"].to_pylist()
    return QueryParser(
        Speller(
            index.terms,
            index.frequencies,
            index.rows_of_term,
            vocabulary,
            has_forms=index.has_forms,
        ),
        catalogue.codes,
        sorted({brand for brand in catalogue.items["brand"].to_pylist() if brand}),
        ids.__getitem__,
    )


def untrained_searcher(
    catalogue: SearchCatalogue, encoder: Encoder, vectors_ID: Floats
) -> HybridSearcher:
    """Search with an encoder as it comes, without a cross-encoder."""
    return HybridSearcher(
        lexical=LexicalRetriever(catalogue.lexical),
        dense=ExactRetriever("dense", vectors_ID),
        item_vectors_ID=vectors_ID,
        ranker=search_ranker(),
        text_of=lambda rows: [catalogue.texts[row] for row in rows],
        popularity_I=np.zeros(len(catalogue.texts), np.float32),
        relevance=DenseRelevance.calibrate(encoder.encode_queries, vectors_ID),
    )
