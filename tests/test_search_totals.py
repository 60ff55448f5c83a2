"""The law of totals: `total` is what paging to the end gives, whatever is asked of whatever shop.

LAW_EXAMPLES=5000 tries that many shops in all."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from recsys.pipeline.searcher import SearchChoices
from recsys.types import (
    SORTS,
    AttributeFilter,
    FacetCount,
    Filters,
    Quantity,
    Query,
    Ranking,
    ScoredItem,
)
from serve.routes.answers import search_answer
from tests.generated_shop import (
    BRANDS,
    CATEGORIES,
    COLOURS,
    COMMON,
    PRICES,
    WORDS,
    GeneratedShop,
    make_shop,
    shops,
)

LAW = settings(
    max_examples=int(os.environ.get("LAW_EXAMPLES", "240")) // 3,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
MISSPELT = ["chiar", "lapm", "tabel", "kinderwagn", "столл", "brulee"]
PRICE_WORDS = ["under $10", "unter 20 euro", "over 1000", "between $1 and $2", "20元以下"]
OTHERS = ["zeppelin", "xqzvkj", "acme", "o brannock", "navy", "tn450", "kvx", "SKU-00001", "00002"]
texts = st.lists(
    st.sampled_from([*COMMON * 6, *WORDS, *COLOURS, *MISSPELT, *PRICE_WORDS * 2, *OTHERS]),
    min_size=1,
    max_size=3,
).map(" ".join)
conditions = st.sampled_from([
    ("colour", "eq", "red"), ("colour", "eq", "Navy Blue"), ("colour", "eq", "pink"),
    ("width", "gte", "40 cm"), ("width", "eq", "0-60"), ("width", "lt", "1 m"),
    ("washable", "eq", "true"), ("washable", "eq", "no"),
])  # fmt: skip
fields: dict[str, st.SearchStrategy[Any]] = {
    "category": st.lists(st.sampled_from([*CATEGORIES, "HOME"]), min_size=1, max_size=2).map(tuple),
    "brand": st.lists(st.sampled_from([*BRANDS, "nobody"]), min_size=1, max_size=2).map(tuple),
    "min_price": st.sampled_from(PRICES),
    "max_price": st.sampled_from(PRICES),
    "in_stock": st.booleans(),
    "attributes": st.lists(conditions, min_size=1, max_size=2).map(
        lambda chosen: tuple(AttributeFilter(*each) for each in chosen)
    ),
}
filters = st.lists(st.sampled_from(sorted(fields)), max_size=3, unique=True).flatmap(
    lambda names: st.builds(Filters, **{name: fields[name] for name in names})
)
requests = st.fixed_dictionaries({
    "text": texts,
    "filters": filters,
    "sort": st.sampled_from(SORTS),
    "collapse": st.booleans(),
})  # fmt: skip
sizes = st.lists(st.integers(1, 20), min_size=1, max_size=4)


def ids(ranking: Ranking) -> list[str]:
    return [each.item.item_id for each in ranking.items]


def whole_of(shop: GeneratedShop, request: dict[str, Any]) -> Ranking:
    return shop.search(**request, k=1_000)


def pages_of(shop: GeneratedShop, request: dict[str, Any], sizes: list[int]) -> Iterator[Ranking]:
    """As a client turns them, the sizes in turn."""
    offset: int | None = 0
    while offset is not None:
        query = Query(request_id="r", k=sizes[0], offset=offset, **request)
        ranking = shop.search(**request, k=query.k, offset=offset)
        yield ranking
        offset, sizes = search_answer(ranking, query)["next_offset"], [*sizes[1:], sizes[0]]


@given(shops, requests, sizes)
@LAW
def test_a_total_is_what_paging_to_the_end_gives(
    shop: GeneratedShop, request: dict[str, Any], sizes: list[int]
) -> None:
    whole, pages = whole_of(shop, request), list(pages_of(shop, request, sizes))
    event("; ".join(sentence[:20] for sentence in whole.relaxed) or "as it was asked")
    paged = [item_id for page in pages for item_id in ids(page)]
    assert len(set(paged)) == len(paged) == whole.total
    assert paged == ids(whole)
    for page in pages:
        answers = [(each.total, each.relaxed, each.no_good_match) for each in (page, whole)]
        assert answers[0] == answers[1]
    assert whole.total or not shop.search(**request, k=20, offset=1).items
    assert not shop.search(**request, k=20, offset=whole.total or 0).items
    assert whole.no_good_match <= (whole.total == 0)


@given(shops, requests)
@LAW
def test_the_items_are_those_that_pass_in_the_order_that_was_asked_for(
    shop: GeneratedShop, request: dict[str, Any]
) -> None:
    whole = whole_of(shop, request)
    plain = whole_of(shop, {**request, "sort": "relevance", "collapse": False})
    everything = whole_of(
        shop, {**request, "filters": Filters(), "sort": "relevance", "collapse": False}
    )
    allowed_I = shop.release.filter_mask(request["filters"])
    places = [shop.release.item_ids.row(item_id) for item_id in ids(whole)]
    assert allowed_I is None or allowed_I[places].all()
    keys = [sort_key(shop, request["sort"], each) for each in whole.items]
    assert keys == sorted(keys)
    assert set(ids(whole)) <= set(ids(plain))
    if everything.relaxed == plain.relaxed and not overrides(request["filters"], plain):
        assert set(ids(plain)) <= set(ids(everything))
    if request["collapse"]:
        groups = [group_of(each) for each in plain.items]
        assert [group_of(each) for each in whole.items if group_of(each) not in groups] == []
        assert len({group_of(each) for each in whole.items}) == whole.total == len(set(groups))
    else:
        assert whole.total == plain.total


def overrides(filters: Filters, ranking: Ranking) -> bool:
    """Whether a filter takes the place of something that the text names."""
    assert ranking.understanding is not None
    named = set(ranking.understanding.facts)
    own = {each.name for each in filters.attributes}
    if filters.min_price is not None or filters.max_price is not None:
        own |= {"min_price", "max_price"}
    return bool(own & named)


def group_of(scored: ScoredItem) -> str:
    return scored.item.group_id.strip() or scored.item.item_id


def sort_key(shop: GeneratedShop, sort: str, scored: ScoredItem) -> float:
    """Items without a price come last, in both directions."""
    price = scored.item.price
    if sort == "popularity":
        row = shop.release.item_ids.row(scored.item.item_id)
        return -float(np.asarray(shop.release.popularity_I)[row])
    if sort not in ("price", "-price"):
        return 0.0
    return math.inf if price is None else price if sort == "price" else -price


@given(shops, requests, st.data())
@LAW
def test_a_facets_count_is_the_total_of_the_search_that_selects_its_value(
    shop: GeneratedShop, request: dict[str, Any], data: st.DataObject
) -> None:
    """Whatever the page shows of a facet, and each value of an item on it keeps the item."""
    whole = shop.search(**request, k=1_000, facets=True)
    counted = [(name, each) for name, facet in whole.facets.items() for each in facet]
    for name, each in data.draw(st.permutations(counted))[:5]:
        selected = whole_of(shop, selecting(request, name, each))
        if each.count or selected.relaxed == whole.relaxed:
            assert (each.count, name, each.value) == (selected.total, name, each.value)
    if whole.items and not request["collapse"]:
        scored = data.draw(st.sampled_from(whole.items))
        for name, value in values_of(scored).items():
            kept = whole_of(shop, selecting(request, name, FacetCount(value, 0)))
            assert scored.item.item_id in ids(kept), (name, value)


def values_of(scored: ScoredItem) -> dict[str, str]:
    """What the facets call the item's own values."""
    item, values = scored.item, dict[str, str]()
    for name in ("category", "brand"):
        if value := getattr(item, name).strip():
            values[name] = value
    if item.price is not None:
        values["price"] = f"{item.price}-{item.price}"
    for name, value in item.attribute_values.items():
        number = value.value if isinstance(value, Quantity) else value
        values[name] = str(number).lower()
    return values


