"""What a query's terms may be matched by: other forms, beginnings, synonyms."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from recsys.retrieval.text.analysis import Token, inflections, is_cjk, tokenize
from recsys.retrieval.text.synonyms import Synonyms
from recsys.types import Ints

#: How many longer terms the last word may begin, the most frequent ones.
PREFIX_TERMS = 32
#: What a term that only begins like the last word scores, against 1 for the word itself, where no
#: item has the word.
UNFINISHED = 0.5
#: The same where some item has the word: it was probably finished.
LONGER = 0.1
#: What another ending or a longer word covers of a word that some item has; of one that none has,
#: all.
AKIN_SHARE = 0.5
#: What stands for a term otherwise, against 1 for itself; on Home Depot's validation split .5 to .8
#: are alike.
JOINED = 1.0
SPLIT = 0.6
INFLECTED = 0.6
SYNONYM = 0.8
#: Both parts of a split word stand in this many items at least.
SPLIT_ITEMS = 2
SPLIT_LETTERS = 3


class Alternative(NamedTuple):
    """Terms that, all in one item, count `weight` times their BM25 and cover `share` of what they
    stand for."""

    ids: tuple[int, ...]
    weight: float
    share: float = 1.0


@dataclass
class QueryTerm:
    """A term of the query: an item gets the best of its alternatives. `mass` is its IDF, 0 where it
    does not count."""

    term: str
    count: int = 0
    mass: float = 0.0
    alternatives: list[Alternative] = field(default_factory=list)


class Vocabulary:
    """The terms of an index: sorted, a term's id is its place; `frequencies` are the items that
    have each."""

    def __init__(self, terms: Sequence[str], frequencies: Ints, items: int) -> None:
        self.terms, self.frequencies, self.items = terms, frequencies, items

    def find(self, term: str) -> int | None:
        at = bisect_left(self.terms, term)
        return at if at < len(self.terms) and self.terms[at] == term else None

    def idf(self, term_id: int | None) -> float:
        """Lucene's, as BM25 here; of a term that no item has, what it would be."""
        frequency = 0 if term_id is None else int(self.frequencies[term_id])
        return float(np.log(1 + (self.items - frequency + 0.5) / (frequency + 0.5)))

    def beginning_with(self, prefix: str) -> list[int]:
        """Ids of the PREFIX_TERMS most frequent longer terms that begin with `prefix`."""
        low, high = bisect_left(self.terms, prefix), bisect_left(self.terms, prefix + "\U0010ffff")
        low += low < high and self.terms[low] == prefix
        return (
            low + np.argsort(-self.frequencies[low:high], kind="stable")[:PREFIX_TERMS]
        ).tolist()


def expand_query(
    query: str, vocabulary: Vocabulary, synonyms: Synonyms | None = None
) -> list[QueryTerm]:
    """The query's distinct terms, each with all that may stand for it; a repeated term scores as
    often as it stands."""
    found = tokenize(query)
    expansion = _Expansion(vocabulary, found)
    expansion.add_joined()
    expansion.add_split()
    expansion.add_inflected()
    expansion.add_single_characters()
    expansion.add_beginnings()
    if synonyms is not None:
        expansion.add_synonyms(synonyms)
    return list(expansion.units.values())


