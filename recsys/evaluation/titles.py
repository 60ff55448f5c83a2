"""Chinese titles by product type: words, vectors and both, beside the usual baseline."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np

from recsys.datasets import taobao_types
from recsys.encoders import multilingual_e5
from recsys.ranking.fusion import GRID, ascended
from recsys.ranking.linear import LinearRanker
from recsys.retrieval.text.bm25 import LexicalIndex
from recsys.types import Floats

Score = Callable[[str], Floats]


def evaluate(say: Callable[[str], None] = print) -> list[dict[str, Any]]:
    """recall@10 of the titles marked with the type that is asked for, among all titles, for the
    test half of the types.

    A query is a product type with at least five titles. The weight of the vectors is chosen on the
    other half, whose numbers stand under "/valid". "/reachable" is of the min(10, relevant) that
    ten places can show."""
    titles, relevant = taobao_types.load()
    valid = {
        query: rows for query, rows in relevant.items() if taobao_types.split(query) == "valid"
    }
    test = {query: rows for query, rows in relevant.items() if query not in valid}
    say(f"{len(titles):,} titles; {len(valid):,} types to choose on, {len(test):,} to measure on")
    words = LexicalIndex.build({"title": titles}, {}).scores
    encoder = multilingual_e5()
    say(f"encoding {len(titles):,} titles with {encoder.space}")
    titles_ND = encoder.encode_items(titles)
    queries = dict(zip(relevant, encoder.encode_queries(list(relevant)), strict=True))

    def meaning(query: str) -> Floats:
        return titles_ND @ queries[query]

    def recall(weights: Mapping[str, float]) -> float:
        return taobao_types.recall(partial(_both, words, meaning, weights), valid)["recall@10"]

    weights = ascended(recall, {"lexical": 1.0, "dense": 0.0}, GRID)
    say(f"weights {weights}")
    rng = np.random.default_rng(0)
    contenders: dict[str, Score] = {
        "random": lambda _: rng.random(len(titles), dtype=np.float32),
        "char_tfidf": taobao_types.character_tfidf(titles),
        "char_tfidf_sublinear": taobao_types.character_tfidf(titles, sublinear=True),
        "bm25": words,
        "dense_zero_shot": meaning,
        "nightshelf": partial(_both, words, meaning, weights),
    }
    return [
        {
            "name": name,
            **taobao_types.recall(score, test),
            **_under("valid", taobao_types.recall(score, valid)),
        }
        for name, score in contenders.items()
    ]


def _both(words: Score, meaning: Score, weights: Mapping[str, float], query: str) -> Floats:
    features_1NF = np.stack([words(query), meaning(query)], axis=1)[None]
    return LinearRanker(weights).score(features_1NF)[0]


def _under(split: str, measured: Mapping[str, float]) -> dict[str, float]:
    return {f"{name}/{split}": value for name, value in measured.items()}
