"""Relevance judgments of (query, item) pairs: what search is trained on and measured by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recsys.errors import InputError
from recsys.types import Floats, Ints

#: The relevance that an interaction implies, by label of `tables.EXAMPLES`: nothing, view, click,
#: cart, purchase.
GRADES = (0.0, 0.5, 0.75, 0.9, 1.0)
#: From these grades up a pair is a positive example, and the item counts as relevant.
USABLE, GOOD = 0.5, 0.75


@dataclass(frozen=True)
class JudgedPairs:
    """P pairs sorted by query: item row `rows_P` has the relevance `grades_P` (0 wrong .. 1 exactly
    right) for `queries[query_P]`."""

    queries: tuple[str, ...]
    query_P: NDArray[np.int64]
    rows_P: NDArray[np.int64]
    grades_P: Floats

    def __post_init__(self) -> None:
        query_P, grades_P = self.query_P, self.grades_P
        if not len(query_P):
            raise InputError(
                "there are no judged pairs: give at least one query with a judged item"
            )
        _check_lengths(query_P, self.rows_P, grades_P)
        if query_P[0] < 0 or query_P[-1] >= len(self.queries) or (np.diff(query_P) < 0).any():
            raise InputError(
                f"{len(self.queries)} queries have pairs of {query_P.min()} to {query_P.max()}, or "
                "in no order: number them from 0 and make them with JudgedPairs.from_unsorted"
            )
        if not (np.isfinite(grades_P).all() and grades_P.min() >= 0 and grades_P.max() <= 1):
            raise InputError(f"grades run from {grades_P.min()} to {grades_P.max()}: give 0 to 1")

    @classmethod
    def from_texts(cls, texts: Sequence[str], rows_P: Ints, grades_P: Floats) -> JudgedPairs:
        """From one query text a pair, in any order; the distinct texts in order of first
        appearance."""
        number = {text: at for at, text in enumerate(dict.fromkeys(texts))}
        query_P = np.array([number[text] for text in texts], np.int64)
        return cls.from_unsorted(tuple(number), query_P, rows_P, grades_P)

    @classmethod
    def from_unsorted(
        cls, queries: Sequence[str], query_P: Ints, rows_P: Ints, grades_P: Floats
    ) -> JudgedPairs:
        """From pairs in any order."""
        _check_lengths(query_P, rows_P, grades_P)
        order = np.argsort(query_P, kind="stable")
        query_P, rows_P = np.asarray(query_P, np.int64)[order], np.asarray(rows_P, np.int64)[order]
        return cls(tuple(queries), query_P, rows_P, np.asarray(grades_P, np.float32)[order])

    @property
    def offsets(self) -> NDArray[np.int64]:
        """Query q owns the pairs offsets[q]:offsets[q + 1]."""
        counts = np.bincount(self.query_P, minlength=len(self.queries))
        return np.concatenate([[0], np.cumsum(counts)])

    def by_query(self) -> list[tuple[Ints, Floats]]:
        """Each query's rows and grades."""
        ends = self.offsets[1:-1]
        return list(zip(np.split(self.rows_P, ends), np.split(self.grades_P, ends), strict=True))

    def positives(self) -> NDArray[np.int64]:
        """Indices of the pairs of grade USABLE or better: the positives of contrastive training."""
        return np.flatnonzero(self.grades_P >= USABLE)

    def relevant(self) -> tuple[Ints, Ints]:
        """The ground truth as `metrics` takes it: offsets and rows of each query's items of grade
        GOOD or better."""
        relevant_P = self.grades_P >= GOOD
        counts = np.bincount(self.query_P[relevant_P], minlength=len(self.queries))
        return np.concatenate([[0], np.cumsum(counts)]), self.rows_P[relevant_P]


def _check_lengths(query_P: Ints, rows_P: Ints, grades_P: Floats) -> None:
    if not len(query_P) == len(rows_P) == len(grades_P):
        raise InputError(
            f"{len(query_P)} queries, {len(rows_P)} items and {len(grades_P)} grades: "
            "give one of each a pair"
        )
