"""Lexical retrieval: BM25 over weighted fields, in any language, with query expansion."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np

from recsys.arrays import Candidates, Requests
from recsys.retrieval.text.analysis import index_normal_forms, index_tokens, tokenize
from recsys.retrieval.text.language_detection import detect_languages
from recsys.retrieval.text.lemmas import LemmaTable
from recsys.retrieval.text.negations import negated
from recsys.retrieval.text.query_expansion import Alternative, QueryTerm, Vocabulary, expand_query
from recsys.retrieval.text.stems import StemClasses
from recsys.retrieval.text.synonyms import Synonyms
from recsys.retrieval.vectors.exact import check_k, empty_top_k, top_k_columns
from recsys.types import Floats, Ints, Mask, Rows

#: BM25's term saturation and length normalisation, below the usual 1.5 and .75: titles are short
#: and rarely repeat a word.
K1, B = 0.6, 0.6
#: Beside the arrays of bm25s: the catalogue's languages, how it spells words with accents, their
#: lemmas, and the mean number of an item's terms.
LANGUAGES_FILE = "languages.json"


@dataclass(frozen=True)
class LexicalMatches:
    """A query over a catalogue: `scores` and `coverage` of all items, the terms that none has."""

    scores_I: Floats
    coverage_I: Floats
    missing: tuple[str, ...]


class LexicalIndex:
    """BM25 with term weights precomputed (Lù 2024, BM25S), as arrays that a process can map from a
    file."""

    def __init__(
        self,
        bm25: Any,
        languages: Sequence[str] = (),
        spellings: Sequence[str] = (),
        mean_length: float | None = None,
        *,
        lemmas: LemmaTable | None = None,
    ) -> None:
        self._bm25, self.languages, self._spellings = bm25, tuple(languages), spellings
        # sorted; "" stands for the vocabulary of a catalogue without words
        terms = [term for term in bm25.vocab_dict if term]
        self._indptr, self._rows, self._data = (
            bm25.scores[name] for name in ("indptr", "indices", "data")
        )
        stem_classes = StemClasses(terms, languages, spellings, lemmas)
        frequencies = np.diff(self._indptr)[: len(terms)]
        self._vocabulary = Vocabulary(terms, frequencies, self.items, stem_classes)
        # Of an index of before it was kept, nearly: an item's distinct terms.
        self.mean_length = mean_length or len(self._rows) / max(1, self.items) or 1.0

    @property
    def items(self) -> int:
        return int(self._bm25.scores["num_docs"])

    @property
    def vocabulary(self) -> Vocabulary:
        return self._vocabulary

    @property
    def terms(self) -> Sequence[str]:
        """Every term of the catalogue, sorted, as `index_terms` gives them."""
        return self.vocabulary.terms

    @property
    def frequencies(self) -> Ints:
        """How many items have each of `terms`."""
        return self.vocabulary.frequencies

    def rows_of_term(self, term_id: int) -> Rows:
        """The items that have a term, ascending; its id is its position in `terms`."""
        return self.posting(term_id)[0]

    def has_forms(self, word: str) -> bool:
        """Whether the catalogue has other forms of a folded word, or compounds of which it is the
        last part, in the languages that it is written in."""
        return self._vocabulary.has_forms(word)

    @classmethod
    def build(
        cls,
        fields: Mapping[str, Sequence[str]],
        boosts: Mapping[str, int],
        languages: Sequence[str] | None = None,
    ) -> LexicalIndex:
        """An index of I items from I texts a field; a field without a boost counts once.

        `languages` are those of Latin script whose inflections are to be found (names of
        `stems.LATIN`), by default those that the catalogue is written in.

        Simple BM25F: a term of a field counts boost times in the item, and so in its length
        (Robertson, Zaragoza & Taylor, Simple BM25 extension to multiple weighted fields, CIKM
        2004). Raises ValueError when fields differ in length or a boost is not a whole number from
        0."""
        import bm25s

        _check_fields(fields, boosts)
        vocabulary: dict[str, int] = {}
        spellings: set[str] = set()
        ids = [
            [vocabulary.setdefault(term, len(vocabulary)) for term in terms]
            for terms in item_terms(fields, boosts, spellings)
        ]
        if languages is None:
            languages = detect_languages(
                [" ".join(texts) for texts in zip(*fields.values(), strict=True)]
            )
        terms = sorted(vocabulary) or [""]
        sorted_id_of = {vocabulary.get(term): sorted_id for sorted_id, term in enumerate(terms)}
        sorted_ids = [[sorted_id_of[term_id] for term_id in item] for item in ids]
        sorted_vocabulary = {term: sorted_id for sorted_id, term in enumerate(terms)}
        bm25 = bm25s.BM25(k1=K1, b=B)
        bm25.index((sorted_ids, sorted_vocabulary), create_empty_token=False, show_progress=False)
        mean_length = sum(map(len, ids)) / max(1, len(ids))
        return cls(bm25, languages, sorted(spellings), mean_length)

    def save(self, folder: Path) -> None:
        """Writes the index; the same texts give the same bytes."""
        self._bm25.save(folder, show_progress=False)
        languages = {
            "languages": self.languages,
            "spellings": self._spellings,
            "mean_length": self.mean_length,
            "lemmas": self._vocabulary.stem_classes.lemmas,
        }
        (folder / LANGUAGES_FILE).write_text(json.dumps(languages), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> LexicalIndex:
        """The index with its arrays memory-mapped."""
        import bm25s

        file = folder / LANGUAGES_FILE
        languages = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
        return cls(bm25s.BM25.load(folder, mmap=True), **languages)

    def match(self, query: str, synonyms: Synonyms | None = None) -> LexicalMatches:
        """All of it at once: half of the time goes into the query's expansion."""
        terms = expand_query(query, self.vocabulary, synonyms)
        return LexicalMatches(self._scores(terms), self._coverage(terms), _missing(terms))

    def scores(self, query: str, synonyms: Synonyms | None = None) -> Floats:
        """[I] float32: BM25 of every item, 0 where no term matches.

        Each term of the query counts with the best of its alternatives in the item: itself, a
        joined, split or inflected form, a synonym, or, for the last word, a completion."""
        return self._scores(expand_query(query, self.vocabulary, synonyms))

    def _scores(self, terms: Sequence[QueryTerm]) -> Floats:
        scores_I = np.zeros(self.items, np.float32)
        for term in terms:
            _add_best(scores_I, list(map(self._postings, term.alternatives)))
        return scores_I

    def score_rows(self, query: str, rows: Rows, synonyms: Synonyms | None = None) -> Floats:
        """`scores` of these rows alone."""
        return self.scores(query, synonyms)[rows]

    def coverage(self, query: str, synonyms: Synonyms | None = None) -> Floats:
        """[I] float32 in 0..1: the share of the query's terms that each item has, weighed by IDF.

        An alternative counts as the term, but for half where it may only look related: another
        ending, or a completion, of a word that the catalogue has. A term that no item has weighs
        most; 0 everywhere for a query without terms."""
        return self._coverage(expand_query(query, self.vocabulary, synonyms))

    def _coverage(self, terms: Sequence[QueryTerm]) -> Floats:
        covered_I = np.zeros(self.items, np.float32)
        for term in terms:
            if term.idf > 0:
                by_coverage: dict[float, list[Rows]] = {}
                for each in term.alternatives:
                    by_coverage.setdefault(each.coverage, []).append(self._rows_with(each.ids))
                parts = [
                    (np.concatenate(lists), np.float32(term.idf * coverage))
                    for coverage, lists in by_coverage.items()
                ]
                _add_best(covered_I, parts)
        return np.minimum(covered_I / np.float32(sum(term.idf for term in terms) or 1), 1)

    def rows_with(self, text: str) -> Rows:
        """The items that have every term of the text, ascending; none for a text without."""
        terms = {term.text for token in tokenize(text) for term in token.terms if term.is_primary}
        ids = [self.vocabulary.id_of(term) for term in terms]
        if not ids or None in ids:
            return np.empty(0, np.int32)
        return self._rows_with([term_id for term_id in ids if term_id is not None])

    def rows_to_exclude(self, words: str) -> Rows:
        """The items that have these words in any of their forms, and do not say that they are
        without them; ascending."""
        has_I, forms = np.ones(self.items, bool), self.vocabulary.stem_classes.forms
        for token in tokenize(words):
            own = (self.vocabulary.id_of(term.text) for term in token.terms if term.is_primary)
            ids = {each for each in own if each is not None} | set(forms(token.spelling))
            word_I = np.zeros(self.items, bool)
            for term_id in ids:
                word_I[self.rows_of_term(term_id)] = True
            has_I &= word_I
        for word in words.split():
            if (without := self.vocabulary.id_of(negated(word))) is not None:
                has_I[self.rows_of_term(without)] = False
        return np.flatnonzero(has_I).astype(np.int32) if words.split() else np.empty(0, np.int32)

    def missing_terms(self, query: str, synonyms: Synonyms | None = None) -> tuple[str, ...]:
        """The query's terms of which no item has any alternative."""
        return _missing(expand_query(query, self.vocabulary, synonyms))

    def explain(self, query: str, row: int, synonyms: Synonyms | None = None) -> dict[str, float]:
        """What each of the item's terms adds to its score, an alternative of several terms under
        them all with spaces between."""
        contributions: dict[str, float] = {}
        for query_term in expand_query(query, self.vocabulary, synonyms):
            parts = [
                (self._weight(each, row), " ".join(self.terms[term_id] for term_id in each.ids))
                for each in query_term.alternatives
            ]
            weight, terms = max(parts, key=lambda part: part[0], default=(0.0, ""))
            if weight > 0:
                contributions[terms] = contributions.get(terms, 0.0) + weight
        return contributions

    def _postings(self, alternative: Alternative) -> tuple[Rows, Floats]:
        """The rows that have all its terms, and what it scores there."""
        lists = [self.posting(term_id) for term_id in alternative.ids]
        if len(lists) == 1:
            [(rows, weights)] = lists
            return rows, weights * np.float32(alternative.weight)
        rows = self._rows_with(alternative.ids)
        parts_TN = [weights[np.searchsorted(own, rows)] for own, weights in lists]
        return rows, np.sum(parts_TN, axis=0) * np.float32(alternative.weight)

    def _rows_with(self, ids: Sequence[int]) -> Rows:
        """The rows that have all of these terms, ascending."""
        lists = (self.posting(term_id)[0] for term_id in ids)
        return reduce(lambda left, right: left[np.isin(left, right, assume_unique=True)], lists)

    def posting(self, term_id: int) -> tuple[Rows, Floats]:
        """The items that have a term, ascending, and its weight in each."""
        low, high = self._indptr[term_id : term_id + 2]
        return self._rows[low:high], self._data[low:high]

    def _weight(self, alternative: Alternative, row: int) -> float:
        rows, weights = self._postings(alternative)
        return float(weights[rows == row].sum())


