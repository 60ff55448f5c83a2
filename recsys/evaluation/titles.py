"""Evaluation of Chinese title search by product type: BM25, vectors and both, beside character
TF-IDF."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from recsys.datasets import taobao_types
from recsys.datasets.taobao_types import Relevant
from recsys.encoders import multilingual_e5
from recsys.ranking.fusion import GRID, coordinate_ascent
from recsys.ranking.linear import LinearRanker
from recsys.retrieval.text.bm25 import LexicalIndex
from recsys.types import Floats

Score = Callable[[str], Floats]


def evaluate_titles(say: Callable[[str], None] = print) -> list[dict[str, Any]]:
    """recall@10 of the titles tagged with the type that the query names, among all titles, for the
    test half of the types.

    A query is a product type with at least five titles. The weight of the vectors is chosen on the
    other half, whose metrics have the suffix "/valid". "/reachable" is of the min(10, relevant)
    that ten places can show."""
    titles, relevant = taobao_types.read_tagged_titles()
    valid = {q: rows for q, rows in relevant.items() if taobao_types.query_split(q) == "valid"}
    test = {query: rows for query, rows in relevant.items() if query not in valid}
    say(f"{len(titles):,} titles; {len(valid):,} types to choose on, {len(test):,} to measure on")
    rows = []
    for name, score in _systems(titles, relevant, valid, say).items():
        of_valid = {f"{key}/valid": value for key, value in title_recall(score, valid).items()}
        rows.append({"name": name, **title_recall(score, test), **of_valid})
    return rows


def _systems(
    titles: Sequence[str], relevant: Relevant, valid: Relevant, say: Callable[[str], None]
) -> dict[str, Score]:
    lexical = LexicalIndex.build({"title": titles}, {}).scores
    encoder = multilingual_e5()
    say(f"encoding {len(titles):,} titles with {encoder.space}")
    titles_ND = encoder.encode_items(titles)
    queries = dict(zip(relevant, encoder.encode_queries(list(relevant)), strict=True))

    def dense(query: str) -> Floats:
        return titles_ND @ queries[query]

    def recall(weights: Mapping[str, float]) -> float:
        return title_recall(partial(_hybrid, lexical, dense, weights), valid)["recall@10"]

    weights = coordinate_ascent(recall, {"lexical": 1.0, "dense": 0.0}, GRID)
    say(f"weights {weights}")
    rng = np.random.default_rng(0)
    return {
        "random": lambda _: rng.random(len(titles), dtype=np.float32),
        "char_tfidf": character_tfidf(titles),
        "char_tfidf_sublinear": character_tfidf(titles, sublinear=True),
        "bm25": lexical,
        "dense_zero_shot": dense,
        "nightshelf": partial(_hybrid, lexical, dense, weights),
    }


def _hybrid(lexical: Score, dense: Score, weights: Mapping[str, float], query: str) -> Floats:
    features_1NF = np.stack([lexical(query), dense(query)], axis=1)[None]
    return LinearRanker(weights).score(features_1NF)[0]


def title_recall(score: Score, relevant: Relevant, k: int = 10) -> dict[str, float]:
    """`recall@k`, and `recall@k/reachable`: of the min(k, relevant) that k places can show. `score`
    gives the scores of all titles for a query."""
    plain, reachable = [], []
    for query, rows in relevant.items():
        top = np.argsort(-score(query), kind="stable")[:k]
        hits = len(set(rows) & set(top.tolist()))
        plain.append(hits / len(rows))
        reachable.append(hits / min(k, len(rows)))
    return {
        f"recall@{k}": float(np.mean(plain)),
        f"recall@{k}/reachable": float(np.mean(reachable)),
    }


def character_tfidf(titles: Sequence[str], sublinear: bool = False) -> Score:
    """The baseline: cosine of TF-IDF over 1 to 3 characters, as scikit-learn computes it;
    `sublinear`: 1 + log(TF)."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    model = TfidfVectorizer(analyzer="char", ngram_range=(1, 3), sublinear_tf=sublinear)
    titles_NF = model.fit_transform(titles)
    return lambda query: (
        (titles_NF @ model.transform([query]).T).toarray().ravel().astype(np.float32)
    )
