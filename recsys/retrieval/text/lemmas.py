"""Lemmas: the dictionary form of a word, by simplemma's dictionaries and rules (Barbaresi, 2021).

A dictionary takes 5 to 50 MB of a process, and up to a second, when its language's first word
comes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

from recsys.retrieval.text.scripts import fold

#: simplemma's codes of the languages that `stems` names.
CODES = {
    "albanian": "sq", "arabic": "ar", "armenian": "hy", "catalan": "ca", "croatian": "hbs",
    "czech": "cs", "danish": "da", "dutch": "nl", "estonian": "et", "finnish": "fi",
    "french": "fr", "georgian": "ka", "german": "de", "greek": "el", "hebrew": "he",
    "hindi": "hi", "hungarian": "hu", "icelandic": "is", "indonesian": "id", "irish": "ga",
    "italian": "it", "latvian": "lv", "lithuanian": "lt", "norwegian": "nb", "polish": "pl",
    "portuguese": "pt", "romanian": "ro", "russian": "ru", "slovak": "sk", "slovene": "sl",
    "spanish": "es", "swedish": "sv", "turkish": "tr",
}  # fmt: skip

#: By language and word, where they differ from the word.
LemmaTable = Mapping[str, Mapping[str, tuple[str, ...]]]


def lemmas(language: str, word: str) -> tuple[str, ...]:
    """Of a word in lower case, folded; none where the language has no dictionary or the word is its
    own. German has two: nouns are in its dictionary with a capital."""
    if language not in CODES:
        return ()
    spellings = (word, word.capitalize()) if language == "german" else (word,)
    first = [_lemma(language, each) for each in spellings]
    # könyvek, könyve, könyv: of a Hungarian plural it names the possessive first
    every = dict.fromkeys([*first, *(_lemma(language, each) for each in first)])
    return tuple(lemma for lemma in every if lemma != word)


def is_known(language: str, word: str) -> bool:
    """Whether the language's dictionary has the word, not only a rule for its ending."""
    if language not in CODES:
        return False
    spellings = (word, word.capitalize()) if language == "german" else (word,)
    return any(_lookup().get_lemma(each, CODES[language]) is not None for each in spellings)


def _lemma(language: str, word: str) -> str:
    return fold(_lemmatizer().lemmatize(word, CODES[language]))


@lru_cache(maxsize=1)
def _dictionaries() -> Any:
    """simplemma's small ones, all of those that were needed once: by default it keeps eight, and a
    ninth language would load one for every word."""
    from simplemma.strategies.dictionaries import StreamDictionaryFactory

    return StreamDictionaryFactory(cache_max_size=len(CODES))


@lru_cache(maxsize=1)
def _lemmatizer() -> Any:
    from simplemma import Lemmatizer
    from simplemma.strategies import DefaultStrategy

    return Lemmatizer(lemmatization_strategy=DefaultStrategy(dictionary_factory=_dictionaries()))


@lru_cache(maxsize=1)
def _lookup() -> Any:
    from simplemma.strategies import DictionaryLookupStrategy

    return DictionaryLookupStrategy(_dictionaries())


def lemma_table(words: Mapping[str, Iterable[str]]) -> LemmaTable:
    """The lemmas of each language's words, sorted by word."""
    pairs = {
        language: {word: lemmas(language, word) for word in sorted(set(of_language))}
        for language, of_language in words.items()
    }
    return {
        language: {word: each for word, each in of_language.items() if each}
        for language, of_language in pairs.items()
    }
