"""Whole answers to searches, over the release of a real night: pages, facets, price words,
variants, what the answer says."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from recsys.config import search_ranker
from recsys.errors import InputError
from recsys.events.impressions import build_impression
from recsys.pipeline.hits import FEATURES
from recsys.pipeline.recommender import Recommender
from recsys.pipeline.rerank import TABLE
from recsys.pipeline.searcher import SearchChoices
from recsys.release.release import Release
from recsys.storage.artifacts import ArtifactStore
from recsys.types import SORTS, FacetCount, Filters, Floats, Query, Ranking
from tests.checkerboard import ITEMS, setup, title

#: Few by vector: the shop has 16 items, and all would be near.
NARROW = SearchChoices(dense_k=2, rerank_batch=2)
laws = hypothesis_settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


class FakeCrossEncoder:
    """Likes blue things."""

    def scores(self, queries: Sequence[str], texts: Sequence[str]) -> Floats:
        return np.array([0.9 if "blue" in text else 0.1 for text in texts], np.float32)


@pytest.fixture(scope="module")
def shop(shop_home: Path) -> Recommender:
    release, parts = Release.open(ArtifactStore(str(shop_home))), setup()
    return Recommender.over(
        release, parts.user_model(), parts.search_ranker(), parts.recommend_ranker(), choices=NARROW
    )


@pytest.fixture(scope="module")
def reading(shop: Recommender) -> Recommender:
    """With a cross-encoder that counts for more than all else."""
    ranker, reader = (
        search_ranker({"lexical": 1.0, "dense": 0.1, "cross_encoder": 9.0}),
        FakeCrossEncoder(),
    )
    return Recommender.over(
        shop.release,
        shop.user_model,
        ranker,
        shop.recommend_ranker,
        cross_encoder=reader,
        choices=NARROW,
    )  # type: ignore[arg-type]


def search(shop: Recommender, text: str, deadline: float = np.inf, **choices: Any) -> Ranking:
    query = Query(request_id="r", text=text, deadline=deadline, **choices)
    return shop.search(query, vector(shop, text))


def vector(shop: Recommender, text: str) -> Floats:
    normalised = shop.understand(text).understanding.normalised
    return (
        setup().encoder().encode_queries([normalised])[0]
        if normalised
        else np.zeros(64, np.float32)
    )


def ids(ranking: Ranking) -> list[str]:
    return [each.item.item_id for each in ranking.items]


def prices(ranking: Ranking) -> list[float]:
    return [each.item.price for each in ranking.items if each.item.price is not None]


texts = st.sampled_from(
    [
        "red chair",
        "blue",
        "blue or red things",
        "zeppelin lamp",
        "i07",
        "i03 table",
        "table under $14",
        "over $12",
        "lmap",
    ]
)
filters = st.builds(
    Filters,
    category=st.sampled_from([(), ("home",), ("home / chair", "HOME / LAMP"), ("garden",)]),
    brand=st.sampled_from([(), ("acme",), ("GLOBEX", "nobody"), ("acme", "globex")]),
    min_price=st.sampled_from([None, 0.0, 11.0, 16.5]),
    max_price=st.sampled_from([None, 12.0, 20.0, 99.0]),
    in_stock=st.sampled_from([None, True]),
)


# Pages


@given(
    text=texts,
    filters=filters,
    sort=st.sampled_from(SORTS),
    collapse=st.booleans(),
    k=st.integers(1, 5),
    user=st.sampled_from([None, "u01"]),
)
@laws
def test_the_pages_of_a_search_are_one_list(
    reading: Recommender,
    *,
    text: str,
    filters: Filters,
    sort: str,
    collapse: bool,
    k: int,
    user: str | None,
) -> None:
    choices: Any = {"filters": filters, "sort": sort, "collapse": collapse, "user_id": user}
    whole = search(reading, text, k=30, **choices)
    pages = [search(reading, text, k=k, offset=offset, **choices) for offset in range(0, 30, k)]
    assert [item_id for page in pages for item_id in ids(page)] == ids(whole)
    assert len(set(ids(whole))) == len(whole.items) == whole.total
    assert {page.total for page in pages} == {whole.total}
    assert search(reading, text, k=30, **choices) == whole
    if collapse:
        groups = [each.item.group_id for each in whole.items]
        assert len(groups) == len(set(groups))


def test_each_sort_orders_what_was_found(shop: Recommender) -> None:
    cheapest, dearest = (search(shop, "red", k=20, sort=sort) for sort in ("price", "-price"))
    newest, selling = (search(shop, "red", k=20, sort=sort) for sort in ("newest", "popularity"))
    assert prices(cheapest) == sorted(prices(cheapest)) == prices(dearest)[::-1]
    added = [each.item.added for each in newest.items if each.item.added]
    assert added == sorted(added, reverse=True)
    assert ids(newest)[-1] == "i00", "it does not say"
    popularity = [
        shop.release.popularity_I[shop.release.item_ids.row(each)] for each in ids(selling)
    ]
    assert popularity == sorted(popularity, reverse=True)
    for each in (cheapest, newest, selling):
        assert sorted(ids(each)) == sorted(ids(search(shop, "red", k=20)))


def test_of_variants_the_best_stays_and_products_are_counted(shop: Recommender) -> None:
    apart = search(shop, "blue chair", k=20)
    together = search(shop, "blue chair", k=20, collapse=True)
    assert ids(apart)[:2] == ["i01", "i00"]
    assert ids(together)[0] == "i01"
    assert "i00" not in ids(together)
    assert together.total == len({each.item.group_id for each in apart.items})
    assert ids(search(shop, "blue chair", k=20, collapse=True, sort="price"))[0] == "i00"


# Facets


@given(texts, filters)
@laws
def test_a_facets_count_is_the_total_of_the_search_that_selects_its_value(
    shop: Recommender, text: str, filters: Filters
) -> None:
    """Unless price words are given up on one side and not on the other."""
    ranking = search(shop, text, k=1, filters=filters, facets=True)
    for name, facet in ranking.facets.items():
        for value in facet:
            selected = search(shop, text, k=1, filters=selecting(filters, name, value))
            if drops_price_bounds(selected) == drops_price_bounds(ranking):
                assert value.count == selected.total, (name, value)


def selecting(filters: Filters, name: str, value: FacetCount) -> Filters:
    if name != "price":
        return replace(filters, **{name: (value.value,)})  # type: ignore[arg-type]
    low, _, high = value.value.partition("-")
    return replace(filters, min_price=float(low), max_price=float(high) if high else None)


def drops_price_bounds(ranking: Ranking) -> bool:
    return any("at any price" in sentence for sentence in ranking.relaxed)


def test_facets_count_what_was_found_and_only_when_asked(shop: Recommender) -> None:
    ranking = search(shop, "chair", k=1, facets=True, filters=Filters(brand=("globex",)))
    assert {facet.value: facet.count for facet in ranking.facets["brand"]}["acme"] >= 2
    assert FacetCount("home / chair", 0) not in ranking.facets["category"]
    assert set(ranking.facets) == {"category", "brand", "price"}
    assert search(shop, "chair").facets == {}


def test_facets_follow_price_words(shop: Recommender) -> None:
    """Of 16 items from 10 to 25, half are acme's: 10 to 17."""
    ranking = search(shop, "under $19", k=1, facets=True)
    assert [(facet.value, facet.count) for facet in ranking.facets["brand"]] == [
        ("acme", 8),
        ("globex", 2),
    ]
    assert FacetCount("0-19", 10, True) in ranking.facets["price"]


