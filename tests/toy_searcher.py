"""A toy catalogue of coloured things, searched by words and hashed trigrams, and a cross-encoder
that likes one word."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from hypothesis import strategies as st

from recsys.config import search_ranker
from recsys.encoders.hashing import HashingEncoder
from recsys.pipeline.hits import Hits
from recsys.pipeline.searcher import HybridSearcher, SearchChoices
from recsys.retrieval.text.bm25 import LexicalIndex, LexicalRetriever
from recsys.retrieval.vectors.exact import ExactRetriever
from recsys.retrieval.vectors.relevance import DenseRelevance
from recsys.types import Floats
from recsys.understanding.codes import CodeIndex
from recsys.understanding.query_parser import ParsedQuery, QueryParser
from recsys.understanding.spelling import Speller

COLOURS = ["red", "blue", "green", "white", "black"]
THINGS = ["chair", "table", "lamp", "shelf", "clock", "mirror", "vase", "carpet"]
TITLES = [f"{colour} {thing}" for thing in THINGS for colour in COLOURS]
DRILL, BITS, CHARGER = len(TITLES), len(TITLES) + 1, len(TITLES) + 2
TITLES += [
    "cordless drill SC-14100",
    "drill bits, ten of them",
    "charger for every cordless drill: drill, drill, drill",
]
IDS = [f"item{row:05d}" for row in range(len(TITLES))]
POPULARITY = np.arange(len(TITLES), dtype=np.float32)

ENCODER = HashingEncoder(1024)
VECTORS = ENCODER.encode_items(TITLES)
INDEX = LexicalIndex.build({"title": TITLES}, {})
QUERY_PARSER = QueryParser(
    Speller(INDEX.terms, INDEX.frequencies, INDEX.rows_of_term),
    CodeIndex.build(IDS, TITLES),
    [],
    IDS.__getitem__,
)
#: Few by vector: what has none of the words is found by few texts.
NARROW = SearchChoices(dense_k=3)
#: Whatever may match does, however improbable.
LENIENT = SearchChoices(dense_k=3, min_log_odds=-100.0, margin=100.0)
BY_TASTE = search_ranker({"personal": 1.0, "lexical": 0.001})
EVERYTHING = np.ones(len(TITLES), bool)


@dataclass
class FakeCrossEncoder:
    """Likes texts with a word; keeps its batches; its second call ends no earlier than `until`."""

    word: str = "blue"
    until: float = 0.0
    batches: list[list[str]] = field(default_factory=list)

    def scores(self, queries: Sequence[str], texts: Sequence[str]) -> Floats:
        assert len(queries) == len(texts)
        self.batches.append(list(texts))
        if len(self.batches) == 2:
            time.sleep(max(0.0, self.until - time.perf_counter()))
        return np.array([0.9 if self.word in text else 0.1 for text in texts], np.float32)


def searcher(
    cross_encoder: FakeCrossEncoder | None = None,
    choices: SearchChoices = NARROW,
    ranker: Any = None,
    min_cosine: float = 0.2,
) -> HybridSearcher:
    """An item matches by its vector from `min_cosine` on."""

    def texts_of(rows: Any) -> list[str]:
        return [TITLES[row] for row in rows]

    lexical, dense = LexicalRetriever(INDEX), ExactRetriever("dense", VECTORS)
    return HybridSearcher(
        lexical=lexical,
        dense=dense,
        item_vectors_ID=VECTORS,
        ranker=ranker or search_ranker(),
        text_of=texts_of,
        popularity_I=POPULARITY,
        cross_encoder=cross_encoder,
        choices=choices,
        relevance=DenseRelevance(np.zeros(1024), np.zeros(1024), min_cosine),
    )  # type: ignore[arg-type]


def encode(text: str) -> tuple[ParsedQuery, Floats]:
    parsed = QUERY_PARSER.parse(text)
    normalised = parsed.understanding.normalised
    return parsed, ENCODER.encode_queries([normalised])[0] if normalised else np.zeros(
        1024, np.float32
    )


def search(text: str, over: HybridSearcher | None = None, **choices: Any) -> Hits:
    return (over or searcher()).search(*encode(text), **choices)


def titles(hits: Hits) -> list[str]:
    return [TITLES[row] for row in hits.rows_N]


def rows_with(word: str) -> set[int]:
    return {row for row, title in enumerate(TITLES) if word in title.split()}


#: Which items a filter allows.
masks = st.none() | st.lists(st.booleans(), min_size=len(TITLES), max_size=len(TITLES)).map(
    np.array
)
