"""Evaluation of words in many languages: whether a product is found by its words, inflected,
without their accents, with a typing error, and by a part of a compound."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from recsys.config import tiny
from recsys.datasets.language_catalogue import (
    KINDS,
    LANGUAGES,
    LanguageCatalogue,
    LanguageQuery,
    read_language_catalogue,
)
from recsys.encoders import minilm
from recsys.evaluation.results import Criterion, Row
from recsys.evaluation.search_systems import (
    DEPTH,
    Bm25System,
    NightshelfSystem,
    RandomSystem,
    SearchCatalogue,
    SearchSystem,
)
from recsys.intervals import bootstrap_mean
from recsys.metrics import Values, mean
from recsys.models.composition import encoder_vocabulary
from recsys.pipeline.searcher import HybridSearcher
from recsys.retrieval.text.bm25 import K1, B, LexicalRetriever
from recsys.retrieval.vectors.exact import ExactRetriever
from recsys.retrieval.vectors.relevance import DenseRelevance
from recsys.tables import ITEMS_IN
from recsys.training.vectors import item_vectors
from recsys.types import Floats, Rows
from recsys.understanding.query_parser import QueryParser
from recsys.understanding.spelling import Speller

#: Of recall@10 in the worst language: floor and goal.
BOUNDS: Mapping[str, tuple[float | None, float | None]] = {
    "exact": (0.97, 0.99),
    "inflected": (0.8, 0.93),
    "without_accents": (0.95, 0.99),
    "typo": (None, None),
    "compound_part": (0.8, 0.92),
}
#: A language with fewer queries of a kind is not measured in it.
MIN_QUERIES = 12


class ExactTokens:
    """The baseline: BM25 of lower-cased tokens between spaces."""

    def __init__(self, titles: Sequence[str]) -> None:
        import bm25s

        vocabulary: dict[str, int] = {}
        ids = [
            [vocabulary.setdefault(token, len(vocabulary)) for token in title.lower().split()]
            for title in titles
        ]
        self._vocabulary, self._bm25 = vocabulary, bm25s.BM25(k1=K1, b=B)
        self._bm25.index((ids, vocabulary), create_empty_token=False, show_progress=False)

    def rank(self, text: str) -> Rows:
        scores_I = self._scores(text)
        rows = np.argsort(-scores_I, kind="stable")[:DEPTH]
        return rows[scores_I[rows] > 0].astype(np.int32)

    def score(self, text: str, rows: Rows) -> Floats:
        return self._scores(text)[rows]

    def _scores(self, text: str) -> Floats:
        ids = [self._vocabulary[t] for t in text.lower().split() if t in self._vocabulary]
        if not ids:
            return np.zeros(self._bm25.scores["num_docs"], np.float32)
        scores_I: Floats = self._bm25.get_scores_from_ids(ids)
        return scores_I


def evaluate_languages(
    folder: Path, split: str = "test", say: Callable[[str], None] = print
) -> tuple[list[Row], list[Criterion]]:
    """For each system its recall@10 by kind of query, a mean over languages; for nightshelf also
    that of each language, with 95 % intervals by bootstrap over queries; and floors and goals,
    which the worst language must reach.

    `folder` caches word lists, the catalogue and its vectors."""
    folder.mkdir(parents=True, exist_ok=True)
    catalogue = read_language_catalogue(folder)
    queries = [query for query in catalogue.queries if query.split == split]
    say(
        f"{len(catalogue.titles):,} titles in {len(LANGUAGES)} languages; "
        f"{len(queries):,} queries of split {split}"
    )
    rows: list[Row] = []
    for name, system in language_systems(catalogue, folder).items():
        values = recalls(system, queries)
        means = {kind: float(np.mean(list(map(mean, of.values())))) for kind, of in values.items()}
        rows.append({"name": name, **{f"recall@10/{kind}": each for kind, each in means.items()}})
    rows += [_language_row(language, values) for language in LANGUAGES]
    return rows, [criterion(kind, of_kind) for kind, of_kind in values.items()]


def language_systems(catalogue: LanguageCatalogue, folder: Path) -> dict[str, SearchSystem]:
    """Baselines, the words alone, and the whole search of the setup `tiny`, which is the last."""
    items = _items(catalogue)
    search, setup, encoder = SearchCatalogue.of(items), tiny(), minilm()
    vectors_ID = item_vectors(encoder, search.texts, folder)
    index, ids = search.lexical, items["item_id"].to_pylist()
    speller = Speller(
        index.terms,
        index.frequencies,
        index.rows_of_term,
        encoder_vocabulary(encoder),
        has_forms=index.has_forms,
    )
    parser = QueryParser(speller, search.codes, (), ids.__getitem__)
    searcher = HybridSearcher(
        lexical=LexicalRetriever(index),
        dense=ExactRetriever("dense", vectors_ID),
        item_vectors_ID=vectors_ID,
        ranker=setup.search_ranker(),
        text_of=lambda rows: [search.texts[row] for row in rows],
        popularity_I=np.zeros(len(ids), np.float32),
        choices=setup.search,
        relevance=DenseRelevance.calibrate(encoder.encode_queries, vectors_ID),
    )
    return {
        "random": RandomSystem(len(ids)),
        "exact_tokens": ExactTokens(catalogue.titles),
        "bm25": Bm25System(index),
        "nightshelf": NightshelfSystem(parser.parse, searcher, encoder),
    }


def recalls(
    system: SearchSystem, queries: Sequence[LanguageQuery], k: int = 10
) -> dict[str, dict[str, Values]]:
    """recall@k of each query, by kind and language, of those with MIN_QUERIES queries."""
    values: dict[str, dict[str, Values]] = {}
    for kind in KINDS:
        of_kind = [query for query in queries if query.kind == kind]
        for language in LANGUAGES:
            own = [query for query in of_kind if query.language == language]
            if len(own) >= MIN_QUERIES:
                recall = np.array([_recall(system.rank(q.text)[:k], q.rows) for q in own])
                values.setdefault(kind, {})[language] = recall
    return values


def criterion(kind: str, values: Mapping[str, Values]) -> Criterion:
    """That of the worst language."""
    worst = min(values, key=lambda language: mean(values[language]))
    floor, goal = BOUNDS[kind]
    return Criterion(
        name=f"recall@10/{kind}, worst of {len(values)} languages: {worst}",
        value=mean(values[worst]),
        interval=bootstrap_mean(values[worst]),
        floor=floor,
        goal=goal,
    )


def _language_row(language: str, values: Mapping[str, Mapping[str, Values]]) -> Row:
    row: dict[str, Any] = {"name": f"nightshelf/{language}"}
    for kind, of_kind in values.items():
        if language in of_kind:
            low, high = bootstrap_mean(of_kind[language])
            column = f"recall@10/{kind}"
            row |= {column: mean(of_kind[language]), f"{column}/low": low, f"{column}/high": high}
    return row


def _recall(rows: Rows, relevant: Sequence[int]) -> float:
    return len(set(rows.tolist()) & set(relevant)) / len(relevant)


def _items(catalogue: LanguageCatalogue) -> pa.Table:
    count = len(catalogue.titles)
    columns = {field.name: pa.nulls(count, field.type) for field in ITEMS_IN}
    ids = [f"{language}-{row:04}" for row, language in enumerate(catalogue.languages)]
    return pa.table({**columns, "item_id": pa.array(ids), "title": pa.array(catalogue.titles)})
