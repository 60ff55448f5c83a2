"""Builds the file of suggestions at night: brands, names of category levels, phrases of titles, and
queries of several users."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys.retrieval.text.scripts import CJK
from recsys.tables import QUERIES, SUGGESTIONS
from recsys.types import NEXT_CATEGORY, Impression
from recsys.understanding.phrases import mine_phrases
from recsys.understanding.suggestions import MAX_CHARACTERS, Suggestion, completion_key

#: Kinds and what one item or user weighs; of one text of several kinds, the first.
KINDS = {"brand": 2.0, "category": 2.0, "query": 10.0, "phrase": 1.0}
MAX_SUGGESTIONS = 500_000
#: A query is suggested, and stored at all, when so many users searched for it: k-anonymity.
MIN_USERS = 3

_LETTER = rf"[^\W_{CJK}]"
_WORD_START = re.compile(rf"[{CJK}]|(?<!{_LETTER}){_LETTER}")


def build_suggestion_file(
    items: pa.Table, queries: pa.Table, limit: int = MAX_SUGGESTIONS
) -> pa.Buffer:
    """The file of the heaviest `limit` suggestions; the same tables give the same bytes.

    `items` has title, brand and category; `queries` are `tables.QUERIES`.
    """
    query_counts = zip(*(column.to_pylist() for column in queries.columns), strict=True)
    phrase_counts = mine_phrases(_value_counts(items["title"])).items()
    counts = {
        "brand": _commonest_spellings(_value_counts(items["brand"])),
        "category": _commonest_spellings(_level_counts(_value_counts(items["category"]))),
        "query": {query: (query, users) for query, users in query_counts},
        "phrase": {phrase: (phrase, count) for phrase, count in phrase_counts},
    }
    merged = _merged(counts)
    keys = sorted(sorted(merged, key=lambda key: (-merged[key].weight, key))[:limit])
    return _file(keys, [merged[key] for key in keys])


class FrequentQueries:
    """Searches later than `after`, up to `until`, that had results, folded, with their signed-in
    users; impressions are added one by one."""

    def __init__(self, after: datetime, until: datetime) -> None:
        self.after, self.until = after, until
        self.users: defaultdict[str, set[str]] = defaultdict(set)

    def add(self, impression: Impression) -> None:
        text, user_id = impression.query, impression.user_id
        in_time = self.after < impression.time <= self.until
        if text and user_id and impression.item_ids and in_time:
            query = completion_key(text).rstrip()
            if query and len(query) <= MAX_CHARACTERS:
                self.users[query].add(user_id)

    def table(self) -> pa.Table:
        """`tables.QUERIES`, sorted: those that at least MIN_USERS users made."""
        counts = sorted(
            (query, len(users)) for query, users in self.users.items() if len(users) >= MIN_USERS
        )
        columns = [[query for query, _ in counts], [users for _, users in counts]]
        return pa.table(columns, schema=QUERIES)


def _value_counts(column: pa.ChunkedArray) -> dict[str, int]:
    """Each value and how many items have it, in the order of values: which rare phrases are dropped
    depends on it."""
    counted = pc.value_counts(column.drop_null().combine_chunks())
    values, counts = counted.field("values").to_pylist(), counted.field("counts").to_pylist()
    return dict(sorted(zip(values, counts, strict=True)))


def _level_counts(categories: Mapping[str, int]) -> Counter[str]:
    """Items below each level's name, whatever stands above it."""
    counts: Counter[str] = Counter()
    for paths, items in categories.items():
        for name in set(paths.replace(NEXT_CATEGORY, " / ").split(" / ")):
            counts[name] += items
    return counts


def _commonest_spellings(values: Mapping[str, int]) -> dict[str, tuple[str, int]]:
    """Key to its commonest spelling and the items of all its spellings."""
    spellings: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for value, items in values.items():
        spellings[completion_key(value).rstrip()][value.strip()] += items
    return {
        key: (min(counts, key=lambda text: (-counts[text], text)), counts.total())
        for key, counts in spellings.items()
        if 2 <= len(key) <= MAX_CHARACTERS and any(map(str.isalnum, key))
    }


def _merged(counts: Mapping[str, Mapping[str, tuple[str, int]]]) -> dict[str, Suggestion]:
    """One suggestion a key, of the first kind that has it; its weight is the sum over all kinds."""
    merged: dict[str, Suggestion] = {}
    for kind, kind_weight in KINDS.items():
        for key, (text, count) in counts[kind].items():
            first = merged.get(key, Suggestion(text, kind, 0.0))
            merged[key] = Suggestion(first.text, first.kind, first.weight + kind_weight * count)
    return merged


def _file(keys: list[str], suggestions: list[Suggestion]) -> pa.Buffer:
    weights = np.array([each.weight for each in suggestions], np.float32)
    rows = np.arange(len(keys), dtype=np.int32)
    texts, kinds = [each.text for each in suggestions], [each.kind for each in suggestions]
    later_keys, later_rows = _later_words(keys)
    nothing = [None] * len(later_keys)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, SUGGESTIONS) as writer:
        writer.write_batch(_batch(keys, weights, rows, texts, kinds))
        writer.write_batch(_batch(later_keys, weights[later_rows], later_rows, nothing, nothing))
    return sink.getvalue()


def _batch(*columns: Any) -> pa.RecordBatch:
    """In the order of `tables.SUGGESTIONS`."""
    arrays = [
        pa.array(column, field.type) for column, field in zip(columns, SUGGESTIONS, strict=True)
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=SUGGESTIONS)


def _later_words(keys: list[str]) -> tuple[list[str], np.ndarray]:
    """Each key from each of its later words on, sorted, and its row."""
    suffixes = sorted(
        (key[match.start() :], row)
        for row, key in enumerate(keys)
        for match in _WORD_START.finditer(key)
        if key[match.start() :] != key
    )
    rows = np.array([row for _, row in suffixes], np.int32)
    return [suffix for suffix, _ in suffixes], rows