class _Expansion:
    def __init__(self, vocabulary: Vocabulary, found: Sequence[Token]) -> None:
        self.vocabulary, self.tokens = vocabulary, found
        self.units: dict[str, QueryTerm] = {}
        for term in (term for token in found for term in token.terms):
            unit = self.units.setdefault(term.text, QueryTerm(term.text))
            unit.count += 1
            if term.counts:
                unit.mass = vocabulary.idf(vocabulary.find(term.text))
        for unit in self.units.values():
            if (at := vocabulary.find(unit.term)) is not None:
                unit.alternatives.append(Alternative((at,), unit.count))

    def add_joined(self) -> None:
        """Neighbours that the catalogue writes as one word: mail box, mailbox; AB-123, AB123."""
        for token in self.tokens:
            if len(token.terms) > 1 and not token.is_cjk:
                self._stand_for(
                    [token], [token.stem], 0.0
                )  # a term of the query itself: it has its score
        for left, right in pairwise(self.tokens):
            if left.stem[0].isalpha() and not left.is_cjk and not right.is_cjk:
                self._stand_for([left, right], [left.stem + right.stem], JOINED)

    def add_split(self) -> None:
        """A word that the catalogue writes as two: of all such pairs the one whose rarer part is
        most frequent."""
        for token in self.tokens:
            if token.stem.isalpha() and not token.is_cjk and (parts := self._parts(token.stem)):
                self._stand_for([token], parts, SPLIT)

    def _parts(self, word: str) -> list[str]:
        places = range(SPLIT_LETTERS, len(word) - SPLIT_LETTERS + 1)
        best = max(
            places, key=lambda at: min(self._items(word[:at]), self._items(word[at:])), default=0
        )
        rarer = min(self._items(word[:best]), self._items(word[best:])) if best else 0
        return [word[:best], word[best:]] if rarer >= SPLIT_ITEMS else []

    def _items(self, term: str) -> int:
        at = self.vocabulary.find(term)
        return 0 if at is None else int(self.vocabulary.frequencies[at])

    def add_inflected(self) -> None:
        """Paint, painting, painter."""
        for token in self.tokens:
            for form in inflections(token.stem):
                self._stand_for(
                    [token], [form], INFLECTED, AKIN_SHARE if self._items(token.stem) else 1.0
                )

    def add_single_characters(self) -> None:
        """A Chinese word of one character may be part of a longer word in the item: its pairs cover
        it."""
        terms = [term for token in self.tokens if token.is_cjk for term in token.terms]
        around: dict[int, set[str]] = {}
        for pair in (term for term in terms if len(term.text) == 2):
            for place in range(pair.start, pair.end):
                around.setdefault(place, set()).add(pair.text)
        pairs: dict[str, set[str]] = {}
        for single in (term for term in terms if len(term.text) == 1):
            pairs.setdefault(single.text, set()).update(around.get(single.start, ()))
        for text, texts in pairs.items():
            found = [self._ids([pair]) for pair in sorted(texts)]
            self.units[text].alternatives += [Alternative(ids, 0.0) for ids in found if ids]

    def add_beginnings(self) -> None:
        """The last word may be unfinished."""
        if not self.tokens:
            return
        last = self.tokens[-1]
        if len(last.folded) < 2 and not is_cjk(last.folded):
            return
        weight, share = (LONGER, AKIN_SHARE) if self._items(last.stem) else (UNFINISHED, 1.0)
        for at in self.vocabulary.beginning_with(last.folded):
            self._stand_for([last], [self.vocabulary.terms[at]], weight, share)

    def add_synonyms(self, synonyms: Synonyms) -> None:
        for start, stop, phrase in synonyms.find(self.tokens):
            terms = [term.text for token in phrase for term in token.terms if term.counts]
            self._stand_for(self.tokens[start:stop], terms, SYNONYM)

    def _stand_for(
        self, some: Sequence[Token], terms: Sequence[str], weight: float, share: float = 1.0
    ) -> None:
        """Terms that together say what these words of the query say: each of their units gets its
        part of the score."""
        units = {
            term.text: self.units[term.text]
            for token in some
            for term in token.terms
            if term.counts
        }
        ids = self._ids(terms)
        if ids and units:
            # A rare term that stands for a frequent one is worth what that one is worth.
            worth = sum(unit.mass * unit.count for unit in units.values()) / sum(
                map(self.vocabulary.idf, ids)
            )
            for unit in units.values():
                unit.alternatives.append(
                    Alternative(ids, weight * min(1.0, worth) / len(units), share)
                )

    def _ids(self, terms: Sequence[str]) -> tuple[int, ...]:
        """The terms' ids, none when the catalogue lacks one of them."""
        ids = [self.vocabulary.find(term) for term in dict.fromkeys(terms)]
        return tuple(at for at in ids if at is not None) if None not in ids else ()