# Price words


def test_price_words_filter_and_do_not_search(shop: Recommender) -> None:
    cheap = search(shop, "red or blue vase or chair under $20", k=20)
    assert cheap.items
    assert max(prices(cheap)) <= 20
    assert len(cheap.items) == cheap.total
    everything = search(shop, "red or blue vase or chair", k=20)
    assert set(ids(cheap)) == {
        each.item.item_id for each in everything.items if (each.item.price or 0) <= 20
    }
    assert cheap.understanding
    assert cheap.understanding.facts["max_price"] == 20


def test_price_words_that_nothing_passes_are_given_up_and_it_is_said(shop: Recommender) -> None:
    ranking = search(shop, "red chair under $5")
    assert ranking.relaxed == ("nothing found costs at most 5: shown at any price",)
    assert ids(ranking) == ids(search(shop, "red chair"))
    between = search(shop, "red chair between $1 and $2")
    assert between.relaxed == ("nothing found costs at least 1 and at most 2: shown at any price",)


def test_price_words_stay_where_giving_them_up_would_not_help(shop: Recommender) -> None:
    ranking = search(shop, "red chair under $5", filters=Filters(brand=("nobody",)), facets=True)
    assert (ranking.items, ranking.total, ranking.relaxed) == ((), 0, ())
    assert [facet.count for facet in ranking.facets["brand"]] == [0]


def test_the_requests_own_price_bounds_count_alone(shop: Recommender) -> None:
    ranking = search(shop, "vase under $20", k=20, filters=Filters(min_price=21.0))
    assert prices(ranking)
    assert min(prices(ranking)) >= 21
    assert not drops_price_bounds(ranking)
    assert ranking.total == search(shop, "vase", k=20, filters=Filters(min_price=21.0)).total


def test_a_price_alone_lists_what_sells_within_it(shop: Recommender) -> None:
    ranking = search(shop, "under $15.50", k=20)
    assert ranking.total == len(ranking.items) == 6
    popularity = [
        shop.release.popularity_I[shop.release.item_ids.row(each)] for each in ids(ranking)
    ]
    assert popularity == sorted(popularity, reverse=True)
    assert ranking.relaxed == ()
    assert prices(search(shop, "under $15.50", sort="-price", k=2)) == [15.0, 14.0]


# What is told


