import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.arrays import Candidates
from recsys.ranking.linear import LinearRanker, WeightedSum, best
from recsys.ranking.merge import merge
from recsys.ranking.mixer import Mixer
from recsys.retrieval.interest import InterestRanker


def candidates(source, rows, scores):
    return Candidates(source, np.array(rows, np.int32), np.array(scores, np.float32))


def test_merge_is_the_union_with_a_column_a_source():
    near = candidates("near", [[7, 2], [5, -1]], [[0.9, 0.1], [0.4, -np.inf]])
    sold = candidates("sold", [[2], [-1]], [[30], [-np.inf]])
    rows_BN, features_BNF = merge([near, sold])
    assert rows_BN.tolist() == [[2, 7], [5, -1]]
    np.testing.assert_allclose(features_BNF, [[[0.1, 30], [0.9, 0]], [[0.4, 0], [0, 0]]], rtol=1e-6)


def test_merge_of_silence():
    rows_BN, features_BNF = merge([Candidates.none("near", 2), Candidates.none("sold", 2)])
    assert (rows_BN.shape, features_BNF.shape) == ((2, 0), (2, 0, 2))


def test_merge_refuses_what_does_not_belong_together():
    with pytest.raises(ValueError, match=r"'near': 1, 'sold': 2"):
        merge([Candidates.none("near", 1), Candidates.none("sold", 2)])
    with pytest.raises(ValueError, match="answered no requests"):
        merge([])


answers = st.lists(st.lists(st.integers(0, 9), max_size=5, unique=True), min_size=3, max_size=3)


@settings(max_examples=50, deadline=None)
@given(st.lists(answers, min_size=1, max_size=3))
def test_merge_keeps_every_score(sources):
    padded = [
        np.array([rows + [-1] * (5 - len(rows)) for rows in answer], np.int32) for answer in sources
    ]
    candidates = [
        Candidates(str(at), r, np.where(r >= 0, r + 1.0 + at, -np.inf))
        for at, r in enumerate(padded)
    ]
    rows_BN, features_BNF = merge(candidates)
    for request, merged in enumerate(rows_BN):
        assert merged[merged >= 0].tolist() == sorted(
            {row for answer in sources for row in answer[request]}
        )
        for at, answer in enumerate(sources):
            expected = [row + 1.0 + at if row in answer[request] else 0 for row in merged]
            np.testing.assert_allclose(features_BNF[request, :, at], expected)


def test_linear_ranker_weighs_shares_of_the_largest():
    features_BNF = np.array([[[10, 0.2], [5, 0.4], [0, 0]]], np.float32)
    ranker = LinearRanker({"near": 1.0, "sold": 0.5})
    assert ranker.feature_names == ("near", "sold")
    np.testing.assert_allclose(ranker.score(features_BNF), [[1 + 0.25, 0.5 + 0.5, 0]])
    np.testing.assert_allclose(
        WeightedSum({"near": 1.0, "sold": 0.5}).score(features_BNF), [[10.1, 5.2, 0]]
    )
    another_1NF = np.array([[[90, 0.1]] * 3], np.float32)
    together_BN = ranker.score(np.concatenate([features_BNF, another_1NF]))
    np.testing.assert_allclose(
        together_BN, [[1.25, 1, 0], [1.5] * 3], err_msg="each request by its own largest"
    )
    assert ranker.score(np.empty((2, 0, 2), np.float32)).shape == (2, 0)


def test_a_ranker_refuses_other_features():
    with pytest.raises(ValueError, match="3 features came for the weights of near, sold"):
        LinearRanker({"near": 1.0, "sold": 0.5}).score(np.zeros((1, 4, 3), np.float32))


def test_best_breaks_ties_by_row_and_puts_pads_last():
    rows_BN = np.array([[-1, 8, 3, 5], [4, -1, -1, -1]], np.int32)
    scores_BN = np.array([[9, 1, 1, 2], [-5, 9, 9, 9]], np.float32)
    places_BK, best_BK = best(rows_BN, scores_BN, 3)
    assert np.take_along_axis(rows_BN, places_BK, axis=1).tolist() == [[5, 3, 8], [4, -1, -1]]
    assert best_BK.tolist() == [[2, 1, 1], [-5, -np.inf, -np.inf]]
    assert best(rows_BN, scores_BN, 9)[0].shape == (2, 4)
    assert best(np.array([[-1, 6]], np.int32), np.array([[0, -np.inf]]), 1)[0].tolist() == [[1]]


features = st.lists(
    st.lists(st.floats(-5, 5, width=32), min_size=3, max_size=3), min_size=1, max_size=6
)


@settings(max_examples=50, deadline=None)
@given(features, st.booleans())
def test_contributions_of_the_first_stage_add_up_to_the_score(rows, again):
    features_BNF = np.array([rows], np.float32)
    features_BNF[:, :, 0] *= again
    weights_GFV = np.random.default_rng(0).normal(size=(2, 3, 5))
    mixer = Mixer(("buy_again", "near", "sold"), weights_GFV, bias=0.7)
    linear = LinearRanker({"buy_again": 1.0, "near": -0.5, "sold": 0.25})
    both = InterestRanker(LinearRanker({"near": 1.0, "sold": 0.5}), events=3)
    for ranker in (linear, mixer, both, WeightedSum({"a": 1.0, "b": 2.0, "c": 0.0})):
        parts_BNF = ranker.contributions(features_BNF)
        assert parts_BNF.shape == (1, len(rows), 4)
        np.testing.assert_allclose(
            parts_BNF.sum(axis=2), ranker.score(features_BNF), rtol=1e-4, atol=1e-4
        )
