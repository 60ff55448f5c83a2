"""Conflation by language: which terms of a vocabulary are forms of one word, by Snowball's stemmers
(Porter, Snowball: a language for stemming algorithms, 2001) and by `lemmas`, which know what no
suffix tells: Häuser, psa, knives of other languages.

The index keeps the words as they are written; a query's word finds its forms through the
vocabulary. So one catalogue may mix languages, and no query's language has to be guessed."""

from __future__ import annotations

import re
import threading
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any

from recsys.retrieval.text.analysis import s_stem
from recsys.retrieval.text.lemmas import LemmaTable, is_known, lemma_table, lemmas
from recsys.retrieval.text.scripts import fold_marks

#: Languages that are recognised by their script alone, by the range of its letters.
SCRIPTS = {
    "hindi": re.compile("[\u0904-\u0939]"),
    "tamil": re.compile("[\u0b85-\u0bb9]"),
    "russian": re.compile("[\u0430-\u044f]"),
    "greek": re.compile("[\u03b1-\u03c9]"),
    "armenian": re.compile("[\u0561-\u0586]"),
    "arabic": re.compile("[\u0621-\u064a]"),
    "hebrew": re.compile("[\u05d0-\u05ea]"),
    "georgian": re.compile("[\u10d0-\u10fa]"),
}
#: Languages of the Latin script, by ISO 639-1 code. English has rules of its own in `analysis`.
LATIN = {
    "ca": "catalan", "cs": "czech", "da": "danish", "de": "german", "es": "spanish",
    "et": "estonian", "eu": "basque", "fi": "finnish", "fr": "french", "ga": "irish",
    "hr": "croatian", "hu": "hungarian", "id": "indonesian", "is": "icelandic", "it": "italian",
    "lt": "lithuanian", "lv": "latvian", "nl": "dutch", "no": "norwegian", "pl": "polish",
    "pt": "portuguese", "ro": "romanian", "sk": "slovak", "sl": "slovene", "sq": "albanian",
    "sv": "swedish", "tr": "turkish",
}  # fmt: skip
#: Those that write compounds as one word whose last part says what it is.
COMPOUNDING = frozenset(
    ("danish", "dutch", "finnish", "german", "hungarian", "icelandic", "norwegian", "swedish")
)
_local = threading.local()


def stems(language: str, words: Sequence[str]) -> list[str]:
    """Of folded words, without accents; the words themselves where Snowball has no stemmer of the
    language. A stemmer of Snowball's is no other thread's."""
    stemmers: dict[str, Any] = _local.__dict__
    if language not in stemmers:
        import Stemmer

        has_stemmer = language in Stemmer.algorithms()
        stemmers[language] = Stemmer.Stemmer(language) if has_stemmer else None
    stemmer = stemmers[language]
    return [fold_marks(stem) for stem in (stemmer.stemWords(words) if stemmer else words)]


class StemClasses:
    """The classes of equal stem over sorted terms, for each of some Latin languages and for every
    language that its script tells. A term's id is its position.

    `spellings` are the words that have accents or marks, which the terms have not: stemmers need
    them (of French inflections they conflate .89 so, and .76 of the bare words). `lemmas` are those
    of the vocabulary, where the night has looked them up."""

    def __init__(
        self,
        terms: Sequence[str],
        languages: Iterable[str] = (),
        spellings: Iterable[str] = (),
        lemmas: LemmaTable | None = None,
    ) -> None:
        self._terms, self._spellings = terms, spellings
        self._languages, self._lemmas = tuple(languages), lemmas

    @cached_property
    def lemmas(self) -> LemmaTable:
        """Of every word of the vocabulary in each of its languages."""
        if self._lemmas is not None:
            return self._lemmas
        return lemma_table(
            {language: [word for word, _ in pairs] for language, pairs in self._words.items()}
        )

    @property
    def compounds(self) -> bool:
        """Whether a language of the catalogue writes compounds as one word."""
        return not COMPOUNDING.isdisjoint(self._languages)

    def forms(self, word: str) -> list[int]:
        """Ids of the terms that share a stem with a word, ascending; of the word itself too.

        The word is folded, its accents and marks as they were typed; without any it may be each of
        the words that differ from it in accents alone."""
        words = {word, fold_marks(word), *self._spelled.get(s_stem(fold_marks(word)), ())}
        ids: set[int] = set()
        for spelling in words:
            for language in self._languages_of(spelling):
                for key in _keys(language, spelling, lemmas(language, spelling)):
                    ids.update(self._classes[language].get(key, ()))
        return sorted(ids)

    def has_forms(self, word: str) -> bool:
        """Whether a folded word is in the dictionary of one of its languages and some term is a
        form of it: a mistyped word may have a stem, too."""
        languages = self._languages_of(word)
        return any(is_known(each, word) for each in languages) and bool(self.forms(word))

    def _languages_of(self, word: str) -> tuple[str, ...]:
        if len(word) < 3 or not word[0].isalpha():
            return ()
        if word[0] < "\u0250":
            return self._languages
        return tuple(language for language, letters in SCRIPTS.items() if letters.match(word))

    @cached_property
    def _spelled(self) -> Mapping[str, list[str]]:
        """The spellings of each term that has some."""
        spelled: dict[str, list[str]] = defaultdict(list)
        for spelling in self._spellings:
            spelled[s_stem(fold_marks(spelling))].append(spelling)
        return spelled

    @cached_property
    def _words(self) -> Mapping[str, list[tuple[str, int]]]:
        """Of each language the words that may be its own, with the ids of their terms."""
        words: dict[str, list[tuple[str, int]]] = defaultdict(list)
        for term_id, term in enumerate(self._terms):
            for word in (term, *self._spelled.get(term, ())):
                for language in self._languages_of(word):
                    words[language].append((word, term_id))
        return words

    @cached_property
    def _classes(self) -> Mapping[str, Mapping[str, list[int]]]:
        """Of each language the ids of the terms with a key."""
        classes = {name: defaultdict[str, list[int]](list) for name in (*self._languages, *SCRIPTS)}
        for language, pairs in self._words.items():
            table = self.lemmas.get(language, {})
            for word, term_id in pairs:
                for key in _keys(language, word, table.get(word, ())):
                    classes[language][key].append(term_id)
        return classes


def _keys(language: str, word: str, word_lemmas: Iterable[str]) -> set[str]:
    """What makes forms of one word: the word or its lemma, stemmed or not, its accents folded last.
    Of Hunspell's Hungarian pairs .93 share one, .67 a stem; of the Polish .98 and .79."""
    words = [word, *word_lemmas]
    return {*map(fold_marks, words), *stems(language, words)}
