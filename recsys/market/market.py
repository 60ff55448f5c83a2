"""The ground truth of a simulated market: the probability that a shopper who examines a product
clicks it.

The products are a real shop's best sellers; preferences are drawn from a seed. The purchase history
is drawn from real sales, independent of the preferences: the shop begins with a popularity that
misleads. Legend: U shoppers, I items, C categories, L latent factors, B requests, K positions of a
list."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from recsys.encoders.hashing import HashingEncoder
from recsys.encoders.text import item_texts
from recsys.interfaces import DatasetAdapter
from recsys.market.best_sellers import best_sellers
from recsys.tables import EVENTS, TIME
from recsys.types import Floats, Ints, Mask, Rows

#: A search multiplies the attraction of products outside its category by this.
OFF_TOPIC = 0.05
_FACTORS = 6


@dataclass(frozen=True, eq=False)
class RequestBatch:
    """Simulated requests: the shopper, and the category of the search; -1 is a request for
    recommendations."""

    users_B: Ints
    categories_B: Ints

    def __len__(self) -> int:
        return len(self.users_B)

    @property
    def is_search_B(self) -> Mask:
        return self.categories_B >= 0

    def take(self, selection: slice | Mask) -> RequestBatch:
        return RequestBatch(self.users_B[selection], self.categories_B[selection])


@dataclass(frozen=True, eq=False, kw_only=True)
class Market:
    """Products, shoppers, and the probability that a shopper who examines a product clicks it: its
    attraction (attractiveness in the literature of click models).

    Its logit is `intercept` + the product's `quality_I`, common to all, + the product of the latent
    factors `user_factors_UL` and `item_factors_IL` (of category, brand and text) - `price_effect` x
    the shopper's `price_sensitivity_U` x the product's `relative_price_I` (the logarithm of its
    price, standardised within its category). `sales_I` are real; `queries` are the words that
    search for each category."""

    items: pa.Table
    queries: tuple[str, ...]
    categories_I: Ints
    sales_I: Floats
    relative_price_I: Floats
    quality_I: Floats
    item_factors_IL: Floats
    user_factors_UL: Floats
    price_sensitivity_U: Floats
    intercept: float = -2.5
    price_effect: float = 1.0

    @classmethod
    def of(
        cls,
        adapter: DatasetAdapter,
        *,
        categories: int = 30,
        items_per_category: int = 20,
        shoppers: int = 200,
        seed: int = 0,
    ) -> Market:
        """A market of `best_sellers`, with preferences drawn from the seed."""
        items, sales_I = best_sellers(adapter, categories, items_per_category)
        labels, categories_I = np.unique(items["category"].to_pylist(), return_inverse=True)
        queries = tuple(map(_query, labels.tolist()))
        return cls.of_items(
            items, categories_I, queries, sales_I=sales_I, shoppers=shoppers, seed=seed
        )

    @classmethod
    def of_items(
        cls,
        items: pa.Table,
        categories_I: Ints,
        queries: tuple[str, ...],
        *,
        sales_I: Floats,
        shoppers: int,
        seed: int,
        intercept: float = -2.5,
    ) -> Market:
        """A market of these items, with preferences drawn from the seed."""
        log_price_I = np.log(np.asarray(items["price"], np.float64))
        rng = np.random.default_rng(seed)
        return cls(
            items=items,
            queries=queries,
            categories_I=categories_I,
            sales_I=sales_I,
            relative_price_I=_standardise_within(log_price_I, categories_I),
            quality_I=rng.normal(size=items.num_rows).astype(np.float32),
            item_factors_IL=_item_factors(items, categories_I, rng),
            user_factors_UL=rng.normal(size=(shoppers, _FACTORS)).astype(np.float32),
            price_sensitivity_U=rng.gamma(4.0, 0.25, size=shoppers).astype(np.float32),
            intercept=intercept,
        )

    @cached_property
    def ids(self) -> NDArray[np.object_]:
        """[I] item ids by row."""
        return np.array(self.items["item_id"].to_pylist(), object)

    @cached_property
    def _row_of(self) -> dict[str, int]:
        return {item: row for row, item in enumerate(self.ids)}

    def rows(self, item_ids: Sequence[str], width: int) -> Rows:
        """[width] the rows of a list's items, padded with -1."""
        rows = [self._row_of[item] for item in item_ids[:width]]
        return np.array(rows + [-1] * (width - len(rows)), np.int32)

    @property
    def shoppers(self) -> int:
        return len(self.user_factors_UL)

    @cached_property
    def attraction_UI(self) -> Floats:
        """The probability of a click on an examined product, without a search."""
        fit_UI = self.user_factors_UL @ self.item_factors_IL.T
        price_UI = np.outer(self.price_sensitivity_U, self.relative_price_I)
        logit_UI = self.intercept + self.quality_I + fit_UI - self.price_effect * price_UI
        return (1 / (1 + np.exp(-logit_UI))).astype(np.float32)

    def attraction(self, requests: RequestBatch) -> Floats:
        """[B, I] of all products; a search discounts those outside its category by OFF_TOPIC."""
        weights_BI = np.where(self._on_topic(requests.categories_B), 1, OFF_TOPIC)
        return self.attraction_UI[requests.users_B] * weights_BI.astype(np.float32)

    def attraction_of(self, requests: RequestBatch, rows_BK: Rows) -> Floats:
        """[B, K] of listed products; 0 for a pad (-1)."""
        attraction_BI = self.attraction(requests)
        attraction_BK = np.take_along_axis(attraction_BI, np.maximum(rows_BK, 0), axis=1)
        return np.where(rows_BK >= 0, attraction_BK, 0).astype(np.float32)

    def ideal_ranking(self, requests: RequestBatch, k: int) -> Rows:
        """[B, k] the rows of the most attractive products, best first."""
        return _top(-self.attraction(requests), k)

    def sales_ranking(self, requests: RequestBatch, k: int) -> Rows:
        """[B, k] best sellers, those of a search's category first: a baseline that does not
        learn."""
        return _top(-self.sales_I - 1e9 * self._on_topic(requests.categories_B), k)

    def _on_topic(self, categories_B: Ints) -> Mask:
        return (categories_B[:, None] < 0) | (categories_B[:, None] == self.categories_I)

    def true_ndcg(self, requests: RequestBatch, rows_BK: Rows) -> Floats:
        """[B] nDCG with attraction as the gain, over the ideal ranking of the whole catalogue."""
        k = rows_BK.shape[1]
        discounts_K = 1 / np.log2(np.arange(2, k + 2))
        ideal_BK = self.attraction_of(requests, self.ideal_ranking(requests, k))
        gains_BK = self.attraction_of(requests, rows_BK)
        return (gains_BK @ discounts_K / (ideal_BK @ discounts_K)).astype(np.float32)

    def with_price_effect_reversed(self) -> Market:
        """The market after a preference shift: everybody prefers expensive products as much as they
        preferred cheap ones."""
        return replace(self, price_effect=-self.price_effect)

    def without_clicks(self) -> Market:
        """The same market where nobody clicks anything."""
        return replace(self, intercept=-40.0)

    def requests(self, count: int, seed: int, searches: float = 0.5) -> RequestBatch:
        """Requests of random shoppers, a share `searches` of them for a category drawn by the
        shopper's attraction to its products."""
        rng = np.random.default_rng(seed)
        users_B = rng.integers(self.shoppers, size=count)
        cumulative_BC = np.cumsum(self._interest_UC[users_B], axis=1)
        draws_B1 = rng.random((count, 1)) * cumulative_BC[:, -1:]
        categories_B = (draws_B1 > cumulative_BC).sum(axis=1)
        return RequestBatch(users_B, np.where(rng.random(count) < searches, categories_B, -1))

    @cached_property
    def _interest_UC(self) -> Floats:
        one_hot_IC = np.eye(len(self.queries), dtype=np.float32)[self.categories_I]
        return self.attraction_UI @ one_hot_IC

    def history(
        self, until: datetime, purchases: int = 20, days: int = 28, seed: int = 0
    ) -> pa.Table:
        """`purchases` of each shopper in the `days` before `until`, drawn in proportion to real
        sales (`tables.EVENTS`)."""
        rng = np.random.default_rng([seed, 1])
        count = purchases * self.shoppers
        rows_E = rng.choice(len(self.sales_I), count, p=self.sales_I / self.sales_I.sum())
        seconds_E = rng.uniform(60, days * 86_400, count)
        times = [until - timedelta(seconds=float(seconds)) for seconds in seconds_E]
        events = {
            "event_id": [f"past-{number}" for number in range(count)],
            "user_id": [user_id(number // purchases) for number in range(count)],
            "item_id": self.ids[rows_E].tolist(),
            "type": ["purchase"] * count,
            "time": pa.array(times, TIME),
        }
        return pa.table(events, pa.schema([EVENTS.field(name) for name in events]))

    def write(self, folder: Path, until: datetime) -> None:
        """Writes `items.parquet` and `events.parquet`, the files of a shop
        (`simulation.shop.setup`)."""
        folder.mkdir(parents=True, exist_ok=True)
        pq.write_table(self.items, folder / "items.parquet")
        pq.write_table(self.history(until), folder / "events.parquet")


def user_id(number: int) -> str:
    return f"u{number:04d}"


def _top(costs_BI: Floats, k: int) -> Rows:
    return np.argsort(costs_BI, axis=1, kind="stable")[:, :k].astype(np.int32)


def _query(category: str) -> str:
    """The words that search for a category: "Grocery / Frozen pizza" is "frozen pizza"."""
    return " ".join(re.findall(r"[^\W\d_]+", category.split(" / ")[-1].lower()))


def _standardise_within(values_I: NDArray[np.float64], groups_I: Ints) -> Floats:
    """Less the group's mean, over its standard deviation."""
    sizes_G = np.bincount(groups_I)
    centred_I = values_I - (np.bincount(groups_I, values_I) / sizes_G)[groups_I]
    spread_G = np.sqrt(np.bincount(groups_I, centred_I**2) / sizes_G)
    return (centred_I / np.maximum(spread_G[groups_I], 1e-6)).astype(np.float32)


def _item_factors(items: pa.Table, categories_I: Ints, rng: np.random.Generator) -> Floats:
    """[I, L] unit vectors: half of the category, a quarter of the brand, half of the text; each
    drawn or projected at random."""
    brands = [brand or "" for brand in items["brand"].to_pylist()]
    brands_I = np.unique(brands, return_inverse=True)[1]
    texts_ID = HashingEncoder(64).encode_items(item_texts(items))
    categories_CL, brands_VL, projection_DL = (
        rng.normal(size=(n, _FACTORS)) for n in (1 + categories_I.max(), 1 + brands_I.max(), 64)
    )
    factors_IL = 0.5 * categories_CL[categories_I] + 0.25 * brands_VL[brands_I]
    factors_IL = factors_IL + 0.5 * (texts_ID @ projection_DL)
    return (factors_IL / np.linalg.norm(factors_IL, axis=1, keepdims=True)).astype(np.float32)
