import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.errors import InputError
from recsys.ranking.linear import RETAIL_WEIGHTS, LinearRanker
from recsys.ranking.mixer import VIEWS, Mixer, ranks, views

NAMES = ("buy_again", "sold", "near")
seeds = st.integers(0, 1000)


def drawn(seed, candidates=7):
    """Three requests; about half of the scores are silent, and some are the same."""
    rng = np.random.default_rng(seed)
    return np.maximum(rng.integers(-4, 6, (3, candidates, len(NAMES))), 0).astype(np.float32)


def mixer(seed=0):
    weights_GFV = np.random.default_rng(seed).normal(size=(2, len(NAMES), len(VIEWS)))
    return Mixer(NAMES, weights_GFV, 0.7)


def test_ranks_share_the_best_place():
    features_1N1 = np.array([[[3], [9], [0], [3], [-1], [9]]], np.float32)
    assert ranks(features_1N1).ravel().tolist() == [3, 1, 5, 3, 6, 1]


def test_the_views_of_scores():
    share, log_share, rank, brought, size = views(np.array([[[8], [2], [0], [-4]]], np.float32))[
        0, :, 0
    ].T
    np.testing.assert_allclose(share, [1, 0.25, 0, -0.5])
    np.testing.assert_allclose(log_share, [1, np.log(1 + 99 / 4) / np.log(100), 0, 0], rtol=1e-6)
    np.testing.assert_allclose(rank, [1, 1 / np.log2(3), 0, 0], rtol=1e-6)
    np.testing.assert_array_equal(brought, [1, 1, 0, 0])
    np.testing.assert_allclose(size, [np.log(9), np.log(3), 0, 0], rtol=1e-6)


def test_what_he_had_before_has_weights_of_its_own():
    weights_GFV = np.zeros((2, 2, len(VIEWS)))
    weights_GFV[0, 1, 0], weights_GFV[1, 1, 0] = 1, 10
    features_1NF = np.array([[[0, 4], [3, 4], [3, 2], [0, 0]]], np.float32)
    np.testing.assert_allclose(
        Mixer(("buy_again", "sold"), weights_GFV, 0.5).score(features_1NF), [[1, 10.5, 5.5, 0]]
    )
    tuesday = Mixer(("tuesdays", "sold"), weights_GFV, 0.5, again=("tuesdays", "mondays"))
    np.testing.assert_allclose(tuesday.score(features_1NF), [[1, 10.5, 5.5, 0]])
    np.testing.assert_allclose(
        Mixer(("x", "sold"), weights_GFV, 0.5).score(features_1NF), [[1, 1, 0.5, 0]]
    )


@given(seeds)
def test_it_begins_as_the_linear_ranker(seed):
    features_BNF = (
        np.random.default_rng(seed).normal(size=(2, 5, len(RETAIL_WEIGHTS))).astype(np.float32)
    )
    fixed = LinearRanker(RETAIL_WEIGHTS).score(features_BNF)
    np.testing.assert_allclose(Mixer.of(RETAIL_WEIGHTS).score(features_BNF), fixed, atol=1e-6)


def test_a_source_without_a_weight_counts_nothing():
    ranker = Mixer.of({"sold": 2.0}, NAMES)
    assert ranker.feature_names == NAMES
    np.testing.assert_allclose(
        ranker.score(np.array([[[5, 1, 5], [5, 2, 0]]], np.float32)), [[1, 2]]
    )


@settings(deadline=None)
@given(seeds, seeds)
def test_neither_order_nor_neighbours_nor_pads_matter(seed, other):
    features_BNF, ranker = drawn(seed), mixer(other)
    scores_BN = ranker.score(features_BNF)
    order = np.random.default_rng(other).permutation(features_BNF.shape[1])
    np.testing.assert_allclose(ranker.score(features_BNF[:, order]), scores_BN[:, order], rtol=1e-5)
    np.testing.assert_allclose(ranker.score(features_BNF[1:2]), scores_BN[1:2], rtol=1e-5)
    padded_BNF = np.pad(features_BNF, ((0, 0), (0, 3), (0, 0)))
    np.testing.assert_allclose(ranker.score(padded_BNF)[:, :-3], scores_BN, rtol=1e-5)


@given(seeds, st.floats(0.01, 100))
def test_all_views_but_the_size_are_of_no_scale(seed, scale):
    features_BNF, shapes = drawn(seed), VIEWS.index("size")
    scaled = views(features_BNF * np.float32(scale))[..., :shapes]
    np.testing.assert_allclose(scaled, views(features_BNF)[..., :shapes], rtol=1e-4)


def test_no_candidates():
    assert mixer().score(np.empty((2, 0, len(NAMES)), np.float32)).shape == (2, 0)


def test_it_comes_back_from_its_file(tmp_path):
    saved = Mixer(NAMES, mixer().weights_GFV, 0.25, again=("near", "buy_again"))
    saved.save(tmp_path / "mixer.json")
    loaded = Mixer.load(tmp_path / "mixer.json")
    assert (loaded.feature_names, loaded.again) == (NAMES, ("near", "buy_again"))
    np.testing.assert_array_equal(loaded.score(drawn(1)), saved.score(drawn(1)))


def test_a_file_of_other_views_is_refused(tmp_path):
    path = tmp_path / "mixer.json"
    mixer().save(path)
    path.write_text(json.dumps({**json.loads(path.read_text()), "views": ["share"]}))
    with pytest.raises(InputError, match=r"mixer.json weighs \['share'\] .* train it again"):
        Mixer.load(path)


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="2 features came for the mixer of buy_again, sold, near"):
        mixer().score(np.zeros((1, 4, 2), np.float32))
    with pytest.raises(ValueError, match=r"weights of shape \(2, 3\) came for a: give \(2, 1, 5\)"):
        Mixer(("a",), np.zeros((2, 3)))
