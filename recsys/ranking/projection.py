"""Uncentred PCA: long vectors as a few numbers that a ranker can take as features."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from recsys.types import Floats

#: Numbers that a vector becomes: columns of each of the feature table's vector blocks.
P = 16
_NOISE = 1e-6


def fit_projection(vectors_ID: Floats, size: int = P, block: int = 65_536) -> Floats:
    """[D, size] float32: the orthonormal directions that keep most of the vectors' inner products
    (Eckart and Young, 1936), the strongest first.

    Not centred, so that zeros stay zeros and other vectors of the space (queries, users) can be
    projected too. Of each direction the strongest entry is positive. Where the vectors span fewer
    directions, zeros are the rest."""
    dim = vectors_ID.shape[1]
    moment_DD = np.zeros((dim, dim))
    for part_ID in _blocks(vectors_ID, block):
        moment_DD += part_ID.T @ part_ID
    strengths_D, directions_DD = np.linalg.eigh(moment_DD)
    chosen = np.argsort(-strengths_D, kind="stable")[:size]
    chosen = chosen[strengths_D[chosen] > _NOISE * strengths_D.max(initial=0.0)]
    basis_DP = directions_DD[:, chosen]
    strongest_P = np.take_along_axis(basis_DP, np.abs(basis_DP).argmax(axis=0)[None], axis=0)
    padded_DP = np.zeros((dim, size), np.float32)
    padded_DP[:, : len(chosen)] = basis_DP * np.sign(strongest_P)
    return padded_DP


def project(vectors_ND: Floats, projection_DP: Floats, block: int = 65_536) -> Floats:
    """[N, P] float32, a block of vectors at a time: they may be mapped from disk."""
    parts = [part_ND.astype(np.float32) @ projection_DP for part_ND in _blocks(vectors_ND, block)]
    return np.concatenate([np.empty((0, projection_DP.shape[1]), np.float32), *parts])


def _blocks(vectors_ND: Floats, block: int) -> Iterable[Floats]:
    return (
        np.asarray(vectors_ND[low : low + block], np.float64)
        for low in range(0, len(vectors_ND), block)
    )
