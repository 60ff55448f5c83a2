"""Query parsing: normalisation, spelling correction, identifiers, attributes and carrier phrases.
The intent is added by whoever has a classifier."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from copy import copy
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from recsys.retrieval.text.analysis import index_terms
from recsys.retrieval.text.negations import parse_negations
from recsys.retrieval.text.phrase_match import unquoted
from recsys.retrieval.text.query_expansion import OR_WORDS
from recsys.types import QueryUnderstanding, Rows
from recsys.understanding.attribute_values import AttributeValues
from recsys.understanding.brands import Brands
from recsys.understanding.carrier_phrases import strip_carrier_phrases
from recsys.understanding.codes import CodeIndex
from recsys.understanding.facts import (
    Facts,
    extract_facts,
    extract_labels,
    extract_prices,
    price_currency,
)
from recsys.understanding.normalisation import language_by_script, normalise
from recsys.understanding.spelling import Speller

#: A code that more items have is answered with so many of their ids.
MAX_IDENTIFIERS = 100
Corrections = tuple[tuple[str, str], ...]
_PRICES = {"min_price", "max_price"}
_MAX_PASSES = 3
_MAX_FOLDS = 4


@dataclass(frozen=True)
class ParsedQuery:
    """The understanding of a text, and every row that its codes name, ascending int32.

    When `understanding.exact` the text is one code and these rows are its items, `variant_rows` of
    them those whose code goes on from it; else they are the items of a code beside other words."""

    understanding: QueryUnderstanding
    code_rows: Rows
    variant_rows: Rows = field(default_factory=lambda: np.empty(0, np.int32))


class QueryParser:
    """Parses any text: what it cannot use it leaves out, and it never raises.

    Without a speller nothing is corrected, without codes no identifier is recognised. `item_id_of`
    gives the id of a row; `attributes` are the values of attributes that a text may name."""

    def __init__(
        self,
        speller: Speller | None,
        codes: CodeIndex | None,
        brands: Iterable[str],
        item_id_of: Callable[[int], str],
        attributes: Mapping[str, Iterable[str]] = MappingProxyType({}),
    ) -> None:
        self._speller, self._codes = speller, codes or CodeIndex.build([], [])
        self._brands, self._item_id_of = Brands(brands), item_id_of
        self._attributes = AttributeValues(attributes)

    def over(
        self, codes: CodeIndex, item_id_of: Callable[[int], str], words: Collection[str]
    ) -> QueryParser:
        """The same parser for more items: with other codes, and `words` that are no typos."""
        parser = copy(self)
        parser._codes, parser._item_id_of = codes, item_id_of
        if self._speller is not None and words:
            parser._speller = self._speller.knowing(words)
        return parser

    def parse(self, text: str) -> ParsedQuery:
        """A text that is one code stays as it is; any other is corrected, and loses its prices and
        carrier phrases.

        Only the beginning of a long text is read: see `normalisation.MAX_CHARACTERS`.
        """
        folded, phrases = unquoted(_folded(text))
        folded = normalise(folded)
        facts, rest = extract_facts(folded, self._brands)
        rows, exact = self._codes.lookup(folded)
        if not exact and rest != folded:
            rows, exact = self._codes.lookup(rest)
        corrections: Corrections = ()
        excluded: tuple[str, ...] = ()
        if not exact and (code := self._codes.respelled(folded)):
            rows, exact = self._codes.rows(code), True
            corrections, rest = ((folded, code),), code
        elif not exact:
            facts, rest, corrections, excluded = self._corrected(folded, phrases)
        ids = tuple(self._item_id_of(int(row)) for row in rows[:MAX_IDENTIFIERS])
        understanding = QueryUnderstanding(
            text=text,
            normalised=rest,
            language=language_by_script(folded),
            corrections=corrections,
            identifiers=ids,
            exact=exact,
            facts=facts,
            excluded=excluded,
            phrases=() if exact else phrases,
            price_currency=price_currency(folded) if _PRICES & facts.keys() else "",
        )
        if not exact:
            return ParsedQuery(understanding, rows)
        variants = self._codes.variants(rest)
        return ParsedQuery(understanding, np.union1d(rows, variants), variants)

    def _corrected(self, text: str, phrases: Iterable[str]) -> _Corrected:
        """Facts, text and corrections, until nothing changes: "undr $20" is a price once it is
        corrected. Words of phrases are what they are."""
        keep = OR_WORDS.union(*(phrase.split() for phrase in phrases))
        bounds: Facts = {}
        corrections: dict[str, str] = {}
        excluded: dict[str, None] = {}
        for _ in range(_MAX_PASSES):
            before = text
            prices, text = extract_prices(text)
            bounds = prices | bounds
            if self._speller is not None:
                text, others, negations = self._without_excluded(text, self._speller)
                excluded |= dict.fromkeys(others)
                names = self._brands.words(text) | self._attributes.words(text) | negations | keep
                text, fixes = self._speller.correct_text(text, names)
                text, corrections = normalise(text), corrections | dict(fixes)
            if text == before:
                break
        text = normalise(strip_carrier_phrases(text))
        labels = extract_labels(text, self._brands)
        labels |= self._attributes.named(text, labels)
        return _Corrected(bounds | labels, text, tuple(corrections.items()), tuple(excluded))

    def _without_excluded(self, text: str, speller: Speller) -> tuple[str, list[str], set[str]]:
        """The text without the words that say what items must not have, these words, and the words
        of negations that stay: the catalogue says the same of some items, and they are searched
        for. "No" and "not" stand in names as well: where a title has the phrase, or no item the
        word, nothing is excluded."""
        excluded, names = list[str](), set[str]()
        for negation in reversed(list(parse_negations(text))):
            is_phrase = speller.has_term(negation.term)
            has_word = any(map(speller.has_term, index_terms(negation.word)))
            if negation.is_certain or (negation.may_exclude and has_word and not is_phrase):
                excluded.append(negation.word)
            if negation.word in excluded and not is_phrase:
                text = f"{text[: negation.start]} {text[negation.end :]}"
            else:
                names.update(text[negation.start : negation.end].replace("-", " ").split())
        return " ".join(text.split()), excluded[::-1], names


class _Corrected(NamedTuple):
    facts: Facts
    text: str
    corrections: Corrections
    excluded: tuple[str, ...]


def _folded(text: str) -> str:
    """The normalised text without case, again until both hold."""
    for _ in range(_MAX_FOLDS):
        folded = normalise(text).casefold()
        if folded == text:
            break
        text = folded
    return normalise(text)
