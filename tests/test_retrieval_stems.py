"""Forms of one word through the vocabulary, by language; compounds by their last part."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from recsys.retrieval.text.bm25 import LexicalIndex
from recsys.retrieval.text.language_detection import detect_languages
from recsys.retrieval.text.stems import StemClasses

FILLERS = [f"Blue steel mirror {number}" for number in range(40)]


def index_of(*titles: str, languages: tuple[str, ...] = ()) -> LexicalIndex:
    """Each of the titles ends with an x, as queries here do: a last word may be unfinished."""
    return LexicalIndex.build(
        {"title": [*(f"{title} x" for title in titles), *FILLERS]}, {}, languages
    )


def matches(index: LexicalIndex, query: str) -> list[int]:
    """The items that cover the whole query."""
    return np.flatnonzero(index.coverage(f"{query} x") > 0.99).tolist()


@pytest.mark.parametrize(
    ("language", "title", "query"),
    [
        ("french", "journaux généraux", "journal général"),
        ("french", "journaux généraux", "journal general"),
        ("spanish", "sillas plegables azules", "silla azul"),
        ("german", "Stühle aus Buchenholz", "Stuhl"),
        ("polish", "stół drewniany", "stoły drewniane"),
        ("swedish", "röda stolar", "röd stol"),
    ],
)
def test_other_forms_of_a_word_are_found_in_the_languages_of_the_catalogue(
    language: str, title: str, query: str
) -> None:
    assert matches(index_of(title, languages=(language,)), query) == [0]
    assert matches(index_of(title), query) == []


@pytest.mark.parametrize(
    ("title", "query"),
    [("जूते काले", "जूता"), ("красные столы", "красный стол"), ("τραπέζια ξύλινα", "τραπεζι")],
)
def test_a_script_tells_its_language(title: str, query: str) -> None:
    assert matches(index_of(title), query) == [0]


def test_the_word_itself_scores_more_than_another_form() -> None:
    scores_I = index_of("azul", "azules", languages=("spanish",)).scores("azul")
    assert scores_I[0] > scores_I[1] > 0


def test_a_compound_is_found_by_its_last_part() -> None:
    index = index_of("Kinderwagen", "Lederjacke", "Wagenheber", languages=("german",))
    assert matches(index, "wagen") == [0]
    assert matches(index, "jacke") == [1]
    assert matches(index, "leder jacke") == [1]


def test_without_compounding_languages_a_longer_word_covers_half_where_the_word_is_there() -> None:
    titles = ("board", "keyboard")
    english, german = index_of(*titles), index_of(*titles, languages=("german",))
    assert matches(english, "board") == [0]
    assert matches(german, "board") == [0, 1]
    assert english.scores("board")[1] < german.scores("board")[1]


def test_an_index_keeps_its_languages_and_spellings(tmp_path: Path) -> None:
    index = index_of("journaux généraux", languages=("french",))
    index.save(tmp_path)
    assert matches(LexicalIndex.load(tmp_path), "general") == [0]
    assert LexicalIndex.load(tmp_path).languages == ("french",)


def test_languages_are_those_of_enough_certain_texts() -> None:
    german = ["Kinderwagen blau mit Verdeck und Tasche", "Lederjacke für Herren und Damen"] * 5
    french = ["Chaise longue pliante pour le jardin et la terrasse"] * 5
    assert detect_languages([*german, *french]) == ("german", "french")
    assert detect_languages(["Large folding chair for the garden and the terrace"] * 9) == ()
    assert detect_languages([]) == ()


def test_a_word_of_another_script_or_too_short_has_no_forms() -> None:
    classes = StemClasses(["ab", "x1", "手机"], ("german",))
    assert [classes.forms(word) for word in ("ab", "x1", "手机", "")] == [[], [], [], []]


def test_short_titles_of_many_languages_tell_together():
    titles = ["Stuhl mit Lehne", "Messer aus Stahl", "nóż kuchenny", "krzesło drewniane"]
    assert set(detect_languages(titles * 20)) == {"german", "polish"}
