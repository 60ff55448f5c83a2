"""Fusion of search's signals: their weights, chosen on validation queries."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from recsys.datasets.judgments import JudgedPairs
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
