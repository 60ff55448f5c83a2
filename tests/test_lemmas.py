"""Lemmas of a language's words, and what the night publishes of them."""

from __future__ import annotations

import pytest

from recsys.retrieval.text.bm25 import LexicalIndex
from recsys.retrieval.text.lemmas import CODES, _dictionaries, lemma_table, lemmas
from recsys.retrieval.text.stems import LATIN, SCRIPTS
from recsys.understanding.spelling import Speller

FORMS = [
    ("german", "häuser", "haus"),
    ("polish", "ręce", "ręka"),
    ("czech", "psů", "pes"),
    ("hungarian", "könyvek", "könyv"),
    ("turkish", "kitabı", "kitap"),
    ("russian", "детей", "ребенок"),
]


@pytest.mark.parametrize(("language", "form", "lemma"), FORMS)
def test_a_form_that_no_suffix_tells_has_its_lemma(language: str, form: str, lemma: str):
    assert lemma in lemmas(language, form)


@pytest.mark.parametrize(("language", "form", "lemma"), FORMS[:5])
def test_forms_find_each_other_either_way(language: str, form: str, lemma: str):
    for title, query in ((form, lemma), (lemma, form)):
        index = LexicalIndex.build({"title": [title, "xyz"]}, {}, [language])
        assert index.scores(query)[0] > 0
        assert index.scores(query)[1] == 0


def test_a_language_without_dictionary_has_no_lemmas():
    assert lemmas("basque", "etxeak") == ()


def test_dictionaries_are_of_languages_that_there_are():
    assert set(CODES) <= {*LATIN.values(), *SCRIPTS}


def test_the_table_has_what_differs_from_the_word():
    assert lemma_table({"polish": ["psa", "pies"]}) == {"polish": {"psa": ("pies",)}}


def test_the_day_reads_the_lemmas_of_the_night(tmp_path, monkeypatch):
    index = LexicalIndex.build({"title": ["psa", "kot"]}, {}, ["polish"])
    index.save(tmp_path)
    monkeypatch.setattr("recsys.retrieval.text.stems.lemma_table", None)
    assert LexicalIndex.load(tmp_path).scores("pies")[0] > 0


def test_a_ninth_dictionary_drops_none(monkeypatch):
    for language in sorted(CODES)[:9]:
        lemmas(language, "test")
    names = _dictionaries()._get_dictionary.cache_info()
    assert names.maxsize >= len(CODES)


@pytest.fixture
def speller() -> Speller:
    titles = ["Küchenmesser", "Haus aus Holz", "Häuschen", "Metzger", "Messing"] * 9
    index = LexicalIndex.build({"title": titles}, {}, ["german"])
    return Speller(index.terms, index.frequencies, index.rows_of_term, has_forms=index.has_forms)


@pytest.mark.parametrize("word", ["messer", "häuser", "hause", "holzes"])
def test_forms_and_parts_of_the_catalogues_words_are_no_typos(speller: Speller, word: str):
    assert speller.correct_text(word) == (word, ())


def test_a_typo_is_still_corrected(speller: Speller):
    assert speller.correct_text("küchenmeser")[0] == "kuchenmesser"


def test_hindi_words_are_corrected_whole_and_thai_ones_not_in_pieces():
    index = LexicalIndex.build({"title": ["शॉर्टकेक", "हैमबर्गर", "รองเท้า"]}, {}, [])
    speller = Speller(index.terms, index.frequencies, index.rows_of_term, has_forms=index.has_forms)
    assert speller.correct_text("हैमबर्गार")[0] == "हैमबर्गर"
    assert speller.correct_text("รองเทา")[1] == ()
