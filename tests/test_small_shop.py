"""Recommendations, similar items and searches over a release of four items by hand: what filters
leave, what is understood, which price bounds count, what a collapsed search counts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from recsys.arrays import Histories
from recsys.experiments.exploration import Exploration
from recsys.pipeline.recommender import Recommender
from recsys.types import FeatureTable, Filters, Floats, QueryUnderstanding
from recsys.understanding.query_parser import ParsedQuery
from tests.test_deadline import IN_TIME, RED, bought, dear, ids, make_query, shop

PRICES_I = np.array([10.0, 20, 30, 40])
NOWHERE = np.zeros(2, np.float32)


@pytest.fixture
def over(monkeypatch: pytest.MonkeyPatch) -> Recommender:
    """A shop that filters by price alone."""
    small = shop()
    monkeypatch.setattr(small.release, "filter_mask", allowed, raising=False)
    return small


def allowed(filters: Filters) -> Any:
    low = -np.inf if filters.min_price is None else filters.min_price
    high = np.inf if filters.max_price is None else filters.max_price
    if filters.in_stock is None and (low, high) == (-np.inf, np.inf):
        return None
    return (low <= PRICES_I) & (high >= PRICES_I)


# Recommendations


@pytest.mark.parametrize(
    ("filters", "k", "answer"),
    [
        (Filters(), 3, "012"),
        (Filters(min_price=15.0), 3, "123"),
        (Filters(min_price=25.0), 3, "23"),
        (Filters(min_price=25.0), 2, "23"),
        (Filters(min_price=99.0), 1, ""),
    ],
)
@pytest.mark.parametrize("user", ["u0", "stranger", None])
def test_a_recommendation_has_nothing_that_the_filters_exclude(
    over: Recommender, filters: Filters, k: int, answer: str, user: str | None
) -> None:
    ranking = over.recommend(make_query(IN_TIME, k=k, filters=filters, user_id=user))
    assert ids(ranking) == answer
    assert ranking.personalised == (user == "u0" and len(answer) == k)


def test_the_night_s_list_answers_while_it_has_k(over: Recommender) -> None:
    """Of the sources alone the list knows the user."""
    short = make_query(IN_TIME, k=5)
    assert (ids(over.recommend(short)), over.recommend(short).personalised) == ("0123", False)
    assert over.recommend(replace(short, k=4)).personalised


def test_filters_and_todays_purchases_both_hold(over: Recommender) -> None:
    query = make_query(IN_TIME, filters=Filters(max_price=30.0))
    assert ids(over.recommend(query, [bought("i1"), bought("i9")])) == "02"


def test_a_filtered_list_of_the_night_is_not_changed_for_the_next_request(
    over: Recommender,
) -> None:
    assert ids(over.recommend(make_query(IN_TIME, k=1, filters=Filters(min_price=35.0)))) == "3"
    assert ids(over.recommend(make_query(IN_TIME, k=1))) == "0"


# Similar items


def test_similar_items_are_the_night_s_without_pads_and_what_filters_exclude(
    over: Recommender, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, scores = np.full((4, 4), -1, np.int32), np.zeros((4, 4), np.float32)
    rows[2], scores[2] = [3, 0, 1, -1], [0.75, 0.5, 0.25, 0]
    monkeypatch.setattr(over.release, "similar_rows_IS", rows, raising=False)
    monkeypatch.setattr(over.release, "similar_scores_IS", scores, raising=False)
    whole = over.similar(make_query(IN_TIME, k=9), "i2")
    assert ids(whole) == "301"
    assert [each.score for each in whole.items] == [0.75, 0.5, 0.25]
    assert whole.items[0].sources == {"similar": 0.75}
    assert whole.features == FeatureTable(("similar",), scores[2, :3, None])
    cheap = over.similar(make_query(IN_TIME, k=1, filters=Filters(max_price=30.0)), "i2")
    assert (ids(cheap), cheap.features.values_NF.tolist()) == ("0", [[0.5]])
    nothing = over.similar(make_query(IN_TIME, k=9), "i0")
    assert (nothing.items, nothing.features) == ((), FeatureTable())


# Intents


class FakeClassifier:
    """Takes everything for lamps, and remembers what it was asked."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def classify(self, texts: Sequence[str]) -> list[tuple[str, float]]:
        self.texts += texts
        return [("lamp", 0.75)] * len(texts)


@pytest.mark.parametrize(
    ("language", "classified"),
    [("en", True), ("zh", True), ("mixed", True), ("none", False), ("other", False)],
)
def test_texts_in_a_language_of_the_shop_are_classified(language: str, classified: bool) -> None:
    parsed = ParsedQuery(
        QueryUnderstanding(text="A Lmap", normalised="lamp", language=language),
        np.array([2], np.int32),
    )
    parser: Any = SimpleNamespace(parse=lambda text: parsed)
    classifier = FakeClassifier()
    understood = replace(shop(intent=classifier), parser=parser).understand("A Lmap")
    assert classifier.texts == (["lamp"] if classified else [])
    assert understood.understanding.intent == ("lamp" if classified else None)
    assert understood.understanding.intent_probability == (0.75 if classified else 0.0)
    assert (understood.understanding.text, understood.code_rows.tolist()) == ("A Lmap", [2])
    assert replace(shop(), parser=parser).understand("A Lmap") is parsed


# Price words


