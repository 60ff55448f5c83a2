"""The truth of a simulated market: which shopper would click which product, were he to look at it.

The products are a real shop's best sellers; what shoppers think of them is drawn from a seed. The
shop's past is drawn from real sales alone, which know nothing of the drawn tastes: it begins with a
popularity that misleads. Legend: U shoppers, I items, C categories, T traits, B requests, K places
of a list."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from recsys.config import Day, Night, Setup, event_log, home
from recsys.datasets.files import FilesAdapter
from recsys.encoders.hashing import HashingEncoder
from recsys.encoders.text import item_texts
from recsys.errors import InputError
from recsys.experiments.exploration import Exploration
from recsys.interfaces import DatasetAdapter, Ranker
from recsys.pipeline.searcher import SearchChoices
from recsys.pipeline.sources import SOURCES
from recsys.ranking.mixer import Mixer
from recsys.tables import EVENTS_IN, ITEMS_IN, TIME
from recsys.training.influence import OnlineConfig
from recsys.types import Floats, Ints, Rows

#: Of what a shopper would click, this much is left of products that he did not search for.
OFF_TOPIC = 0.05
_TRAITS = 6


@dataclass(frozen=True, eq=False)
class Market:
    """Products, shoppers, and the chance that a shopper who looks at a product clicks it: its
    attraction.

    Its logit is `level` + the product's `quality_I`, the same for all, + the fit of the shopper's
    `tastes_UT` with the product's `traits_IT` (its category, brand and text) - `trend` x the
    shopper's `thrift_U` x how dear the product is in its category (`dearness_I`, standardised
    logarithm of the price). `sold_I` are real sales."""

    items: pa.Table
    words: tuple[str, ...]
    categories_I: Ints
    sold_I: Floats
    dearness_I: Floats
    quality_I: Floats
    traits_IT: Floats
    tastes_UT: Floats
    thrift_U: Floats
    level: float = -2.5
    trend: float = 1.0

    @classmethod
    def of(
        cls,
        adapter: DatasetAdapter,
        categories: int = 30,
        each: int = 20,
        shoppers: int = 200,
        seed: int = 0,
    ) -> Market:
        """The `each` best sellers of the `categories` best selling categories that have as many;
        priced, in stock, and of different texts. InputError where there are none."""
        items, sold_I = _best_sellers(adapter, categories, each)
        labels, categories_I = np.unique(items["category"].to_pylist(), return_inverse=True)
        rng = np.random.default_rng(seed)
        count = items.num_rows
        return cls(
            items,
            tuple(map(_words, labels.tolist())),
            categories_I,
            sold_I,
            _standard_within(np.log(np.asarray(items["price"], np.float64)), categories_I),
            rng.normal(size=count).astype(np.float32),
            _traits(items, categories_I, rng),
            rng.normal(size=(shoppers, _TRAITS)).astype(np.float32),
            rng.gamma(4.0, 0.25, size=shoppers).astype(np.float32),
        )

    @cached_property
    def ids(self) -> NDArray[np.object_]:
        """[I] item ids by row."""
        return np.array(self.items["item_id"].to_pylist(), object)

    @cached_property
    def _rows(self) -> dict[str, int]:
        return {item: row for row, item in enumerate(self.ids)}

    def rows(self, item_ids: Sequence[str], width: int) -> Rows:
        """[width] the rows of a list's items, -1 behind its end."""
        found = [self._rows[item] for item in item_ids[:width]]
        return np.array(found + [-1] * (width - len(found)), np.int32)

    @property
    def shoppers(self) -> int:
        return len(self.tastes_UT)

    @cached_property
    def attraction_UI(self) -> Floats:
        """The chance of a click by who looks, without a search."""
        taste_UI = self.tastes_UT @ self.traits_IT.T
        thrift_UI = np.outer(self.thrift_U, self.dearness_I)
        logit_UI = self.level + self.quality_I + taste_UI - self.trend * thrift_UI
        return (1 / (1 + np.exp(-logit_UI))).astype(np.float32)

    def attraction(self, users_B: Ints, wanted_B: Ints) -> Floats:
        """[B, I]: that of a request's shopper; who searched for category `wanted_B` (-1: nobody
        searched) cares little for others."""
        on_topic_BI = (wanted_B[:, None] < 0) | (wanted_B[:, None] == self.categories_I)
        return self.attraction_UI[users_B] * np.where(on_topic_BI, 1, OFF_TOPIC).astype(np.float32)

    def shown(self, users_B: Ints, wanted_B: Ints, rows_BK: Rows) -> Floats:
        """[B, K]: the attraction of listed items; an empty place (-1) has none."""
        attraction_BK = np.take_along_axis(
            self.attraction(users_B, wanted_B), np.maximum(rows_BK, 0), axis=1
        )
        return np.where(rows_BK >= 0, attraction_BK, 0).astype(np.float32)

    def best(self, users_B: Ints, wanted_B: Ints, k: int) -> Rows:
        """[B, k]: the rows of the true best order."""
        return np.argsort(-self.attraction(users_B, wanted_B), axis=1, kind="stable")[:, :k].astype(
            np.int32
        )

    def by_sales(self, wanted_B: Ints, k: int) -> Rows:
        """[B, k]: what sells best by `sold_I`, for a search in its category first: an order that
        learns nothing."""
        on_topic_BI = (wanted_B[:, None] < 0) | (wanted_B[:, None] == self.categories_I)
        return np.argsort(-self.sold_I - 1e9 * on_topic_BI, axis=1, kind="stable")[:, :k].astype(
            np.int32
        )

    def true_ndcg(self, users_B: Ints, wanted_B: Ints, rows_BK: Rows) -> Floats:
        """[B]: attractions discounted by log2(place + 1), over those of the best order of the whole
        catalogue."""
        discounts_K = 1 / np.log2(np.arange(2, rows_BK.shape[1] + 2))
        best_BK = self.shown(users_B, wanted_B, self.best(users_B, wanted_B, rows_BK.shape[1]))
        return (
            self.shown(users_B, wanted_B, rows_BK) @ discounts_K / (best_BK @ discounts_K)
        ).astype(np.float32)

    def flipped(self) -> Market:
        """The same market once everybody likes what is dear as much as he liked what is cheap."""
        return replace(self, trend=-self.trend)

    def indifferent(self) -> Market:
        """The same market where nobody clicks anything."""
        return replace(self, level=-40.0)

    def requests(self, count: int, seed: int, searches: float = 0.5) -> tuple[Ints, Ints]:
        """Who asks (users_B), and for which category (wanted_B, -1: asks for recommendations): a
        share `searches`, each for a category drawn by what attracts him there."""
        rng = np.random.default_rng(seed)
        users_B = rng.integers(self.shoppers, size=count)
        drawn_BC = np.cumsum(self._interest_UC[users_B], axis=1)
        wanted_B = (rng.random((count, 1)) * drawn_BC[:, -1:] > drawn_BC).sum(axis=1)
        return users_B, np.where(rng.random(count) < searches, wanted_B, -1)

    @cached_property
    def _interest_UC(self) -> Floats:
        of_IC = np.eye(len(self.words), dtype=np.float32)[self.categories_I]
        return self.attraction_UI @ of_IC

    def history(self, until: datetime, each: int = 20, days: int = 28, seed: int = 0) -> pa.Table:
        """`each` purchases a shopper in the days before `until`, drawn by real sales
        (`tables.EVENTS_IN`)."""
        rng = np.random.default_rng([seed, 1])
        count = each * self.shoppers
        rows_E = rng.choice(len(self.sold_I), count, p=self.sold_I / self.sold_I.sum())
        seconds_E = rng.uniform(60, days * 86_400, count)
        events = {
            "event_id": [f"past-{number}" for number in range(count)],
            "user_id": [user_id(number) for number in range(self.shoppers) for _ in range(each)],
            "item_id": self.ids[rows_E].tolist(),
            "type": ["purchase"] * count,
            "time": pa.array(
                [until - timedelta(seconds=float(seconds)) for seconds in seconds_E], TIME
            ),
        }
        return pa.table(events, pa.schema([EVENTS_IN.field(name) for name in events]))

    def write(self, folder: Path, until: datetime) -> None:
        """The shop's own files, `items.parquet` and `events.parquet`, as `setup` reads them."""
        folder.mkdir(parents=True, exist_ok=True)
        pq.write_table(self.items, folder / "items.parquet")
        pq.write_table(self.history(until), folder / "events.parquet")


