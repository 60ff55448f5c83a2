"""Highlighting: the ranges of a text that a query matches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

from recsys.retrieval.text.analysis import Token, inflections, quantities_of, tokenize
from recsys.retrieval.text.scripts import starts_with_cjk
from recsys.retrieval.text.synonyms import Synonyms

Range = tuple[int, int]


def highlight_ranges(query: str, text: str, synonyms: Synonyms | None = None) -> tuple[Range, ...]:
    """Ranges (start, end) of the text's characters that the query's words match: disjoint, ordered.

    A match is a word by its stem or with another ending, a quantity in any unit, the characters of
    a Chinese bigram, a synonym when all its words are there, words that one of the two texts joins,
    and, where the text does not have the query's last word, the words that begin with it."""
    query_tokens, text_tokens = tokenize(query), tokenize(text)
    terms = {term.text for token in query_tokens for term in token.terms if term.is_primary}
    terms |= {token.stem for token in query_tokens} | set(_joined(query_tokens))
    terms |= {form for token in query_tokens for form in inflections(token.stem)}
    terms |= _synonym_terms(query_tokens, text_tokens, synonyms)
    ranges = [
        (term.start, term.end)
        for token in text_tokens
        for term in token.terms
        if term.text in terms
    ]
    pairs = [
        _span(pair)
        for pair in pairwise(text_tokens)
        if _may_be_joined(*pair) and pair[0].stem + pair[1].stem in terms
    ]
    ranges += [*pairs, *_completed(query_tokens, text_tokens), *_quantities(query, text)]
    return tuple(_merged(sorted(ranges)))


def _quantities(query: str, text: str) -> Iterator[Range]:
    same = {quantity.text for quantity in quantities_of(query)}
    for quantity in quantities_of(text) if same else ():
        if quantity.text in same:
            yield quantity.start, quantity.end


def _joined(tokens: Sequence[Token]) -> Iterator[str]:
    return (
        left.stem + right.stem for left, right in pairwise(tokens) if _may_be_joined(left, right)
    )


def _may_be_joined(left: Token, right: Token) -> bool:
    """Two words that may be one elsewhere: mail box. Not two numbers, which are no longer
    number."""
    return not left.is_cjk and not right.is_cjk and left.stem[0].isalpha()


def _synonym_terms(
    query_tokens: Sequence[Token], text_tokens: Sequence[Token], synonyms: Synonyms | None
) -> set[str]:
    """The terms of those synonyms that the text has whole."""
    text_terms = {term.text for token in text_tokens for term in token.terms}
    phrases = [phrase for _, _, phrase in synonyms.matches(query_tokens)] if synonyms else []
    terms = [
        {term.text for token in phrase for term in token.terms if term.is_primary}
        for phrase in phrases
    ]
    return set().union(*(each for each in terms if each <= text_terms))


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
