import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.arrays import Histories, Requests
from recsys.retrieval.vectors.exact import ExactRetriever, merge_top_k, top_k, top_k_columns
from tests.contracts import ScorerContract, shoppers


class TestExactRetriever(ScorerContract):
    def make(self):
        return ExactRetriever(
            "near", np.random.default_rng(4).standard_normal((self.ITEMS, 8)).astype(np.float32)
        )

    def requests(self):
        known = shoppers(items=self.ITEMS)
        vectors_BD = np.random.default_rng(5).standard_normal((len(known), 8)).astype(np.float32)
        return Requests(size=len(known), vectors_BD=vectors_BD, histories=known)


def plain_top_k(queries_QD, items_ID, k, allowed_I, exclude):
    """The definition, one query at a time."""
    offsets, excluded = exclude
    rows_QK = np.full((len(queries_QD), k), -1)
    scores_QK = np.full((len(queries_QD), k), -np.inf)
    for query, vector in enumerate(queries_QD):
        left_out = set(excluded[offsets[query] : offsets[query + 1]].tolist())
        rows = [row for row in np.flatnonzero(allowed_I) if row not in left_out]
        best = sorted((-float(items_ID[row] @ vector), row) for row in rows)[:k]
        rows_QK[query, : len(best)] = [row for _, row in best]
        scores_QK[query, : len(best)] = [-score for score, _ in best]
    return rows_QK, scores_QK


@st.composite
def questions(draw):
    """Small whole-number vectors: every product is exact, and many scores are equal."""
    seed, queries, items = (
        draw(st.integers(0, 10**6)),
        draw(st.integers(0, 5)),
        draw(st.integers(0, 40)),
    )
    random = np.random.default_rng(seed)
    counts = random.integers(0, 4, queries) if items else np.zeros(queries, int)
    return (
        random.integers(-1, 2, (queries, 3)).astype(np.float32),
        random.integers(-1, 2, (items, 3)).astype(np.float32),
        draw(st.integers(1, 12)),
        random.random(items) < draw(st.sampled_from([0.0, 0.1, 0.5, 1.0])),
        (
            np.concatenate([[0], np.cumsum(counts)]),
            random.integers(-1, max(items, 1), counts.sum()).astype(np.int32),
        ),
    )


@settings(max_examples=200, deadline=None)
@given(questions(), st.sampled_from([1, 7, 64]), st.sampled_from([1, 2, 512]))
def test_equals_the_definition_in_any_blocks(question, block_items, block_queries):
    queries_QD, items_ID, k, allowed_I, exclude = question
    rows_QK, scores_QK = top_k(
        queries_QD, items_ID, k, allowed_I=allowed_I, exclude=exclude,
        block_items=block_items, block_queries=block_queries,
    )  # fmt: skip
    wanted_rows, wanted_scores = plain_top_k(queries_QD, items_ID, k, allowed_I, exclude)
    assert rows_QK.dtype == np.int32
    assert scores_QK.dtype == np.float32
    np.testing.assert_array_equal(rows_QK, wanted_rows)
    np.testing.assert_array_equal(scores_QK, wanted_scores)


@pytest.mark.parametrize("k", [1, 10, 200])
@pytest.mark.parametrize("levels", [1, 3, 1_000_000])
def test_selects_from_wide_rows_with_crowds_of_equal_scores(k, levels):
    scores_QN = np.random.default_rng(k).integers(0, levels, (4, 5_003)).astype(np.float32)
    scores_QN[:, ::3] = -np.inf
    rows_QK, values_QK = top_k_columns(scores_QN, k)
    wanted = np.argsort(-scores_QN, axis=1, kind="stable")[:, :k]
    np.testing.assert_array_equal(rows_QK, wanted)
    np.testing.assert_array_equal(values_QK, np.take_along_axis(scores_QN, wanted, axis=1))


def test_shards_merge_to_the_whole():
    random = np.random.default_rng(0)
    queries_QD, items_ID = (
        random.integers(-2, 3, (6, 4)).astype(np.float32),
        random.integers(-2, 3, (90, 4)).astype(np.float32),
    )
    parts = []
    for start in (60, 0, 30):
        rows, scores = top_k(queries_QD, items_ID[start : start + 30], 10)
        parts.append((rows + np.int32(start), scores))
    for merged, whole in zip(merge_top_k(parts), top_k(queries_QD, items_ID, 10), strict=True):
        np.testing.assert_array_equal(merged, whole)


def test_a_read_only_memory_map_will_do(tmp_path):
    items_ID = np.eye(5, dtype=np.float32)
    np.save(tmp_path / "items.npy", items_ID)
    rows, scores = top_k(items_ID[[3]], np.load(tmp_path / "items.npy", mmap_mode="r"), 1)
    assert (rows[0, 0], scores[0, 0]) == (3, 1.0)


def test_refuses_at_the_door():
    items_ID = np.eye(4, dtype=np.float32)
    with pytest.raises(ValueError, match="k is 0"):
        top_k(items_ID, items_ID, 0)
    with pytest.raises(
        ValueError, match=r"\(4, 3\) cannot be scored against items of shape \(4, 4\)"
    ):
        top_k(items_ID[:, :3], items_ID, 1)
    with pytest.raises(ValueError, match="query vector 2 holds NaN"):
        top_k(
            np.where(np.arange(4)[:, None] == 2, np.nan, items_ID).astype(np.float32), items_ID, 1
        )
    with pytest.raises(ValueError, match="mask of shape"):
        top_k(items_ID, items_ID, 1, allowed_I=np.ones(3, bool))
    with pytest.raises(ValueError, match="4 offsets of exclusions for 4 queries"):
        top_k(items_ID, items_ID, 1, exclude=(np.zeros(4, int), np.empty(0, np.int32)))
    for items in (4, 2_000):
        broken_ID = np.ones((items, 4), np.float32)
        broken_ID[1, 0] = np.nan
        with pytest.raises(ValueError, match="item vector holds NaN"):
            top_k(items_ID, broken_ID, 1)


def test_retriever_leaves_out_what_was_bought_and_zero_vectors():
    items_ID = np.array([[3, 0], [2, 0], [1, 0]], np.float32)
    bought_first = Histories(
        offsets=np.array([0, 2, 2]),
        items=np.array([0, 1], np.int32),
        types=np.array([3, 0], np.int8),
        days=np.zeros(2),
    )
    vectors_BD = np.array([[1, 0], [0, 0]], np.float32)
    found = ExactRetriever("near", items_ID).retrieve(
        Requests(size=2, vectors_BD=vectors_BD, histories=bought_first), 3
    )
    assert found.rows_BN.tolist() == [[1, 2, -1], [-1, -1, -1]]
    assert found.source == "near"
    assert ExactRetriever("near", items_ID).retrieve(Requests(size=2), 3).rows_BN.shape == (2, 0)
