"""Judged pairs of a query and an item: what search learns from, and what it is measured by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recsys.errors import InputError
from recsys.types import Floats, Ints

#: What an interaction says of an item, by label of `tables.EXAMPLES`: nothing, view, click, cart,
#: purchase.
GRADES = (0.0, 0.5, 0.75, 0.9, 1.0)
#: From these grades up an item may be shown for the query, and is an answer to it.
USABLE, GOOD = 0.5, 0.75


@dataclass(frozen=True)
class JudgedPairs:
    """P pairs sorted by query: item row `rows_P` was judged `grades_P` (0 wrong .. 1 exactly right)
    for `queries[of_P]`."""

    queries: tuple[str, ...]
    of_P: NDArray[np.int64]
    rows_P: NDArray[np.int64]
    grades_P: Floats

    def __post_init__(self) -> None:
        if not len(self.of_P):
            raise InputError(
                "there are no judged pairs: give at least one query with a judged item"
            )
        _check_lengths(self.of_P, self.rows_P, self.grades_P)
        if self.of_P[0] < 0 or self.of_P[-1] >= len(self.queries) or (np.diff(self.of_P) < 0).any():
            raise InputError(
                f"{len(self.queries)} queries have pairs of {self.of_P.min()} to {self.of_P.max()}, or in no order: "
                "number them from 0 and make them with Pairs.sorted"
            )
        if not (
            np.isfinite(self.grades_P).all()
            and self.grades_P.min() >= 0
            and self.grades_P.max() <= 1
        ):
            raise InputError(
                f"grades run from {self.grades_P.min()} to {self.grades_P.max()}: give 0 to 1"
            )

    @classmethod
    def of(cls, texts: Sequence[str], rows_P: Ints, grades_P: Floats) -> JudgedPairs:
        """From one query text a pair, in any order; the distinct texts in order of first
        appearance."""
        place = {text: at for at, text in enumerate(dict.fromkeys(texts))}
        return cls.sorted(
            tuple(place), np.array([place[text] for text in texts], np.int64), rows_P, grades_P
        )

    @classmethod
    def sorted(
        cls, queries: Sequence[str], of_P: Ints, rows_P: Ints, grades_P: Floats
    ) -> JudgedPairs:
        """From pairs in any order."""
        _check_lengths(of_P, rows_P, grades_P)
        order = np.argsort(of_P, kind="stable")
        of_P, rows_P = np.asarray(of_P, np.int64)[order], np.asarray(rows_P, np.int64)[order]
        return cls(tuple(queries), of_P, rows_P, np.asarray(grades_P, np.float32)[order])

    @property
    def offsets(self) -> NDArray[np.int64]:
        """Query q owns the pairs offsets[q]:offsets[q + 1]."""
        return np.concatenate([[0], np.cumsum(np.bincount(self.of_P, minlength=len(self.queries)))])

    def by_query(self) -> list[tuple[Ints, Floats]]:
        """Each query's rows and grades."""
        ends = self.offsets[1:-1]
        return list(zip(np.split(self.rows_P, ends), np.split(self.grades_P, ends), strict=True))

    def usable(self) -> NDArray[np.int64]:
        """Places of the pairs that a model may be taught to bring together."""
        return np.flatnonzero(self.grades_P >= USABLE)

    def answers(self) -> tuple[Ints, Ints]:
        """Offsets and rows of each query's answers, as `metrics` takes them."""
        kept = self.grades_P >= GOOD
        counts = np.bincount(self.of_P[kept], minlength=len(self.queries))
        return np.concatenate([[0], np.cumsum(counts)]), self.rows_P[kept]


def _check_lengths(of_P: Ints, rows_P: Ints, grades_P: Floats) -> None:
    if not len(of_P) == len(rows_P) == len(grades_P):
        raise InputError(
            f"{len(of_P)} queries, {len(rows_P)} items and {len(grades_P)} grades: give one of each a pair"
        )