def test_a_code_comes_first_even_before_what_the_reader_likes(reading: Recommender) -> None:
    assert ids(search(reading, "I06"))[0] == "i06"
    assert ids(search(reading, "red lamp"))[0] == "i05"


def test_nothing_fits_gibberish(shop: Recommender) -> None:
    ranking = search(shop, "xqzvkj wwqplt", facets=True, filters=Filters(brand=("acme",)))
    assert (ranking.items, ranking.total, ranking.no_good_match) == ((), 0, True)
    assert [facet.count for facet in ranking.facets["brand"]] == [0]


def test_a_correction_is_told_and_finds_what_the_right_word_finds(shop: Recommender) -> None:
    ranking = search(shop, "Red MIROR", k=20)
    assert ranking.understanding
    assert ranking.understanding.corrections == (("miror", "mirror"),)
    assert (ranking.understanding.text, ranking.understanding.normalised) == (
        "Red MIROR",
        "red mirror",
    )
    assert ids(ranking) == ids(search(shop, "red mirror", k=20))
    assert ids(ranking)[0] == "i10"


def test_highlights_are_where_the_words_are(shop: Recommender) -> None:
    for each in search(shop, "chairs in rde", k=20).items:
        marked = [each.item.title[start:end] for start, end in each.highlights]
        assert marked == [word for word in each.item.title.split() if word in ("red", "chair")]
    assert [each.highlights for each in search(shop, "i07").items][:1] == [()]


def test_a_deadline_that_has_passed_is_told_and_the_order_is_the_rankers(
    reading: Recommender,
) -> None:
    late, unread = (search(reading, "red lamp", deadline=at) for at in (0.0, time.perf_counter()))
    read = search(reading, "red lamp")
    assert late == unread
    assert late.skipped == (f"cross_encoder: read 0 of the best {late.total}",)
    assert (ids(late)[0], ids(read)[0], read.skipped) == ("i04", "i05", ())


def test_an_impression_carries_what_each_item_was_ranked_with(reading: Recommender) -> None:
    query = Query(
        request_id="r7",
        k=3,
        user_id="u00",
        text="red lamp",
        filters=Filters(brand=("acme",)),
        offset=1,
    )
    ranking = reading.search(query, vector(reading, "red lamp"))
    impression = build_impression(ranking, "search", query)
    assert (impression.features.names, impression.query, impression.user_id) == (
        TABLE,
        "red lamp",
        "u00",
    )
    assert impression.item_ids == tuple(ids(ranking))
    row, user = (
        reading.release.item_ids.row(impression.item_ids[0]),
        reading.release.user_ids.row("u00"),
    )
    assert row is not None
    assert user is not None
    vectors_ID = reading.release.item_vectors_ID
    expected = [
        reading.release.lexical.scores("red lamp")[row],
        (vectors_ID[row] - vectors_ID.mean(axis=0)) @ vector(reading, "red lamp"),
        vectors_ID[row] @ reading.release.user_vectors_UD[user],
        0.9 if "blue" in ranking.items[0].item.title else 0.1,
    ]
    logged = impression.features.row(0)
    assert [logged[name] for name in FEATURES] == pytest.approx(expected, rel=1e-4)


def test_a_ranker_of_other_features_is_refused(shop: Recommender) -> None:
    with pytest.raises(
        InputError, match="the search ranker weighs buy_again, co_occurrence, discovery, popularity"
    ):
        Recommender.over(
            shop.release, shop.user_model, shop.recommend_ranker, shop.recommend_ranker
        )


@given(st.text(max_size=40), filters, st.sampled_from(SORTS), st.booleans())
@laws
def test_any_text_has_an_answer(
    reading: Recommender, text: str, filters: Filters, sort: str, collapse: bool
) -> None:
    ranking = search(reading, text, filters=filters, sort=sort, collapse=collapse, facets=True)
    assert ranking.total is not None
    assert ranking.total <= ITEMS
    assert not (ranking.no_good_match and ranking.items)
    assert all(each.item.title in map(title, range(ITEMS)) for each in ranking.items)
    assert ranking.understanding
    assert ranking.understanding.text == text
    for each in ranking.items:
        assert all(0 <= start < end <= len(each.item.title) for start, end in each.highlights)


@pytest.mark.parametrize("text", ["🔨👍🏽", "\x00\x07\u200b", "سماعات لاسلكية", "耳机"])
def test_what_the_shop_has_no_words_for_has_an_empty_answer(shop: Recommender, text: str) -> None:
    ranking = search(shop, text, facets=True)
    assert (ranking.items, ranking.total, ranking.no_good_match, ranking.relaxed) == (
        (),
        0,
        True,
        (),
    )


@pytest.mark.parametrize(
    "text", ["red chair " * 1000, "red chair'; DELETE FROM shop; --", "\x00red\x00 chair🔨"]
)
def test_words_among_rubbish_find_their_items(shop: Recommender, text: str) -> None:
    assert ids(search(shop, text))[0] == "i00"