@pytest.mark.parametrize(
    ("own", "facts", "answer", "relaxed"),
    [
        (Filters(), {"max_price": 20.0}, "01", ()),
        (Filters(), {"min_price": 20.0, "max_price": 30.0}, "12", ()),
        (
            Filters(min_price=30.0),
            {"max_price": 20.0},
            "23",
            ("at most 20 contradicts the request's own bounds: not used",),
        ),
        (Filters(max_price=30.0), {"max_price": 10.0}, "012", ()),
        (
            Filters(min_price=99.0),
            {"max_price": 20.0},
            "",
            ("at most 20 contradicts the request's own bounds: not used",),
        ),
        (
            Filters(),
            {"min_price": 50.0, "max_price": 60.0},
            "0123",
            ("nothing found costs at least 50 and at most 60: shown at any price",),
        ),
    ],
)
def test_price_words_filter_unless_the_request_has_bounds(
    over: Recommender,
    own: Filters,
    facts: dict[str, float],
    answer: str,
    relaxed: tuple[str, ...],
) -> None:
    parsed = replace(RED, understanding=replace(RED.understanding, facts=facts))
    ranking = over.search(make_query(IN_TIME, text="red", filters=own), NOWHERE, parsed)
    assert "".join(sorted(ids(ranking))) == answer
    assert (ranking.relaxed, ranking.total) == (relaxed, len(answer))


def test_a_price_alone_lists_best_sellers_unless_another_order_is_requested(
    over: Recommender, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(over.release, "prices_I", PRICES_I, raising=False)
    monkeypatch.setattr(over.release, "popularity_I", np.array([1.0, 4, 3, 2]))
    understanding = QueryUnderstanding(text="$30", normalised="", facts={"max_price": 30.0})
    parsed = ParsedQuery(understanding, np.empty(0, np.int32))
    best, cheap = (
        over.search(make_query(IN_TIME, text="$30", sort=sort), NOWHERE, parsed)
        for sort in ("relevance", "price")
    )
    assert (ids(best), ids(cheap), best.total) == ("120", "012", 3)
    page = over.search(make_query(IN_TIME, text="$30", offset=1, k=1), NOWHERE, parsed)
    assert (ids(page), page.total) == ("2", 3)


def test_words_keep_their_order_of_relevance(over: Recommender) -> None:
    """Best sellers first only where no words are left."""
    reranked = replace(over, reranker=dear())
    assert ids(reranked.search(make_query(IN_TIME, text="red"), NOWHERE, RED)) == "3210"


@pytest.mark.parametrize(("sort", "ranker"), [("relevance", "dear"), ("popularity", "first")])
def test_only_relevance_is_re_ranked(over: Recommender, sort: str, ranker: str) -> None:
    reranked = replace(over, reranker=dear())
    ranking = reranked.search(make_query(IN_TIME, text="red", sort=sort), NOWHERE, RED)
    assert (ranking.ranker, ranking.skipped) == (ranker, ())


# Collapsed searches


def test_a_collapsed_page_counts_groups_of_matches(
    over: Recommender, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(over.release, "groups_I", np.array([0, 0, 1, -1]), raising=False)
    rankings = [
        over.search(make_query(IN_TIME, text="red", k=k, collapse=True), NOWHERE, RED)
        for k in (4, 1)
    ]
    assert [ranking.total for ranking in rankings] == [3, 3]
    assert len({ids(rankings[0])[place] for place in range(3)}) == len(rankings[0].items) == 3
    assert not {"0", "1"} <= set(ids(rankings[0]))


def test_a_search_is_personal_by_the_user_s_vector(
    over: Recommender, monkeypatch: pytest.MonkeyPatch
) -> None:
    projections: Any = (np.zeros((2, 16)), np.eye(2, 16))
    vectors_UD: Floats = np.array([[0, 1]], np.float32)
    monkeypatch.setattr(over.release, "projections", projections)
    monkeypatch.setattr(over.release, "user_vectors_UD", vectors_UD)
    known, stranger, nobody = (
        over.search(make_query(IN_TIME, text="red", user_id=user), NOWHERE, RED)
        for user in ("u0", "u9", None)
    )
    assert [each.personalised for each in (known, stranger, nobody)] == [True, False, False]
    assert ids(known)[0] == "2", "the lamp, which is what they like"
    assert ids(stranger) == ids(nobody) == "0123"


@pytest.mark.parametrize(
    ("changes", "exact", "explored"),
    [
        ({}, False, True),
        ({}, True, False),
        ({"offset": 1}, False, False),
        ({"sort": "popularity"}, False, False),
        ({"sort": "popularity", "offset": 1}, True, False),
    ],
)
def test_only_the_first_page_of_words_by_relevance_is_explored(
    over: Recommender, changes: dict[str, Any], exact: bool, explored: bool
) -> None:
    """What a code names, an order that was requested and later pages are not left to chance."""
    reranker = replace(over.reranker, exploration=Exploration("swap", 1.0, depth=3))
    parsed = replace(RED, understanding=replace(RED.understanding, exact=exact))
    query = make_query(IN_TIME, text="red", **{"k": 3, **changes})
    items = replace(over, reranker=reranker).search(query, NOWHERE, parsed).items
    assert any(each.propensity < 1 for each in items) == explored


@pytest.mark.parametrize(("user", "read"), [("u0", [0]), ("u9", []), (None, [])])
def test_a_search_reads_the_history_of_a_known_user_alone(
    over: Recommender, monkeypatch: pytest.MonkeyPatch, user: str | None, read: list[int]
) -> None:
    rows: list[int] = []

    def history(row: int) -> Histories:
        rows.append(row)
        return Histories.empty()

    monkeypatch.setattr(over.release, "history", history)
    over.search(make_query(IN_TIME, text="red", user_id=user), NOWHERE, RED)
    assert rows == read


def test_what_a_code_names_is_not_re_ranked(over: Recommender) -> None:
    parsed = replace(RED, understanding=replace(RED.understanding, exact=True))
    ranking = replace(over, reranker=dear()).search(make_query(IN_TIME, text="i1"), NOWHERE, parsed)
    assert ranking.ranker == "first"
