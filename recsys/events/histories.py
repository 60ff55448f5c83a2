"""Users' histories from the event log: the input of user models, and of retrieval by behaviour.

Legend: E events."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from recsys.arrays import Histories
from recsys.events.joins import event_codes
from recsys.types import PURCHASE

_MICROSECONDS_A_DAY = 86_400_000_000


def build_histories(
    events: pa.Table, item_rows_E: NDArray[np.int32], max_events: int = 1000
) -> tuple[pa.Array, Histories]:
    """The users' ids, and each user's events, oldest first; `events` are sorted by (user_id, time).

    `item_rows_E` is the release's row of each event's item, -1 for an item that it does not have:
    such an event is dropped. So is a repetition on the same day (UTC) of what is no purchase, but
    for the newest: clicking on and on moves nothing. Each user keeps their newest `max_events`; one
    left with none is left out. An event's price is that of one piece, NaN where it is null. Raises
    ValueError when `events` are not sorted."""
    events = events.select(["user_id", "type", "time", "price"])
    rows = np.flatnonzero(item_rows_E >= 0)
    rows = rows[~_is_repeated(events.take(pa.array(rows)), item_rows_E[rows])]
    events, items_E = events.take(pa.array(rows)), item_rows_E[rows]
    times_E = events["time"].cast(pa.int64()).to_numpy()
    bounds = _user_bounds(events["user_id"].combine_chunks(), times_E)
    starts, stops = bounds[:-1], bounds[1:]
    from_end_E = np.repeat(stops, stops - starts) - np.arange(len(times_E))
    is_newest_E = from_end_E <= max_events
    counts = np.minimum(stops - starts, max_events)
    return events["user_id"].take(pa.array(starts)).combine_chunks(), Histories(
        offsets=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        items=items_E[is_newest_E].astype(np.int32),
        types=event_codes(events["type"])[is_newest_E],
        days=times_E[is_newest_E] / _MICROSECONDS_A_DAY,
        prices=events["price"].to_numpy()[is_newest_E].astype(np.float32),
    )


def guest_histories(events: pa.Table, item_rows_E: NDArray[np.int32]) -> Histories:
    """Events without a user, each as a history of its own: what they did with an item counts for
    it."""
    rows = np.flatnonzero(item_rows_E >= 0)
    events = events.take(pa.array(rows))
    return Histories(
        offsets=np.arange(len(rows) + 1),
        items=item_rows_E[rows].astype(np.int32),
        types=event_codes(events["type"]),
        days=events["time"].cast(pa.int64()).to_numpy() / _MICROSECONDS_A_DAY,
        prices=events["price"].to_numpy().astype(np.float32),
    )


def _is_repeated(events: pa.Table, items_E: NDArray[np.int32]) -> NDArray[np.bool_]:
    """[E]: whether the user does the same, other than a purchase, with the same item later that
    day."""
    users_E = np.asarray(events["user_id"].combine_chunks().dictionary_encode().indices)
    types_E = event_codes(events["type"])
    days_E = events["time"].cast(pa.int64()).to_numpy() // _MICROSECONDS_A_DAY
    order_E = np.lexsort((days_E, types_E, items_E, users_E))  # stable: by time within a day
    sorted_4E = np.stack([users_E, items_E, types_E, days_E])[:, order_E]
    is_repeated_E = np.zeros(len(items_E), bool)
    is_repeated_E[order_E[:-1]] = np.all(sorted_4E[:, 1:] == sorted_4E[:, :-1], axis=0)
    return is_repeated_E & (types_E != PURCHASE)


def _user_bounds(users: pa.Array, times_E: NDArray[np.int64]) -> NDArray[np.int64]:
    """Where each user's run of events begins, and the end of the last."""
    if len(users) == 0:
        return np.zeros(1, np.int64)
    is_new_E = pc.not_equal(users[1:], users[:-1]).to_numpy(zero_copy_only=False)
    bounds = np.concatenate([[0], 1 + np.flatnonzero(is_new_E), [len(users)]])
    heads = users.take(pa.array(bounds[:-1]))
    users_ascend = pc.all(pc.less(heads[:-1], heads[1:]), min_count=0).as_py()
    if not users_ascend or (np.diff(times_E)[~is_new_E] < 0).any():
        raise ValueError(
            "the events are not sorted by (user_id, time): take them from ingest.deduplicate"
        )
    return bounds
