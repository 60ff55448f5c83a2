"""Highlighting: the ranges of a text that a query matches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

from recsys.retrieval.text.analysis import Token, inflections, normal_forms_of, tokenize
from recsys.retrieval.text.scripts import starts_with_cjk
from recsys.retrieval.text.synonyms import Synonyms

Range = tuple[int, int]


def highlight_ranges(query: str, text: str, synonyms: Synonyms | None = None) -> tuple[Range, ...]:
    """The ranges of one text: see `Highlighter`."""
    return Highlighter(query, synonyms).ranges(text)


class Highlighter:
    """Ranges (start, end) of a text's characters that a query's words match: disjoint, ordered.

    A match is a word by its stem or with another ending, a quantity in any unit, the characters of
    a Chinese bigram, a synonym when all its words are there, words that one of the two texts joins,
    and, where the text does not have the query's last word, the words that begin with it."""

    def __init__(self, query: str, synonyms: Synonyms | None = None) -> None:
        tokens = tokenize(query)
        terms = {term.text for token in tokens for term in token.terms if term.is_primary}
        terms |= {token.stem for token in tokens} | set(_joined(tokens))
        terms |= {form for token in tokens for form in inflections(token.stem)}
        self._tokens, self._terms = tokens, terms
        self._normal_forms = {form.text for form in normal_forms_of(query)}
        phrases = [phrase for _, _, phrase in synonyms.matches(tokens)] if synonyms else []
        self._phrases = [
            {term.text for token in phrase for term in token.terms if term.is_primary}
            for phrase in phrases
        ]

    def ranges(self, text: str) -> tuple[Range, ...]:
        tokens = tokenize(text)
        terms = self._terms
        if self._phrases:
            text_terms = {term.text for token in tokens for term in token.terms}
            terms = terms.union(*(phrase for phrase in self._phrases if phrase <= text_terms))
        ranges = [
            (term.start, term.end) for token in tokens for term in token.terms if term.text in terms
        ]
        pairs = [
            _span(pair)
            for pair in pairwise(tokens)
            if pair[0].stem + pair[1].stem in terms and _may_be_joined(*pair)
        ]
        ranges += [*pairs, *_completed(self._tokens, tokens), *self._same_forms(text)]
        return tuple(_merged(sorted(ranges)))

    def _same_forms(self, text: str) -> Iterator[Range]:
        for form in normal_forms_of(text) if self._normal_forms else ():
            if form.text in self._normal_forms:
                yield form.start, form.end


def _joined(tokens: Sequence[Token]) -> Iterator[str]:
    return (
        left.stem + right.stem for left, right in pairwise(tokens) if _may_be_joined(left, right)
    )


def _may_be_joined(left: Token, right: Token) -> bool:
    """Two words that may be one elsewhere: mail box. Not two numbers, which are no longer
    number."""
    return not left.is_cjk and not right.is_cjk and left.stem[0].isalpha()


def _completed(query_tokens: Sequence[Token], text_tokens: Sequence[Token]) -> Iterator[Range]:
    if not query_tokens:
        return
    last = query_tokens[-1]
    whole = any(term.text == last.stem for token in text_tokens for term in token.terms)
    if not whole and (len(last.folded) > 1 or starts_with_cjk(last.folded)):
        yield from (_span([token]) for token in text_tokens if token.folded.startswith(last.folded))


def _span(tokens: Sequence[Token]) -> Range:
    terms = [term for token in tokens for term in token.terms]
    return min(term.start for term in terms), max(term.end for term in terms)


def _merged(ranges: Sequence[Range]) -> Iterator[Range]:
    """Ranges that touch or overlap as one."""
    low, high = -1, -1
    for start, end in ranges:
        if start > high:
            if low >= 0:
                yield low, high
            low, high = start, end
        high = max(high, end)
    if low >= 0:
        yield low, high
