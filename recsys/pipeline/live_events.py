"""What a user did since the night, in the rows of a release."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from recsys.arrays import Histories, utc_days
from recsys.release.release import Release
from recsys.types import EVENT_TYPES, Interaction


def live_history(release: Release, events: Sequence[Interaction]) -> Histories:
    """One user's events, oldest first, without those of items that the release does not have."""
    rows = [release.item_ids.row(event.item_id) for event in events]
    in_release = [(row, event) for row, event in zip(rows, events, strict=True) if row is not None]
    prices = [np.nan if event.price is None else event.price for _, event in in_release]
    return Histories(
        offsets=np.array([0, len(in_release)], np.int64),
        items=np.array([row for row, _ in in_release], np.int32),
        types=np.array([EVENT_TYPES.index(event.type) for _, event in in_release], np.int8),
        days=np.array([utc_days(event.time) for _, event in in_release], np.float64),
        prices=np.array(prices, np.float32),
    )


def purchased_rows(release: Release, events: Sequence[Interaction]) -> list[int]:
    """The items that were bought among these events."""
    ids = (event.item_id for event in events if event.type == "purchase")
    return [row for item_id in ids if (row := release.item_ids.row(item_id)) is not None]