def _add_best(total_I: Floats, parts: Sequence[tuple[Rows, Floats | np.float32]]) -> None:
    """Adds to each row the largest of its values in the parts, none of them below 0."""
    if len(parts) == 1:
        [(rows, values)] = parts
        total_I[rows] += values
    elif parts:
        best_I = np.zeros(len(total_I), np.float32)
        for rows, values in parts:
            best_I[rows] = np.maximum(best_I[rows], values)
        rows = np.concatenate([rows for rows, _ in parts])
        total_I[rows] += best_I[rows]  # a repeated row counts once


def _missing(terms: Sequence[QueryTerm]) -> tuple[str, ...]:
    return tuple(term.term for term in terms if term.idf > 0 and not term.alternatives)


class LexicalRetriever:
    """The items of largest BM25 for the request's text, without purchased ones."""

    source = "lexical"

    def __init__(self, index: LexicalIndex, synonyms: Synonyms | None = None) -> None:
        self.index = index
        self.synonyms = synonyms

    def retrieve(self, requests: Requests, k: int, allowed: Mask | None = None) -> Candidates:
        check_k(k)
        if requests.texts is None:
            return Candidates.none(self.source, requests.size)
        rows_BK, scores_BK = empty_top_k(requests.size, k)
        for index, text in enumerate(requests.texts):
            scores_I = self.index.scores(text, self.synonyms)
            scores_I[scores_I <= 0] = -np.inf
            if allowed is not None:
                scores_I[~allowed] = -np.inf
            if requests.histories is not None:
                bought = requests.histories.slice(index, index + 1).bought()[1]
                scores_I[bought[bought >= 0]] = -np.inf
            rows_1K, scores_1K = top_k_columns(scores_I[None], k)
            rows_BK[index], scores_BK[index] = rows_1K[0], scores_1K[0]
        return Candidates(self.source, rows_BK, scores_BK)

    def score(self, requests: Requests, rows_BN: Rows) -> Floats:
        """BM25 of these rows; 0 where the request has no text or they share no term."""
        scores_BN = np.zeros(rows_BN.shape, np.float32)
        for index, text in enumerate(requests.texts or ()):
            scores_BN[index] = self.index.score_rows(text, rows_BN[index], self.synonyms)
        return scores_BN


def item_terms(
    fields: Mapping[str, Sequence[str]], boosts: Mapping[str, int], spellings: set[str]
) -> Iterator[list[str]]:
    """Each item's terms, as often as they count; adds the words with accents to `spellings`."""
    for texts in zip(*fields.values(), strict=True):
        item: list[str] = []
        for name, text in zip(fields, texts, strict=True):
            terms = index_normal_forms(text)
            for token in index_tokens(text):
                terms += [term.text for term in token.terms]
                if token.spelling != token.folded:
                    spellings.add(token.spelling)
            item += terms * boosts.get(name, 1)
        yield item


def _check_fields(fields: Mapping[str, Sequence[str]], boosts: Mapping[str, int]) -> None:
    if len({len(texts) for texts in fields.values()}) != 1:
        sizes = ", ".join(f"{name} {len(texts)}" for name, texts in fields.items())
        raise ValueError(
            f"fields of different lengths ({sizes}): give every field one text an item"
        )
    for name, boost in boosts.items():
        if boost != int(boost) or boost < 0:
            raise ValueError(
                f"the boost of {name} is {boost}: a term counts a whole number of times, from 0"
            )
