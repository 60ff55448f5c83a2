"""What is logged of an answer, and its joins with what was done: labelled examples, histories,
checks of the log."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from hashlib import blake2b
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from recsys.datasets.judgments import GRADES, JudgedPairs
from recsys.datasets.validate import CLOCK_SKEW
from recsys.errors import InputError
from recsys.tables import ATTRACTION, EXAMPLES, LIVE_EVENTS, TIME
from recsys.types import (
    EVENT_TYPES,
    PURCHASE,
    Floats,
    Histories,
    Impression,
    Ints,
    Query,
    Ranking,
    Rows,
)
from recsys.understanding.normalisation import normalise

T = TypeVar("T")
#: The user, the address, and the time in microseconds since 1970.
_Click = tuple[str, str | None, int]
#: More clicks of one user, or of one address, on one day count for nothing.
CLICKS_A_DAY = 50
#: Nobody needs the same item in more answers of a day: a round number.
AGAIN = 3
_MICROSECONDS_A_DAY = 86_400_000_000
_SEPARATOR = "\x1f"  # ids have no control characters


def impression(ranking: Ranking, surface: str, query: Query) -> Impression:
    """What is logged of an answer: every item shown, in order, and all that ranking it took."""
    items, chances = ranking.items, tuple(each.propensity for each in ranking.items)
    teams = tuple(each.team for each in items)
    return Impression(
        request_id=ranking.request_id,
        time=datetime.now(UTC),
        release=ranking.release,
        surface=surface,
        item_ids=tuple(each.item.item_id for each in items),
        feature_names=tuple(items[0].features) if items else (),
        features=tuple(tuple(each.features.values()) for each in items),
        user_id=query.user_id,
        query=query.text,
        offset=query.offset,
        scores=tuple(each.score for each in items),
        propensities=chances if any(chance != 1 for chance in chances) else (),
        teams=teams if any(teams) else (),
        ranker=ranking.ranker,
        arms=dict(ranking.arms),
        asked=_asked(query),
    )


def _asked(query: Query) -> dict[str, Any]:
    """What a request asked beyond the defaults, but for what an impression has columns for."""
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


def join(
    impressions: Iterable[Impression],
    interactions: Iterable[pa.RecordBatch],
    now: datetime | None = None,
) -> pa.Table:
    """Labelled examples (`tables.EXAMPLES`): one row a shown item, answers in order, each best
    first.

    `label` is the strongest interaction with the item under the answer's `request_id`: 0 for none,
    then 1 + its place in EVENT_TYPES; `origin` is the first one's. `features` follow
    `feature_names(table)`, the union over all impressions; one that an impression does not know is
    0. An impression that comes twice counts once. Interactions with no or an unknown `request_id`,
    with an item that the answer did not show, or more than CLOCK_SKEW before it or after `now`,
    make no example: `sanity` counts them."""
    impressions = list({shown.request_id: shown for shown in reversed(list(impressions))}.values())[
        ::-1
    ]
    names = tuple(dict.fromkeys(name for shown in impressions for name in shown.feature_names))
    shown = _shown_items(impressions, names)
    done = _gathered(interactions, ["request_id", "item_id", "type", "time", "origin"])
    done = done.filter(done["request_id"].is_valid())
    place_E = pc.index_in(_pairs(done), value_set=_pairs(shown))
    done, place_E = done.filter(place_E.is_valid()), place_E.drop_null()
    wrong_E = pc.or_(
        _before(done["time"], shown["time"].take(place_E)),
        _late(done["time"], now or datetime.now(UTC)),
    )
    done = done.filter(pc.invert(wrong_E))
    place_E = np.asarray(place_E.filter(pc.invert(wrong_E))).astype(np.int64)
    label_N, origin_N = np.zeros(shown.num_rows, np.int8), np.full(shown.num_rows, None, object)
    np.maximum.at(label_N, place_E, 1 + _codes(done["type"]))
    origin_N[place_E[::-1]] = done["origin"].to_pylist()[::-1]
    schema = EXAMPLES.with_metadata({"feature_names": json.dumps(names)})
    labelled = shown.append_column("label", pa.array(label_N))
    return labelled.append_column("origin", pa.array(origin_N.tolist(), pa.string())).cast(schema)


def query_pairs(
    examples: pa.Table, rows_of: Callable[[pa.ChunkedArray], Rows]
) -> dict[str, JudgedPairs]:
    """Searches that led to something, as pairs to train on: a tenth of the queries, by hash, is
    `valid`.

    The grade of an item is that of the strongest thing somebody did with it after this query
    (GRADES); what nobody touched is no pair: it may not have been seen. `rows_of` gives the rows of
    item ids, -1 for unknown. Raises InputError where that leaves no query to train or to choose on.
    """
    done = examples.filter(
        pc.and_(pc.greater(examples["label"], 0), pc.is_valid(examples["query"]))
    )
    rows = rows_of(done["item_id"])
    best: dict[tuple[str, int], float] = {}
    for text, row, label in zip(
        done["query"].to_pylist(), rows.tolist(), done["label"].to_pylist(), strict=True
    ):
        key = normalise(text).casefold(), row
        if row >= 0 and key[0]:
            best[key] = max(best.get(key, 0.0), GRADES[label])
    split = {
        "train": [key for key in best if not _is_held_out(key[0])],
        "valid": [k for k in best if _is_held_out(k[0])],
    }
    for name, keys in split.items():
        if not keys:
            raise InputError(
                f"{len(best):,} items were touched after a search, none of them for a query of the {name} part: "
                "wait for more traffic, or train on judged pairs with --data"
            )
    return {
        name: JudgedPairs.from_texts(
            [t for t, _ in keys],
            np.array([r for _, r in keys]),
            np.array([best[key] for key in keys]),
        )
        for name, keys in split.items()
    }


def _is_held_out(text: str) -> bool:
    return blake2b(text.encode("utf-8", "replace"), digest_size=1).digest()[0] < 26


def feature_names(examples: pa.Table) -> tuple[str, ...]:
    """What each place of `features` means."""
    return tuple(json.loads((examples.schema.metadata or {})[b"feature_names"]))


def sanity(
    impressions: Iterable[Impression], interactions: Iterable[pa.RecordBatch], now: datetime
) -> dict[str, int]:
    """Counts of what should not be in a log; all but `duplicate_events` look at interactions with a
    request_id.

    `unknown_requests`: no impression has it; `not_shown`: the impression is without the item;
    `before_impression`: earlier than it by more than CLOCK_SKEW; `duplicate_impressions` and
    `duplicate_events`: beyond the first of an id; `clock_skew`: later than `now` and CLOCK_SKEW.
    """
    impressions = list(impressions)
    shown = _shown_items(impressions, ())
    events = _gathered(interactions, ["event_id", "request_id", "item_id", "time"])
    done = events.filter(events["request_id"].is_valid())
    place_E = pc.index_in(done["request_id"], value_set=shown["request_id"])
    known = place_E.is_valid()
    early_E = _before(done["time"].filter(known), shown["time"].take(place_E.drop_null()))
    listed_E = pc.is_in(_pairs(done), value_set=_pairs(shown))
    return {
        "unknown_requests": _count(pc.invert(known)),
        "not_shown": _count(pc.and_(known, pc.invert(listed_E))),
        "before_impression": _count(early_E),
        "duplicate_impressions": len(impressions)
        - len({impression.request_id for impression in impressions}),
        "duplicate_events": events.num_rows - pc.count_distinct(events["event_id"]).as_py(),
        "clock_skew": _count(_late(done["time"], now)),
    }


def histories(
    events: pa.Table, item_rows_E: NDArray[np.int32], max_events: int = 1000
) -> tuple[pa.Array, Histories]:
    """What each user did, oldest first, and the users' ids; `events` are sorted by (user_id, time).

    `item_rows_E` is the release's row of each event's item, -1 for an item that it does not have:
    such an event is dropped. So is what is no purchase and comes again on the same day (UTC), the
    newest stays: clicking on and on moves nothing. Each user keeps his newest `max_events`; one
    left with none is left out. An event's price is that of one piece, NaN where it is null. Raises
    ValueError when `events` are not sorted."""
    events = events.select(["user_id", "type", "time", "price"])
    kept = np.flatnonzero(item_rows_E >= 0)
    kept = kept[~_comes_again(events.take(pa.array(kept)), item_rows_E[kept])]
    events, items_E = events.take(pa.array(kept)), item_rows_E[kept]
    times_E = events["time"].cast(pa.int64()).to_numpy()
    bounds = _user_bounds(events["user_id"].combine_chunks(), times_E)
    starts, stops = bounds[:-1], bounds[1:]
    from_end_E = np.repeat(stops, stops - starts) - np.arange(len(times_E))
    newest_E = from_end_E <= max_events
    counts = np.minimum(stops - starts, max_events)
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    types_E, days_E = _codes(events["type"])[newest_E], times_E[newest_E] / _MICROSECONDS_A_DAY
    prices_E = events["price"].to_numpy()[newest_E].astype(np.float32)
    return events["user_id"].take(pa.array(starts)).combine_chunks(), Histories(
        offsets=offsets,
        items=items_E[newest_E].astype(np.int32),
        types=types_E,
        days=days_E,
        prices=prices_E,
    )


def _comes_again(events: pa.Table, items_E: NDArray[np.int32]) -> NDArray[np.bool_]:
    """[E]: whether the user does the same, other than a purchase, with the same item later that
    day."""
    users_E = np.asarray(events["user_id"].combine_chunks().dictionary_encode().indices)
    types_E, days_E = (
        _codes(events["type"]),
        events["time"].cast(pa.int64()).to_numpy() // _MICROSECONDS_A_DAY,
    )
    order_E = np.lexsort((days_E, types_E, items_E, users_E))  # stable: by time within a day
    sorted_4E = np.stack([users_E, items_E, types_E, days_E])[:, order_E]
    again_E = np.zeros(len(items_E), bool)
    again_E[order_E[:-1]] = np.all(sorted_4E[:, 1:] == sorted_4E[:, :-1], axis=0)
    return again_E & (types_E != PURCHASE)


def attraction(
    impressions: Iterable[Impression],
    interactions: Iterable[pa.RecordBatch],
    examined: Callable[[Ints], Floats],
    since: datetime,
    until: datetime,
) -> pa.Table:
    """What was looked at and what was clicked, by item (`tables.ATTRACTION`, sorted by item_id):
    clicks over exposure is a click rate without the effect of the place (inverse propensity
    scoring, Joachims et al., WSDM 2017).

    `examined` gives the chance that positions from 1 are looked at
    (`ranking.examination.Examination.at`). An item's exposure is the sum of those chances over the
    answers later than `since`, up to `until`, whose user clicked something in that time; an answer
    without a user is that of who clicked in it first. Others, a crawler's say, tell nothing. A
    click is any interaction under the answer's `request_id` that is more than a view and not before
    it.

    Bounds, so that nobody alone moves this far: a user who clicks one item in more than AGAIN
    answers of a day tells nothing that day; a user and an address (`origin`) count at most once per
    item and day (UTC, by the server's clock: the answer's), an exposure with the greatest chance of
    that day; and each has at most CLICKS_A_DAY clicks a day over all items. A user's answers are
    those of the address that he first clicked from. Answers that come more than a day late in the
    log are left out. Memory: clicks, and the exposures of two days."""
    clicks, whose = _clicks(interactions)
    pressing, counted = _pressing(clicks), _Attraction(examined)
    for shown in impressions:
        if since < shown.time <= until and shown.item_ids:
            touched = clicks.get(shown.request_id, {})
            user = shown.user_id or next((user for user, _, _ in touched.values()), "")
            day = int(shown.time.timestamp() // 86_400)
            if user in whose and (user, day) not in pressing:
                counted.add(shown, whose[user], touched)
    return counted.table()


def unmeasured(positions: Ints) -> Floats:
    """1 / log2(1 + position): how likely places are looked at where nobody measured it, as nDCG
    discounts them (Järvelin and Kekäläinen, 2002)."""
    return (1 / np.log2(1.0 + positions)).astype(np.float32)


def _clicks(
    interactions: Iterable[pa.RecordBatch],
) -> tuple[dict[str, dict[str, _Click]], dict[str, str]]:
    """The first click on each item of each answer, by request_id; and each user's first address,
    else himself."""
    clicks: dict[str, dict[str, _Click]] = {}
    whose: dict[str, str] = {}
    for batch in interactions:
        kept = pc.and_(
            pc.is_valid(batch["request_id"]), pc.not_equal(batch["type"], EVENT_TYPES[0])
        )
        columns = [
            batch[name].filter(kept) for name in ("request_id", "item_id", "user_id", "origin")
        ]
        times = batch["time"].filter(kept).cast(pa.int64())
        for request, item, user, origin, time in zip(
            *(c.to_pylist() for c in (*columns, times)), strict=True
        ):
            clicks.setdefault(request, {}).setdefault(item, (user, origin, time))
            whose.setdefault(user, _of("address", origin) if origin else _of("user", user))
    return clicks, whose


def _pressing(clicks: dict[str, dict[str, _Click]]) -> set[tuple[str, int]]:
    """Users, each with a day (since 1970), who clicked one item in more than AGAIN answers."""
    often: Counter[tuple[str, int, str]] = Counter()
    for touched in clicks.values():
        often.update(
            (user, time // _MICROSECONDS_A_DAY, item) for item, (user, _, time) in touched.items()
        )
    return {(user, day) for (user, day, _), count in often.items() if count > AGAIN}


def _of(kind: str, name: str) -> str:
    return f"{kind}{_SEPARATOR}{name}"


@dataclass
class _Attraction:
    """Counts answers in order of arrival. By day: what who was exposed to, clicked, and how often
    he clicked."""

    examined: Callable[[Ints], Floats]
    exposure: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    clicks: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    exposed: dict[int, dict[tuple[str, str], float]] = field(default_factory=dict)
    clicked: dict[int, set[tuple[str, str]]] = field(default_factory=dict)
    clicks_of: dict[int, Counter[str]] = field(default_factory=dict)

    def add(self, shown: Impression, who: str, touched: dict[str, _Click]) -> None:
        """An answer to `who`, and the clicks on it."""
        day = int(shown.time.timestamp() // 86_400)
        if day < max(self.exposed, default=day) - 1:
            return
        self._begin(day)
        places = np.arange(1, len(shown.item_ids) + 1) + shown.offset
        for item, chance in zip(shown.item_ids, self.examined(places).tolist(), strict=True):
            more = chance - self.exposed[day].get((who, item), 0.0)
            if more > 0:
                self.exposed[day][who, item] = chance
                self.exposure[item] += more
        earliest = int((shown.time - CLOCK_SKEW).timestamp() * 1e6)
        for item, (user, origin, time) in touched.items():
            if item in shown.item_ids and time >= earliest:
                self._click(
                    day, item, [_of("user", user), *([_of("address", origin)] if origin else [])]
                )

    def _click(self, day: int, item: str, names: list[str]) -> None:
        """Counts for none of the names where one of them had his share."""
        clicked, often = self.clicked[day], self.clicks_of[day]
        if any((name, item) in clicked or often[name] >= CLICKS_A_DAY for name in names):
            return
        clicked.update((name, item) for name in names)
        often.update(names)
        self.clicks[item] += 1

    def _begin(self, day: int) -> None:
        if day not in self.exposed:
            self.exposed[day], self.clicked[day], self.clicks_of[day] = {}, set(), Counter()
            for past in [past for past in self.exposed if past < max(self.exposed) - 1]:
                del self.exposed[past], self.clicked[past], self.clicks_of[past]

    def table(self) -> pa.Table:
        """`tables.ATTRACTION`; an item that was clicked was exposed."""
        items = sorted(self.exposure)
        exposure, clicks = (
            [self.exposure[item] for item in items],
            [self.clicks[item] for item in items],
        )
        return pa.table([items, exposure, clicks], schema=ATTRACTION)


def _user_bounds(users: pa.Array, times_E: NDArray[np.int64]) -> NDArray[np.int64]:
    """Where each user's run of events begins, and the end of the last."""
    if len(users) == 0:
        return np.zeros(1, np.int64)
    new_E = pc.not_equal(users[1:], users[:-1]).to_numpy(zero_copy_only=False)
    bounds = np.concatenate([[0], 1 + np.flatnonzero(new_E), [len(users)]])
    heads = users.take(pa.array(bounds[:-1]))
    if (
        not pc.all(pc.less(heads[:-1], heads[1:]), min_count=0).as_py()
        or (np.diff(times_E)[~new_E] < 0).any()
    ):
        raise ValueError(
            "the events are not sorted by (user_id, time): take them from ingest.deduplicate"
        )
    return bounds


