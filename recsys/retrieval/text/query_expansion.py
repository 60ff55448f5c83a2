"""Query expansion: what else may match each term of a query: joined, split and inflected forms,
completions of the last word, synonyms."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from recsys.retrieval.text.analysis import (
    Token,
    inflections,
    normal_forms_of,
    s_stem,
    tokenize,
)
from recsys.retrieval.text.quantities import NormalForm
from recsys.retrieval.text.scripts import fold_marks, starts_with_cjk
from recsys.retrieval.text.stems import StemClasses
from recsys.retrieval.text.synonyms import Synonyms
from recsys.types import Ints

#: How many longer terms the last word may be completed to, the most frequent ones.
MAX_COMPLETIONS = 32
#: What a completion of the last word scores, against 1 for the word itself, where no item has the
#: word.
PREFIX_WEIGHT = 0.5
#: The same where some item has the word: it was probably finished.
KNOWN_PREFIX_WEIGHT = 0.1
#: How much of a word that some item has another ending or a completion covers; of one that none
#: has, all.
RELATED_COVERAGE = 0.5
#: The weights of other alternatives, against 1 for the term itself; on Home Depot's validation
#: split .5 to .8 are alike.
NORMAL_FORM_WEIGHT = 1.0
JOINED_WEIGHT = 1.0
SPLIT_WEIGHT = 0.6
STEM_WEIGHT = 0.9
INFLECTED_WEIGHT = 0.6
SYNONYM_WEIGHT = 0.8
#: Between two words of which either is enough; "o" and "of" mean more than that.
OR_WORDS = frozenset(("or", "oder", "ou", "или", "lub", "eller", "veya", "nebo", "vagy", "或"))
#: Both parts of a split word are in this many items at least, and have this many letters.
SPLIT_MIN_ITEMS = 2
SPLIT_MIN_LETTERS = 3
#: The last part of a compound has this many letters at least, what stands before it 3.
COMPOUND_MIN_LETTERS = 4


class Alternative(NamedTuple):
    """Terms that, all in one item, count `weight` times their BM25 and cover the share `coverage`
    of the query term that they stand for."""

    ids: tuple[int, ...]
    weight: float
    coverage: float = 1.0


@dataclass
class QueryTerm:
    """A term of the query: an item scores the best of its alternatives. `count` is how often the
    query has it, `idf` its inverse document frequency, 0 where other terms say the same."""

    term: str
    count: int = 0
    idf: float = 0.0
    alternatives: list[Alternative] = field(default_factory=list)


class Vocabulary:
    """The terms of an index, sorted: a term's id is its position; `frequencies` are how many of the
    `item_count` items have each."""

    def __init__(
        self,
        terms: Sequence[str],
        frequencies: Ints,
        item_count: int,
        stem_classes: StemClasses | None = None,
    ) -> None:
        self.terms, self.frequencies, self.item_count = terms, frequencies, item_count
        self.stem_classes = stem_classes or StemClasses(terms)

    def id_of(self, term: str) -> int | None:
        index = bisect_left(self.terms, term)
        return index if index < len(self.terms) and self.terms[index] == term else None

    def frequency_of(self, term: str) -> int:
        """How many items have the term."""
        term_id = self.id_of(term)
        return 0 if term_id is None else int(self.frequencies[term_id])

    def idf(self, term_id: int | None) -> float:
        """Lucene's, as BM25 here; of a term that no item has, what it would be."""
        frequency = 0 if term_id is None else int(self.frequencies[term_id])
        return float(np.log(1 + (self.item_count - frequency + 0.5) / (frequency + 0.5)))

    def completions(self, prefix: str) -> list[int]:
        """Ids of the MAX_COMPLETIONS most frequent longer terms that begin with `prefix`."""
        low, high = bisect_left(self.terms, prefix), bisect_left(self.terms, prefix + "\U0010ffff")
        low += low < high and self.terms[low] == prefix
        by_frequency = np.argsort(-self.frequencies[low:high], kind="stable")
        return (low + by_frequency[:MAX_COMPLETIONS]).tolist()

    def compounds(self, last_part: str) -> list[int]:
        """Ids of the MAX_COMPLETIONS most frequent words that end with `last_part`, at least three
        letters before it: Kinderwagen of wagen."""
        backwards = last_part[::-1]
        low = bisect_left(self._backwards, (backwards,))
        high = bisect_left(self._backwards, (backwards + "\U0010ffff",))
        ids = [at for text, at in self._backwards[low:high] if len(text) >= len(backwards) + 3]
        return sorted(ids, key=lambda at: (-int(self.frequencies[at]), at))[:MAX_COMPLETIONS]

    def has_forms(self, word: str) -> bool:
        """Whether some term is another form of a folded word, or a compound that ends with it in
        languages that write such."""
        if self.stem_classes.has_forms(word):
            return True
        term = s_stem(fold_marks(word))
        is_part = self.stem_classes.compounds and len(term) >= COMPOUND_MIN_LETTERS
        return is_part and bool(self.compounds(term))

    @cached_property
    def _backwards(self) -> list[tuple[str, int]]:
        """Terms of letters, read from their ends, sorted, with their ids."""
        shortest = COMPOUND_MIN_LETTERS + 3
        words = enumerate(self.terms)
        return sorted((t[::-1], at) for at, t in words if len(t) >= shortest and t.isalpha())


