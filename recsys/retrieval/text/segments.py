"""BM25 over a release's index and the items that came after it, with the statistics of both: an
answer's scores do not tell in which segment an item lies."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cached_property

import numpy as np

from recsys.retrieval.text.bm25 import K1, B, LexicalIndex, item_terms
from recsys.retrieval.text.query_expansion import MAX_COMPLETIONS, Vocabulary
from recsys.retrieval.text.stems import StemClasses
from recsys.types import Floats, Ints, Rows


class SegmentedIndex(LexicalIndex):
    """The items of `base` and, behind them, S more. A term's id is that of `base`; terms that are
    new have ids behind.

    Weights of the new items are BM25's with the base's mean length, and a frequency that counts
    both segments; those of the base stay as the night computed them, which differ by what S items
    change of the frequencies."""

    def __init__(
        self, base: LexicalIndex, fields: Mapping[str, Sequence[str]], boosts: Mapping[str, int]
    ) -> None:
        self.base = base
        spellings: set[str] = set()
        counts = [Counter(terms) for terms in item_terms(fields, boosts, spellings)]
        self._new_items = len(counts)
        self.languages = base.languages
        new = sorted({term for each in counts for term in each} - _present(base, counts))
        own = {term: base.vocabulary.id_of(term) for each in counts for term in each}
        ids = own | {term: len(base.terms) + at for at, term in enumerate(new)}
        frequencies = np.concatenate([base.frequencies, np.zeros(len(new), np.int64)])
        for each in counts:
            for term in each:
                frequencies[ids[term]] += 1
        self._vocabulary = _UnionVocabulary(base, new, frequencies, self.items, sorted(spellings))
        self._segment = self._postings_of(counts, ids)

    @property
    def items(self) -> int:
        return self.base.items + self._new_items

    @property
    def new_terms(self) -> Sequence[str]:
        """The terms that the base does not have."""
        return self._vocabulary.terms[len(self.base.terms) :]

    def posting(self, term_id: int) -> tuple[Rows, Floats]:
        later = self._segment.get(term_id)
        if term_id >= len(self.base.terms):
            return later or (np.empty(0, np.int32), np.empty(0, np.float32))
        rows, weights = self.base.posting(term_id)
        if later is None:
            return rows, weights
        return np.concatenate([rows, later[0]]), np.concatenate([weights, later[1]])

    def _postings_of(
        self, counts: Sequence[Counter[str]], ids: Mapping[str, int | None]
    ) -> dict[int, tuple[Rows, Floats]]:
        """Of each term of the new items their rows and weights (Lucene's BM25, as bm25s)."""
        entries: dict[int, list[tuple[int, float]]] = {}
        for at, terms in enumerate(counts):
            length = sum(terms.values()) / self.base.mean_length
            for term, count in terms.items():
                term_id = ids[term]
                assert term_id is not None
                saturated = count / (count + K1 * (1 - B + B * length))
                weight = self._vocabulary.idf(term_id) * saturated
                entries.setdefault(term_id, []).append((self.base.items + at, weight))
        return {
            term_id: (np.array(rows, np.int32), np.array(weights, np.float32))
            for term_id, pairs in entries.items()
            for rows, weights in [zip(*pairs, strict=True)]
        }


class _UnionVocabulary(Vocabulary):
    """The terms of a base and, behind them, new ones."""

    def __init__(
        self,
        base: LexicalIndex,
        new: Sequence[str],
        frequencies: Ints,
        item_count: int,
        spellings: Sequence[str],
    ) -> None:
        self.base, self._start = base.vocabulary, len(base.terms)
        self.new = Vocabulary(
            new, frequencies[self._start :], item_count, StemClasses(new, base.languages, spellings)
        )
        self.terms = _Chain(base.terms, new)
        self.frequencies, self.item_count = frequencies, item_count
        self.stem_classes = _UnionStems(self.base.stem_classes, self.new.stem_classes, self._start)

    def id_of(self, term: str) -> int | None:
        if (own := self.base.id_of(term)) is not None:
            return own
        later = self.new.id_of(term)
        return None if later is None else self._start + later

    def completions(self, prefix: str) -> list[int]:
        return self._most_frequent(self.base.completions(prefix), self.new.completions(prefix))

    def compounds(self, last_part: str) -> list[int]:
        return self._most_frequent(self.base.compounds(last_part), self.new.compounds(last_part))

    def _most_frequent(self, base: list[int], new: list[int]) -> list[int]:
        ids = [*base, *(self._start + term_id for term_id in new)]
        return sorted(ids, key=lambda at: (-int(self.frequencies[at]), at))[:MAX_COMPLETIONS]


class _UnionStems(StemClasses):
    def __init__(self, base: StemClasses, new: StemClasses, start: int) -> None:
        self.base, self.new, self._start = base, new, start

    @property
    def compounds(self) -> bool:
        return self.base.compounds

    def forms(self, word: str) -> list[int]:
        later = (self._start + term_id for term_id in self.new.forms(word))
        return [*self.base.forms(word), *later]


class _Chain(Sequence[str]):
    """Two sequences, one behind the other."""

    def __init__(self, first: Sequence[str], second: Sequence[str]) -> None:
        self.first, self.second = first, second

    @cached_property
    def _length(self) -> int:
        return len(self.first)

    def __len__(self) -> int:
        return self._length + len(self.second)

    def __getitem__(self, at: int | slice) -> str | Sequence[str]:  # type: ignore[override]
        if isinstance(at, slice):
            return [self[index] for index in range(*at.indices(len(self)))]  # type: ignore[misc]
        return self.first[at] if at < self._length else self.second[at - self._length]


def _present(base: LexicalIndex, counts: Sequence[Counter[str]]) -> set[str]:
    """Of the terms of these items those that the base has."""
    terms = {term for each in counts for term in each}
    return {term for term in terms if base.vocabulary.id_of(term) is not None}
