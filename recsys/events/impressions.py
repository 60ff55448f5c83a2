"""Impressions: what is logged of an answer, so that rankers can learn from it."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from recsys.types import Impression, Query, Ranking


def build_impression(ranking: Ranking, surface: str, query: Query) -> Impression:
    """Every item of the answer, in order, with its features, scores, propensities and teams."""
    items = ranking.items
    propensities = tuple(each.propensity for each in items)
    teams = tuple(each.team for each in items)
    return Impression(
        request_id=ranking.request_id,
        time=datetime.now(UTC),
        release=ranking.release,
        surface=surface,
        item_ids=tuple(each.item.item_id for each in items),
        features=ranking.features,
        user_id=query.user_id,
        query=query.text,
        offset=query.offset,
        scores=tuple(each.score for each in items),
        propensities=propensities if any(p != 1 for p in propensities) else (),
        teams=teams if any(teams) else (),
        ranker=ranking.ranker,
        arms=dict(ranking.arms),
        parameters=_other_fields(query),
    )


def _other_fields(query: Query) -> dict[str, Any]:
    """Fields of the request that are no defaults and have no column of their own."""
    bare = Query(
        request_id=query.request_id, user_id=query.user_id, text=query.text, offset=query.offset
    )
    fields = {**asdict(query), **asdict(query.filters)}
    defaults = {**asdict(bare), **asdict(bare.filters)}
    return {
        name: value
        for name, value in fields.items()
        if name not in ("filters", "deadline") and value != defaults[name]
    }
