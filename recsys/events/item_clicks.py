"""Debiased clicks by item: clicks over exposure is a click rate without position bias (inverse
propensity scoring, Joachims et al., WSDM 2017), bounded so that no user moves it far."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys.datasets.validate import CLOCK_SKEW
from recsys.tables import ITEM_CLICKS
from recsys.types import EVENT_TYPES, Floats, Impression, Ints

#: More clicks of one user, or of one address, on one day count for nothing.
MAX_CLICKS_A_DAY = 50
#: Nobody needs the same item in more answers of a day: a round number.
MAX_REPEATS_A_DAY = 3
_SECONDS_A_DAY, _MICROSECONDS_A_DAY = 86_400, 86_400_000_000
_SEPARATOR = "\x1f"  # ids have no control characters


class _Click(NamedTuple):
    user_id: str
    origin: str | None
    time_us: int


#: The first click on each item of each answer, by request_id and item_id.
_Clicks = dict[str, dict[str, _Click]]


def count_item_clicks(
    impressions: Iterable[Impression],
    interactions: Iterable[pa.RecordBatch],
    examined: Callable[[Ints], Floats],
    since: datetime,
    until: datetime,
) -> pa.Table:
    """Exposure and clicks of every item that was shown (`tables.ITEM_CLICKS`, sorted by item_id).

    `examined` gives the chance that positions from 1 are examined
    (`ranking.examination.Examination.at`). An item's exposure is the sum of those chances over the
    answers later than `since`, up to `until`, whose user clicked something in that time; an answer
    without a user belongs to the first who clicked in it. Others, a crawler's say, do not count. A
    click is any interaction under the answer's `request_id` that is more than a view and not before
    it.

    Bounds, so that nobody alone moves this far: a user who clicks one item in more than
    MAX_REPEATS_A_DAY answers of a day does not count that day; a user and an address (`origin`)
    count at most once per item and day (UTC, by the server's clock: the answer's), an exposure with
    the greatest chance of that day; and each has at most MAX_CLICKS_A_DAY clicks a day over all
    items. A user's answers are attributed to the address that they first clicked from. Answers that
    come more than a day late in the log are left out. Memory: clicks, and the exposures of two
    days."""
    clicks, actors = _first_clicks(interactions)
    excessive, counter = _excessive_users(clicks), _ClickCounter(examined)
    for impression in impressions:
        if since < impression.time <= until and impression.item_ids:
            clicked = clicks.get(impression.request_id, {})
            user = impression.user_id or next((click.user_id for click in clicked.values()), "")
            if user in actors and (user, _day(impression)) not in excessive:
                counter.add(impression, actors[user], clicked)
    return counter.table()


def dcg_examination(positions: Ints) -> Floats:
    """1 / log2(1 + position): how likely positions are examined where nobody measured it, as nDCG
    discounts them (Järvelin and Kekäläinen, 2002)."""
    return (1 / np.log2(1.0 + positions)).astype(np.float32)


def _first_clicks(interactions: Iterable[pa.RecordBatch]) -> tuple[_Clicks, dict[str, str]]:
    """The first click on each item of each answer; and each user's actor: the address that they
    first clicked from, else themselves."""
    clicks: _Clicks = {}
    actors: dict[str, str] = {}
    for batch in interactions:
        is_click = pc.and_(
            pc.is_valid(batch["request_id"]), pc.not_equal(batch["type"], EVENT_TYPES[0])
        )
        names = ("request_id", "item_id", "user_id", "origin")
        columns = [batch[name].filter(is_click) for name in names]
        times = batch["time"].filter(is_click).cast(pa.int64())
        rows = zip(*(column.to_pylist() for column in (*columns, times)), strict=True)
        for request, item, user, origin, time_us in rows:
            clicks.setdefault(request, {}).setdefault(item, _Click(user, origin, time_us))
            actors.setdefault(user, _actor("address", origin) if origin else _actor("user", user))
    return clicks, actors


def _excessive_users(clicks: _Clicks) -> set[tuple[str, int]]:
    """Users, each with a day (since 1970), who clicked one item in more than MAX_REPEATS_A_DAY
    answers."""
    repeats: Counter[tuple[str, int, str]] = Counter()
    for clicked in clicks.values():
        repeats.update(
            (click.user_id, click.time_us // _MICROSECONDS_A_DAY, item)
            for item, click in clicked.items()
        )
    return {(user, day) for (user, day, _), n in repeats.items() if n > MAX_REPEATS_A_DAY}


def _actor(kind: str, name: str) -> str:
    return f"{kind}{_SEPARATOR}{name}"


def _day(impression: Impression) -> int:
    """Since 1970, by the server's clock."""
    return int(impression.time.timestamp() // _SECONDS_A_DAY)


@dataclass(kw_only=True)
class _DayCounts:
    """Of one day: the greatest chance of each (actor, item) exposure, the (actor, item) clicks, and
    each actor's number of clicks."""

    exposures: dict[tuple[str, str], float] = field(default_factory=dict)
    clicks: set[tuple[str, str]] = field(default_factory=set)
    clicks_of: Counter[str] = field(default_factory=Counter)


@dataclass
class _ClickCounter:
    """Counts answers in order of arrival, within the bounds of a day."""

    examined: Callable[[Ints], Floats]
    exposure: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    clicks: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    days: dict[int, _DayCounts] = field(default_factory=dict)

    def add(self, impression: Impression, actor: str, clicked: dict[str, _Click]) -> None:
        """An answer to `actor`, and the clicks on it."""
        day = _day(impression)
        if day < max(self.days, default=day) - 1:
            return
        counts = self._counts_of(day)
        positions = np.arange(1, len(impression.item_ids) + 1) + impression.offset
        for item, chance in zip(
            impression.item_ids, self.examined(positions).tolist(), strict=True
        ):
            more = chance - counts.exposures.get((actor, item), 0.0)
            if more > 0:
                counts.exposures[actor, item] = chance
                self.exposure[item] += more
        earliest_us = int((impression.time - CLOCK_SKEW).timestamp() * 1e6)
        for item, click in clicked.items():
            if item in impression.item_ids and click.time_us >= earliest_us:
                self._count_click(counts, item, click)

    def table(self) -> pa.Table:
        """`tables.ITEM_CLICKS`; an item that was clicked was exposed."""
        items = sorted(self.exposure)
        exposure = [self.exposure[item] for item in items]
        clicks = [self.clicks[item] for item in items]
        return pa.table([items, exposure, clicks], schema=ITEM_CLICKS)

    def _count_click(self, counts: _DayCounts, item: str, click: _Click) -> None:
        """Counts for neither user nor address where one of them is at its bound."""
        actors = [_actor("user", click.user_id)]
        if click.origin:
            actors.append(_actor("address", click.origin))
        if any(
            (actor, item) in counts.clicks or counts.clicks_of[actor] >= MAX_CLICKS_A_DAY
            for actor in actors
        ):
            return
        counts.clicks.update((actor, item) for actor in actors)
        counts.clicks_of.update(actors)
        self.clicks[item] += 1

    def _counts_of(self, day: int) -> _DayCounts:
        """A day's counts; those of days that are over are dropped when a new one begins."""
        if day not in self.days:
            self.days[day] = _DayCounts()
            for past in [past for past in self.days if past < max(self.days) - 1]:
                del self.days[past]
        return self.days[day]
