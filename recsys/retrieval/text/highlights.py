"""Where in a text a query hits."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

from recsys.retrieval.text.analysis import Token, inflections, is_cjk, tokenize
from recsys.retrieval.text.synonyms import Synonyms

Range = tuple[int, int]


def highlight_ranges(query: str, text: str, synonyms: Synonyms | None = None) -> tuple[Range, ...]:
    """Ranges (start, end) of the text's characters that the query's words hit: disjoint, in order.

    A hit is a word by its stem or with another ending, the characters of a Chinese pair, a synonym
    when all its words are there, words that one of the two texts joins, and, where the text does
    not have the query's last word, the words that it begins."""
    asked, there = tokenize(query), tokenize(text)
    wanted = {term.text for token in asked for term in token.terms if term.counts}
    wanted |= {*_joined(asked), *(token.stem for token in asked)} | _synonymous(
        asked, there, synonyms
    )
    wanted |= {form for token in asked for form in inflections(token.stem)}
    ranges = [
        (term.start, term.end) for token in there for term in token.terms if term.text in wanted
    ]
    pairs = [
        _span(pair)
        for pair in pairwise(there)
        if _written_apart(*pair) and pair[0].stem + pair[1].stem in wanted
    ]
    return tuple(_merged(sorted([*ranges, *pairs, *_begun(asked, there)])))


def _joined(asked: Sequence[Token]) -> Iterator[str]:
    return (
        left.stem + right.stem for left, right in pairwise(asked) if _written_apart(left, right)
    )


def _written_apart(left: Token, right: Token) -> bool:
    """Two words that may be one elsewhere: mail box. Not two numbers, which are no longer
    number."""
    return not left.is_cjk and not right.is_cjk and left.stem[0].isalpha()


def _synonymous(
    asked: Sequence[Token], there: Sequence[Token], synonyms: Synonyms | None
) -> set[str]:
    """The terms of those synonyms that the text has whole."""
    has = {term.text for token in there for term in token.terms}
    phrases = [phrase for _, _, phrase in synonyms.find(asked)] if synonyms else []
    terms = [
        {term.text for token in phrase for term in token.terms if term.counts} for phrase in phrases
    ]
    return set().union(*(each for each in terms if each <= has))


def _begun(asked: Sequence[Token], there: Sequence[Token]) -> Iterator[Range]:
    if not asked:
        return
    last = asked[-1]
    whole = any(term.text == last.stem for token in there for term in token.terms)
    if not whole and (len(last.folded) > 1 or is_cjk(last.folded)):
        yield from (_span([token]) for token in there if token.folded.startswith(last.folded))


def _span(some: Sequence[Token]) -> Range:
    terms = [term for token in some for term in token.terms]
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
