"""Completions of what a shopper types: built at night from the catalogue and past queries, looked
up by day.

What is suggested: brands, the names of category levels, phrases of titles, and queries that several
users asked. All of it lies sorted in one file of a release (`tables.SUGGESTIONS`), whose first
record batch holds the suggestions by their beginnings and whose second the beginnings of their
later words; a look-up is a binary search in each."""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from recsys.errors import ReleaseError
from recsys.tables import QUERIES, SUGGESTIONS
from recsys.types import Floats, Impression

#: Of one text that is several of these, the first. Weights: one item or user counts so much.
KINDS = {"brand": 2.0, "category": 2.0, "query": 10.0, "phrase": 1.0}
MOST_CHARACTERS = 60
MOST_SUGGESTIONS = 500_000
#: Phrases counted at a time: 2 million take about 400 MB.
MOST_COUNTED = 2_000_000
#: A query is suggested, and written down at all, when so many users asked it.
FEWEST_USERS = 3
MOST_WORDS = 4
MOST_WORDS_OF_A_SEGMENT = 6

#: A shorter prefix that nothing begins with is not taken for a slip.
FEWEST_CHARACTERS = 4

_BLOCK = 256
_SEARCHED = 2_000
_LAST = "\U0010ffff"
_CJK = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003134f"
_HAN = re.compile("[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003134f]+")
_LETTER = rf"[^\W_{_CJK}]"
_TOKEN = re.compile(rf"([{_CJK}]+)|{_LETTER}+(?:[-.'’&+]{_LETTER}+|/\d+)*")
_WORD_START = re.compile(rf"[{_CJK}]|(?<!{_LETTER}){_LETTER}")
_LATIN_WORD = re.compile(rf"{_LETTER}+")
_WORD_END = re.compile(rf"(?!{_LETTER})")
_BETWEEN_SEGMENTS = re.compile(r"[,;:|()\[\]{}<>!?\"“”~@*=。、《》【】「」『』·]+|\s[-–—/+&x×]+\s")
_LETTERS = re.compile(r"[^\W\d_]")
_MARKS = str.maketrans("", "", "®™©℠")
#: No phrase begins or ends with one of these.
_LOOSE = frozenset(
    (
        *(
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
        ),
        *(
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
        ),
        *("sq", "yd"),
        *"的了和与及或在是等款个件只条一",
    )
)


@dataclass(frozen=True)
class Suggestion:
    """A text to search for; `kind` is one of KINDS."""

    text: str
    kind: str
    weight: float


def fold(text: str) -> str:
    """Case, width and runs of white space folded away; a space at the end stays: a word is finished
    there."""
    folded = unicodedata.normalize("NFKC", text.translate(_MARKS)).casefold()
    return re.sub(r"\s+", " ", folded).lstrip()


class Suggestions:
    """An open file of them. Safe to ask from many threads."""

    def __init__(self, starts: pa.RecordBatch, inner: pa.RecordBatch) -> None:
        self._starts, self._inner = _Beginnings(starts), _Beginnings(inner)
        self._texts, self._kinds = starts["text"], starts["kind"]

    @classmethod
    def open(cls, path: Path) -> Suggestions:
        """The file, mapped. Raises ReleaseError when it is not there."""
        try:
            file = pa.ipc.open_file(pa.memory_map(str(path)))
        except FileNotFoundError:
            raise ReleaseError(f"there is no {path}: promote another release") from None
        return cls(file.get_batch(0), file.get_batch(1))

    def __len__(self) -> int:
        return len(self._texts)

    def complete(self, prefix: str, k: int = 8) -> list[Suggestion]:
        """Up to k, best first: those that begin with the prefix, then those of which a later word
        does; where there are none, those that begin with it but for one slip after its first
        character."""
        folded = fold(prefix)
        found = dict.fromkeys(self._starts.best(folded, k))
        if len(found) < k:  # a text may have several later words that begin so
            found |= dict.fromkeys(self._inner.best(folded, 8 * k))
        if not found and FEWEST_CHARACTERS <= len(folded) <= MOST_CHARACTERS:
            found = dict.fromkeys(self._starts.nearly(folded, k))
        return [self._suggestion(row) for row in list(found)[:k]]

    def _suggestion(self, row: int) -> Suggestion:
        return Suggestion(
            self._texts[row].as_py(), self._kinds[row].as_py(), float(self._starts.weights[row])
        )