def _shown_items(impressions: list[Impression], names: tuple[str, ...]) -> pa.Table:
    """`tables.EXAMPLES` without the label."""
    counts = [len(impression.item_ids) for impression in impressions]
    owner_N = pa.array(np.repeat(np.arange(len(impressions)), counts))
    fields = [
        EXAMPLES.field(name)
        for name in ("request_id", "user_id", "surface", "query", "release", "time")
    ]
    answers = pa.table(
        {f.name: pa.array([getattr(i, f.name) for i in impressions], f.type) for f in fields}
    )
    answers = answers.append_column(
        "ranker", pa.array([i.ranker for i in impressions], pa.string())
    )
    arms = pa.array([list(i.arms.items()) for i in impressions], EXAMPLES.field("arms").type)
    answers = answers.append_column("arms", arms)
    features_NF = np.concatenate(
        [np.empty((0, len(names)), np.float32), *(_features(i, names) for i in impressions)]
    )
    offsets = np.arange(len(features_NF) + 1, dtype=np.int32) * len(names)
    features = pa.ListArray.from_arrays(pa.array(offsets), pa.array(features_NF.ravel()))
    offset_N = np.repeat([i.offset for i in impressions], counts).astype(np.int32)
    places = [np.arange(1, count + 1, dtype=np.int32) for count in counts]
    columns = {
        "item_id": pa.array([item for i in impressions for item in i.item_ids], pa.string()),
        "position": pa.array(offset_N + np.concatenate([np.empty(0, np.int32), *places])),
        "features": features,
        "score": pa.array(_filled([i.scores for i in impressions], counts, 0.0), pa.float32()),
        "propensity": pa.array(
            _filled([i.propensities for i in impressions], counts, 1.0), pa.float32()
        ),
        "team": pa.array(_filled([i.teams for i in impressions], counts, ""), pa.string()),
    }
    table = answers.take(owner_N)
    for name, column in columns.items():
        table = table.append_column(name, column)
    return table.select([name for name in EXAMPLES.names if name not in ("label", "origin")])


