"""Projections: what they keep of inner products, and that they come out the same."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.ranking.projection import P, fit_projection, project


def test_vectors_of_few_directions_keep_their_inner_products() -> None:
    rng = np.random.default_rng(0)
    vectors_ID = (rng.normal(size=(200, 5)) @ rng.normal(size=(5, 40))).astype(np.float32)
    projection_DP = fit_projection(vectors_ID)
    near_IP = project(vectors_ID, projection_DP)
    np.testing.assert_allclose(near_IP @ near_IP.T, vectors_ID @ vectors_ID.T, rtol=1e-3, atol=1e-3)
    assert not projection_DP[:, 5:].any(), "there are no more directions"
    assert projection_DP[:, :5].any(axis=0).all()


def test_the_strongest_direction_is_first_and_points_up() -> None:
    vectors_ID = np.array([[0, -3.0, 0], [0, -3.0, 0], [1, 0, 0]], np.float32)
    projection_DP = fit_projection(vectors_ID)
    np.testing.assert_allclose(projection_DP[:, :2], [[0, 1], [1, 0], [0, 0]], atol=1e-6)


def test_nothing_is_projected_to_nothing() -> None:
    assert fit_projection(np.zeros((0, 8), np.float32)).tolist() == np.zeros((8, P)).tolist()
    assert not fit_projection(np.zeros((3, 8), np.float32)).any()
    assert project(np.zeros((0, 8), np.float32), np.ones((8, P), np.float32)).shape == (0, P)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 1_000), st.integers(1, 30), st.integers(1, 30), st.integers(1, 7))
def test_directions_are_orthonormal_or_none_and_do_not_depend_on_the_blocks(
    seed: int, items: int, dim: int, block: int
) -> None:
    vectors_ID = np.random.default_rng(seed).normal(size=(items, dim)).astype(np.float32)
    projection_DP = fit_projection(vectors_ID)
    assert (
        np.take_along_axis(projection_DP, np.abs(projection_DP).argmax(axis=0)[None], axis=0) >= 0
    ).all(), "they point up"
    rank = int(projection_DP.any(axis=0).sum())
    assert rank <= min(items, dim, P)
    np.testing.assert_allclose(
        projection_DP.T @ projection_DP, np.diag(np.arange(P) < rank), atol=1e-5
    )
    np.testing.assert_allclose(
        project(vectors_ID, projection_DP, block),
        project(vectors_ID, projection_DP),
        rtol=1e-5,
        atol=1e-6,
    )
    near = fit_projection(vectors_ID, block=block)
    np.testing.assert_allclose(near @ near.T, projection_DP @ projection_DP.T, atol=1e-3)
