"""Items cut into shards that workers hold: merged, their answers are those of the whole, whatever
is left out."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.arrays import Histories, Requests
from recsys.release.arrow import row_ranges
from recsys.retrieval.vectors.exact import ExactRetriever, merge_top_k
from recsys.retrieval.vectors.precomputed import PrecomputedNeighbours
from recsys.retrieval.vectors.resident import resident_vectors, shard_exclusions
from recsys.types import PURCHASE
from tests.test_retrieval_exact import questions


def global_rows(rows_QK, start):
    return np.where(rows_QK < 0, -1, rows_QK + start).astype(np.int32)


@settings(max_examples=200, deadline=None)
@given(questions(), st.integers(1, 15), st.sampled_from([1, 2, 512]))
def test_any_shards_merge_to_the_whole(question, size, block_queries):
    """Most exclusions of a query lie in other shards than the one that is asked."""
    queries_QD, items_ID, k, allowed_I, (offsets, excluded) = question
    known = Histories(
        offsets=offsets,
        items=excluded,
        types=np.full(len(excluded), PURCHASE, np.int8),
        days=np.zeros(len(excluded)),
    )
    requests = Requests(size=len(queries_QD), vectors_BD=queries_QD, histories=known)
    lists = []
    for rows in row_ranges(len(items_ID), size) or [range(0)]:
        part = slice(rows.start, rows.stop)
        found_QK, scores_QK = resident_vectors(items_ID[part], block_queries=block_queries).top_k(
            queries_QD,
            k,
            allowed_I=allowed_I[part],
            exclude=shard_exclusions((offsets, excluded), rows),
        )
        lists.append((global_rows(found_QK, rows.start), scores_QK))
    wanted = ExactRetriever("near", items_ID).retrieve(requests, k, allowed_I)
    found = PrecomputedNeighbours("near", lists, items_ID).retrieve(requests, k, allowed_I)
    np.testing.assert_array_equal(found.rows_BN, wanted.rows_BN)
    np.testing.assert_array_equal(found.scores_BN, wanted.scores_BN)
    np.testing.assert_array_equal(found.rows_BN, merge_top_k(lists)[0])


def test_exclusions_of_a_shard_are_those_that_lie_in_it():
    offsets, rows = shard_exclusions(
        (np.array([0, 3, 5]), np.array([9, 10, 19, 20, -1], np.int32)), range(10, 20)
    )
    assert offsets.tolist() == [0, 3, 5]
    assert rows.tolist() == [-1, 0, 9, -1, -1]
    assert rows.dtype == np.int32


def test_lists_score_any_row_and_keep_to_a_filter():
    items_ID = np.array([[3, 0], [2, 0], [1, 0]], np.float32)
    requests = Requests(size=2, vectors_BD=np.array([[1, 0], [0, 0]], np.float32))
    rows_BK = np.array([[0, 1], [-1, -1]], np.int32)
    scores_BK = np.array([[3, 2], [-np.inf, -np.inf]], np.float32)
    listed = PrecomputedNeighbours("near", [(rows_BK, scores_BK)], items_ID)
    assert listed.score(requests, np.array([[2, 0], [2, 0]], np.int32)).tolist() == [[1, 3], [0, 0]]
    assert listed.retrieve(requests, 1).rows_BN.tolist() == [[0], [-1]]
    assert listed.retrieve(requests, 2, np.array([False, True, True])).rows_BN.tolist() == [
        [1, -1],
        [-1, -1],
    ]
    with pytest.raises(
        ValueError, match="2 requests ask near for 3, but 2 were answered with 2 each"
    ):
        listed.retrieve(requests, 3)
    with pytest.raises(ValueError, match="1 requests ask near for 2, but 2 were answered"):
        listed.retrieve(Requests(size=1), 2)


@pytest.mark.gpu
def test_a_gpu_finds_what_cpus_find():
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    random = np.random.default_rng(0)
    items_ID, queries_QD = (
        torch.from_numpy(random.standard_normal((rows, 384), np.float32)).bfloat16().float().numpy()
        for rows in (150_001, 300)
    )
    queries_QD[7] = 0
    allowed_I = random.random(len(items_ID)) < 0.9
    exclude = np.arange(301) * 5, random.integers(-1, len(items_ID), 1500).astype(np.int32)
    rows = range(100_000, 150_001)
    for shard, left_out in (
        (slice(None), exclude),
        (slice(100_000, None), shard_exclusions(exclude, rows)),
    ):
        wanted, found = (
            resident_vectors(items_ID[shard], gpu).top_k(
                queries_QD, 100, allowed_I=allowed_I[shard], exclude=left_out
            )
            for gpu in (False, True)
        )
        assert (found[0].dtype, found[1].dtype) == (np.int32, np.float32)
        assert (found[0][7] == -1).all()
        assert (found[0] == wanted[0]).mean() > 0.999
        np.testing.assert_allclose(found[1], wanted[1], rtol=1e-4)