def _filled(values: Iterable[Sequence[T]], counts: list[int], otherwise: T) -> list[T]:
    """Laid end to end; an impression that says nothing gets `otherwise` for each of its items."""
    return [
        each
        for given, count in zip(values, counts, strict=True)
        for each in (given or [otherwise] * count)
    ]


def _before(times_E: pa.ChunkedArray, shown_E: pa.ChunkedArray) -> pa.ChunkedArray:
    """Which events say that they were before what they answer, beyond what clocks may differ by."""
    return pc.less(times_E, pc.subtract(shown_E, pa.scalar(CLOCK_SKEW, pa.duration("us"))))


def _late(times_E: pa.ChunkedArray, now: datetime) -> pa.ChunkedArray:
    return pc.greater(times_E, pa.scalar(now + CLOCK_SKEW, TIME))


def _features(shown: Impression, names: tuple[str, ...]) -> NDArray[np.float32]:
    """[N, F] with the impression's features in the places of `names`, 0 elsewhere."""
    features_NF = np.zeros((len(shown.item_ids), len(names)), np.float32)
    if names and shown.feature_names:
        features_NF[:, [names.index(name) for name in shown.feature_names]] = shown.features
    return features_NF


def _gathered(interactions: Iterable[pa.RecordBatch], columns: list[str]) -> pa.Table:
    schema = pa.schema([LIVE_EVENTS.field(name) for name in columns])
    return pa.Table.from_batches(
        [batch.select(columns) for batch in interactions], schema
    ).combine_chunks()


def _pairs(table: pa.Table) -> pa.ChunkedArray:
    """One key for (request_id, item_id)."""
    return pc.binary_join_element_wise(table["request_id"], table["item_id"], _SEPARATOR)


def _codes(types: pa.ChunkedArray) -> NDArray[np.int8]:
    return pc.index_in(types, value_set=pa.array(EVENT_TYPES)).to_numpy().astype(np.int8)


def _count(mask: pa.ChunkedArray) -> int:
    return pc.sum(mask, min_count=0).as_py()
