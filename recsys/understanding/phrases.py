"""Phrase mining: word sequences of titles that a shopper might type, and how many items have
them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from recsys.retrieval.text.scripts import CJK, is_han, segment
from recsys.understanding.suggestions import MAX_CHARACTERS, completion_key

#: Phrases counted at a time: 2 million take about 400 MB.
MAX_COUNTED = 2_000_000
#: Words of a phrase inside of a segment, and of a whole segment.
MAX_WORDS = 4
MAX_SEGMENT_WORDS = 6

_LETTER = rf"[^\W_{CJK}]"
_TOKEN = re.compile(rf"([{CJK}]+)|{_LETTER}+(?:[-.'’&+]{_LETTER}+|/\d+)*")
_LATIN_WORD = re.compile(rf"{_LETTER}+")
_WORD_END = re.compile(rf"(?!{_LETTER})")
_BETWEEN_SEGMENTS = re.compile(r"[,;:|()\[\]{}<>!?\"“”~@*=。、《》【】「」『』·]+|\s[-–—/+&x×]+\s")
_HAS_LETTER = re.compile(r"[^\W\d_]")
#: Function words and units: no phrase begins or ends with one of these.
_STOP_WORDS = frozenset(
    [
        "a",
        "an",
        "and",
        "as",
        "at",
        "by",
        "for",
        "from",
        "in",
        "into",
        "is",
        "of",
        "on",
        "or",
        "per",
        "the",
        "to",
        "with",
        "without",
        "w",
        "x",
        "ct",
        "cm",
        "ft",
        "gal",
        "kg",
        "lb",
        "lbs",
        "mm",
        "ml",
        "oz",
        "pc",
        "pcs",
        "pk",
        "sq",
        "yd",
        "的",
        "了",
        "和",
        "与",
        "及",
        "或",
        "在",
        "是",
        "等",
        "款",
        "个",
        "件",
        "只",
        "条",
        "一",
    ]
)


def mine_phrases(titles: Mapping[str, int], limit: int = MAX_COUNTED) -> dict[str, int]:
    """How many items have a phrase in their title: up to MAX_WORDS words that at least two items
    have, and short segments between punctuation marks whoever has them; none that always goes on in
    the same way.

    When more than `limit` phrases are being counted, the rarer half is dropped, so of a big
    catalogue's rare phrases some are missing or counted low (lossy counting, Manku & Motwani, VLDB
    2002)."""
    inside, whole = _LossyCounts(limit), _LossyCounts(limit)
    for title, items in titles.items():
        segments = [_Segment.of(text) for text in _BETWEEN_SEGMENTS.split(completion_key(title))]
        inside.add({phrase for segment in segments for phrase in segment.phrases()}, items)
        whole.add({phrase for segment in segments for phrase in segment.whole()}, items)
    repeated = {phrase: items for phrase, items in inside.items() if items > 1}
    return _without_fragments({**whole, **repeated})


def _without_fragments(counts: Mapping[str, int]) -> dict[str, int]:
    """Without phrases that always go on in the same way: "stainless steel kitchen" where all have a
    sink after it. Single Latin words stay."""
    prefixes: list[str] = []  # phrases that the one at hand goes on from, shortest first
    fragments = set()
    for phrase in sorted(counts):
        while prefixes and not phrase.startswith(prefixes[-1]):
            prefixes.pop()
        for prefix in prefixes:
            if counts[prefix] == counts[phrase] and _WORD_END.match(phrase, len(prefix)):
                fragments.add(prefix)
        if not _LATIN_WORD.fullmatch(phrase):
            prefixes.append(phrase)
    return {phrase: items for phrase, items in counts.items() if phrase not in fragments}


class _LossyCounts(dict[str, int]):
    def __init__(self, limit: int) -> None:
        self.limit = limit

    def add(self, phrases: Iterable[str], items: int) -> None:
        for phrase in phrases:
            self[phrase] = self.get(phrase, 0) + items
        if len(self) > self.limit:
            counts = np.fromiter(self.values(), np.int64, len(self))
            median = np.partition(counts, len(counts) // 2)[len(counts) // 2]
            frequent = {phrase: count for phrase, count in self.items() if count > median}
            self.clear()
            self.update(frequent)


@dataclass(frozen=True)
class _Segment:
    """A stretch of text without punctuation, the spans of its words, and whether each is no stop
    word."""

    text: str
    spans: list[tuple[int, int]]
    is_content_word: list[bool]

    @classmethod
    def of(cls, text: str) -> _Segment:
        spans, is_content_word = [], []
        for match in _TOKEN.finditer(text):
            start = match.start()
            for word in segment(match[0]) if is_han(match[0]) else [match[0]]:
                spans.append((start, start + len(word)))
                is_content_word.append(word not in _STOP_WORDS)
                start += len(word)
        return cls(text, spans, is_content_word)

    def phrases(self) -> list[str]:
        """Up to MAX_WORDS words that a shopper might type."""
        ends = [index for index, content in enumerate(self.is_content_word) if content]
        pairs = [
            (first, last) for first in ends for last in ends if first <= last < first + MAX_WORDS
        ]
        return self._readable(pairs)

    def whole(self) -> list[str]:
        """The text from its first word to its last, where it is short enough for a phrase."""
        words = self.is_content_word
        fits = 0 < len(words) <= MAX_SEGMENT_WORDS and words[0] and words[-1]
        return self._readable([(0, len(words) - 1)] if fits else [])

    def _readable(self, pairs: list[tuple[int, int]]) -> list[str]:
        phrases = [self.text[self.spans[first][0] : self.spans[last][1]] for first, last in pairs]
        return [
            phrase
            for phrase in phrases
            if 2 <= len(phrase) <= MAX_CHARACTERS and _HAS_LETTER.search(phrase)
        ]
