"""Typed words to words that the catalogue has: by edits, by how often a word occurs, and by the
words beside it.

The score of a correction is that of a noisy channel (Kernighan, Church & Gale, A spelling
correction program based on a noisy channel model, COLING 1990), the constants chosen on the
validation queries of Home Depot. There, one typing error a query costs 44 % of BM25's recall@10;
corrected, 6 % remain, and the queries as typed gain 4 %."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Callable, Collection, Iterable, Sequence
from math import log

import numpy as np
from numpy.typing import NDArray

from recsys.retrieval.text.analysis import index_terms
from recsys.retrieval.text.scripts import CJK
from recsys.types import Ints

#: Words and terms of other lengths are left alone.
SHORTEST, LONGEST = 3, 32
#: Words of this length may be two edits away, shorter ones one.
TWO_EDITS_FROM = 7
EDIT_COST = 4.0
FIRST_LETTER_COST = 1.0
FREQUENCY_WEIGHT = 0.5
CONTEXT_WEIGHT = 2.0
#: Terms in fewer items are not what words are split into or joined to.
WHOLE_FROM = 5
#: A joined word must be in this many times the items that have both of its parts.
JOIN_RATIO = 10
#: A word that the catalogue has is doubted only in at most RARE items, none of them with the words
#: beside it. It gives way to one COMMONER times as frequent, of which the words beside it have at
#: least EXPECTED in their items.
RARE, COMMONER, EXPECTED = 20, 10, 0.02
#: Rows compared to see how often two terms meet.
COMPARED = 4096
_PASSES = 3

_LETTER = rf"[^\W\d_{CJK}]"
_BEFORE, _AFTER = (
    rf"(?<![^\W_{CJK}])",
    rf"(?![^\W_{CJK}]|[-./#_]\d)",
)  # sc-141 is a code, dril-bit is not
_WORD = re.compile(rf"{_BEFORE}{_LETTER}+{_AFTER}")
_PAIR = re.compile(rf"{_BEFORE}({_LETTER}{{2,}}) (?=({_LETTER}{{2,}}){_AFTER})")


class Speller:
    """Corrects to `terms`, sorted and as `lexical.words` makes them, each in `frequencies` items.

    `rows_of` gives the items of the term at a place, ascending. With it a correction must have met
    the words beside it in some item, and the best acquainted wins; without it frequency alone
    decides. `known` are words that are no typos whatever the catalogue has, such as the whole words
    of an encoder's vocabulary: a shop without sofas should not turn them into soda."""

    def __init__(
        self,
        terms: Sequence[str],
        frequencies: Ints,
        rows_of: Callable[[int], Ints] | None = None,
        known: Collection[str] = frozenset(),
    ) -> None:
        self._terms, self._frequencies, self._rows_of, self._known = (
            terms,
            frequencies,
            rows_of,
            known,
        )
        lengths = {
            at: len(term)
            for at, term in enumerate(terms)
            if SHORTEST <= len(term) <= LONGEST and _WORD.fullmatch(term)
        }
        self._targets = np.array(sorted(lengths, key=lengths.__getitem__), dtype=np.int32)
        self._masks = np.array([_mask(terms[at]) for at in self._targets], dtype=np.uint64)
        sorted_lengths = [lengths[at] for at in self._targets.tolist()]
        self._starts = np.searchsorted(sorted_lengths, np.arange(LONGEST + 4)).tolist()

    def corrected(
        self, text: str, keep: Collection[str] = ()
    ) -> tuple[str, tuple[tuple[str, str], ...]]:
        """The text with its words corrected, split and joined, and the pairs (typed, taken for).

        Words next to a digit or before a dash and one, Chinese, Japanese and Korean ones, and those
        in `keep` stay. A corrected word is context for the others, so this looks again until
        nothing changes, three times at most."""
        corrections: dict[str, str] = {}
        for _ in range(_PASSES):
            text, joins = self._joined(text, keep)
            fixes = self._fixes(text, keep)
            text = _substituted(text, fixes)
            if not joins and not fixes:
                break
            corrections |= joins | fixes
        return text, tuple(corrections.items())

    def correct(self, word: str, beside: Iterable[str] = ()) -> str | None:
        """The catalogue's term that `word` was meant to be, two of them for one that lost its
        space, None to keep it.

        `beside` are the terms of the other words.
        """
        term = _term(word)
        if term is None or word in self._known or term in self._known:
            return None
        known = self._find(term)
        context = (
            []
            if self._rows_of is None
            else [at for at in map(self._find, set(beside)) if at is not None]
        )
        if known is not None:
            return self._instead(known, [at for at in context if at != known])
        return self._nearest({term, word}, context) or self._split(word)

    def _fixes(self, text: str, keep: Collection[str]) -> dict[str, str]:
        terms, fixes = set(index_terms(text)), {}
        for word in dict.fromkeys(_WORD.findall(text)):
            if word not in keep and (correct := self.correct(word, terms - set(index_terms(word)))):
                fixes[word] = correct
        return fixes

    def _joined(self, text: str, keep: Collection[str]) -> tuple[str, dict[str, str]]:
        """The text with spaces inside of words taken out; a word is joined once, from the left."""
        joins, parts, done, last = dict[str, str](), list[str](), 0, 0
        for pair in _PAIR.finditer(text):
            left, right = pair.groups()
            if (
                pair.start() >= last
                and left not in keep
                and right not in keep
                and self._is_one_word(left, right)
            ):
                joins[f"{left} {right}"] = left + right
                parts.append(text[done : pair.end(1)])
                done, last = pair.end(), pair.end(2)
        return "".join([*parts, text[done:]]), joins

    def _is_one_word(self, left: str, right: str) -> bool:
        whole, ends = _term(left + right), (_term(left, 2), _term(right, 2))
        at = None if whole is None else self._find(whole)
        if at is None or self._frequencies[at] < WHOLE_FROM:
            return False
        places = [
            place for end in ends if end is not None and (place := self._find(end)) is not None
        ]
        if len(places) < 2:
            return True
        return self._rows_of is not None and self._frequencies[at] >= JOIN_RATIO * self._together(
            *places
        )

    def _nearest(self, forms: Iterable[str], context: list[int]) -> str | None:
        """The best scored term within the edits that the word's length allows."""
        distances: dict[int, int] = {}
        for form in forms:
            for at, distance in self._within(form, 2 if len(form) >= TWO_EDITS_FROM else 1):
                distances[at] = min(distance, distances.get(at, distance))
        first = min(forms)[0]
        scores = {
            at: self._score(at, distance, first, context) for at, distance in distances.items()
        }
        best = max(scores, key=lambda at: (scores[at], -at), default=None)
        return None if best is None or scores[best] == -np.inf else self._terms[best]

    def _instead(self, known: int, context: list[int]) -> str | None:
        """What a rare word that does not fit was meant to be."""
        term = self._terms[known]
        if (
            not context
            or len(term) <= SHORTEST
            or self._frequencies[known] > RARE
            or self._expected(known, context)
        ):
            return None
        scores = {
            at: self._score(at, distance, term[0], context)
            for at, distance in self._within(term, 1)
            if at != known
            and self._frequencies[at] >= COMMONER * self._frequencies[known]
            and self._expected(at, context) >= EXPECTED
        }
        return self._terms[max(scores, key=lambda at: (scores[at], -at))] if scores else None

    def _score(self, at: int, distance: int, first: str, context: list[int]) -> float:
        score = FREQUENCY_WEIGHT * log(1 + self._frequencies[at]) - EDIT_COST * distance
        score -= FIRST_LETTER_COST * (self._terms[at][0] != first)
        if not context:
            return score
        expected = self._expected(at, context)
        return score + CONTEXT_WEIGHT * log(1 + 1000 * expected) if expected else -np.inf

    def _split(self, word: str) -> str | None:
        """Two terms that the word is made of; none where it only begins a longer one."""
        after = bisect_left(self._terms, word)
        if after < len(self._terms) and self._terms[after].startswith(word):
            return None
        places = range(2 if len(word) > 5 else 3, len(word) - 1)
        halves = {(word[:at], word[at:]): self._rarer(word[:at], word[at:]) for at in places}
        best = max(halves, key=halves.__getitem__, default=None)
        return None if best is None or halves[best] < WHOLE_FROM else " ".join(best)

    def _rarer(self, *halves: str) -> int:
        places = [self._find(term) if (term := _term(half, 2)) else None for half in halves]
        return min(0 if at is None else int(self._frequencies[at]) for at in places)

    def _within(self, word: str, edits: int) -> list[tuple[int, int]]:
        """Places of terms within the optimal string alignment distance, with it.

        An edit changes the set of a word's letters by two at most: that leaves few terms to
        compare."""
        from rapidfuzz import process
        from rapidfuzz.distance import OSA

        low, high = (
            self._starts[min(max(n, 0), LONGEST + 3)]
            for n in (len(word) - edits, len(word) + edits + 1)
        )
        alike = np.bitwise_count(self._masks[low:high] ^ np.uint64(_mask(word))) <= 2 * edits
        places = self._targets[low:high][alike].tolist()
        if not places:
            return []
        terms = [self._terms[at] for at in places]
        distances: NDArray[np.int32] = process.cdist(
            [word], terms, scorer=OSA.distance, score_cutoff=edits, dtype=np.int32
        )[0]
        return [(places[at], int(distances[at])) for at in np.flatnonzero(distances <= edits)]

    def _expected(self, at: int, context: Iterable[int]) -> float:
        """The sum, over the terms beside it, of the share of their items that have this one."""
        return sum(self._together(at, other) / float(self._frequencies[other]) for other in context)

    def _together(self, left: int, right: int) -> float:
        """In how many items two terms meet; of long lists, the first rows stand for all."""
        assert self._rows_of is not None
        short, long = sorted((self._rows_of(left), self._rows_of(right)), key=len)
        sample = short[:COMPARED]
        places = np.minimum(np.searchsorted(long, sample), len(long) - 1)
        return float((long[places] == sample).sum()) * len(short) / max(len(sample), 1)

    def _find(self, term: str) -> int | None:
        at = bisect_left(self._terms, term)
        return at if at < len(self._terms) and self._terms[at] == term else None


def _term(word: str, shortest: int = SHORTEST) -> str | None:
    terms = index_terms(word)
    return terms[0] if len(terms) == 1 and shortest <= len(terms[0]) <= LONGEST else None


def _substituted(text: str, fixes: dict[str, str]) -> str:
    return _WORD.sub(lambda word: fixes.get(word[0], word[0]), text)


def _mask(word: str) -> int:
    """Which letters a word has, in 64 bits."""
    bits = 0
    for letter in word:
        bits |= 1 << (ord(letter) & 63)
    return bits
