"""Query normalisation: typed text as text that is safe to search; and its language by script."""

from __future__ import annotations

import re
import unicodedata

from recsys.retrieval.text.scripts import starts_with_han

#: A query is truncated to so many characters, at the end of a word: whatever is pasted into a
#: search box costs no more than this.
MAX_CHARACTERS = 256
#: Truncated to so many before folding, too; NFKC makes up to 18 characters of one.
_MAX_RAW_CHARACTERS = 4 * MAX_CHARACTERS

_MIXED_FRACTION = re.compile(r"(?<=\d)(?=[¼-¾⅐-⅞])")
_INVISIBLE = re.compile("[\ufe00-\ufe0f\u20e3\U0001f3fb-\U0001f3ff\U000e0100-\U000e01ef]")
_TEXT_SYMBOLS = "°"


def normalise(text: str) -> str:
    """NFKC, with fractions as 1/2, without control and format characters, emoji and other pictures,
    on one line.

    At most MAX_CHARACTERS long. Case is kept. normal(normal(text)) == normal(text).
    """
    for _ in range(4):  # removing a character can bring two together that NFKC composes
        cleaned = _truncated(_clean(text[:_MAX_RAW_CHARACTERS]))
        if cleaned == text:
            break
        text = cleaned
    return text


def _clean(text: str) -> str:
    folded = unicodedata.normalize("NFKC", _MIXED_FRACTION.sub(" ", text)).replace("\u2044", "/")
    return " ".join("".join(map(_visible, _INVISIBLE.sub("", folded))).split())


def _visible(character: str) -> str:
    """The character; nothing for one that joins or formats its neighbours; a space for one that is
    no text."""
    category = unicodedata.category(character)
    if category == "Cf":
        return ""
    if category[0] == "C" or (category == "So" and character not in _TEXT_SYMBOLS):
        return " "
    return character


def _truncated(text: str) -> str:
    if len(text) <= MAX_CHARACTERS:
        return text
    head, _, _ = text[: MAX_CHARACTERS + 1].rpartition(" ")
    return head or text[:MAX_CHARACTERS]


def language_by_script(text: str) -> str:
    """By the script of its letters: en (Latin), zh (Han), mixed (both), other (neither), none
    (nothing to search).

    A text of numbers alone is en. Letters of other scripts beside Latin or Han ones do not count.
    """
    letters = [character for character in text if character.isalpha()]
    han = any(map(starts_with_han, letters))
    latin = any(unicodedata.name(letter, "").startswith("LATIN") for letter in letters)
    if han and latin:
        return "mixed"
    if han or latin:
        return "zh" if han else "en"
    if letters:
        return "other"
    return "en" if any(character.isdigit() for character in text) else "none"
