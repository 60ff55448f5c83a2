"""What each feature adds to a candidate's score, by the ranker that scored it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from recsys.interfaces import ExplainableRanker, Ranker
from recsys.pipeline.recommender import Recommender
from recsys.pipeline.replay import Replay
from recsys.pipeline.rerank import COLUMN, TABLE
from recsys.ranking.logged_rankings import is_vector
from recsys.types import Floats


@dataclass(frozen=True)
class Contribution:
    """A feature's value (0 for a vector, which counts as one) and what it added to the score."""

    feature: str
    value: float
    contribution: float


@dataclass(frozen=True, kw_only=True)
class ScoredRow:
    """A candidate's score, the team that chose it, and its row of the feature table; `place` is
    that in the replayed pool, None where no source retrieves it any more."""

    score: float
    team: str
    features_F: Floats
    place: int | None


@dataclass(frozen=True)
class Attribution:
    """`base` and the contributions, largest first, add up to the score, to rounding. Empty where
    the ranker cannot explain itself. `note` says where another version made the score."""

    base: float = 0.0
    parts: tuple[Contribution, ...] = ()
    note: str = ""


def replayed_row(replay: Replay, place: int) -> ScoredRow:
    """Of a candidate of the replayed pool."""
    return ScoredRow(
        score=float(replay.reranked.scores_N[place]),
        team=replay.reranked.teams_N[place],
        features_F=replay.features_NF[place],
        place=place,
    )


def logged_row(replay: Replay, item_id: str, place: int | None) -> ScoredRow:
    """Of an item of the answer, by the log."""
    impression = replay.impression
    position, score = impression.item_ids.index(item_id), 0.0
    if impression.scores:
        score = impression.scores[position]
    elif place is not None:
        score = float(replay.reranked.scores_N[place])
    features: Mapping[str, float] = {}
    if len(impression.features):
        features = impression.features.row(position)
    return ScoredRow(
        score=score,
        team=impression.teams[position] if impression.teams else "",
        features_F=np.array([features.get(name, 0.0) for name in TABLE], np.float32),
        place=place,
    )


def attribute(
    shop: Recommender, replay: Replay, row: ScoredRow, arms: Mapping[str, str]
) -> Attribution:
    """By the ranker of the row's team; where none re-ranked it, by the first stage's."""
    by_team = shop.reranker.rankers_by_team(arms)
    # Candidates that both interleaved rankers had in front were scored by the first.
    name = by_team.get(row.team, next(iter(by_team.values())))
    in_depth = row.place is None or row.place < shop.reranker.depth
    ranker = shop.reranker.rankers.get(name) if in_depth else None
    if ranker is not None:
        columns = [COLUMN[column] for column in ranker.feature_names]
        values_F = row.features_F[columns]
        values = dict(zip(ranker.feature_names, values_F.tolist(), strict=True))
        base, parts = _contributions(ranker, values_F[None], 0, values)
        current = shop.reranker.labels.get(name, name)
        note = _version_note(row.score, base, parts, replay.impression.ranker, current)
        return Attribution(base, parts, note)
    if row.place is not None:
        pool = replay.pool
        values = dict(zip(pool.names, pool.signals_NF[row.place].tolist(), strict=True))
        return Attribution(*_contributions(replay.first_ranker, pool.signals_NF, row.place, values))
    return Attribution()


def _version_note(
    score: float, base: float, parts: tuple[Contribution, ...], logged: str, current: str
) -> str:
    """Where the ranker was trained again since the answer, its contributions add up to another
    score."""
    total = base + sum(part.contribution for part in parts)
    if abs(total - score) <= 1e-3 * max(1.0, abs(score)):
        return ""
    return (
        f"{logged} ranked then; the parts are of {current}, which serves now and gives {total:.4g}"
    )


def _contributions(
    ranker: Ranker, features_NF: Floats, place: int, values: Mapping[str, float]
) -> tuple[float, tuple[Contribution, ...]]:
    """Base and contributions, largest first, the numbers of a vector summed; none where the ranker
    cannot explain itself."""
    if not isinstance(ranker, ExplainableRanker):
        return 0.0, ()
    added_F = ranker.contributions(features_NF[None])[0, place].astype(float)
    sums: dict[str, tuple[float, float]] = {}
    for (name, value), contribution in zip(values.items(), added_F[:-1], strict=True):
        if is_vector(name):
            name, value = f"{name.split('.')[0]} vector", 0.0
        sums[name] = (value, sums.get(name, (0.0, 0.0))[1] + contribution)
    parts = [Contribution(name, value, total) for name, (value, total) in sums.items()]
    parts.sort(key=lambda part: -abs(part.contribution))
    return float(added_F[-1]), tuple(parts)
