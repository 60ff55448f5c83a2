"""Phrases that a query puts in quotes: its words in a row."""

from __future__ import annotations

import re

from recsys.retrieval.text.scripts import fold, fold_marks, has_cjk

#: Not the inches of 5" x 7": quotes open before a word and close behind one.
_QUOTED = re.compile(r"(?<![^\s(])[\"“„«「](?=\w)([^\"“”„«»「」]+)(?<=\S)[\"”“»」](?!\w)")


def unquoted(text: str) -> tuple[str, tuple[str, ...]]:
    """The text without quotes, and what was in them."""
    phrases = tuple(" ".join(match.split()) for match in _QUOTED.findall(text))
    return _QUOTED.sub(r" \1 ", text) if phrases else text, phrases


def contains_phrase(text: str, phrase: str) -> bool:
    """Whether the words of a phrase stand in a row in the text; case, accents and punctuation do
    not count."""
    if has_cjk(phrase):
        return fold(phrase) in fold(text)
    return f" {_words(phrase)} " in f" {_words(text)} "


def _words(text: str) -> str:
    return " ".join(re.findall(r"\w+", fold_marks(fold(text))))