def expand_query(
    query: str, vocabulary: Vocabulary, synonyms: Synonyms | None = None
) -> list[QueryTerm]:
    """The query's distinct terms, each with its alternatives; a repeated term scores as often as it
    is repeated."""
    expansion = _Expansion(vocabulary, tokenize(query))
    expansion.add_normal_forms(normal_forms_of(query))
    expansion.add_joined()
    expansion.add_split()
    expansion.add_stem_forms()
    expansion.add_compounds()
    expansion.add_inflected()
    expansion.add_bigrams_of_single_characters()
    expansion.add_completions()
    if synonyms is not None:
        expansion.add_synonyms(synonyms)
    expansion.join_alternatives(query)
    return list(expansion.query_terms.values())


class _Expansion:
    def __init__(self, vocabulary: Vocabulary, tokens: Sequence[Token]) -> None:
        self.vocabulary, self.tokens = vocabulary, tokens
        self.query_terms: dict[str, QueryTerm] = {}
        for term in (term for token in tokens for term in token.terms):
            query_term = self.query_terms.setdefault(term.text, QueryTerm(term.text))
            query_term.count += 1
            if term.is_primary:
                query_term.idf = vocabulary.idf(vocabulary.id_of(term.text))
        for query_term in self.query_terms.values():
            if (term_id := vocabulary.id_of(query_term.term)) is not None:
                query_term.alternatives.append(Alternative((term_id,), query_term.count))

    def add_normal_forms(self, forms: Sequence[NormalForm]) -> None:
        """Items that say the same quantity or negation in other words or units."""
        for form in forms:
            terms = (
                term.text
                for token in self.tokens
                for term in token.terms
                if term.is_primary and form.start <= term.start and term.end <= form.end
            )
            self._add_terms(dict.fromkeys(terms), [form.text], NORMAL_FORM_WEIGHT)

    def add_joined(self) -> None:
        """Two words that the catalogue writes as one, ab123 for ab-123 too."""
        for token in self.tokens:
            if len(token.terms) > 1 and not token.is_cjk:
                # a term of the query itself: it has its score
                self._add([token], [token.stem], 0.0)
        for left, right in pairwise(self.tokens):
            if left.stem[0].isalpha() and not left.is_cjk and not right.is_cjk:
                self._add([left, right], [left.stem + right.stem], JOINED_WEIGHT)

    def add_split(self) -> None:
        """A word that the catalogue writes as two: of all such pairs the one whose rarer part is
        most frequent."""
        for token in self.tokens:
            if token.stem.isalpha() and not token.is_cjk and (parts := self._parts(token.stem)):
                self._add([token], parts, SPLIT_WEIGHT)

    def _parts(self, word: str) -> list[str]:
        def rarer(cut: int) -> int:
            return min(map(self.vocabulary.frequency_of, (word[:cut], word[cut:])))

        cuts = range(SPLIT_MIN_LETTERS, len(word) - SPLIT_MIN_LETTERS + 1)
        best = max(cuts, key=rarer, default=0)
        return [word[:best], word[best:]] if best and rarer(best) >= SPLIT_MIN_ITEMS else []

    def add_stem_forms(self) -> None:
        """Other forms of the word in the languages of the catalogue."""
        for token in self.tokens:
            if len(token.terms) == 1 and not token.is_cjk:
                for term_id in self.vocabulary.stem_classes.forms(token.spelling):
                    self._add([token], [self.vocabulary.terms[term_id]], STEM_WEIGHT)

    def add_compounds(self) -> None:
        """Compounds whose last part is the word; where the catalogue's languages write none, they
        count for half if some item has the word itself."""
        for token in self.tokens:
            if len(token.stem) < COMPOUND_MIN_LETTERS or not token.stem.isalpha() or token.is_cjk:
                continue
            weight, coverage = PREFIX_WEIGHT, 1.0
            has_word = self.vocabulary.frequency_of(token.stem)
            if has_word and not self.vocabulary.stem_classes.compounds:
                weight, coverage = KNOWN_PREFIX_WEIGHT, RELATED_COVERAGE
            for term_id in self.vocabulary.compounds(token.stem):
                self._add([token], [self.vocabulary.terms[term_id]], weight, coverage)

    def add_inflected(self) -> None:
        """Paint, painting, painter."""
        for token in self.tokens:
            coverage = RELATED_COVERAGE if self.vocabulary.frequency_of(token.stem) else 1.0
            for form in inflections(token.stem):
                self._add([token], [form], INFLECTED_WEIGHT, coverage)

    def add_bigrams_of_single_characters(self) -> None:
        """A Chinese word of one character may be part of a longer word in the item: its bigrams
        cover it."""
        terms = [term for token in self.tokens if token.is_cjk for term in token.terms]
        around: dict[int, set[str]] = {}
        for bigram in (term for term in terms if len(term.text) == 2):
            for offset in range(bigram.start, bigram.end):
                around.setdefault(offset, set()).add(bigram.text)
        bigrams: dict[str, set[str]] = {}
        for single in (term for term in terms if len(term.text) == 1):
            bigrams.setdefault(single.text, set()).update(around.get(single.start, ()))
        for text, texts in bigrams.items():
            alternatives = [self._ids([bigram]) for bigram in sorted(texts)]
            self.query_terms[text].alternatives += [
                Alternative(ids, 0.0) for ids in alternatives if ids
            ]

    def add_completions(self) -> None:
        """The last word may be unfinished."""
        if not self.tokens:
            return
        last = self.tokens[-1]
        if last.folded[0].isdigit():  # 18 is no part of 180
            return
        if len(last.folded) < 2 and not starts_with_cjk(last.folded):
            return
        weight, coverage = PREFIX_WEIGHT, 1.0
        if self.vocabulary.frequency_of(last.stem):
            weight, coverage = KNOWN_PREFIX_WEIGHT, RELATED_COVERAGE
        for term_id in self.vocabulary.completions(last.folded):
            self._add([last], [self.vocabulary.terms[term_id]], weight, coverage)

    def add_synonyms(self, synonyms: Synonyms) -> None:
        for start, stop, phrase in synonyms.matches(self.tokens):
            terms = [term.text for token in phrase for term in token.terms if term.is_primary]
            self._add(self.tokens[start:stop], terms, SYNONYM_WEIGHT)

    def join_alternatives(self, query: str) -> None:
        """Of "red, blue or green" one is enough; an item that has the "or" too, as Trick or Treat,
        scores for it."""
        for at in reversed(range(1, len(self.tokens) - 1)):
            if self.tokens[at].spelling in OR_WORDS:
                first = at - 1
                while first and "," in query[self._end(first - 1) : self._start(first)]:
                    first -= 1
                self._join([*self.tokens[first:at], self.tokens[at + 1]], self.tokens[at])

    def _join(self, tokens: Sequence[Token], conjunction: Token) -> None:
        """Makes one query term of these words; none of compounds."""
        names = [{term.text for term in token.terms if term.is_primary} for token in tokens]
        terms = [self.query_terms.get(name) for each in names for name in each]
        present = [term for term in terms if term is not None]
        if any(len(each) != 1 for each in names) or len(set(map(id, present))) < len(tokens):
            return
        for term in present:
            del self.query_terms[
                next(name for name, own in self.query_terms.items() if own is term)
            ]
        joined = QueryTerm(
            " or ".join(term.term for term in present),
            max(term.count for term in present),
            max(term.idf for term in present),
            [alternative for term in present for alternative in term.alternatives],
        )
        self.query_terms[present[0].term] = joined
        self.query_terms[conjunction.stem].idf = 0.0

    def _start(self, at: int) -> int:
        return self.tokens[at].terms[0].start

    def _end(self, at: int) -> int:
        return max(term.end for term in self.tokens[at].terms)

    def _add(
        self, tokens: Sequence[Token], terms: Sequence[str], weight: float, coverage: float = 1.0
    ) -> None:
        """Terms that together say what these words of the query say: each of their query terms gets
        its part of the score."""
        texts = dict.fromkeys(
            term.text for token in tokens for term in token.terms if term.is_primary
        )
        self._add_terms(texts, terms, weight, coverage)

    def _add_terms(
        self, texts: Iterable[str], terms: Sequence[str], weight: float, coverage: float = 1.0
    ) -> None:
        ids, replaced = self._ids(terms), [self.query_terms[text] for text in texts]
        if ids and replaced:
            # A rare term that stands for a frequent one is worth what that one is worth.
            own_idf = sum(each.idf * each.count for each in replaced)
            worth = own_idf / sum(map(self.vocabulary.idf, ids))
            share = weight * min(1.0, worth) / len(replaced)
            for each in replaced:
                each.alternatives.append(Alternative(ids, share, coverage))

    def _ids(self, terms: Sequence[str]) -> tuple[int, ...]:
        """The terms' ids, none when the catalogue lacks one of them."""
        ids = [self.vocabulary.id_of(term) for term in dict.fromkeys(terms)]
        return tuple(each for each in ids if each is not None) if None not in ids else ()
