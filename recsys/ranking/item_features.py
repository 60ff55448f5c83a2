"""Inputs of the feature table: what a release knows of its items (`ItemFeatures`), and the request
(`Context`).

Legend: B requests, N candidates, I items, E events of the histories, P numbers of a projected
vector, T types of EVENT_TYPES, L category labels."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys.arrays import Histories
from recsys.metrics import tail
from recsys.ranking.projection import P
from recsys.types import PURCHASE, Floats, Ints, Mask

#: Of a longer history the newest events count.
EVENTS = 1_000
#: Columns whose second axis is the items.
BY_TYPE = ("touches_TI",)
#: Events no older than this are the session.
SESSION_DAYS = 30 / (24 * 60)
#: How many events, or examined impressions, the shop's mean weighs against an item's own.
SMOOTHING_TOUCHES, SMOOTHING_EXPOSURE = 20.0, 20.0

Values = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class ItemFeatures:
    """What a release knows of each item, [I] each.

    Prices are NaN where unknown; categories and brands numbered, -1 for none; `first_days_I` are
    days since 1970, infinite where unknown. `touches_TI` counts events by type. `exposure_I` are
    examined impressions (each counts by the probability that its position was examined),
    `clicks_I` the clicks among them. `*_projected_IP` are the items' vectors, projected.
    `attribute_codes` numbers the values of each attribute of the shop as `brands_I` does brands.
    `typical_log_prices_C` are the categories' median log prices where they are not to be computed
    from `prices_I`."""

    prices_I: Floats | Values
    in_stock_I: Mask
    popularity_I: Floats
    touches_TI: Ints
    exposure_I: Floats
    clicks_I: Floats
    first_days_I: Values
    categories_I: Ints
    brands_I: Ints
    item_projected_IP: Floats
    taste_projected_IP: Floats
    attribute_codes: tuple[Ints, ...] = ()
    typical_log_prices_C: Values | None = None

    def __post_init__(self) -> None:
        columns = {f"attribute_codes[{at}]": codes for at, codes in enumerate(self.attribute_codes)}
        for name, value in (vars(self) | columns).items():
            if name in ("attribute_codes", "typical_log_prices_C"):
                continue
            items = value.shape[1] if name == "touches_TI" else len(value)
            if items != len(self.prices_I):
                raise ValueError(
                    f"{name} is of {items} items, prices_I of {len(self.prices_I)}: "
                    "give one each an item"
                )

    def __len__(self) -> int:
        return len(self.prices_I)

    @cached_property
    def log_prices_I(self) -> Floats:
        """[I]: log of the price, NaN where it is unknown or not above 0."""
        return logs(self.prices_I)

    @cached_property
    def log_price_to_category_I(self) -> Floats:
        """[I]: log of the price over the median price of the item's category; NaN where either is
        unknown."""
        typical_C = self.category_log_prices_C
        places_I = np.where(self.categories_I < len(typical_C), self.categories_I, -1)
        typical_I = np.append(typical_C, np.nan)[places_I]
        return (self.log_prices_I - typical_I).astype(np.float32)

    @cached_property
    def category_log_prices_C(self) -> Values:
        """[C]: the median log price of each category, NaN where none of its items has one."""
        if self.typical_log_prices_C is not None:
            return self.typical_log_prices_C
        size = int(self.categories_I.max(initial=-1)) + 1
        prices_I = np.where(self.categories_I >= 0, self.log_prices_I, np.nan)
        return medians(prices_I, self.categories_I, size)

    def with_values(self, prices_I: Values, in_stock_I: Mask) -> ItemFeatures:
        """The same items at other prices, against the medians of these."""
        changed = replace(
            self,
            prices_I=prices_I,
            in_stock_I=in_stock_I,
            typical_log_prices_C=self.category_log_prices_C,
        )
        for name in ("tail_I", "conversion_I", "attraction_I"):  # they do not depend on prices
            changed.__dict__[name] = getattr(self, name)
        return changed

    def followed_by(self, later: ItemFeatures) -> ItemFeatures:
        """With more items behind; what is typical or smoothed by means stays that of these."""
        columns: dict[str, Any] = {
            name: np.concatenate([value, getattr(later, name)], axis=1 if name in BY_TYPE else 0)
            for name, value in vars(self).items()
            if name in self.__dataclass_fields__ and isinstance(value, np.ndarray)
        }
        columns["attribute_codes"] = tuple(
            np.concatenate(pair)
            for pair in zip(self.attribute_codes, later.attribute_codes, strict=True)
        )
        return replace(self, **columns | {"typical_log_prices_C": self.category_log_prices_C})

    @cached_property
    def tail_I(self) -> Mask:
        """[I]: all but the best sellers of late."""
        return tail(np.asarray(self.popularity_I))

    @cached_property
    def conversion_I(self) -> Floats:
        """[I]: purchases over touches, smoothed."""
        return _rate(self.touches_TI[PURCHASE], self.touches_TI.sum(axis=0), SMOOTHING_TOUCHES)

    @cached_property
    def attraction_I(self) -> Floats:
        """[I]: clicks over exposure, smoothed."""
        return _rate(self.clicks_I, self.exposure_I, SMOOTHING_EXPOSURE)


@dataclass(frozen=True, kw_only=True)
class Context:
    """B requests as rankers see them: the users' histories, the time (`now_days` since 1970), and
    the surface ("search" or "recommend").

    `user_BP` and `query_BP` are their projected vectors, zeros where there is none. `intent_BL[b,
    c]` says whether category c is, or lies below, the one that request b is after; without an L it
    is after none. Make one by `of`."""

    surface: str
    now_days: float
    histories: Histories
    user_BP: Floats
    query_BP: Floats
    intent_BL: Mask

    @classmethod
    def of(
        cls,
        surface: str,
        now_days: float,
        histories: Histories,
        *,
        user_BP: Floats | None = None,
        query_BP: Floats | None = None,
        intent_BL: Mask | None = None,
    ) -> Context:
        """Of each history the newest EVENTS, without those of unknown items (row -1)."""
        newest, size = histories.newest(EVENTS), len(histories)
        if len(newest.items) and newest.items.min() < 0:
            newest = newest.where(newest.items >= 0)
        zeros_BP = np.zeros((size, P), np.float32)
        user_BP = zeros_BP if user_BP is None else user_BP
        query_BP = zeros_BP if query_BP is None else query_BP
        intent_BL = np.zeros((size, 0), bool) if intent_BL is None else intent_BL
        if not len(user_BP) == len(query_BP) == len(intent_BL) == size:
            raise ValueError(
                f"{size} histories, {len(user_BP)} user vectors, {len(query_BP)} query vectors and "
                f"{len(intent_BL)} intents: give one of each a request"
            )
        return cls(
            surface=surface,
            now_days=now_days,
            histories=newest,
            user_BP=user_BP,
            query_BP=query_BP,
            intent_BL=intent_BL,
        )

    def __len__(self) -> int:
        return len(self.histories)

    @cached_property
    def owners_E(self) -> Ints:
        return self.histories.owners_E

    @cached_property
    def log_prices_E(self) -> Floats:
        """[E]: of the price of one piece in each event; NaN where it has none."""
        return logs(self.histories.prices_E)

    @cached_property
    def lengths_B(self) -> Ints:
        return np.diff(self.histories.offsets)

    @cached_property
    def session_E(self) -> Mask:
        return self.histories.days >= self.now_days - SESSION_DAYS

    @cached_property
    def touched(self) -> EventGroups:
        return EventGroups.of(self.owners_E, self.histories.items)

    @cached_property
    def bought(self) -> EventGroups:
        return EventGroups.of(self.owners_E, self.histories.items, self.histories.types == PURCHASE)

    @cached_property
    def priced(self) -> EventGroups:
        return EventGroups.of(self.owners_E, self.histories.items, np.isfinite(self.log_prices_E))


@dataclass(frozen=True)
class EventGroups:
    """Events grouped by request and item (or another code): their number, and the newest one's
    place among all events."""

    keys: NDArray[np.int64]
    counts: Ints
    newest: Ints

    @classmethod
    def of(cls, owners_E: Ints, codes_E: Ints, mask_E: Mask | None = None) -> EventGroups:
        """Codes below 0 are left out."""
        events = np.flatnonzero(codes_E >= 0 if mask_E is None else (codes_E >= 0) & mask_E)
        keys = _keys(owners_E[events], codes_E[events])
        order = np.argsort(keys, kind="stable")
        keys = keys[order]
        ends = np.flatnonzero(np.append(keys[1:] != keys[:-1], True)[: len(keys)])
        return cls(keys[ends], np.diff(ends, prepend=-1), events[order[ends]])

    def count(self, codes_BN: Ints) -> Ints:
        """[B, N]: how many events of request b have code n; 0 for a code below 0."""
        places_BN, has_group_BN = self.find(codes_BN)
        return np.where(has_group_BN, np.append(self.counts, 0)[places_BN], 0)

    def last(self, codes_BN: Ints, values_E: NDArray[Any]) -> Values:
        """[B, N] float64: the value of the newest of them, NaN where there is none."""
        places_BN, has_group_BN = self.find(codes_BN)
        return np.where(has_group_BN, np.append(values_E[self.newest], np.nan)[places_BN], np.nan)

    def find(self, codes_BN: Ints) -> tuple[Ints, Mask]:
        """The place of each code's group, and whether it has one."""
        keys_BN = _keys(np.arange(len(codes_BN))[:, None], codes_BN)
        places_BN = np.searchsorted(self.keys, keys_BN)
        return places_BN, np.append(self.keys, np.iinfo(np.int64).min)[places_BN] == keys_BN


