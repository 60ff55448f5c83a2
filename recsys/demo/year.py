"""A year of made-up shoppers in the default shop: each visit looks for a type of product, examines
a list of it from the top, clicks by taste (`market.Market`), buys, and buys what goes with it.

Months have their demand, two sales a year draw crowds. Legend: U shoppers, I items, T types, V
visits, K places of a list, E events."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from recsys.demo.catalogue import Catalogue
from recsys.market.click_models import PositionBasedModel, draw_purchases
from recsys.market.market import Market, RequestBatch, user_id
from recsys.tables import EVENTS, TIME
from recsys.types import Floats, Ints, Mask, Rows

SHOPPERS, VISITS, DAYS = 3_000, 60_000, 365
#: Demand for a type in its season, over that outside of it.
IN_SEASON, OFF_SEASON = 3.0, 0.5
#: First and last day of the sales, as (month, day): twice the visits, and reduced items tempt.
SALES = (((7, 1), (7, 10)), ((11, 21), (11, 30)))
#: Visits at the end of the year, over those at its beginning.
GROWTH = 3.0
#: A buyer takes a thing that goes with the first one with this probability.
COMPLEMENTS = 0.6
_LIST = 10
_PURCHASE_SHARE = 0.35
_KINDS = np.array(["click", "view", "cart", "purchase"], object)
_CLICK, _VIEW, _CART, _PURCHASE = range(4)


@dataclass(frozen=True, kw_only=True)
class _Events:
    """Columns of the log before it is sorted; seconds count from the first day's midnight."""

    users_E: Ints
    items_E: Ints
    kinds_E: Ints
    seconds_E: NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class _Visits:
    """Who comes when for what."""

    users_V: Ints
    types_V: Ints
    seconds_V: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.users_V)


def year_of_events(catalogue: Catalogue, last_day: date, seed: int = 0) -> pa.Table:
    """The log of the DAYS that end with `last_day` (`tables.EVENTS`, by time), the same for the
    same arguments."""
    rng = np.random.default_rng([seed, 4])
    types = {each.name: number for number, each in enumerate(dict.fromkeys(catalogue.types))}
    types_I = np.array([types[each.name] for each in catalogue.types])
    items = catalogue.items
    market = Market.of_items(
        items,
        types_I,
        tuple(types),
        sales_I=np.ones(items.num_rows, np.float32),
        shoppers=SHOPPERS,
        seed=seed,
        intercept=-1.0,
    )
    first_day = last_day - timedelta(days=DAYS - 1)
    visits = _visits(market, _demand(catalogue, first_day), first_day, rng)
    events = _browse(market, visits, rng)
    events = _with_complements(events, market, _complements(catalogue, types), rng)
    return _table(events, catalogue, first_day)


def _demand(catalogue: Catalogue, first_day: date) -> Floats:
    """[days, T] how much each type is looked for."""
    months = [(first_day + timedelta(days=day)).month for day in range(DAYS)]
    kinds = dict.fromkeys(catalogue.types)
    return np.array(
        [
            [
                1.0 if not kind.season else IN_SEASON if month in kind.season else OFF_SEASON
                for kind in kinds
            ]
            for month in months
        ]
    )


def _visits(
    market: Market, demand_DT: Floats, first_day: date, rng: np.random.Generator
) -> _Visits:
    """Regulars come often, most people seldom; more at weekends and in sales, in the evening."""
    days = [first_day + timedelta(days=day) for day in range(DAYS)]
    weight_D = np.array(
        [(1.3 if day.weekday() > 4 else 1.0) * (1 + is_sale_day(day)) for day in days]
    )
    weight_D = weight_D * np.linspace(1, GROWTH, DAYS)
    days_V = rng.choice(DAYS, VISITS, p=weight_D / weight_D.sum())
    habit_U = rng.gamma(0.7, size=SHOPPERS)
    users_V = rng.choice(SHOPPERS, VISITS, p=habit_U / habit_U.sum())
    one_hot_IT = np.eye(demand_DT.shape[1], dtype=np.float32)[market.categories_I]
    # The mean attraction of a type's items, however many there are.
    interest_UT = market.attraction_UI @ one_hot_IT / one_hot_IT.sum(axis=0)
    weight_VT = np.cumsum(interest_UT[users_V] * demand_DT[days_V], axis=1)
    types_V = (rng.random((VISITS, 1)) * weight_VT[:, -1:] > weight_VT).sum(axis=1)
    hours_V = np.clip(rng.normal(18, 4, VISITS), 0.1, 23.5)
    return _Visits(users_V=users_V, types_V=types_V, seconds_V=86_400.0 * days_V + 3_600 * hours_V)


def is_sale_day(day: date) -> bool:
    return any(first <= (day.month, day.day) <= last for first, last in SALES)


def _browse(market: Market, visits: _Visits, rng: np.random.Generator) -> _Events:
    """Clicks, views, carts and purchases on one list a visit."""
    lists_TK = _lists(market)
    rows_VK = lists_TK[visits.types_V]
    # Every visit finds a somewhat different order: popular first, with noise.
    keys_VK = rng.gumbel(size=rows_VK.shape) + 1.2 * market.quality_I[np.maximum(rows_VK, 0)]
    keys_VK = np.where(rows_VK >= 0, keys_VK, -np.inf)
    order_VK = np.argsort(-keys_VK, axis=1, kind="stable")[:, :_LIST]
    rows_VK = np.take_along_axis(rows_VK, order_VK, axis=1)
    requests = RequestBatch(visits.users_V, np.full(len(visits), -1))
    parts = [slice(start, start + 2_000) for start in range(0, len(visits), 2_000)]
    attraction_VK = np.concatenate(
        [market.attraction_of(requests.take(part), rows_VK[part]) for part in parts]
    )
    clicked_VK = PositionBasedModel().draw_clicks(attraction_VK, rng)
    purchased_VK = draw_purchases(clicked_VK, attraction_VK, rng, _PURCHASE_SHARE)
    cart_VK = purchased_VK | (clicked_VK & (rng.random(clicked_VK.shape) < 0.06))
    view_VK = clicked_VK & (rng.random(clicked_VK.shape) < 0.5)
    actions = ((_CLICK, clicked_VK), (_VIEW, view_VK), (_CART, cart_VK), (_PURCHASE, purchased_VK))
    return _merge([_of_mask(mask, kind, visits, rows_VK) for kind, mask in actions])


