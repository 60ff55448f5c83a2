"""The measure of words in many languages."""

from __future__ import annotations

import numpy as np

from recsys.datasets.language_catalogue import LanguageQuery
from recsys.evaluation.languages import MIN_QUERIES, ExactTokens, criterion, recalls


def test_the_baseline_knows_no_other_form_of_a_word():
    system = ExactTokens(["Rote Stühle", "Stuhl", "Tisch"])
    assert system.rank("STUHL").tolist() == [1]
    assert system.rank("stühle rote").tolist() == [0]
    assert system.rank("stuehle").tolist() == []


def test_recall_is_by_kind_and_language_of_enough_queries():
    system = ExactTokens(["stol", "stol", "bord"])
    many = [_query("sv exact stol stol", 0, 2)] * MIN_QUERIES
    few = [_query("pl exact stol stol", 0)]
    values = recalls(system, [*many, *few])
    assert list(values) == ["exact"]
    assert list(values["exact"]) == ["sv"]
    assert values["exact"]["sv"].tolist() == [0.5] * MIN_QUERIES


def test_the_worst_language_must_reach_the_floor():
    row = criterion("exact", {"sv": np.ones(9), "pl": np.array([1.0, 0.9])}).as_row()
    assert row["name"] == "recall@10/exact, worst of 2 languages: pl"
    assert (row["value"], row["floor"], row["reached_floor"]) == (0.95, 0.97, False)


def _query(description: str, *rows: int) -> LanguageQuery:
    language, kind, text, word = description.split()
    return LanguageQuery(language=language, kind=kind, text=text, word=word, rows=rows)