def logs(prices: NDArray[Any]) -> Floats:
    """Float32; NaN where a price is not above 0 or not finite."""
    valid = np.isfinite(prices) & (prices > 0)
    return np.log(np.where(valid, prices, np.nan)).astype(np.float32)


def _rate(of_I: NDArray[Any], among_I: NDArray[Any], weight: float) -> Floats:
    """(of + m weight) / (among + weight) with m = sum of / sum among; 0 where that is 0 / 0."""
    total = float(among_I.sum())
    mean = float(of_I.sum()) / total if total > 0 else 0.0
    return ((of_I + mean * weight) / (among_I + weight)).astype(np.float32)


def medians(values_E: NDArray[Any], owners_E: Ints, size: int) -> Values:
    """[size]: the median of each owner's values that are not NaN, NaN where there is none."""
    events = np.flatnonzero(~np.isnan(values_E))
    values, owners = values_E[events], owners_E[events]
    values = values[np.lexsort((values, owners))]
    counts = np.bincount(owners, minlength=size)
    starts, some, middle = np.cumsum(counts) - counts, counts > 0, np.full(size, np.nan)
    low, high = (starts + (counts - 1) // 2)[some], (starts + counts // 2)[some]
    middle[some] = (values[low].astype(np.float64) + values[high]) / 2
    return middle


def _keys(owners: Ints, codes: Ints) -> NDArray[np.int64]:
    return (np.asarray(owners, np.int64) << 32) + codes
