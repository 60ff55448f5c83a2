"""Two answers and interactions with them, for tests of the event log's joins."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa

from recsys.tables import LIVE_EVENTS
from recsys.types import FeatureTable, Impression, Interaction

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
SEARCH = Impression(
    request_id="r1",
    time=NOON,
    release="v1",
    surface="search",
    item_ids=("a", "b", "c"),
    features=FeatureTable(("bm25", "ann"), np.array(((3, 0), (2, 1), (1, 9)), np.float32)),
    user_id="u",
    query="tea",
)
HOME = Impression(
    request_id="r2",
    time=NOON,
    release="v2",
    surface="home",
    item_ids=("b",),
    features=FeatureTable(("ann", "new"), np.array(((5, 6),), np.float32)),
)


def event(item_id: str, type: str, request_id: str | None = "r1", **others: Any) -> Interaction:
    defaults = {
        "event_id": f"{item_id}{type}{request_id}",
        "user_id": "u",
        "time": NOON + timedelta(minutes=1),
    }
    return Interaction(item_id=item_id, type=type, request_id=request_id, **(defaults | others))


def batches(*events: Interaction) -> Iterator[pa.RecordBatch]:
    for one in events:
        yield pa.RecordBatch.from_pylist([vars(one)], LIVE_EVENTS)
