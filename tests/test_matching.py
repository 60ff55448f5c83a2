"""What matches by a probability: a few among many, not the nearest whatever they are."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from recsys.pipeline import matching
from recsys.pipeline.matching import Bounds, Judgement, RelevanceModel
from recsys.retrieval.vectors.relevance import DenseRelevance
from recsys.types import Floats

DIM, ITEMS = 16, 200
BOUNDS = Bounds(min_fit=1.3, min_term_coverage=0.5, min_log_odds=-5.5, margin=8.0)
ANVILS = [3, 50, 120]


def unit(vectors: Floats) -> Floats:
    return np.asarray(vectors / np.linalg.norm(vectors, axis=-1, keepdims=True), np.float32)


def vectors(stretch: float = 1.0) -> Floats:
    """Of directions by chance; the anvils lie together."""
    vectors_ID = np.random.default_rng(0).normal(size=(ITEMS, DIM))
    vectors_ID[ANVILS] = vectors_ID[ANVILS] * 0.3 + 3 * np.eye(DIM)[0]
    vectors_ID[:, 1] += stretch
    return unit(vectors_ID)


def judge(
    query_D: Floats, coverage_I: Floats, bounds: Bounds = BOUNDS, cone: float = 1.0
) -> Judgement:
    items_ID = vectors(cone)
    dense = DenseRelevance(np.zeros(DIM, np.float32), items_ID.mean(axis=0), min_cosine=0.6)
    model = RelevanceModel(items_ID, dense)
    return model.judge(unit(query_D), np.arange(ITEMS), coverage_I, bounds)


def coverage(rows: list[int], share: float) -> Floats:
    coverage_I = np.zeros(ITEMS, np.float32)
    coverage_I[rows] = share
    return coverage_I


TOWARDS_ANVILS = np.eye(DIM)[0]


@pytest.mark.parametrize("cone", [0.0, 30.0])
def test_three_anvils_among_200_are_all_that_the_word_finds(cone: float) -> None:
    judgement = judge(TOWARDS_ANVILS, coverage(ANVILS, 1.0), cone=cone)
    assert np.flatnonzero(judgement.matched_N).tolist() == ANVILS


def test_without_a_word_meaning_alone_finds_them() -> None:
    judgement = judge(TOWARDS_ANVILS, coverage([], 0.0))
    assert set(ANVILS) >= set(np.flatnonzero(judgement.matched_N).tolist()) != set()


def test_an_item_that_says_the_same_in_other_words_matches_beside_those_with_some(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    others = coverage([7, 8, 9], 0.9)
    assert judge(TOWARDS_ANVILS, others).matched_N[ANVILS].all()
    monkeypatch.setattr(matching, "NEAR", 99.0)
    assert not judge(TOWARDS_ANVILS, others, replace(BOUNDS, margin=2.0)).matched_N[ANVILS].any()
    monkeypatch.undo()
    assert judge(TOWARDS_ANVILS, others, replace(BOUNDS, margin=2.0)).matched_N[ANVILS].all()


def test_a_text_near_nothing_and_with_few_words_fits_nothing() -> None:
    judgement = judge(-TOWARDS_ANVILS, coverage([5], 0.3))
    assert judgement.needed == np.inf
    assert not judgement.matched_N.any()
    assert judgement.fit < BOUNDS.min_fit


def test_half_of_the_words_fit_whatever_the_meaning() -> None:
    far_D = -TOWARDS_ANVILS
    assert judge(far_D, coverage([5], 0.5)).matched_N[5]
    assert not judge(far_D, coverage([5], 0.45)).matched_N.any()


def test_an_item_with_all_words_matches_though_its_meaning_is_far() -> None:
    words_I = coverage(ANVILS, 1.0)
    far = int((vectors() @ TOWARDS_ANVILS).argmin())
    words_I[far] = 1.0
    assert judge(TOWARDS_ANVILS, words_I).matched_N[far]
    words_I[far] = 0.9
    assert not judge(TOWARDS_ANVILS, words_I).matched_N[far]


def test_a_smaller_margin_leaves_the_best() -> None:
    words_I = coverage(ANVILS, 0.9)
    words_I[[7, 8]] = 0.6
    wide, narrow = (
        judge(TOWARDS_ANVILS, words_I, replace(BOUNDS, margin=margin, min_log_odds=-50))
        for margin in (20.0, 2.0)
    )
    assert set(np.flatnonzero(narrow.matched_N)) <= set(ANVILS)
    assert narrow.matched_N.sum() < wide.matched_N.sum()
    assert narrow.matched_N[narrow.log_odds_N.argmax()]


def test_no_candidates_are_no_matches() -> None:
    items_ID = vectors()
    model = RelevanceModel(items_ID, DenseRelevance(np.zeros(DIM), items_ID.mean(axis=0), 0.6))
    judgement = model.judge(items_ID[0], np.empty(0, np.int64), np.empty(0, np.float32), BOUNDS)
    assert len(judgement.matched_N) == 0
