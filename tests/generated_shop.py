"""Small shops of a few words in several scripts, made by Hypothesis, searched without a night."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
from hypothesis import strategies as st

from recsys.attributes.columns import DECLARATION
from recsys.attributes.declaration import Attribute
from recsys.config import search_ranker
from recsys.encoders.hashing import HashingEncoder
from recsys.pipeline.rerank import Reranker
from recsys.pipeline.search import SearchPage
from recsys.pipeline.searcher import HybridSearcher, SearchChoices
from recsys.ranking.item_features import ItemFeatures
from recsys.ranking.linear import WeightedSum
from recsys.release.arrow import IdMap
from recsys.release.attributes import AttributeColumns
from recsys.release.release import Release
from recsys.retrieval.text.bm25 import LexicalIndex, LexicalRetriever
from recsys.retrieval.text.fields import searchable_fields
from recsys.retrieval.vectors.exact import ExactRetriever
from recsys.retrieval.vectors.relevance import DenseRelevance
from recsys.tables import ITEMS
from recsys.types import Floats, Query, Ranking
from recsys.understanding.codes import CodeIndex
from recsys.understanding.query_parser import QueryParser
from recsys.understanding.spelling import Speller

logging.getLogger("bm25s").setLevel(logging.WARNING)  # a line an index, of thousands
COLOURS = ["red", "blue", "navy blue"]
WORDS = [
    "chair", "chairs", "lamp", "table", "Kinderwagen", "wagen", "brûlée", "стол", "столы",
    "椅子", "红色", "كرسي", "जूते", "รองเท้า", "KVX-TN450", "KVX-TN451", "1.5 l", "40 cm",
]  # fmt: skip
BRANDS, CATEGORIES = ["Acme", "O'Brannock"], ["home", "home / chairs", "home / lamps", "Garden"]
PRICES = [0.5, 5.0, 9.99, 10.0, 20.0, 20.0, 300.0]
ATTRIBUTES = (
    Attribute("colour", variant=True),
    Attribute("width", "number", unit="cm"),
    Attribute("washable", "boolean"),
)
ENCODER = HashingEncoder(64)
LANGUAGES = ("english", "german")
#: Ranks the dearest first: the other way round than "cheapest first".
DEAR = WeightedSum({"log_price": 1.0, "first": 0.1})

#: The first words are in most titles.
COMMON = ["chair", "lamp", "стол", "red", "blue"]
titles = st.lists(st.sampled_from([*COMMON * 5, *COLOURS, *WORDS]), min_size=1, max_size=4).map(
    " ".join
)
rows = st.fixed_dictionaries({
    "title": titles,
    "brand": st.sampled_from([None, "", *BRANDS, "ACME"]),
    "category": st.sampled_from([None, *CATEGORIES, "GARDEN", "Garden\nhome / lamps"]),
    "price": st.sampled_from([None, *PRICES]),
    "in_stock": st.sampled_from([True, True, False, None]),
    "hidden": st.sampled_from([False] * 5 + [True, None]),
    "group_id": st.sampled_from([None, "", "a", "b", "c", "d"]),
    "colour": st.sampled_from([None, *COLOURS]),
    "width": st.sampled_from([None, 0.0, 40.0, 40.0, 60.0, 125.5]),
    "washable": st.sampled_from([None, True, False]),
})  # fmt: skip
choices = st.builds(
    SearchChoices,
    min_term_coverage=st.sampled_from([0.5, 0.9]),
    dense_k=st.sampled_from([1, 5, 100]),
    max_candidates=st.sampled_from([1, 4, 5_000]),
)


class GeneratedRelease(Release):
    """Of items alone: no users, no files."""

    def __init__(self, catalogue: Sequence[dict[str, Any]]) -> None:
        count = len(catalogue)
        items = [
            {"item_id": f"SKU-{row:05d}", "text_hash": b"0" * 16, **each}
            for row, each in enumerate(catalogue)
        ]
        self.manifest: Any = SimpleNamespace(version="v1", created="2026-01-01T02:00:00+00:00")
        self.items = pa.Table.from_pylist(items, ITEMS)
        self.item_ids = IdMap(self.items["item_id"])
        self.user_ids = IdMap(pa.chunked_array([[]], pa.string()))
        self.item_vectors_ID = ENCODER.encode_items([each["title"] for each in items])
        self.popularity_I = (np.arange(count) % 3).astype(np.float32)
        self.lexical = LexicalIndex.build(searchable_fields(self.items), {}, LANGUAGES)
        titles = [each["title"] for each in items]
        self.codes = CodeIndex.build([each["item_id"] for each in items], titles)
        columns = [
            pa.array(
                [each.get(attribute.name) for each in items],
                {"text": pa.string(), "number": pa.float64(), "boolean": pa.bool_()}[
                    attribute.kind
                ],
            )
            for attribute in ATTRIBUTES
        ]
        fields = [
            pa.field(attribute.name, column.type, metadata={DECLARATION: attribute.to_json()})
            for attribute, column in zip(ATTRIBUTES, columns, strict=True)
        ]
        self.attributes = AttributeColumns(pa.table(columns, schema=pa.schema(fields)), count)
        self.projections = (np.zeros((ENCODER.dim, 16)), np.zeros((ENCODER.dim, 16)))

    @cached_property
    def item_features(self) -> ItemFeatures:
        count = self.items.num_rows
        zeros, none = np.zeros(count, np.float32), np.full(count, -1)
        return ItemFeatures(
            prices_I=self.prices_I,
            in_stock_I=self.in_stock_I,
            popularity_I=self.popularity_I,
            touches_TI=np.zeros((4, count), int),
            exposure_I=zeros,
            clicks_I=zeros,
            first_days_I=zeros,
            categories_I=none,
            brands_I=none,
            item_projected_IP=np.zeros((count, 16), np.float32),
            taste_projected_IP=np.zeros((count, 16), np.float32),
        )


@dataclass(frozen=True)
class GeneratedShop:
    release: GeneratedRelease
    page: SearchPage
    parser: QueryParser

    def __repr__(self) -> str:
        return f"shop of {self.release.items.to_pylist()}, {self.page.searcher.choices}"

    def search(self, **choices: Any) -> Ranking:
        query = Query(request_id="r", **choices)
        assert query.text is not None
        parsed = self.parser.parse(query.text)
        return self.page.answer(query, encode(parsed.understanding.normalised), parsed)


def encode(text: str) -> Floats:
    return ENCODER.encode_queries([text])[0] if text else np.zeros(ENCODER.dim, np.float32)


def make_shop(
    catalogue: Sequence[dict[str, Any]], choices: SearchChoices, depth: int, min_cosine: float
) -> GeneratedShop:
    """The first `depth` are re-ranked; an item matches by its vector from `min_cosine` on."""
    release = GeneratedRelease(catalogue)
    lexical, items_ID = release.lexical, release.item_vectors_ID
    searcher = HybridSearcher(
        lexical=LexicalRetriever(lexical),
        dense=ExactRetriever("dense", items_ID),
        item_vectors_ID=items_ID,
        ranker=search_ranker(),
        text_of=lambda rows: [],
        popularity_I=release.popularity_I,
        choices=choices,
        visible_I=release.visible_I,
        relevance=DenseRelevance(np.zeros(ENCODER.dim), np.zeros(ENCODER.dim), min_cosine),
    )
    reranker = Reranker(item_features=release.item_features, depth=depth)
    if depth:
        reranker = Reranker(
            item_features=release.item_features, rankers={"dear": DEAR}, serving="dear", depth=depth
        )
    speller = Speller(lexical.terms, lexical.frequencies, lexical.rows_of_term)
    brands, named = release.labels["brand"].spellings_V, release.attributes.named
    parser = QueryParser(speller, release.codes, brands, release.item_ids.__getitem__, named)
    return GeneratedShop(release, SearchPage(release, searcher, reranker), parser)


shops = st.builds(
    make_shop,
    st.sampled_from([1, 6, 15, 30, 30]).flatmap(
        lambda size: st.lists(rows, min_size=size, max_size=size)
    ),
    choices,
    st.sampled_from([0, 1, 5, 100]),
    st.sampled_from([0.2, 0.5]),
)
