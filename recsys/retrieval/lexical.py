"""Words to items: BM25 over weighted fields, in any language, with the last word taken as a beginning."""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from recsys.retrieval.exact import best_columns, check_k, padding
from recsys.types import Candidates, Floats, Mask, Requests

_CJK = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003134f"
_WORD = rf"(?:\d+(?:[.,/]\d+)+|[^\W_{_CJK}]+)"
_TOKEN = re.compile(rf"([{_CJK}]+)|({_WORD}(?:[-_]{_WORD})*)")
_POSSESSIVE = re.compile(r"['’]s\b")

PREFIX_TERMS = 32
#: What a term that only begins like the last word counts, against 1 for the word itself.
PREFIX_DISCOUNT = 0.25


def words(text: str) -> list[str]:
    """The terms of a text, for items and queries alike.

    Case and width are folded, plurals cut; 1.5 and 1/2 stay whole; AB-123 gives ab, 123 and ab123; a run of
    Chinese, Japanese or Korean characters gives its pairs, or the character where it stands alone.
    """
    folded = _POSSESSIVE.sub("", unicodedata.normalize("NFKC", text).casefold())
    return [term for run, compound in _TOKEN.findall(folded) for term in (_pairs(run) if run else _parts(compound))]


def _pairs(run: str) -> list[str]:
    return [run[at : at + 2] for at in range(len(run) - 1)] or [run]


def _parts(compound: str) -> list[str]:
    parts = re.split("[-_]", compound)
    return [*map(_singular, parts), "".join(parts)] if len(parts) > 1 else [_singular(compound)]


@lru_cache(maxsize=100_000)
def _singular(word: str) -> str:
    """The S-stemmer (Harman, How effective is suffixing?, JASIS 1991), taking -es off after sibilants too."""
    if len(word) < 4 or not word.isalpha() or not word.endswith("s") or word.endswith(("ss", "us", "is")):
        return word
    if word.endswith("ies"):
        return word[:-3] + "y"
    return word[:-2] if word.endswith(("xes", "ches", "shes", "sses")) else word[:-1]


class LexicalIndex:
    """BM25 with term weights precomputed (Lù 2024, BM25S), as arrays that a process can map from a file."""

    def __init__(self, bm25: Any) -> None:
        self._bm25 = bm25
        self._terms = list(bm25.vocab_dict)  # sorted: a term's id is its place

    @property
    def items(self) -> int:
        return int(self._bm25.scores["num_docs"])

    @classmethod
    def build(cls, fields: Mapping[str, Sequence[str]], boosts: Mapping[str, int]) -> LexicalIndex:
        """An index of I items from I texts a field; a field without a boost counts once.

        Simple BM25F: a term of a field counts boost times in the item, and so in its length (Robertson, Zaragoza &
        Taylor, Simple BM25 extension to multiple weighted fields, CIKM 2004). Raises ValueError when fields differ
        in length or a boost is not a whole number from 0.
        """
        import bm25s

        _check_fields(fields, boosts)
        vocabulary: dict[str, int] = {}
        ids = [
            [vocabulary.setdefault(term, len(vocabulary)) for term in terms] for terms in _item_terms(fields, boosts)
        ]
        terms = sorted(vocabulary) or [""]
        place = {vocabulary[term]: at for at, term in enumerate(terms)} if vocabulary else {}
        bm25 = bm25s.BM25()
        sorted_ids = [[place[term] for term in item] for item in ids]
        bm25.index(
            (sorted_ids, {term: at for at, term in enumerate(terms)}), create_empty_token=False, show_progress=False
        )
        return cls(bm25)

    def save(self, folder: Path) -> None:
        """Writes the index; the same texts give the same bytes."""
        self._bm25.save(folder, show_progress=False)

    @classmethod
    def load(cls, folder: Path) -> LexicalIndex:
        """The index with its arrays memory-mapped."""
        import bm25s

        return cls(bm25s.BM25.load(folder, mmap=True))

    def scores(self, query: str) -> Floats:
        """[I] float32: BM25 of every item, 0 where no term matches. The last word also matches what it begins."""
        terms = words(query)
        scores_I = self._sum(at for at in map(self._find, terms) if at is not None)
        if terms:
            scores_I += np.float32(PREFIX_DISCOUNT) * self._sum(self._beginning_with(terms[-1]))
        return scores_I

    def _sum(self, term_ids: Iterable[int]) -> Floats:
        return self._bm25.get_scores_from_ids(list(term_ids))

    def _find(self, term: str) -> int | None:
        return self._bm25.vocab_dict.get(term)

    def _beginning_with(self, prefix: str) -> list[int]:
        """Ids of the PREFIX_TERMS most frequent longer terms that begin with `prefix`."""
        if len(prefix) < 2 and not re.match(f"[{_CJK}]", prefix):
            return []
        low, high = bisect_left(self._terms, prefix), bisect_left(self._terms, prefix + "\U0010ffff")
        low += low < high and self._terms[low] == prefix
        frequencies = np.diff(self._bm25.scores["indptr"][low : high + 1])
        return (low + np.argsort(-frequencies, kind="stable")[:PREFIX_TERMS]).tolist()


class LexicalRetriever:
    """Items that share a term with the request's text, by BM25, without what its history bought."""

    source = "lexical"

    def __init__(self, index: LexicalIndex) -> None:
        self.index = index

    def retrieve(self, requests: Requests, k: int, allowed: Mask | None = None) -> Candidates:
        check_k(k)
        if requests.texts is None:
            return Candidates.none(self.source, requests.size)
        rows_BK, scores_BK = padding(requests.size, k)
        for place, text in enumerate(requests.texts):
            scores_I = self.index.scores(text)
            scores_I[scores_I <= 0] = -np.inf
            if allowed is not None:
                scores_I[~allowed] = -np.inf
            if requests.histories is not None:
                bought = requests.histories.slice(place, place + 1).bought()[1]
                scores_I[bought[bought >= 0]] = -np.inf
            rows_BK[place], scores_BK[place] = (answer[0] for answer in best_columns(scores_I[None], k))
        return Candidates(self.source, rows_BK, scores_BK)


def _item_terms(fields: Mapping[str, Sequence[str]], boosts: Mapping[str, int]) -> Iterator[list[str]]:
    names = list(fields)
    for texts in zip(*fields.values(), strict=True):
        yield [term for name, text in zip(names, texts, strict=True) for term in words(text) * boosts.get(name, 1)]


def _check_fields(fields: Mapping[str, Sequence[str]], boosts: Mapping[str, int]) -> None:
    if len({len(texts) for texts in fields.values()}) != 1:
        sizes = ", ".join(f"{name} {len(texts)}" for name, texts in fields.items())
        raise ValueError(f"fields of different lengths ({sizes}): give every field one text an item")
    for name, boost in boosts.items():
        if boost != int(boost) or boost < 0:
            raise ValueError(f"the boost of {name} is {boost}: a term counts a whole number of times, from 0")
