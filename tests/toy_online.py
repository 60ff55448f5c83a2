"""A nightly network over `toy_clicks`, and its lists as the rows of a log."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from recsys.datasets.judgments import GRADES
from recsys.ranking.examination import Examination
from recsys.ranking.logged_rankings import split_by_user
from recsys.ranking.network import Shape
from recsys.tables import EXAMPLES
from recsys.training.ranker_net import NetRecipe, train_net
from tests.toy_clicks import CURVE, toy_log

CURVES = Examination(*(CURVE.astype(np.float32) for _ in range(3)))


def network(folder: Path) -> Path:
    """Learned from people who want by `wanted`."""
    train, valid = split_by_user(toy_log(1500, seed=1, epsilon=0.5)[0])
    train_net(
        train,
        valid,
        CURVES,
        folder,
        recipe=NetRecipe(shape=Shape(1, 4, (8,)), epochs=10, batch_size=64, learning_rate=1e-2),
    )
    return folder


def flow(
    requests: int, seed: int, strength: float = 1.5, users: int | None = None, shuffled: float = 1.0
):
    """Lists with ids of their own, in which people want with this `strength`; of `users` shoppers,
    None: of as many."""
    lists, _ = toy_log(requests, seed=seed, strength=strength, shuffled=shuffled)
    names = np.array(
        [f"u{seed}-{at}" if users is None else f"u{at % users}" for at in range(requests)], object
    )
    return replace(
        lists,
        users_B=names,
        request_ids_B=np.array([f"r{seed}-{at}" for at in range(requests)], object),
    )


def examples(lists, origins=None) -> pa.Table:
    """As `joins.label_examples` makes them; each user at an address of their own, or all at
    `origins`."""
    owner, place = np.nonzero(lists.present_BK)
    count, names = len(owner), lists.names
    label_of = {float(np.float32(grade)): label for label, grade in enumerate(GRADES)}
    offsets = np.arange(count + 1, dtype=np.int32) * len(names)
    users = lists.users_B[owner].tolist()
    columns = {
        "request_id": lists.request_ids_B[owner].tolist(),
        "user_id": users,
        "surface": lists.surfaces_B[owner].tolist(),
        "query": [None] * count,
        "release": ["v"] * count,
        "time": pa.array(lists.times_B[owner]).cast(pa.timestamp("us", "UTC")),
        "item_id": [
            f"{item}{at}" for item, at in zip(lists.items_BK[owner, place], place, strict=True)
        ],
        "position": lists.positions_BK[owner, place],
        "features": pa.ListArray.from_arrays(
            pa.array(offsets), pa.array(lists.features_BKF[owner, place].ravel())
        ),
        "score": lists.scores_BK[owner, place],
        "propensity": lists.propensities_BK[owner, place],
        "team": [""] * count,
        "ranker": ["net"] * count,
        "arms": pa.array([[]] * count, EXAMPLES.field("arms").type),
        "label": [label_of[float(gain)] for gain in lists.gains_BK[owner, place]],
        "origin": users if origins is None else [origins] * count,
    }
    return pa.table(columns).cast(EXAMPLES.with_metadata({"feature_names": json.dumps(names)}))
