"""Query autocompletion: up to k suggestions for a prefix, by binary search in a file of a release.

The file (`tables.SUGGESTIONS`) has two record batches, each sorted by key: the suggestions by their
beginnings, and by the beginnings of their later words."""

from __future__ import annotations

import re
from bisect import bisect_left
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from recsys.errors import ReleaseError
from recsys.retrieval.text.scripts import fold
from recsys.types import Floats

#: A longer text is no suggestion.
MAX_CHARACTERS = 60
#: A shorter prefix that nothing begins with is not taken for a typo.
MIN_FUZZY_CHARACTERS = 4
#: Of the keys with the prefix's first character so many, the heaviest, are compared with a typo.
FUZZY_CANDIDATES = 2_000
#: A suggestion may have several later words that begin with the prefix: so many keys for each.
_KEYS_PER_SUGGESTION = 8
#: Keys a block of which the maximum weight is known.
_BLOCK = 256
_LAST_CHARACTER = "\U0010ffff"
_MARKS = str.maketrans("", "", "®™©℠")


@dataclass(frozen=True)
class Suggestion:
    """A text to search for; `kind` is one of `suggestion_builder.KINDS`."""

    text: str
    kind: str
    weight: float


def completion_key(text: str) -> str:
    """What a text is looked up by: case, width and runs of white space folded away. A space at the
    end stays: it ends the word before it."""
    return re.sub(r"\s+", " ", fold(text.translate(_MARKS))).lstrip()


class Suggestions:
    """The open file. Safe for many threads."""

    def __init__(self, texts: pa.RecordBatch, later_words: pa.RecordBatch) -> None:
        self._by_text, self._by_later_word = _PrefixIndex(texts), _PrefixIndex(later_words)
        self._texts, self._kinds = texts["text"], texts["kind"]

    @classmethod
    def open(cls, path: Path) -> Suggestions:
        """The file, memory-mapped. Raises ReleaseError when it is missing."""
        try:
            file = pa.ipc.open_file(pa.memory_map(str(path)))
        except FileNotFoundError:
            raise ReleaseError(f"there is no {path}: promote another release") from None
        return cls(file.get_batch(0), file.get_batch(1))

    def __len__(self) -> int:
        return len(self._texts)

    def complete(self, prefix: str, k: int = 8) -> list[Suggestion]:
        """Up to k, best first: those that begin with the prefix, then those of which a later word
        does; where there are none, those that begin with it but for one typo after its first
        character."""
        key = completion_key(prefix)
        rows = dict.fromkeys(self._by_text.heaviest(key, k))
        if len(rows) < k:
            rows |= dict.fromkeys(self._by_later_word.heaviest(key, _KEYS_PER_SUGGESTION * k))
        if not rows and MIN_FUZZY_CHARACTERS <= len(key) <= MAX_CHARACTERS:
            rows = dict.fromkeys(self._by_text.heaviest_fuzzy(key, k))
        return [self._suggestion(row) for row in list(rows)[:k]]

    def _suggestion(self, row: int) -> Suggestion:
        weight = float(self._by_text.weights[row])
        return Suggestion(self._texts[row].as_py(), self._kinds[row].as_py(), weight)


class _PrefixIndex:
    """Sorted keys with weights. The maximum of each block of keys is known, so that the heaviest of
    a long range (all that begin with "s") are found in few blocks: the k heaviest lie in the k
    blocks with the largest maxima."""

    def __init__(self, batch: pa.RecordBatch) -> None:
        self._keys, self._rows = batch["key"], np.asarray(batch["row"])
        self.weights: Floats = np.asarray(batch["weight"])
        starts = np.arange(0, len(self._keys), _BLOCK)
        self._maxima = np.maximum.reduceat(self.weights, starts) if len(batch) else None

    def __len__(self) -> int:
        return len(self._keys)

    def __getitem__(self, index: int) -> str:
        return str(self._keys[index].as_py())

    def heaviest(self, prefix: str, k: int) -> list[int]:
        """Rows of the k heaviest keys that begin with the prefix, heaviest first, then in the order
        of keys."""
        low = bisect_left(self, prefix)
        high = bisect_left(self, prefix + _LAST_CHARACTER, low)
        candidates = self._candidates(low, high, k)
        return self._rows[candidates[_largest(self.weights[candidates], k)]].tolist()

    def heaviest_fuzzy(self, prefix: str, k: int) -> list[int]:
        """Rows of the k heaviest keys whose beginning is one edit from the prefix, among the
        FUZZY_CANDIDATES heaviest that have its first character. A beginning is as long as the
        prefix, or a character longer or shorter."""
        from rapidfuzz.distance import OSA
        from rapidfuzz.process import cdist

        rows = np.array(self.heaviest(prefix[0], FUZZY_CANDIDATES), np.int32)
        keys, is_near_N = self._keys.take(pa.array(rows)), np.zeros(len(rows), bool)
        for length in range(len(prefix) - 1, len(prefix) + 2):
            beginnings = pc.utf8_slice_codeunits(keys, 0, length).dictionary_encode()
            distinct = beginnings.dictionary.to_pylist()
            edits = cdist([prefix], distinct, scorer=OSA.distance, score_cutoff=1)[0]
            is_near_N |= (edits <= 1)[np.asarray(beginnings.indices)]
        return rows[is_near_N][:k].tolist()

    def _candidates(self, low: int, high: int, k: int) -> NDArray[np.int64]:
        """Positions between low and high that hold the k heaviest."""
        first, last = -(-low // _BLOCK), high // _BLOCK
        if self._maxima is None or last - first <= k:
            return np.arange(low, high)
        blocks = first + np.sort(_largest(self._maxima[first:last], k))
        inside = (blocks[:, None] * _BLOCK + np.arange(_BLOCK)).ravel()
        return np.concatenate(
            [np.arange(low, first * _BLOCK), inside, np.arange(last * _BLOCK, high)]
        )


def _largest(values: Floats, k: int) -> NDArray[np.int64]:
    """Positions of the k largest values, largest first; of equal ones the first."""
    positions = np.arange(len(values))
    if len(values) > k:
        limit = np.partition(values, -k)[-k]
        above = np.flatnonzero(values > limit)
        positions = np.concatenate([above, np.flatnonzero(values == limit)[: k - len(above)]])
    return positions[np.argsort(-values[positions], kind="stable")]
