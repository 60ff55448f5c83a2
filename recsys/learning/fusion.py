"""Fusion of search's signals: their weights, and the smallest cosine margin of a dense hit, both
chosen on validation queries."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from recsys.arrays import Requests
from recsys.datasets.judgments import JudgedPairs
from recsys.interfaces import Encoder, Retriever
from recsys.ranking.cross_encoder import CrossEncoder
from recsys.ranking.fusion import SignalTable, Weights
from recsys.types import Floats, Ints

#: A query's best candidates that the cross-encoder re-ranks online.
RERANK_DEPTH = 50


def fuse_signals(
    signals: SignalTable,
    first_weights: Weights,
    cross_encoder: CrossEncoder,
    texts: Sequence[str],
    valid: JudgedPairs,
) -> tuple[dict[str, Any], dict[str, float]]:
    """The weights of all signals chosen on `valid`, those without the cross-encoder, and the
    metrics that all reach there.

    `first_weights` are those of `signals` alone: they choose what the cross-encoder scores."""

    def score(queries: Ints, rows: Ints) -> Floats:
        return cross_encoder.scores(
            [valid.queries[query] for query in queries], [texts[row] for row in rows]
        )

    reranked = signals.with_reranker(first_weights, RERANK_DEPTH, "cross_encoder", score)
    weights = reranked.fit_weights(valid, first_weights)
    fusion = {"weights": weights, "without_cross_encoder": first_weights}
    return fusion, reranked.metrics(weights, valid)


def choose_min_margin(dense: Retriever, encoder: Encoder, valid: JudgedPairs) -> float:
    """The cosine threshold that best separates the nearest items of real queries from those of
    pseudowords: least sum of both error rates."""
    nonsense = pseudowords(min(500, len(valid.queries)))
    real_Q, nonsense_Q = (
        dense.retrieve(
            Requests(size=len(texts), texts=None, vectors_BD=encoder.encode_queries(texts)), 1
        ).scores_BN[:, 0]
        for texts in (valid.queries[: len(nonsense)], nonsense)
    )
    values = np.unique(np.concatenate([real_Q, nonsense_Q]))
    thresholds = (values[:-1] + values[1:]) / 2 if len(values) > 1 else values
    errors = [(real_Q < cut).mean() + (nonsense_Q >= cut).mean() for cut in thresholds]
    return float(thresholds[int(np.argmin(errors))])


def pseudowords(count: int, seed: int = 0) -> list[str]:
    """Texts of one to three pronounceable words that no language has."""
    rng = np.random.default_rng(seed)

    def word() -> str:
        syllables = zip(
            rng.choice(list("bcdfghjklmnpqrstvwxz"), 4), rng.choice(list("aeiouy"), 4), strict=True
        )
        return "".join(consonant + vowel for consonant, vowel in syllables)[
            : int(rng.integers(5, 9))
        ]

    return [" ".join(word() for _ in range(rng.integers(1, 4))) for _ in range(count)]
