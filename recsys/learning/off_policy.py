"""Off-policy estimates of trained rankers before they go live: their clicks a request, from the
lists that the live ranker showed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys.config import Setup
from recsys.errors import InputError, NotFoundError
from recsys.experiments.estimators import estimate_clicks
from recsys.interfaces import Ranker
from recsys.learning.ranking_log import read_ranking_log
from recsys.models.composition import RANKERS, load_ranker
from recsys.ranking.examination import Examination, intervention_harvesting
from recsys.ranking.logged_rankings import LoggedRankings
from recsys.training import EXAMINATION

Row = dict[str, Any]


def estimate_candidates(
    setup: Setup, examples: pa.Table, folder: Path
) -> tuple[list[Row], list[str]]:
    """Rows of clicks a request of each ranker in the folder, by surface and estimator
    (`estimators.estimate_clicks`), and in sentences why a surface has none. Interleaved lists are
    left out."""
    rankers, rows, notes = _load_rankers(folder), list[Row](), list[str]()
    is_shared = pc.not_equal(examples["team"], "")
    shared = set(examples.filter(is_shared)["request_id"].to_pylist())
    lists = read_ranking_log(setup).lists
    lists = lists.where(np.array([request not in shared for request in lists.request_ids_B], bool))
    for surface in sorted(set(lists.surfaces_B.tolist())):
        part = lists.where(lists.surfaces_B == surface)
        try:
            rows += [
                {**row, "slice": surface}
                for row in _estimate(setup, part, rankers, _examination(folder, part))
            ]
        except InputError as error:
            notes.append(f"{surface}: {error}")
    return rows, notes


def _estimate(
    setup: Setup,
    lists: LoggedRankings,
    rankers: Sequence[tuple[str, Ranker]],
    examination: Examination,
) -> list[Row]:
    """One row a ranker and estimator."""
    rows = []
    for name, ranker in rankers:
        scores_BK = ranker.score(lists.with_features(ranker.feature_names).features_BKF)
        rows += [
            {
                "kind": "estimate",
                "name": f"{name}/{estimate.name}",
                "clicks": estimate.value,
                "clicks/low": estimate.low,
                "clicks/high": estimate.high,
                "requests": estimate.requests,
                "weight": estimate.weight,
            }
            for estimate in estimate_clicks(lists, scores_BK, examination, setup.day.explore)
        ]
    return rows


def _load_rankers(folder: Path) -> list[tuple[str, Ranker]]:
    """The rankers that the folder holds, by the names of its parts. Raises NotFoundError where
    there is none."""
    parts = [part for part in RANKERS.values() if (folder / part).is_dir()]
    if not parts:
        raise NotFoundError(
            f"{folder} holds no ranker: name a folder that jobs.train_models trained one into"
        )
    return [(part, load_ranker(folder / part)) for part in parts]


def _examination(folder: Path, lists: LoggedRankings) -> Examination:
    """The candidate's curve, else the one that the log's exchanges give."""
    path = folder / EXAMINATION
    return Examination.load(path) if path.exists() else intervention_harvesting(lists)
