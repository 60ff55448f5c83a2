"""Candidate generation over two sources by hand: what is merged, scored, ranked and packed."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from recsys.arrays import Candidates, Requests
from recsys.pipeline.candidates import (
    RETRIEVAL_DEPTH,
    CandidatePool,
    RankedCandidates,
    pack_source_bits,
    retrieval_depth,
    retrieve,
    retrieve_and_rank,
    unpack_source_bits,
)
from recsys.ranking.linear import WeightedSum
from recsys.types import Floats

REQUESTS = Requests(size=2)


@dataclass
class Listing:
    """Retrieves the same lists, whatever is requested."""

    source: str
    rows: list[list[int]]
    scores: list[list[float]]
    depth: int = RETRIEVAL_DEPTH

    def retrieve(self, requests: Requests, k: int, allowed: Any) -> Candidates:
        assert k == self.depth
        return Candidates(
            self.source, np.array(self.rows, np.int32), np.array(self.scores, np.float32)
        )


class Scoring(Listing):
    """Scores a row by its number and 10, pads too."""

    def score(self, requests: Requests, rows_BN: Any) -> Floats:
        return (rows_BN + 10).astype(np.float32)


LISTING = Listing("popularity", [[0, 2], [1, -1]], [[5.0, 4.0], [3.0, 0.0]])
SCORING = Scoring("content", [[2], [1]], [[12.0], [11.0]])


def cells(values_BN: Any, rows_BN: Any, row: int) -> list[Any]:
    """Of a row in the first request."""
    return values_BN[0][rows_BN[0] == row].tolist()[0]


def test_a_scorer_scores_what_other_sources_retrieved_but_no_pads() -> None:
    table = retrieve((LISTING, SCORING), REQUESTS, 1, stages_ms={})
    assert table.names == ("popularity", "content")
    assert cells(table.features_BNF, table.rows_BN, 0) == [5.0, 10.0]
    assert cells(table.retrieved_BNF, table.rows_BN, 0) == [True, False]
    assert cells(table.features_BNF, table.rows_BN, 2) == [4.0, 12.0]
    assert cells(table.retrieved_BNF, table.rows_BN, 2) == [True, True]
    pads_BN = table.rows_BN < 0
    assert pads_BN.any()
    assert not table.features_BNF[pads_BN].any()


def test_the_best_come_first_and_pads_last() -> None:
    ranker, stages_ms = WeightedSum({"popularity": 1.0, "content": -1.0}), {"rank": 1000.0}
    ranked = retrieve_and_rank((LISTING, SCORING), ranker, REQUESTS, 2, stages_ms=stages_ms)
    assert ranked.rows_BK.tolist() == [[0, 2], [1, -1]]
    assert ranked.scores_BK.tolist() == [[-5.0, -8.0], [-8.0, -np.inf]]
    assert ranked.features_BKF[0].tolist() == [[5.0, 10.0], [4.0, 12.0]]
    assert ranked.retrieved_BKF[0].tolist() == [[True, False], [True, True]]
    assert stages_ms.keys() == {"popularity", "content", "merge", "rank"}
    assert stages_ms["rank"] > 1000.0, "added to what the stage took before"
    deep = retrieve_and_rank((LISTING, SCORING), ranker, REQUESTS, 2, depth=1)
    assert deep.rows_BK.tolist() == [[0], [1]]


@pytest.mark.parametrize(("k", "depth"), [(1, 100), (100, 100), (101, 101)])
def test_sources_retrieve_k_and_a_hundred_at_least(k: int, depth: int) -> None:
    assert retrieval_depth(k) == depth
    deep = Listing("popularity", [[0], [1]], [[1.0], [1.0]], depth=depth)
    assert retrieve((deep,), REQUESTS, k, stages_ms={}).rows_BN.tolist() == [[0], [1]]


def test_a_pool_has_the_candidates_without_pads() -> None:
    nothing: Any = None
    ranked = RankedCandidates(
        names=("content",),
        rows_BK=np.array([[7, 0, -1]], np.int32),
        scores_BK=np.array([[3, 2, -np.inf]], np.float32),
        features_BKF=np.array([[[3], [2], [0]]], np.float32),
        retrieved_BKF=np.array([[[True], [False], [False]]]),
    )
    pool = CandidatePool(
        candidates=ranked,
        context=nothing,
        personalised=True,
        requests=REQUESTS,
        sources=(),
        ranker=SimpleNamespace(),  # type: ignore[arg-type]
        allowed=None,
    ).pool
    assert (pool.rows_N.tolist(), pool.scores_N.tolist()) == ([7, 0], [3.0, 2.0])
    assert (pool.signals_NF.tolist(), pool.names) == ([[3.0], [2.0]], ("content",))
    assert pool.retrieved_NF.tolist() == [[True], [False]]


def test_sources_are_packed_into_bits_and_back() -> None:
    retrieved_BKF = np.zeros((1, 3, 16), bool)
    retrieved_BKF[0, 0, [0, 2]], retrieved_BKF[0, 1, 15] = True, True
    bits_BK = pack_source_bits(retrieved_BKF)
    assert (bits_BK.tolist(), bits_BK.dtype) == ([[5, 32768, 0]], np.uint16)
    np.testing.assert_array_equal(unpack_source_bits(bits_BK, 16), retrieved_BKF)
    assert unpack_source_bits(bits_BK, 3)[0].tolist() == [
        [True, False, True],
        [False] * 3,
        [False] * 3,
    ]
