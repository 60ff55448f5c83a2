"""A log that is shifted into the past keeps everything but its times."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from recsys.events.sqlite import SqliteEventStore
from recsys.simulation.time_shift import shift_times
from recsys.types import Impression, Interaction

NOW = datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC)


def test_everything_is_a_day_older(tmp_path: Path) -> None:
    store = SqliteEventStore(tmp_path / "log.sqlite")
    click = Interaction(
        event_id="e1", user_id="u1", item_id="i1", type="click", time=NOW, request_id="r1"
    )
    impression = Impression(
        request_id="r1", time=NOW, release="v1", surface="search", item_ids=("i1",)
    )
    store.append([click])
    store.append_impressions([impression])
    shift_times(tmp_path / "log.sqlite")
    yesterday = NOW - timedelta(days=1)
    assert store.user_events("u1", yesterday - timedelta(seconds=1), 9).interactions == [
        replace(click, time=yesterday)
    ]
    assert store.user_events("u1", yesterday, 9).interactions == []
    assert next(store.impressions()) == replace(impression, time=yesterday)
    store.close()