def user_id(number: int) -> str:
    return f"u{number:04d}"


def stocked(folder: str, until: datetime) -> DatasetAdapter:
    """What `Market.write` wrote, whatever the night's time."""
    return FilesAdapter(f"{folder}/items.parquet", f"{folder}/events.parquet")


def by_popularity() -> Ranker:
    """All sources are asked, and logged, but only what sells counts: where a shop begins that has
    learned nothing."""
    return Mixer.of({"popularity": 1.0}, SOURCES)


def setup() -> Setup:
    """The market's shop below $NIGHTSHELF_HOME, without model weights: a night takes seconds."""
    root = home()
    return Setup(
        name="market",
        home=root,
        dataset=partial(stocked, f"{root}/market"),
        encoder=partial(HashingEncoder, 64),
        event_store=event_log(root),
        recommend_ranker=by_popularity,
        search=SearchChoices(dense_k=20),
        night=Night(task_cpus=0.5, encoder_cpus=0.5, history=200),
        day=Day(
            replicas=1,
            replica_cpus=0.5,
            refresh_s=0.2,
            explore=Exploration("swap", share=0.3),
            # A simulated day takes a minute, and a shopper comes several times: his votes must last
            # until the evening.
            online=OnlineConfig(
                learning_rate=0.5,
                user_votes=3.0,
                origin_votes=3.0,
                every_s=0.5,
                patience_s=0.5,
                snapshot_s=1.0,
            ),
        ),
    )


