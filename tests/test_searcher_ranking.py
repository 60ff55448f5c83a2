"""The order of matches: the cross-encoder's depth and deadline, scores, features."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from recsys.config import search_ranker
from recsys.errors import InputError
from recsys.pipeline.searcher import CROSS_ENCODER
from recsys.ranking.linear import LinearRanker
from tests.toy_searcher import (
    CHARGER,
    INDEX,
    LENIENT,
    VECTORS,
    FakeCrossEncoder,
    encode,
    search,
    searcher,
    titles,
)

BY_CROSS_ENCODER = search_ranker({"lexical": 1.0, "dense": 1.0, "cross_encoder": 5.0})


def order_of(cross_encoder: FakeCrossEncoder | None, **choices: Any) -> list[str]:
    return titles(
        search(
            "red lamp",
            searcher(cross_encoder, replace(LENIENT, **choices), BY_CROSS_ENCODER),
        )
    )


@pytest.mark.parametrize("depth", [1, 5, 7])
def test_the_cross_encoder_orders_the_best_window_and_no_more(depth: int) -> None:
    unread, cross_encoder = order_of(None), FakeCrossEncoder("green")
    read = order_of(cross_encoder, rerank_depth=depth)
    assert sum(map(len, cross_encoder.batches)) == depth
    assert sorted(read[:depth]) == sorted(unread[:depth])
    assert read[depth:] == unread[depth:]
    if depth == 7:
        assert (unread[0], read[0]) == ("red lamp", "green lamp")


def test_what_is_read_is_read_in_order_and_some_at_once() -> None:
    unread, cross_encoder = order_of(None), FakeCrossEncoder()
    order_of(cross_encoder, rerank_depth=7, rerank_batch=3)
    assert [len(texts) for texts in cross_encoder.batches] == [3, 3, 1]
    assert [text for texts in cross_encoder.batches for text in texts] == unread[:7]


def test_a_deadline_that_has_passed_reads_nothing_and_says_so() -> None:
    cross_encoder = FakeCrossEncoder("green")
    hits = search(
        "red lamp", searcher(cross_encoder, LENIENT, BY_CROSS_ENCODER), deadline=time.perf_counter()
    )
    assert cross_encoder.batches == []
    assert titles(hits) == order_of(None)
    assert hits.skipped == (f"cross_encoder: read 0 of the best {len(hits.rows_N)}",)
    assert not hits.features_NF[:, CROSS_ENCODER].any()


def test_a_slow_cross_encoder_stops_in_between_and_the_unread_stay_in_their_order() -> None:
    deadline, choices = (
        time.perf_counter() + 0.5,
        replace(LENIENT, rerank_depth=7, rerank_batch=2),
    )
    cross_encoder = FakeCrossEncoder("nothing has this", deadline)
    hits = search("red lamp", searcher(cross_encoder, choices, BY_CROSS_ENCODER), deadline=deadline)
    assert hits.skipped == ("cross_encoder: read 4 of the best 7",)
    assert [text for texts in cross_encoder.batches for text in texts] == order_of(None)[:4]
    assert titles(hits) == order_of(None)
    assert (hits.features_NF[:, CROSS_ENCODER] > 0).tolist() == [True] * 4 + [False] * (
        len(hits.rows_N) - 4
    )


def test_time_enough_skips_nothing() -> None:
    assert (
        search(
            "red lamp",
            searcher(FakeCrossEncoder(), ranker=BY_CROSS_ENCODER),
            deadline=time.perf_counter() + 60,
        ).skipped
        == ()
    )
    assert search("red lamp", deadline=0.0).skipped == ()


@pytest.mark.parametrize(
    "text", ["red lamp", "cordless drill", "zeppelin chair", "SC-14100", "green chair item00007"]
)
@pytest.mark.parametrize("cross_encoder", [None, FakeCrossEncoder()])
def test_a_judged_row_scores_as_it_does_when_found(
    text: str, cross_encoder: FakeCrossEncoder | None
) -> None:
    over = searcher(cross_encoder, ranker=BY_CROSS_ENCODER)
    hits = search(text, over)
    some = hits.rows_N[::-2]
    assert over.score_rows(*encode(text), some) == pytest.approx(hits.scores_N[::-2], rel=1e-5)


def test_a_row_that_is_not_found_can_be_judged() -> None:
    over = searcher(FakeCrossEncoder(), ranker=BY_CROSS_ENCODER)
    hits = search("red lamp", over)
    others = np.flatnonzero(~hits.matched_I).astype(np.int32)
    assert len(others)
    assert over.score_rows(*encode("red lamp"), others).max() < hits.scores_N[0]
    assert len(over.score_rows(*encode("red lamp"), others[:0])) == 0


def test_features_and_sources_are_those_of_their_rows() -> None:
    hits = search("red lamp", searcher(choices=LENIENT), user_D=VECTORS[CHARGER])
    vector_D = encode("red lamp")[1]
    lexical_I = INDEX.scores("red lamp")
    for row, features, retrieved in zip(
        hits.rows_N, hits.features_NF, hits.retrieved_NF, strict=True
    ):
        above_mean = (VECTORS[row] - VECTORS.mean(axis=0)) @ vector_D
        expected = [lexical_I[row], above_mean, VECTORS[row] @ VECTORS[CHARGER], 0.0]
        assert features == pytest.approx(expected, abs=1e-6)
        assert retrieved[0] == (lexical_I[row] > 0)
        assert retrieved.any()
    assert hits.retrieved_NF[:, 1].sum() == LENIENT.dense_k


def test_a_ranker_of_other_features_is_refused() -> None:
    with pytest.raises(
        InputError,
        match=r"the search ranker weighs lexical, dense: make one of lexical, dense, pers",
    ):
        searcher(ranker=LinearRanker({"lexical": 1.0, "dense": 1.0}))
