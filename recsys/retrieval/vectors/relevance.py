"""Dense relevance: whether an item is nearer to a text than chance brings one, measured for each
encoder and catalogue.

Encoders put their texts into a cone, queries into another one than items, and some of them
everything near everything; without the mean of each side cosines compare (Mu & Viswanath,
All-but-the-top, ICLR 2018). What is left of chance is what made-up words reach."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from recsys.types import Floats

#: The share of made-up texts whose nearest item counts as relevant.
FALSE_MATCH_RATE = 0.05
CALIBRATION_TEXTS = 300
_BLOCK_ROWS = 65_536


@dataclass(frozen=True, eq=False)
class DenseRelevance:
    """Cosines between queries less `query_mean_D` and items less `item_mean_D`; from `min_cosine`
    on an item is relevant by its vector alone."""

    query_mean_D: Floats
    item_mean_D: Floats
    min_cosine: float

    @classmethod
    def calibrate(
        cls, encode_queries: Callable[[Sequence[str]], Floats], items_ID: Floats
    ) -> DenseRelevance:
        """The means of pseudowords and of the items, and the cosine that the nearest item of
        FALSE_MATCH_RATE of the pseudowords exceeds; rows of zeros are no items."""
        queries_QD = np.asarray(encode_queries(pseudowords(CALIBRATION_TEXTS)), np.float32)
        blocks = [
            items_ID[start : start + _BLOCK_ROWS] for start in range(0, len(items_ID), _BLOCK_ROWS)
        ]
        count = sum(int(block.any(axis=1).sum()) for block in blocks)
        total_D = sum((block.sum(axis=0, dtype=np.float64) for block in blocks), 0.0)
        item_mean_D = np.asarray(total_D / max(count, 1), np.float32)
        best_Q = np.zeros(len(queries_QD), np.float32)
        relevance = cls(
            queries_QD.mean(axis=0), np.broadcast_to(item_mean_D, queries_QD.shape[1:]), 1
        )
        for block in blocks:
            cosines_QN = relevance.cosines(queries_QD, block)
            best_Q = np.maximum(best_Q, cosines_QN.max(axis=1, initial=0.0))
        least = float(np.quantile(best_Q, 1 - FALSE_MATCH_RATE)) if count > 1 else 1.0
        return cls(relevance.query_mean_D, relevance.item_mean_D, max(least, 1e-3))

    def cosines(self, queries_QD: Floats, items_ND: Floats) -> Floats:
        """[Q, N]; 0 where a text or an item has no vector."""
        return self.centred_queries(queries_QD) @ self.centred_items(items_ND).T

    def centred_queries(self, queries_QD: Floats) -> Floats:
        """Less their mean, of unit length; zeros where there is no vector."""
        return _unit(queries_QD - self.query_mean_D, queries_QD)

    def centred_items(self, items_ND: Floats) -> Floats:
        """Less their mean, of unit length; zeros where there is no vector."""
        return _unit(items_ND - self.item_mean_D, items_ND)

    def item_scales(self, items_ID: Floats) -> Floats:
        """[I]: one over the length of each item less the mean; 0 where it has no vector."""
        scales_I = np.zeros(len(items_ID), np.float32)
        for start in range(0, len(items_ID), _BLOCK_ROWS):
            items_ND = items_ID[start : start + _BLOCK_ROWS]
            scales_I[start : start + _BLOCK_ROWS] = _scales(items_ND - self.item_mean_D, items_ND)
        return scales_I

    def to_json(self) -> bytes:
        fields = {
            "min_cosine": self.min_cosine,
            "query_mean": self.query_mean_D.tolist(),
            "item_mean": self.item_mean_D.tolist(),
        }
        return json.dumps(fields).encode()

    @classmethod
    def from_json(cls, data: bytes) -> DenseRelevance:
        fields = json.loads(data)
        query_mean, item_mean = fields["query_mean"], fields["item_mean"]
        return cls(
            np.array(query_mean, np.float32), np.array(item_mean, np.float32), fields["min_cosine"]
        )


def _unit(centred_ND: Floats, vectors_ND: Floats) -> Floats:
    """Rows of length 1; zeros where the vector was zeros or the mean."""
    return np.asarray(centred_ND * _scales(centred_ND, vectors_ND)[..., None], np.float32)


def _scales(centred_ND: Floats, vectors_ND: Floats) -> Floats:
    """[N]: what makes each row one of length 1; 0 where the vector was zeros or the mean."""
    lengths_N = np.linalg.norm(centred_ND, axis=-1)
    valid_N = vectors_ND.any(axis=-1) & (lengths_N > 1e-6)
    return np.where(valid_N, 1 / np.where(valid_N, lengths_N, 1), 0)


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
