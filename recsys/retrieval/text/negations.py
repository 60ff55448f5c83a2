"""Negations in texts, without sugar, sugar-free, zuckerfrei, as one index term beside the words:
"-sugar". A query's negation finds what says the same, and an item with the word that does not say
so is not what was meant."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

from recsys.retrieval.text.quantities import NormalForm
from recsys.retrieval.text.scripts import CJK, fold_marks, segment

_WITHOUT = "without|w/o|ohne|sans|senza|sin|sem|bez|utan|uden|uten|zonder|без"
#: These stand in names, too: No Nonsense, no drip.
_NO = "no|not|nicht|kein(?:e[nmrs]?)?|geen|niet|pas|inte|ikke"
_FILLER = (
    r"(?:(?:any|added|an?|the|ein(?:e[nmrs]?)?|zugesetzten|de|une?|una?|el|la|le|les|los|las|il)\s"
    r"|d['’])*"
)
_WORD = rf"[^\W\d_{CJK}]{{2,}}"
_AND = r"(?:\s?,\s?|\s(?:and|or|nor|und|oder|et|ou|ni|y|e|och)\s)"
_NEGATION = re.compile(
    rf"(?<![^\W_])(?:(?P<without>{_WITHOUT})|(?P<no>{_NO}))\s{_FILLER}(?P<word>{_WORD})"
    rf"|(?<=[^\W\d_]{{3}})(?P<free>[- ]free|[- ]?freie?[nrs]?|[- ]?fri[at]?|[- ]?vrije?)(?![^\W_])"
    rf"|(?P<han>不含|不带|不要|没有|无)(?P<run>[{CJK}]+)"
)
_MORE = re.compile(rf"{_AND}({_WORD})")
_LAST_TWO = re.compile(rf"\s({_WORD})\s*$")
_BEFORE = re.compile(rf"{_WORD}$")
#: A text without all of these has no negation: ten times faster to see than by the pattern.
_NEGATORS = frozenset(
    (
        *_WITHOUT.split("|"), "no", "not", "nicht", "kein", "keine", "keinen", "keinem", "keiner",
        "keines", "geen", "niet", "pas", "inte", "ikke",
    )
)  # fmt: skip
_INSIDE = ("free", "frei", "fri", "vrij")
_HAN = ("不", "没", "无")
#: What negates nothing after "not" or "no".
_NOTHING = frozenset(
    (
        "for", "to", "only", "just", "more", "less", "over", "under", "longer", "in", "on", "of",
        "with", "included", "available", "too", "so", "nur", "mehr", "de", "que", "is", "than",
    )
)  # fmt: skip


class Negation(NamedTuple):
    """What a text says it is without, where the negation stands in it, whether its words are seldom
    anything else, and whether they may be: "bath free standing" does not exclude baths."""

    word: str
    start: int
    end: int
    is_certain: bool = True
    may_exclude: bool = True

    @property
    def term(self) -> str:
        return negated(self.word.split()[0])


@lru_cache(100_000)
def negated(word: str) -> str:
    """The index term of items that are without the word."""
    from recsys.retrieval.text.analysis import s_stem

    return f"-{s_stem(fold_marks(word))}"


def find_negations(folded: str) -> list[NormalForm]:
    """The negations of a folded text, as index terms."""
    return [NormalForm(each.term, each.start, each.end) for each in parse_negations(folded)]


def parse_negations(folded: str) -> Iterator[Negation]:
    """The negations of a folded text in order."""
    may_have = (
        not _NEGATORS.isdisjoint(folded.split())
        or any(part in folded for part in _INSIDE)
        or (not folded.isascii() and any(part in folded for part in _HAN))
    )
    for match in _NEGATION.finditer(folded) if may_have else ():
        if match["free"]:
            before = _BEFORE.search(folded, 0, match.start())
            if before and len(before[0]) > 2:
                excludes = not match["free"].startswith(" ")
                yield Negation(before[0], before.start(), match.end(), False, excludes)
        elif match["run"]:
            word = segment(match["run"])[0]
            end = match.start("run") + len(word)
            yield Negation(word, match.start(), end, is_certain=match["han"] != "无")
        elif match["word"] not in _NOTHING:
            yield from _words(folded, match)


def _words(folded: str, match: re.Match[str]) -> Iterator[Negation]:
    """The word after "without", others that "and" joins to it, or the two words that end the
    text."""
    certain = bool(match["without"])
    end = match.end()
    if certain and (last := _LAST_TWO.match(folded, end)):
        yield Negation(f"{match['word']} {last[1]}", match.start(), last.end(1))
        return
    yield Negation(match["word"], match.start(), end, certain)
    while certain and (more := _MORE.match(folded, end)):
        yield Negation(more[1], end, more.end())
        end = more.end()