def _best_sellers(adapter: DatasetAdapter, categories: int, each: int) -> tuple[pa.Table, Floats]:
    """Their rows in ITEMS_IN, sorted by id, and how often each was sold."""
    read = [adapter.read_items(chunk) for chunk in adapter.item_chunks()]
    items = pa.concat_tables([ITEMS_IN.empty_table(), *read], promote_options="permissive")
    items = items.set_column(
        items.schema.get_field_index("category"), "category", pa.array(_categories(items))
    )
    counts = pc.value_counts(_sales(adapter))
    sold = pc.index_in(items["item_id"], value_set=counts.field(0))
    items = items.append_column("sold", pc.fill_null(counts.field(1).take(sold), 0))
    sellable = pc.and_(pc.greater(items["price"], 0), pc.fill_null(items["in_stock"], True))
    items = items.filter(pc.and_(sellable, pc.greater(items["sold"], 0)))
    ranked = items.sort_by([("sold", "descending"), ("item_id", "ascending")])
    chosen = ranked.take(_first_of_each(ranked, categories, each)).sort_by("item_id")
    return chosen.select(ITEMS_IN.names).cast(ITEMS_IN), np.asarray(chosen["sold"], np.float32)


def _sales(adapter: DatasetAdapter) -> pa.ChunkedArray:
    """The item of each purchase."""
    read = (adapter.read_events(chunk) for chunk in adapter.event_chunks())
    return pa.chunked_array(
        [
            events.filter(pc.equal(events["type"], "purchase"))["item_id"].combine_chunks()
            for events in read
        ]
    )


def _first_of_each(ranked: pa.Table, categories: int, each: int) -> list[int]:
    """Places of the first `each` items of different texts in each of the first categories that have
    as many."""
    members: dict[str, dict[str, int]] = {}
    texts = zip(ranked["category"].to_pylist(), item_texts(ranked), strict=True)
    for place, (category, text) in enumerate(texts):
        if category:
            members.setdefault(category, {}).setdefault(text, place)
    sold = ranked["sold"].to_numpy()
    full = [list(places.values())[:each] for places in members.values() if len(places) >= each]
    if not full:
        raise InputError(
            f"no category has {each} products with a price that sell: ask for fewer of each"
        )
    full.sort(key=lambda places: -int(sold[places].sum()))
    return [place for places in full[:categories] for place in places]


def _categories(items: pa.Table) -> list[str]:
    """A catalogue without categories has the last words of its titles."""
    known = [category or "" for category in items["category"].to_pylist()]
    if any(known):
        return known
    return [
        title.split()[-1].lower() if title and title.split() else ""
        for title in items["title"].to_pylist()
    ]


def _words(category: str) -> str:
    """What is typed by who wants a category: "Grocery / Frozen pizza" is "frozen pizza"."""
    return " ".join(re.findall(r"[^\W\d_]+", category.split(" / ")[-1].lower()))


def _standard_within(values_I: NDArray[np.float64], groups_I: Ints) -> Floats:
    """Less the group's mean, over its standard deviation."""
    sizes_G = np.bincount(groups_I)
    centred_I = values_I - (np.bincount(groups_I, values_I) / sizes_G)[groups_I]
    spread_G = np.sqrt(np.bincount(groups_I, centred_I**2) / sizes_G)
    return (centred_I / np.maximum(spread_G[groups_I], 1e-6)).astype(np.float32)


def _traits(items: pa.Table, categories_I: Ints, rng: np.random.Generator) -> Floats:
    """[I, T] of length 1: half by the category, the rest by brand and text, each drawn or projected
    at random."""
    brands_I = np.unique(
        [brand or "" for brand in items["brand"].to_pylist()], return_inverse=True
    )[1]
    texts_ID = HashingEncoder(64).encode_items(item_texts(items))
    of_C, of_V, of_D = (
        rng.normal(size=(n, _TRAITS)) for n in (1 + categories_I.max(), 1 + brands_I.max(), 64)
    )
    traits_IT = 0.5 * of_C[categories_I] + 0.25 * of_V[brands_I] + 0.5 * (texts_ID @ of_D)
    return (traits_IT / np.linalg.norm(traits_IT, axis=1, keepdims=True)).astype(np.float32)
