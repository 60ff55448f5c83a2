"""The measures of what counts as found, on a shop where the right answers are known."""

from __future__ import annotations

import numpy as np
import pytest

from recsys.datasets.judged_catalogue import JudgedCatalogue
from recsys.datasets.judgments import JudgedPairs
from recsys.evaluation.boundary import (
    JudgedShop,
    UnrelatedItems,
    boundary_row,
    content_words,
    foreign_queries,
    head_noun,
    nearest_always,
)
from recsys.evaluation.search_systems import (
    NightshelfSystem,
    SearchCatalogue,
    query_parser,
    untrained_searcher,
)
from tests.test_evaluation_search import items
from tests.toy_searcher import ENCODER, TITLES, rows_with


@pytest.mark.parametrize(
    ("title", "noun"),
    [
        ("Defiant Door Lock in Brass", "lock"),
        ("Saw Blade (2-Pack)", "blade"),
        ("Adapter Kit for M12 Batteries", "kit"),
        ("4 in. x 8", ""),
    ],
)
def test_the_head_noun_is_what_the_title_names(title: str, noun: str) -> None:
    assert head_noun(title) == noun


def test_content_words_are_stems_without_function_words_and_numbers() -> None:
    assert content_words("the 3 lamps in a red box") == {"lamp", "red", "box"}


def pairs() -> JudgedPairs:
    """Of 0 and 1 a query has a lamp, of 2 a chair, of 3 both."""
    queries = ["red lamp", "chair", "lamp chair"]
    return JudgedPairs.from_unsorted(
        queries, np.array([0, 0, 1, 2]), np.array([0, 1, 2, 3]), np.array([1.0, 0.0, 1.0, 1.0])
    )


def test_unrelated_items_are_those_judged_for_other_words_alone() -> None:
    unrelated = UnrelatedItems([pairs()], np.arange(5))
    assert unrelated.rows("blue lamps").tolist() == [2]
    assert unrelated.rows("red").tolist() == [2, 3]
    assert unrelated.rows("vase").tolist() == [0, 1, 2, 3]
    moved = UnrelatedItems([pairs()], np.array([-1, -1, 0, 1, -1]))
    assert moved.rows("vase").tolist() == [0, 1]


def toy_shop() -> JudgedShop:
    rows = sorted(rows_with("lamp"))
    queries = ["red lamp", "chair"]
    judged = JudgedPairs.from_unsorted(
        queries,
        np.array([0, 0, 1]),
        np.array([TITLES.index("red lamp"), rows[0], TITLES.index("blue chair")]),
        np.array([1.0, 0.5, 1.0]),
    )
    split = dict.fromkeys(("train", "valid", "test"), judged)
    return JudgedShop.of(JudgedCatalogue("toy", items(TITLES), split, 0), "valid")


def toy_system(catalogue: SearchCatalogue) -> NightshelfSystem:
    vectors_ID = ENCODER.encode_items(catalogue.texts)
    searcher = untrained_searcher(catalogue, ENCODER, vectors_ID)
    return NightshelfSystem(query_parser(catalogue).parse, searcher, ENCODER)


def test_what_is_found_is_measured_against_the_nearest_always() -> None:
    shop = toy_shop()
    titles = shop.catalogue.items["title"].to_pylist()
    lamp = next(query for query in shop.queries if query.text == "red lamp")
    assert [titles[row] for row in lamp.relevant] == ["red lamp"]
    assert {titles[row] for row in np.flatnonzero(lamp.own_category_I)} == {
        title for title in TITLES if title.endswith("lamp")
    }
    assert [titles[row] for row in lamp.irrelevant] == ["blue chair"]
    row = boundary_row(toy_system(shop.catalogue), shop, {"made_up": ["xqzvkj wwqplt", "lamp"]})
    assert row["recall"].tolist() == [1.0, 1.0]
    assert row["cheapest"].tolist() == [1.0, 1.0]
    assert row["precision"].tolist() == [1.0, 1.0]
    assert row["precision/nearest_always"].max() == 0.5
    assert row["refused/real"].tolist() == [0.0, 0.0]
    assert row["refused/made_up"].tolist() == [1.0, 0.0]


def test_the_nearest_are_found_always() -> None:
    shop = toy_shop()
    assert nearest_always(toy_system(shop.catalogue), "xqzvkj").all()


def test_foreign_queries_have_no_text_that_a_title_has() -> None:
    queries = foreign_queries(["Frozen Pizza Oven", "Fresh Bananas"])
    assert len(queries["made_up"]) == len(set(queries["made_up"])) > 100
    for texts in queries.values():
        assert not {"pizza", "frozen pizza", "bananas"} & set(texts)
