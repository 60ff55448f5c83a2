"""Sanity checks of the event log: counts of what should not be in it."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

import pyarrow as pa
import pyarrow.compute as pc

from recsys.events.joins import (
    is_before,
    is_in_future,
    request_item_keys,
    shown_items,
    to_events_table,
)
from recsys.types import Impression


def count_anomalies(
    impressions: Iterable[Impression], interactions: Iterable[pa.RecordBatch], now: datetime
) -> dict[str, int]:
    """Counts by kind; all but `duplicate_events` look at interactions with a request_id.

    `unknown_requests`: no impression has it; `not_shown`: the impression is without the item;
    `before_impression`: earlier than it by more than CLOCK_SKEW; `duplicate_impressions` and
    `duplicate_events`: beyond the first of an id; `clock_skew`: later than `now` and CLOCK_SKEW.
    """
    impressions = list(impressions)
    items = shown_items(impressions, ())
    events = to_events_table(interactions, ["event_id", "request_id", "item_id", "time"])
    joined = events.filter(events["request_id"].is_valid())
    row_E = pc.index_in(joined["request_id"], value_set=items["request_id"])
    is_known_E = row_E.is_valid()
    is_early_E = is_before(joined["time"].filter(is_known_E), items["time"].take(row_E.drop_null()))
    is_shown_E = pc.is_in(request_item_keys(joined), value_set=request_item_keys(items))
    requests = {each.request_id for each in impressions}
    return {
        "unknown_requests": _count(pc.invert(is_known_E)),
        "not_shown": _count(pc.and_(is_known_E, pc.invert(is_shown_E))),
        "before_impression": _count(is_early_E),
        "duplicate_impressions": len(impressions) - len(requests),
        "duplicate_events": events.num_rows - pc.count_distinct(events["event_id"]).as_py(),
        "clock_skew": _count(is_in_future(joined["time"], now)),
    }


def _count(mask: pa.ChunkedArray) -> int:
    return pc.sum(mask, min_count=0).as_py()
