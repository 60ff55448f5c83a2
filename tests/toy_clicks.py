"""Clicks whose truth is known: what is wanted is clicked where its place is looked at, 1 / place **
0.8."""

from __future__ import annotations

import numpy as np

from recsys.ranking.logged_rankings import LoggedRankings

CURVE = np.arange(1, 11) ** -0.8
NAMES = ("wanted", "shown", "noise")
FLAT = np.ones(10)


def swapped(orders_BK, epsilon, rng):
    """Exchanges a random pair of places in a share `epsilon` of the lists; the new orders, and each
    place's chance."""
    size, places = orders_BK.shape
    pairs = places * (places - 1) / 2
    propensities_BK = np.full(orders_BK.shape, 1 - epsilon + epsilon * (pairs - places + 1) / pairs)
    moved = np.flatnonzero(rng.random(size) < epsilon)
    pair_M2 = rng.random((len(moved), places)).argpartition(2, axis=1)[:, :2]
    orders_BK = orders_BK.copy()
    orders_BK[moved[:, None], pair_M2] = orders_BK[moved[:, None], pair_M2[:, ::-1]]
    propensities_BK[moved[:, None], pair_M2] = epsilon / pairs
    return orders_BK, propensities_BK


def logged(
    requests=2000,
    seed=0,
    epsilon=0.0,
    curve=CURVE,
    shuffled=0.0,
    level=-0.5,
    strength=1.5,
    blame=0.5,
):
    """Lists of ten, and each item's chance to be clicked when looked at [B, K].

    People want by the feature `wanted`. The ranker of the day sorts by `shown`, of which `blame` is
    `wanted` with the sign turned: what it puts on top is what people want least."""
    rng = np.random.default_rng(seed)
    places = len(curve)
    wanted, noise, other = rng.normal(size=(3, requests, places)).astype(np.float32)
    shown = other - np.float32(blame) * wanted
    orders_BK = np.argsort(-shown, axis=1)
    propensities_BK = np.ones((requests, places))
    if epsilon:
        orders_BK, propensities_BK = swapped(orders_BK, epsilon, rng)
    if shuffled:
        chosen = rng.random(requests) < shuffled
        orders_BK[chosen] = rng.permuted(orders_BK[chosen], axis=1)
        propensities_BK[chosen] = 1 / places
    features_BKF = np.take_along_axis(
        np.stack([wanted, shown, noise], axis=2), orders_BK[:, :, None], axis=1
    )
    relevance_BK = 1 / (1 + np.exp(-(level + strength * features_BKF[:, :, 0])))
    gains_BK = np.where(rng.random(relevance_BK.shape) < relevance_BK * curve, 0.75, 0)
    return lists_of(features_BKF, gains_BK, propensities_BK, features_BKF[:, :, 1]), relevance_BK


def lists_of(features_BKF, gains_BK, propensities_BK=None, scores_BK=None, names=NAMES, users=None):
    """`LoggedRankings` of full answers from first places on."""
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


def with_vectors(requests=2000, seed=0, dim=8, strength=4.0, wanted=0.0, curve=CURVE):
    """As `logged`, but what people want is how near item and query, and user and the item's taste,
    are; and `wanted` times a scalar. Shown in no order."""
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
    relevance_BK = 1 / (1 + np.exp(1 - strength * near_BK - wanted * scalar_BK))
    gains_BK = np.where(rng.random(near_BK.shape) < relevance_BK * curve, 0.75, 0)
    names = ["wanted", *(f"{block}.{at}" for block in units for at in range(dim))]
    features_BKF = np.concatenate([scalar_BK[:, :, None], *units.values()], axis=2)
    return lists_of(features_BKF, gains_BK, names=names), relevance_BK
