"""After the deadline an answer leaves out what can be left out, piece by piece, and says so.

A release of four items by hand: no night, no Ray."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from recsys.arrays import Histories
from recsys.config import search_ranker
from recsys.pipeline.recommender import Recommender
from recsys.pipeline.rerank import FIRST, Reranker
from recsys.pipeline.search import SearchPage
from recsys.pipeline.searcher import HybridSearcher
from recsys.ranking.item_features import ItemFeatures
from recsys.ranking.linear import LinearRanker, WeightedSum
from recsys.release.attributes import AttributeColumns
from recsys.retrieval.behaviour.popularity import PopularityRetriever
from recsys.retrieval.text.bm25 import LexicalIndex, LexicalRetriever
from recsys.retrieval.vectors.exact import ExactRetriever
from recsys.types import Filters, Floats, Interaction, Item, Query, QueryUnderstanding
from recsys.understanding.query_parser import ParsedQuery

TITLES = ["red chair", "red table", "red lamp", "red vase"]
POPULARITY = np.array([4, 3, 2, 1], np.float32)
#: Items 0 and 1 are alike.
VECTORS = np.array([[1, 0], [1, 0], [0, 1], [-1, 0]], np.float32)
NIGHT = datetime(2026, 1, 1, tzinfo=UTC)
LATE, IN_TIME = 0.0, np.inf


class Ids:
    """Users or items by number."""

    def __init__(self, prefix: str, count: int) -> None:
        self.names = [f"{prefix}{number}" for number in range(count)]

    def row(self, name: str) -> int | None:
        return self.names.index(name) if name in self.names else None


def item_features() -> ItemFeatures:
    zeros, none = np.zeros(4, np.float32), np.full(4, -1)
    return ItemFeatures(
        prices_I=np.array([10.0, 20, 30, 40]),
        in_stock_I=np.ones(4, bool),
        popularity_I=POPULARITY,
        touches_TI=np.zeros((4, 4), int),
        exposure_I=zeros,
        clicks_I=zeros,
        first_days_I=np.zeros(4),
        categories_I=none,
        brands_I=none,
        item_projected_IP=np.zeros((4, 16), np.float32),
        taste_projected_IP=np.zeros((4, 16), np.float32),
    )


@dataclass(kw_only=True)
class FourItems:
    """What a recommender reads of a release; user u0 has the nightly list 0, 1, 2, 3."""

    version: str = "v1"
    manifest: Any = field(
        default_factory=lambda: SimpleNamespace(created=NIGHT.isoformat(), sources=["popularity"])
    )
    user_ids: Ids = field(default_factory=lambda: Ids("u", 1))
    item_ids: Ids = field(default_factory=lambda: Ids("i", 4))
    item_vectors_ID: Floats = field(default_factory=lambda: VECTORS)
    user_space_item_vectors_ID: Floats = field(default_factory=lambda: VECTORS)
    user_vectors_UD: Floats = field(default_factory=lambda: np.zeros((1, 2), np.float32))
    popularity_I: Floats = field(default_factory=lambda: POPULARITY)
    projections: Any = field(default_factory=lambda: (np.zeros((2, 16)), np.zeros((2, 16))))
    item_features: ItemFeatures = field(default_factory=item_features)
    candidate_rows_UN: Any = field(default_factory=lambda: np.arange(4, dtype=np.int32)[None])
    candidate_features_UNF: Any = field(default_factory=lambda: POPULARITY[None, :, None])
    attributes: Any = field(default_factory=lambda: AttributeColumns.none(4))
    candidate_sources_UN: Any = field(default_factory=lambda: np.ones((1, 4), np.uint16))

    def filter_mask(self, filters: Filters) -> Any:
        return np.ones(4, bool)

    def history(self, row: int) -> Histories:
        return Histories.empty()

    def rows_now(self, rows: Any) -> Any:
        return rows

    rows_then = rows_now

    def variants(self, row: int) -> None:
        return None

    def item(self, row: int) -> Item:
        return Item(item_id=f"i{row}", title=TITLES[row])


class NoUserModel:
    def encode_history(self, histories: Histories, items_ID: Floats) -> Floats:
        return np.zeros((len(histories), 2), np.float32)


def shop(**choices: Any) -> Recommender:
    release: Any = FourItems()
    lexical = LexicalRetriever(LexicalIndex.build({"title": TITLES}, {}))
    return Recommender(
        release=release,
        user_model=NoUserModel(),  # type: ignore[arg-type]
        searcher=HybridSearcher(
            lexical=lexical,
            dense=ExactRetriever("dense", VECTORS),
            item_vectors_ID=VECTORS,
            ranker=search_ranker(),
            text_of=lambda rows: [TITLES[row] for row in rows],
            popularity_I=POPULARITY,
        ),
        parser=None,  # type: ignore[arg-type]
        recommend_ranker=LinearRanker({"popularity": 1.0}),
        recommend_sources=(PopularityRetriever(POPULARITY),),
        **{"reranker": Reranker(item_features=release.item_features), **choices},
    )


def dear() -> Reranker:
    """Ranks the dearest first: the other way round than the first stage."""
    return Reranker(
        item_features=item_features(),
        rankers={"dear": WeightedSum({"log_price": 1.0})},
        serving="dear",
    )


def ids(ranking: Any) -> str:
    return "".join(each.item.item_id[1:] for each in ranking.items)


def make_query(deadline: float, **choices: Any) -> Query:
    return Query(**{"request_id": "r", "k": 4, "user_id": "u0", **choices}, deadline=deadline)


def bought(item: str) -> Interaction:
    return Interaction(event_id="e", user_id="u0", item_id=item, type="purchase", time=NIGHT)


RED = ParsedQuery(QueryUnderstanding(text="red", normalised="red"), np.empty(0, np.int32))


def test_a_late_recommendation_is_not_ranked_again() -> None:
    over = shop(reranker=dear())
    in_time, late = (over.recommend(make_query(deadline)) for deadline in (IN_TIME, LATE))
    assert (ids(in_time), in_time.ranker, in_time.skipped) == ("3210", "dear", ())
    assert (ids(late), late.ranker, late.skipped) == ("0123", FIRST, ("rerank",))


def test_a_late_recommendation_is_not_diversified() -> None:
    in_time, late = (
        shop().recommend(make_query(deadline, k=2, diversity=1.0)) for deadline in (IN_TIME, LATE)
    )
    assert (ids(in_time), in_time.skipped) == ("03", ())
    assert (ids(late), late.skipped) == ("01", ("diversity",))


def test_a_late_recommendation_is_last_night_s_whatever_was_done_since() -> None:
    in_time, late = (
        shop().recommend(make_query(deadline, k=2), [bought("i0")]) for deadline in (IN_TIME, LATE)
    )
    assert (ids(in_time), in_time.skipped) == ("12", ())
    assert (ids(late), late.skipped) == ("01", ("live events and declared interest",))


def test_without_a_nightly_list_the_sources_are_asked_however_late() -> None:
    stranger = shop().recommend(make_query(LATE, k=2, user_id="u9"), [bought("i0")])
    assert (ids(stranger), stranger.skipped) == ("12", ())


@pytest.mark.parametrize("late", [False, True])
def test_a_late_search_is_neither_ranked_again_nor_counted(
    late: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted: list[Any] = []

    def count(release: Any, matched_I: Any, *_: Any, **__: Any) -> dict[str, Any]:
        counted.append(matched_I)
        return {"brand": ()}

    monkeypatch.setattr("recsys.pipeline.search.count_facets", count)
    over = shop(reranker=dear())
    query = make_query(LATE if late else IN_TIME, text="red", facets=True)
    ranking = over.search(query, np.zeros(2, np.float32), RED)
    assert sorted(ids(ranking)) == list("0123")
    assert (ranking.ranker, ranking.skipped) == (
        (FIRST, ("rerank", "facets")) if late else ("dear", ())
    )
    assert (ids(ranking) == "3210") == (not late)
    assert (len(counted), dict(ranking.facets)) == ((0, {}) if late else (1, {"brand": ()}))


def test_a_late_search_that_wants_no_facets_skips_none() -> None:
    ranking = shop().search(make_query(LATE, text="red"), np.zeros(2, np.float32), RED)
    assert ranking.skipped == ()


def test_the_page_is_made_once_and_anew_for_another_reranker() -> None:
    over = shop()
    assert isinstance(over.search_page, SearchPage)
    assert over.search_page is over.search_page
    other = replace(over, reranker=dear())
    assert other.search_page.reranker is other.reranker


def test_price_bounds_are_dropped_where_nothing_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    over = shop()

    def allowed(filters: Filters) -> Any:
        prices_I = np.array([10.0, 20, 30, 40])
        return None if filters.max_price is None else prices_I <= filters.max_price

    monkeypatch.setattr(over.release, "filter_mask", allowed)
    for bound, expected, relaxed in (
        (20.0, "01", ()),
        (5.0, "0123", ("nothing found costs at most 5: shown at any price",)),
    ):
        parsed = replace(RED, understanding=replace(RED.understanding, facts={"max_price": bound}))
        ranking = over.search(make_query(IN_TIME, text="red"), np.zeros(2, np.float32), parsed)
        assert (sorted(ids(ranking)), ranking.relaxed) == (list(expected), relaxed)
    own = make_query(IN_TIME, text="red", filters=Filters(max_price=5.0))
    assert over.search(own, np.zeros(2, np.float32), parsed).items == (), "their own bound stands"
