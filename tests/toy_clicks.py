"""Logs whose truth is known: relevant items are clicked where their position is examined, with
probability 1 / position ** 0.8."""

from __future__ import annotations

import numpy as np

from recsys.ranking.logged_rankings import LoggedRankings

CURVE = np.arange(1, 11) ** -0.8
NAMES = ("wanted", "shown", "noise")
FLAT = np.ones(10)


def swap_pairs(orders_BK, epsilon, rng):
    """Swaps a random pair of positions in a share `epsilon` of the lists; the new orders, and the
    propensity of each position."""
    size, places = orders_BK.shape
    pairs = places * (places - 1) / 2
    propensities_BK = np.full(orders_BK.shape, 1 - epsilon + epsilon * (pairs - places + 1) / pairs)
    moved = np.flatnonzero(rng.random(size) < epsilon)
    pair_M2 = rng.random((len(moved), places)).argpartition(2, axis=1)[:, :2]
    orders_BK = orders_BK.copy()
    orders_BK[moved[:, None], pair_M2] = orders_BK[moved[:, None], pair_M2[:, ::-1]]
    propensities_BK[moved[:, None], pair_M2] = epsilon / pairs
    return orders_BK, propensities_BK


def toy_log(
    requests=2000,
    seed=0,
    *,
    epsilon=0.0,
    curve=CURVE,
    shuffled=0.0,
    level=-0.5,
    strength=1.5,
    blame=0.5,
):
    """Lists of ten, and each item's probability of a click when examined [B, K].

    Relevance depends on the feature `wanted`. The production ranker sorts by `shown`, of which
    `blame` is `wanted` with the sign turned: it puts the least relevant items on top."""
    rng = np.random.default_rng(seed)
    places = len(curve)
    preference_BK, noise_BK, other_BK = rng.normal(size=(3, requests, places)).astype(np.float32)
    production_BK = other_BK - np.float32(blame) * preference_BK
    orders_BK = np.argsort(-production_BK, axis=1)
    propensities_BK = np.ones((requests, places))
    if epsilon:
        orders_BK, propensities_BK = swap_pairs(orders_BK, epsilon, rng)
    if shuffled:
        chosen = rng.random(requests) < shuffled
        orders_BK[chosen] = rng.permuted(orders_BK[chosen], axis=1)
        propensities_BK[chosen] = 1 / places
    features_BKF = np.take_along_axis(
        np.stack([preference_BK, production_BK, noise_BK], axis=2), orders_BK[:, :, None], axis=1
    )
    relevance_BK = 1 / (1 + np.exp(-(level + strength * features_BKF[:, :, 0])))
    gains_BK = np.where(rng.random(relevance_BK.shape) < relevance_BK * curve, 0.75, 0)
    return toy_lists(features_BKF, gains_BK, propensities_BK, features_BKF[:, :, 1]), relevance_BK


def toy_lists(
    features_BKF, gains_BK, propensities_BK=None, scores_BK=None, *, names=NAMES, users=None
):
    """`LoggedRankings` of full lists from the first position on."""
    size, places = gains_BK.shape
    ids = np.array([f"r{at}" for at in range(size)], object)
    return LoggedRankings(
        names=tuple(names),
        features_BKF=np.asarray(features_BKF, np.float32),
        gains_BK=np.asarray(gains_BK, np.float32),
        positions_BK=np.tile(np.arange(1, places + 1, dtype=np.int32), (size, 1)),
        propensities_BK=np.ones((size, places), np.float32)
        if propensities_BK is None
        else propensities_BK.astype(np.float32),
        scores_BK=np.zeros((size, places), np.float32)
        if scores_BK is None
        else scores_BK.astype(np.float32),
        items_BK=np.full((size, places), "i", object),
        users_B=np.array([f"u{at}" for at in range(size)], object) if users is None else users,
        surfaces_B=np.full(size, "search", object),
        request_ids_B=ids,
        times_B=np.full(size, np.datetime64("2026-01-01", "us")),
    )


def toy_vector_log(requests=2000, seed=0, *, dim=8, strength=4.0, weight=0.0, curve=CURVE):
    """As `toy_log`, but relevance depends on the similarities of item and query, and of user and
    the item's taste, and with `weight` on a scalar. In random order."""
    rng = np.random.default_rng(seed)
    places = len(curve)
    units = {}
    for block, width in (("query", 1), ("item", places), ("user", 1), ("taste", places)):
        vectors = rng.normal(size=(requests, width, dim))
        units[block] = np.broadcast_to(
            vectors / np.linalg.norm(vectors, axis=2, keepdims=True), (requests, places, dim)
        )
    near_BK = (units["query"] * units["item"] + units["user"] * units["taste"]).sum(axis=2)
    scalar_BK = rng.normal(size=near_BK.shape)
    relevance_BK = 1 / (1 + np.exp(1 - strength * near_BK - weight * scalar_BK))
    gains_BK = np.where(rng.random(near_BK.shape) < relevance_BK * curve, 0.75, 0)
    names = ["wanted", *(f"{block}.{at}" for block in units for at in range(dim))]
    features_BKF = np.concatenate([scalar_BK[:, :, None], *units.values()], axis=2)
    return toy_lists(features_BKF, gains_BK, names=names), relevance_BK