def _lists(market: Market) -> Rows:
    """[T, K] the items of each type, padded with -1."""
    members = [np.flatnonzero(market.categories_I == t) for t in range(len(market.queries))]
    lists_TK = np.full((len(members), max(map(len, members))), -1, np.int32)
    for number, rows in enumerate(members):
        lists_TK[number, : len(rows)] = rows
    return lists_TK


def _of_mask(mask_VK: Mask, kind: int, visits: _Visits, rows_VK: Rows) -> _Events:
    """An event a cell; a visit's follow each other down the list, its purchases at the end."""
    visit_E, place_E = np.nonzero(mask_VK)
    delay_E = 20.0 * place_E + (5, 12, 300, 400)[kind]
    return _Events(
        users_E=visits.users_V[visit_E],
        items_E=rows_VK[visit_E, place_E],
        kinds_E=np.full(len(visit_E), kind),
        seconds_E=visits.seconds_V[visit_E] + delay_E,
    )


def _complements(catalogue: Catalogue, types: dict[str, int]) -> list[list[int]]:
    """The types that go with each type; both ways, since who buys a ball wants a racket."""
    pairs = [
        (types[kind.name], types[name])
        for kind in dict.fromkeys(catalogue.types)
        for name in kind.goes_with
    ]
    both = sorted({*pairs, *((second, first) for first, second in pairs)})
    return [[second for first, second in both if first == number] for number in types.values()]


def _with_complements(
    events: _Events, market: Market, complements: list[list[int]], rng: np.random.Generator
) -> _Events:
    """With the purchases that others brought about: a click and a purchase minutes later."""
    lists_TK = _lists(market)
    extra: dict[str, list[float]] = {"user": [], "item": [], "second": []}
    bought = np.flatnonzero(events.kinds_E == _PURCHASE)
    for row in bought[rng.random(len(bought)) < COMPLEMENTS]:
        others = complements[market.categories_I[events.items_E[row]]]
        if not others:
            continue
        user = events.users_E[row]
        options = lists_TK[others[rng.integers(len(others))]]
        options = options[options >= 0]
        weights = market.attraction_UI[user, options].astype(np.float64)
        extra["user"].append(user)
        extra["item"].append(rng.choice(options, p=weights / weights.sum()))
        extra["second"].append(events.seconds_E[row] + rng.uniform(30, 600))
    second_E = np.array(extra["second"])
    added = [
        _Events(
            users_E=np.array(extra["user"], int),
            items_E=np.array(extra["item"], int),
            kinds_E=np.full(len(second_E), kind),
            seconds_E=second_E + delay,
        )
        for kind, delay in ((_CLICK, 0), (_PURCHASE, 60))
    ]
    return _merge([events, *added])


def _merge(parts: list[_Events]) -> _Events:
    return _Events(
        **{
            name: np.concatenate([getattr(part, name) for part in parts])
            for name in ("users_E", "items_E", "kinds_E", "seconds_E")
        }
    )


def _table(events: _Events, catalogue: Catalogue, first_day: date) -> pa.Table:
    """By time, without what came before the item did. Purchases of a reduced item have the price of
    their day."""
    midnight = datetime(first_day.year, first_day.month, first_day.day, tzinfo=UTC)
    times = _times(midnight, events.seconds_E)
    added_I = np.asarray(catalogue.items["added"].cast(pa.int64()))
    order = np.argsort(times, kind="stable")
    order = order[times[order] >= added_I[events.items_E[order]]]
    items_E, kinds_E = events.items_E[order], events.kinds_E[order]
    ids = np.array(catalogue.items["item_id"].to_pylist(), object)
    names = np.array([user_id(user) for user in range(SHOPPERS)], object)
    price_I = np.asarray(catalogue.items["price"], np.float64)
    full_I = np.asarray(catalogue.items["list_price"], np.float64)
    full_I = np.where(np.isnan(full_I), price_I, full_I)
    days = (times[order] - _microseconds(midnight)) // 86_400_000_000
    reduced = np.array(
        [is_sale_day(first_day + timedelta(days=int(day))) for day in range(DAYS + 1)]
    )
    is_reduced_E = reduced[days] | (days > DAYS - 21)
    price_E = np.where(is_reduced_E, price_I[items_E], full_I[items_E])
    return pa.table(
        {
            "event_id": [f"demo-{number:06d}" for number in range(len(order))],
            "user_id": names[events.users_E[order]],
            "item_id": ids[items_E],
            "type": _KINDS[kinds_E],
            "time": pa.array(times[order], pa.int64()).cast(TIME),
            "request_id": pa.nulls(len(order), pa.string()),
            "quantity": pa.array(np.ones(len(order))),
            "price": pa.array(price_E, mask=kinds_E != _PURCHASE),
        },
        EVENTS,
    )


def _microseconds(moment: datetime) -> int:
    """Microseconds since 1970."""
    return round(moment.timestamp() * 1e6)


def _times(midnight: datetime, seconds_E: NDArray[np.float64]) -> Ints:
    return _microseconds(midnight) + np.round(seconds_E * 1e6).astype(np.int64)