class _Beginnings:
    """Sorted keys with weights. The maximum of each block of keys is known, so that the best of a
    long range (all that begin with "s") are found in few blocks: the k best lie in the k blocks
    with the largest maxima."""

    def __init__(self, batch: pa.RecordBatch) -> None:
        self._keys, self._rows = batch["key"], np.asarray(batch["row"])
        self.weights: Floats = np.asarray(batch["weight"])
        self._maxima = (
            np.maximum.reduceat(self.weights, np.arange(0, len(self._keys), _BLOCK))
            if len(batch)
            else None
        )

    def __len__(self) -> int:
        return len(self._keys)

    def __getitem__(self, place: int) -> str:
        return str(self._keys[place].as_py())

    def best(self, prefix: str, k: int) -> list[int]:
        """Rows of the k heaviest keys that begin with the prefix, heaviest first, then in the order
        of keys."""
        low = bisect_left(self, prefix)
        high = bisect_left(self, prefix + _LAST, low)
        places = self._candidates(low, high, k)
        return self._rows[places[_largest(self.weights[places], k)]].tolist()

    def nearly(self, prefix: str, k: int) -> list[int]:
        """Rows of the k heaviest keys whose beginning is one edit from the prefix, among the
        _SEARCHED heaviest that have its first character. A beginning is as long as the prefix, or a
        character longer or shorter."""
        from rapidfuzz.distance import OSA
        from rapidfuzz.process import cdist

        rows = np.array(self.best(prefix[0], _SEARCHED), np.int32)
        keys, near_N = self._keys.take(pa.array(rows)), np.zeros(len(rows), bool)
        for length in range(len(prefix) - 1, len(prefix) + 2):
            cut = pc.utf8_slice_codeunits(keys, 0, length).dictionary_encode()
            edits = cdist(
                [prefix], cut.dictionary.to_pylist(), scorer=OSA.distance, score_cutoff=1
            )[0]
            near_N |= (edits <= 1)[np.asarray(cut.indices)]
        return rows[near_N][:k].tolist()

    def _candidates(self, low: int, high: int, k: int) -> NDArray[np.int64]:
        """Places between low and high that hold the k heaviest."""
        first, last = -(-low // _BLOCK), high // _BLOCK
        if self._maxima is None or last - first <= k:
            return np.arange(low, high)
        blocks = first + np.sort(_largest(self._maxima[first:last], k))
        inside = (blocks[:, None] * _BLOCK + np.arange(_BLOCK)).ravel()
        return np.concatenate(
            [np.arange(low, first * _BLOCK), inside, np.arange(last * _BLOCK, high)]
        )


def _largest(values: Floats, k: int) -> NDArray[np.int64]:
    """Places of the k largest values, largest first; of equal ones the first."""
    places = np.arange(len(values))
    if len(values) > k:
        limit = np.partition(values, -k)[-k]
        above = np.flatnonzero(values > limit)
        places = np.concatenate([above, np.flatnonzero(values == limit)[: k - len(above)]])
    return places[np.argsort(-values[places], kind="stable")]


# Building


def build(items: pa.Table, queries: pa.Table, most: int = MOST_SUGGESTIONS) -> pa.Buffer:
    """The file of the heaviest `most` suggestions; the same tables give the same bytes.

    `items` has title, brand and category; `queries` are `tables.QUERIES`.
    """
    counts = {
        "brand": _spelled(_value_counts(items["brand"])),
        "category": _spelled(_levels(_value_counts(items["category"]))),
        "query": {query: (query, users) for query, users in zip(*_lists(queries), strict=True)},
        "phrase": {
            phrase: (phrase, n) for phrase, n in phrases(_value_counts(items["title"])).items()
        },
    }
    merged = _merged(counts)
    kept = sorted(sorted(merged, key=lambda key: (-merged[key].weight, key))[:most])
    return _file(kept, [merged[key] for key in kept])


def asked(impressions: Iterable[Impression], after: datetime, until: datetime) -> pa.Table:
    """`tables.QUERIES`: searches later than `after`, up to `until`, that found something and that
    at least FEWEST_USERS known users made; folded, sorted."""
    users_of: defaultdict[str, set[str]] = defaultdict(set)
    for shown in impressions:
        if shown.query and shown.user_id and shown.item_ids and after < shown.time <= until:
            query = fold(shown.query).rstrip()
            if query and len(query) <= MOST_CHARACTERS:
                users_of[query].add(shown.user_id)
    known = sorted(
        (query, len(users)) for query, users in users_of.items() if len(users) >= FEWEST_USERS
    )
    return pa.table([[query for query, _ in known], [users for _, users in known]], schema=QUERIES)


def phrases(titles: Mapping[str, int], most: int = MOST_COUNTED) -> dict[str, int]:
    """How many items have a phrase in their title: up to MOST_WORDS words that at least two items
    have, and short segments between punctuation marks whoever has them; none that always goes on in
    the same way.

    When more than `most` phrases are being counted, the rarer half is forgotten, so of a big
    catalogue's rare phrases some are missing or counted low (lossy counting, Manku & Motwani, VLDB
    2002)."""
    inside, whole = _Counts(most), _Counts(most)
    for title, items in titles.items():
        segments = [_Words.of(segment) for segment in _BETWEEN_SEGMENTS.split(fold(title))]
        inside.add({phrase for words in segments for phrase in words.phrases()}, items)
        whole.add({phrase for words in segments for phrase in words.whole()}, items)
    counted = {phrase: items for phrase, items in inside.items() if items > 1}
    return _without_halves({**whole, **counted})


def _without_halves(counts: Mapping[str, int]) -> dict[str, int]:
    """Without phrases that always go on in the same way: "stainless steel kitchen" where all have a
    sink after it. Single Latin words stay."""
    begun: list[str] = []  # phrases that the one at hand goes on from, shortest first
    halves = set()
    for phrase in sorted(counts):
        while begun and not phrase.startswith(begun[-1]):
            begun.pop()
        for shorter in begun:
            if counts[shorter] == counts[phrase] and _WORD_END.match(phrase, len(shorter)):
                halves.add(shorter)
        if not _LATIN_WORD.fullmatch(phrase):
            begun.append(phrase)
    return {phrase: items for phrase, items in counts.items() if phrase not in halves}


class _Counts(dict[str, int]):
    def __init__(self, most: int) -> None:
        self.most = most

    def add(self, phrases: Iterable[str], items: int) -> None:
        for phrase in phrases:
            self[phrase] = self.get(phrase, 0) + items
        if len(self) > self.most:
            counts = np.fromiter(self.values(), np.int64, len(self))
            limit = np.partition(counts, len(counts) // 2)[len(counts) // 2]
            kept = {phrase: n for phrase, n in self.items() if n > limit}
            self.clear()
            self.update(kept)


@dataclass(frozen=True)
class _Words:
    """A stretch of text without punctuation, where its words stand, and at which a phrase may begin
    or end."""

    text: str
    spans: list[tuple[int, int]]
    firm: list[bool]

    @classmethod
    def of(cls, text: str) -> _Words:
        spans, firm = [], []
        for match in _TOKEN.finditer(text):
            start = match.start()
            for word in _words(match[1]) if match[1] else [match[0]]:
                spans.append((start, start + len(word)))
                firm.append(word not in _LOOSE)
                start += len(word)
        return cls(text, spans, firm)

    def phrases(self) -> list[str]:
        """Up to MOST_WORDS words that a shopper might type."""
        ends = [at for at, firm in enumerate(self.firm) if firm]
        pairs = [
            (first, last) for first in ends for last in ends if first <= last < first + MOST_WORDS
        ]
        return self._readable(pairs)

    def whole(self) -> list[str]:
        """The text from its first word to its last, where it is short enough for a phrase."""
        fits = 0 < len(self.spans) <= MOST_WORDS_OF_A_SEGMENT and self.firm[0] and self.firm[-1]
        return self._readable([(0, len(self.spans) - 1)] if fits else [])

    def _readable(self, pairs: list[tuple[int, int]]) -> list[str]:
        found = [self.text[self.spans[first][0] : self.spans[last][1]] for first, last in pairs]
        return [
            phrase
            for phrase in found
            if 2 <= len(phrase) <= MOST_CHARACTERS and _LETTERS.search(phrase)
        ]


def _words(run: str) -> list[str]:
    """Chinese as jieba cuts it; a run with Japanese or Korean letters whole."""
    return [str(word) for word in _segmenter().cut(run)] if _HAN.fullmatch(run) else [run]


@lru_cache(maxsize=1)
def _segmenter() -> Any:
    """jieba with its own dictionary: words that others add to the shared one would change a
    release's bytes."""
    import jieba

    jieba.setLogLevel("ERROR")
    return jieba.Tokenizer()


def _value_counts(column: pa.ChunkedArray) -> dict[str, int]:
    """Each value and how many items have it, in the order of values: what is forgotten depends on
    it."""
    counted = pc.value_counts(column.drop_null().combine_chunks())
    return dict(
        sorted(
            zip(
                counted.field("values").to_pylist(),
                counted.field("counts").to_pylist(),
                strict=True,
            )
        )
    )


def _levels(categories: Mapping[str, int]) -> Counter[str]:
    """Items below each level's name, whatever stands above it."""
    counts: Counter[str] = Counter()
    for path, items in categories.items():
        for name in set(path.split(" / ")):
            counts[name] += items
    return counts


def _spelled(values: Mapping[str, int]) -> dict[str, tuple[str, int]]:
    """Folded value to its commonest spelling and count."""
    spellings: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for value, items in values.items():
        spellings[fold(value).rstrip()][value.strip()] += items
    return {
        key: (min(spelt, key=lambda text: (-spelt[text], text)), spelt.total())
        for key, spelt in spellings.items()
        if 2 <= len(key) <= MOST_CHARACTERS and any(map(str.isalnum, key))
    }


def _merged(counts: Mapping[str, Mapping[str, tuple[str, int]]]) -> dict[str, Suggestion]:
    """One suggestion a folded text; its weight is the sum over what it is."""
    merged: dict[str, Suggestion] = {}
    for kind, worth in KINDS.items():
        for key, (text, count) in counts[kind].items():
            there = merged.get(key, Suggestion(text, kind, 0.0))
            merged[key] = Suggestion(there.text, there.kind, there.weight + worth * count)
    return merged


def _lists(table: pa.Table) -> list[list[Any]]:
    return [column.to_pylist() for column in table.columns]


def _file(keys: list[str], suggestions: list[Suggestion]) -> pa.Buffer:
    inner = [
        (key[match.start() :], row)
        for row, key in enumerate(keys)
        for match in _WORD_START.finditer(key)
    ]
    later = sorted(each for each in inner if each[0] != keys[each[1]])
    rows = np.array([row for _, row in later], np.int32)
    weights = np.array([each.weight for each in suggestions], np.float32)
    texts, kinds = [each.text for each in suggestions], [each.kind for each in suggestions]
    starts = [keys, weights, np.arange(len(keys), dtype=np.int32), texts, kinds]
    inside = [
        [key for key, _ in later],
        weights[rows],
        rows,
        [None] * len(rows),
        [None] * len(rows),
    ]
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, SUGGESTIONS) as writer:
        for columns in (starts, inside):
            arrays = [
                pa.array(column, field.type)
                for column, field in zip(columns, SUGGESTIONS, strict=True)
            ]
            writer.write_batch(pa.RecordBatch.from_arrays(arrays, schema=SUGGESTIONS))
    return sink.getvalue()
