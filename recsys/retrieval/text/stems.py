"""Conflation by language: which terms of a vocabulary are forms of one word, by Snowball's stemmers
(Porter, Snowball: a language for stemming algorithms, 2001).

The index keeps the words as they are written; a query's word finds its forms through the
vocabulary. So one catalogue may mix languages, and no query's language has to be guessed."""

from __future__ import annotations

import re
import threading
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property, lru_cache
from typing import Any

from recsys.retrieval.text.analysis import s_stem
from recsys.retrieval.text.scripts import fold_marks

#: Languages that are recognised by their script alone, by the range of its letters.
SCRIPTS = {
    "hindi": re.compile("[\u0904-\u0939]"),
    "tamil": re.compile("[\u0b85-\u0bb9]"),
    "russian": re.compile("[\u0430-\u044f]"),
    "greek": re.compile("[\u03b1-\u03c9]"),
    "armenian": re.compile("[\u0561-\u0586]"),
    "arabic": re.compile("[\u0621-\u064a]"),
}
#: Languages of the Latin script, by ISO 639-1 code. English has rules of its own in `analysis`.
LATIN = {
    "ca": "catalan", "cs": "czech", "da": "danish", "de": "german", "es": "spanish",
    "et": "estonian", "eu": "basque", "fi": "finnish", "fr": "french", "ga": "irish",
    "hu": "hungarian", "id": "indonesian", "it": "italian", "lt": "lithuanian", "nl": "dutch",
    "no": "norwegian", "pl": "polish", "pt": "portuguese", "ro": "romanian", "sv": "swedish",
    "tr": "turkish",
}  # fmt: skip
#: Those that write compounds as one word whose last part says what it is.
COMPOUNDING = frozenset(
    ("danish", "dutch", "finnish", "german", "hungarian", "norwegian", "swedish")
)
#: A Latin language is one of the catalogue's where this share of the sampled texts is in it.
MIN_SHARE = 0.04
#: A text whose language is less certain does not count: a short title may be any of several.
MIN_PROBABILITY = 0.95
_SAMPLE = 2_000
_local = threading.local()


def detect_languages(texts: Sequence[str]) -> tuple[str, ...]:
    """The Latin languages (names of LATIN) that a catalogue is written in, most frequent first: by
    character n-grams of at most 2,000 texts (Lui & Baldwin, langid.py, ACL 2012)."""
    sample = [text for text in texts[:: len(texts) // _SAMPLE or 1] if text.strip()]
    guesses = map(_identifier().classify, sample) if sample else ()
    counts = Counter(code for code, probability in guesses if probability >= MIN_PROBABILITY)
    return tuple(
        LATIN[code]
        for code, count in counts.most_common()
        if code in LATIN and count >= MIN_SHARE * len(sample)
    )


@lru_cache(maxsize=1)
def _identifier() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    identifier = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    identifier.set_languages([*LATIN, "en", "zh", "ja", "ko", "th", "ru", "ar", "hi", "el", "he"])
    return identifier


def stems(language: str, words: Sequence[str]) -> list[str]:
    """Of folded words, without accents; a stemmer of Snowball's is no other thread's."""
    stemmers: dict[str, Any] = _local.__dict__
    if language not in stemmers:
        import Stemmer

        stemmers[language] = Stemmer.Stemmer(language)
    return [fold_marks(stem) for stem in stemmers[language].stemWords(words)]


class StemClasses:
    """The classes of equal stem over sorted terms, for each of some Latin languages and for every
    language that its script tells. A term's id is its position.

    `spellings` are the words that have accents or marks, which the terms have not: stemmers need
    them (of French inflections they conflate .89 so, and .76 of the bare words)."""

    def __init__(
        self, terms: Sequence[str], languages: Iterable[str] = (), spellings: Iterable[str] = ()
    ) -> None:
        self._terms, self._spellings = terms, spellings
        self._languages = tuple(languages)

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
                [stem] = stems(language, [spelling])
                ids.update(self._classes[language].get(stem, ()))
        return sorted(ids)

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
    def _classes(self) -> Mapping[str, Mapping[str, list[int]]]:
        """Of each language the ids of the terms with a stem; its accents are folded last."""
        classes = {name: defaultdict[str, list[int]](list) for name in (*self._languages, *SCRIPTS)}
        words: dict[str, list[tuple[str, int]]] = defaultdict(list)
        for term_id, term in enumerate(self._terms):
            for word in (term, *self._spelled.get(term, ())):
                for language in self._languages_of(word):
                    words[language].append((word, term_id))
        for language, pairs in words.items():
            for stem, (_, term_id) in zip(
                stems(language, [w for w, _ in pairs]), pairs, strict=True
            ):
                classes[language][stem].append(term_id)
        return classes
