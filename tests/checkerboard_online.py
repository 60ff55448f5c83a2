"""The checkerboard shop by day: its recommender, live events, a clock that stays at the night."""

from __future__ import annotations

from datetime import datetime, timedelta, tzinfo
from pathlib import Path

from recsys.pipeline.recommender import Recommender
from recsys.release.release import Release
from recsys.storage.artifacts import ArtifactStore
from recsys.types import EVENT_TYPES, Interaction, Ranking
from tests.checkerboard import UNTIL, setup


def open_recommender(shop_home: Path) -> Recommender:
    parts, release = setup(), Release.open(ArtifactStore(str(shop_home)))
    return Recommender.over(
        release, parts.user_model(), parts.search_ranker(), parts.recommend_ranker()
    )


class NightClock(datetime):
    days = 1

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
        return UNTIL + timedelta(days=cls.days)


def event(user: str, item: int, kind: str, minutes: int = 1) -> Interaction:
    time = UNTIL + timedelta(days=1, minutes=minutes)
    return Interaction(
        event_id=f"{user}-{item}-{kind}-{minutes}",
        user_id=user,
        item_id=f"i{item:02d}",
        type=kind,
        time=time,
    )


def features_of(ranking: Ranking) -> dict[str, dict[str, float]]:
    """By item, as they were ranked."""
    return {
        each.item.item_id: ranking.features.row(place) for place, each in enumerate(ranking.items)
    }


def session(*items: int) -> list[Interaction]:
    return [
        event("nobody", item, kind, at)
        for at, (item, kind) in enumerate(zip(items, EVENT_TYPES, strict=False))
    ]
