"""The catalogue of many languages: which rows each kind of query must find."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

import pytest

from recsys.datasets import language_catalogue
from recsys.datasets.language_catalogue import LanguageQuery


class FakeForms:
    """German, as far as these tests go."""

    words = ("Messer", "Küche", "Wagen", "Kinder", "Stuhl")
    plurals: Mapping[str, Sequence[str]] = {"Stuhl": ("Stühle",), "Messer": ()}

    def has(self, word: str) -> bool:
        return word in self.words

    def is_used(self, word: str) -> bool:
        return False

    def is_function_word(self, word: str) -> bool:
        return word == "mit"

    def inflected(self, word: str) -> Sequence[str]:
        return self.plurals.get(word, ())


@pytest.fixture
def queries() -> dict[str, dict[str, LanguageQuery]]:
    names = ("Küchenmesser", "Stuhl mit Messer", "Kinderwagen", "Stuhl")
    things = {
        row: language_catalogue._Thing("de", name, ("Haus",)) for row, name in enumerate(names)
    }
    rows_of = {"wagen": {9}, "stuhl": {1, 3}}
    maker = language_catalogue._QueryMaker("de", things, rows_of, FakeForms(), random.Random(0))
    by_kind: dict[str, dict[str, LanguageQuery]] = {}
    for query in maker.queries():
        by_kind.setdefault(query.kind, {})[query.text] = query
    return by_kind


def test_exact_words_find_the_titles_that_have_them(queries):
    rows = {text: query.rows for text, query in queries["exact"].items()}
    assert rows == {"küchenmesser": (0,), "stuhl": (1, 3), "messer": (1,), "kinderwagen": (2,)}


def test_an_inflected_form_finds_the_titles_of_its_word(queries):
    [query] = queries["inflected"].values()
    assert (query.text, query.word, query.rows) == ("stühle", "Stuhl", (1, 3))


def test_words_with_accents_are_searched_without(queries):
    assert {t: q.rows for t, q in queries["without_accents"].items()} == {"kuchenmesser": (0,)}


def test_the_last_part_finds_compounds_and_the_word_itself_in_any_language(queries):
    rows = {text: query.rows for text, query in queries["compound_part"].items()}
    assert rows == {"messer": (0, 1), "wagen": (2, 9)}


def test_a_typo_is_one_edit_and_keeps_the_first_letter(queries):
    for query in queries["typo"].values():
        word = query.word.casefold()
        assert query.text != word
        assert query.text[0] == word[0]
        assert abs(len(query.text) - len(word)) <= 1


def test_a_word_is_in_one_split_by_itself_alone():
    query = _query("de exact stuhl Stuhl", 1)
    other = _query("de inflected stühle Stuhl", 1)
    assert query.split == other.split


def _query(description: str, *rows: int) -> LanguageQuery:
    language, kind, text, word = description.split()
    return LanguageQuery(language=language, kind=kind, text=text, word=word, rows=rows)
