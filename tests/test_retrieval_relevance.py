"""Dense relevance: a cosine that chance does not reach, whatever the encoder's cone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from recsys.retrieval.vectors.relevance import DenseRelevance, pseudowords
from recsys.types import Floats

DIM = 32


def unit(vectors: Floats) -> Floats:
    return np.asarray(vectors / np.linalg.norm(vectors, axis=-1, keepdims=True), np.float32)


def random_vectors(count: int, seed: int, cone: float, axis: int) -> Floats:
    """Of directions by chance, all pulled towards an axis."""
    vectors = np.random.default_rng(seed).normal(size=(count, DIM))
    vectors[:, axis] += cone
    return unit(vectors)


def calibrated(items_ID: Floats, cone: float) -> DenseRelevance:
    def encode(texts: Sequence[str]) -> Floats:
        return random_vectors(len(texts), 1, cone, axis=1)

    return DenseRelevance.calibrate(encode, items_ID)


@pytest.mark.parametrize("cone", [0.0, 30.0])
def test_one_in_twenty_texts_of_chance_is_near_to_something(cone: float) -> None:
    items_ID = random_vectors(500, 0, cone, axis=0)
    relevance = calibrated(items_ID, cone)
    chance_QD = random_vectors(2_000, 2, cone, axis=1)
    best_Q = relevance.cosines(chance_QD, items_ID).max(axis=1)
    assert 0.02 < (best_Q >= relevance.min_cosine).mean() < 0.09


def test_a_text_in_the_direction_of_an_item_is_relevant_to_it_in_any_cone() -> None:
    items_ID = random_vectors(500, 0, 30.0, axis=0)
    relevance = calibrated(items_ID, 30.0)
    direction_D = items_ID[7] - items_ID.mean(axis=0)
    query_D = unit(relevance.query_mean_D + direction_D)
    cosines_I = relevance.cosines(query_D[None], items_ID)[0]
    assert cosines_I.argmax() == 7
    assert cosines_I[7] > 0.9 > relevance.min_cosine


def test_what_has_no_vector_is_relevant_to_nothing() -> None:
    items_ID = random_vectors(20, 0, 0.0, axis=0)
    items_ID[3] = 0
    relevance = calibrated(items_ID, 0.0)
    query_D = random_vectors(1, 5, 0.0, axis=0)
    assert relevance.cosines(query_D, items_ID)[0, 3] == 0
    assert not relevance.cosines(np.zeros_like(query_D), items_ID).any()
    assert np.allclose(relevance.item_mean_D, items_ID.sum(axis=0) / 19, atol=1e-6)


def test_a_catalogue_of_one_item_or_none_has_nothing_to_compare() -> None:
    for count in (0, 1):
        assert calibrated(random_vectors(2, 0, 0.0, axis=0)[:count], 0.0).min_cosine == 1.0


def test_it_is_kept_as_json() -> None:
    relevance = calibrated(random_vectors(50, 0, 1.0, axis=0), 1.0)
    again = DenseRelevance.from_json(relevance.to_json())
    assert again.min_cosine == relevance.min_cosine
    assert np.array_equal(again.query_mean_D, relevance.query_mean_D)
    assert np.array_equal(again.item_mean_D, relevance.item_mean_D)


def test_pseudowords_are_the_same_every_night() -> None:
    assert pseudowords(3) == pseudowords(3)
    assert len(set(pseudowords(200))) == 200
