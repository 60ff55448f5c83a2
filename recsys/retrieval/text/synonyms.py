"""Synonyms of a shop, from a file of groups."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path

from recsys.errors import InputError, NotFoundError
from recsys.retrieval.text.analysis import Token, tokenize

Phrase = tuple[Token, ...]


class Synonyms:
    """Phrases and their synonyms, as `tokenize` gives them."""

    def __init__(self, phrases: Mapping[str, Sequence[Phrase]]) -> None:
        self._phrases = phrases
        self._longest = max(
            map(len, phrases), default=0
        )  # no phrase has more tokens than characters

    def __len__(self) -> int:
        """How many phrases have a synonym."""
        return len(self._phrases)

    @classmethod
    def read(cls, path: str | Path) -> Synonyms:
        """One group a line: `sofa, couch, settee` for words of one meaning, `i-pod, mp3 => ipod`
        for one way only.

        A phrase may have several words, in Chinese too; `#` begins a comment. Raises NotFoundError
        for a file that is not there and InputError, with the line's number, for a line that is no
        group."""
        path = Path(path)
        if not path.is_file():
            raise NotFoundError(
                f"there is no file of synonyms at {path}: write one, a group a line: sofa, couch"
            )
        try:
            text = path.read_text(encoding="utf-8-sig")
        except UnicodeDecodeError as error:
            raise InputError(
                f"{path} is not UTF-8 at byte {error.start}: save it as UTF-8"
            ) from error
        return cls.parse(text.splitlines(), str(path))

    @classmethod
    def parse(cls, lines: Iterable[str], name: str = "synonyms") -> Synonyms:
        """`read` of lines in memory; errors call them `name`."""
        phrases: dict[str, dict[str, Phrase]] = {}
        for number, line in enumerate(lines, 1):
            group = line.split("#", 1)[0].strip()
            if group:
                for key, others in _pairs(group, f"line {number} of {name}"):
                    phrases.setdefault(key, {}).update(others)
        return cls({key: tuple(others.values()) for key, others in phrases.items()})

    def matches(self, tokens: Sequence[Token]) -> Iterator[tuple[int, int, Phrase]]:
        """(start, stop, synonym) for every phrase among these words, the longest where several
        begin at one word."""
        start = 0
        while start < len(tokens):
            stops = range(min(len(tokens), start + self._longest), start, -1)
            stop = next(
                (stop for stop in stops if _key(tokens[start:stop]) in self._phrases), start
            )
            for phrase in self._phrases[_key(tokens[start:stop])] if stop > start else ():
                yield start, stop, phrase
            start = max(stop, start + 1)


def _pairs(group: str, location: str) -> Iterator[tuple[str, dict[str, Phrase]]]:
    """Each phrase of the group, as its key, with its synonyms."""
    sides = [_phrases(side, location) for side in group.split("=>")]
    if len(sides) > 2:
        raise InputError(f"{location} has two arrows: write one group, or `from => to`, a line")
    if len(sides) == 1 and len(sides[0]) < 2:
        raise InputError(
            f"{location} is {group!r}, one phrase: name at least one other, "
            "with a comma between them"
        )
    for key in sides[0]:
        yield key, {other: phrase for other, phrase in sides[-1].items() if other != key}


def _phrases(side: str, location: str) -> dict[str, Phrase]:
    phrases = {}
    for text in side.replace("，", ",").replace("、", ",").split(","):
        phrase = tuple(tokenize(text))
        if not phrase:
            raise InputError(
                f"{location} has the phrase {text.strip()!r}, which has no word: "
                "take it or its comma out"
            )
        phrases[_key(phrase)] = phrase
    return phrases


def _key(tokens: Sequence[Token]) -> str:
    """The words with a space between them, none between Chinese ones: how a phrase is segmented
    depends on its neighbours."""
    if not tokens:
        return ""
    parts = [tokens[0].stem]
    for before, token in pairwise(tokens):
        parts += [token.stem] if before.is_cjk and token.is_cjk else [" ", token.stem]
    return "".join(parts)
