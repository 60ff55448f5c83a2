"""Columns of labels: levels, case, spellings and counts."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from recsys.release.labels import Labels

#: Of items 0 to 6.
CATEGORIES = pa.chunked_array(
    [["Tea / Green", "TEA / green", "tea / Black", "Tea"], [None, "", "Tea / Green"]]
)


def test_a_category_lies_below_each_of_its_levels_in_any_case() -> None:
    labels = Labels.of(CATEGORIES, nested=True)

    def below(*values: str) -> list[int]:
        return np.flatnonzero(labels.below(values)[labels.codes_I]).tolist()

    assert below("tea") == [0, 1, 2, 3, 6]
    assert below("TEA / GREEN") == [0, 1, 6]
    assert below("tea / black") == [2]
    assert below("tea / black", "tea / green") == [0, 1, 2, 6]
    assert below("green") == below("cups") == below() == []
    assert labels.codes_I[0] == labels.codes_I[1] == labels.codes_I[6]


def test_items_are_counted_below_each_value_under_its_commonest_spelling() -> None:
    labels = Labels.of(CATEGORIES, nested=True)
    counts = dict(zip(labels.spellings_V, labels.counts(np.arange(7)).tolist(), strict=True))
    assert counts == {"Tea": 5, "Tea / Green": 3, "tea / Black": 1, "": 2}
    some = dict(zip(labels.spellings_V, labels.counts(np.array([2, 3])).tolist(), strict=True))
    assert some == {"Tea": 2, "Tea / Green": 0, "tea / Black": 1, "": 0}
    assert labels.counts(np.array([], int)).tolist() == [0, 0, 0, 0]
    assert [labels.value_index[value] for value in ("tea", "tea / green")] == [0, 1]


def test_an_item_of_several_categories_lies_below_all_and_counts_once() -> None:
    labels = Labels.of(pa.chunked_array([["Tea / Green\nTea / Cold\nCups", "Tea / Green"]]), True)
    for value, items in {
        "tea": [0, 1],
        "tea / cold": [0],
        "cups": [0],
        "tea / green": [0, 1],
    }.items():
        assert np.flatnonzero(labels.below([value])[labels.codes_I]).tolist() == items
    counts = dict(zip(labels.spellings_V, labels.counts(np.arange(2)).tolist(), strict=True))
    assert counts == {"Tea": 2, "Tea / Green": 2, "Tea / Cold": 1, "Cups": 1}
    assert labels.first_codes_I[0] == labels.first_codes_I[1] == labels.codes_I[1]
    assert labels.below(["tea"])[labels.first_codes_I].all()


def test_a_brand_has_no_levels_and_ties_are_spelled_alphabetically() -> None:
    labels = Labels.of(pa.chunked_array([["A / b", "a / B", "c"]]), nested=False)
    assert labels.spellings_V == ("A / b", "c")
    assert labels.below(["a"]).tolist() == [False, False]
    assert labels.below(["a / b"]).tolist() == [True, False]


def test_of_a_catalogue_without_items_nothing_lies_anywhere() -> None:
    labels = Labels.of(pa.chunked_array([[]], pa.string()), nested=True)
    assert labels.counts(np.array([], int)).tolist() == labels.below(["tea"]).tolist() == []
