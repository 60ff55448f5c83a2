"""Accounts that are no shoppers: they look at more than a person can, or without looking.

Legend: E events, V views and clicks, D days of a user on which they viewed something."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from recsys.events.joins import event_codes
from recsys.types import EVENT_TYPES, Mask

_DAY = 86_400_000_000
_SECOND = 1_000_000
#: More than the days since 1970 of any time.
_SPAN = 1 << 28
_VIEWS = [EVENT_TYPES.index(name) for name in ("view", "click")]


@dataclass(frozen=True, kw_only=True)
class BotLimits:
    """What makes an account a bot, on any one day (UTC): `views_a_day` views and clicks; or
    `items_a_day` different items where it never bought or put one into the cart; or views in
    `busy_seconds` different seconds of which most follow each other within `dwell_s`. Purchases
    make nobody a bot: tills and resellers buy a lot."""

    views_a_day: int = 1_000
    items_a_day: int = 500
    busy_seconds: int = 200
    dwell_s: float = 1.0


def bot_mask(events: pa.Table, limits: BotLimits) -> Mask:
    """[E]: the events of accounts that are bots; those of guests are nobody's. `events` are all of
    their users, in the order of time."""
    users = events["user_id"].combine_chunks().dictionary_encode()
    users_E = np.asarray(pc.fill_null(users.indices, -1)).astype(np.int64)
    types_E = event_codes(events["type"])
    views = np.flatnonzero(np.isin(types_E, _VIEWS) & (users_E >= 0))
    times_E = events["time"].cast(pa.int64()).to_numpy()
    items = events["item_id"].combine_chunks().dictionary_encode()
    items_V = np.asarray(items.indices).astype(np.int64)[views]
    is_buyer_U = np.zeros(len(users.dictionary) + 1, bool)  # guests last
    is_buyer_U[users_E[~np.isin(types_E, _VIEWS)]] = True
    keys_V = users_E[views] * _SPAN + times_E[views] // _DAY + _SPAN // 2
    keys, days_V, views_D = np.unique(keys_V, return_inverse=True, return_counts=True)
    users_D, width = keys // _SPAN, max(1, len(items.dictionary))
    items_D = np.bincount(np.unique(days_V * width + items_V) // width, minlength=len(keys))
    is_bot_D = views_D >= limits.views_a_day
    is_bot_D |= (items_D >= limits.items_a_day) & ~is_buyer_U[users_D]
    by_day_V, ends_D = np.argsort(days_V, kind="stable"), np.cumsum(views_D)
    for day in np.flatnonzero(~is_bot_D & (views_D >= limits.busy_seconds)):
        looks = views[by_day_V[ends_D[day] - views_D[day] : ends_D[day]]]
        is_bot_D[day] = _is_hasty(times_E[looks], limits)
    is_bot_U = np.zeros(len(users.dictionary) + 1, bool)
    is_bot_U[users_D[is_bot_D]] = True
    return is_bot_U[users_E]


def _is_hasty(times: NDArray[np.int64], limits: BotLimits) -> bool:
    """Events of one second are one look: a page may log all that it lists."""
    seconds = np.unique(times // _SECOND)
    if len(seconds) < limits.busy_seconds:
        return False
    return bool(np.median(np.diff(seconds)) <= limits.dwell_s)