def selecting(request: dict[str, Any], name: str, facet: FacetCount) -> dict[str, Any]:
    """The request with just this value of the facet."""
    own: Filters = request["filters"]
    if name in ("category", "brand"):
        return {**request, "filters": replace(own, **{name: (facet.value,)})}  # type: ignore[arg-type]
    if name == "price":
        low, _, high = facet.value.partition("-")
        chosen = replace(own, min_price=float(low), max_price=float(high) if high else None)
        return {**request, "filters": chosen}
    others = tuple(each for each in own.attributes if each.name != name)
    chosen = replace(own, attributes=(*others, AttributeFilter(name, "eq", facet.value)))
    return {**request, "filters": chosen}


def item(title: str, **columns: Any) -> dict[str, Any]:
    return {"title": title, "price": 5.0} | columns


def test_a_facet_says_what_the_price_in_the_text_leaves_of_the_other_values() -> None:
    """Of Acme's nothing costs so little: its chairs are shown at any price, the others' are not."""
    shop = make_shop(
        [
            item("chair", brand="Acme", price=300.0),
            item("red chair", brand="O'Brannock", price=300.0),
            item("blue chair", brand="O'Brannock", price=5.0),
        ],
        SearchChoices(),
        depth=0,
        min_cosine=0.5,
    )
    request = {"text": "chair under $10", "filters": Filters(brand=("Acme",))}
    relaxed = shop.search(**request, facets=True)
    assert (relaxed.total, len(relaxed.relaxed)) == (1, 1)
    counts = {each.value: each.count for each in relaxed.facets["brand"]}
    assert counts == {"Acme": 1, "O'Brannock": 1}


def test_a_total_is_honest_behind_the_last_page_that_can_be_requested(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("serve.routes.answers.MAX_OFFSET", 7)
    shop = make_shop([item("red chair")] * 30, SearchChoices(max_candidates=4), 0, 0.5)
    for sort in SORTS:
        request = {"text": "chair", "filters": Filters(), "sort": sort, "collapse": False}
        pages = list(pages_of(shop, request, [3]))
        assert [page.total for page in pages] == [30, 30, 30]
        paged = [item_id for page in pages for item_id in ids(page)]
        assert paged == ids(whole_of(shop, request))[:9]
