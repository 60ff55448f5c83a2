"""Judged pairs of a query and an item: what the encoder, the cross-encoder and the fusion learn from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from recsys.errors import InputError
from recsys.types import Floats, Ints

#: From this grade up an item is an answer to the query; below, it is a negative that somebody looked at.
GOOD = 0.5


@dataclass(frozen=True)
class Pairs:
    """P pairs: item row `rows_P` was judged `grades_P` (0 wrong .. 1 exactly right) for `queries[of_P]`."""

    queries: tuple[str, ...]
    of_P: Ints
    rows_P: Ints
    grades_P: Floats

    def __post_init__(self) -> None:
        if not len(self.of_P):
            raise InputError("there are no judged pairs: give at least one query with a judged item")
        if not len(self.of_P) == len(self.rows_P) == len(self.grades_P):
            raise InputError(
                f"{len(self.of_P)} queries, {len(self.rows_P)} items and {len(self.grades_P)} grades: "
                "give one of each a pair"
            )
        if not (np.isfinite(self.grades_P).all() and self.grades_P.min() >= 0 and self.grades_P.max() <= 1):
            raise InputError(f"grades run from {self.grades_P.min()} to {self.grades_P.max()}: give 0 to 1")

    @classmethod
    def of(cls, queries: Sequence[str], rows_P: Ints, grades_P: Floats) -> Pairs:
        """From one query text a pair; the distinct texts in order of first appearance."""
        place = {text: at for at, text in enumerate(dict.fromkeys(queries))}
        of_P = np.array([place[text] for text in queries], np.int64)
        return cls(tuple(place), of_P, np.asarray(rows_P, np.int64), np.asarray(grades_P, np.float32))

    def judged(self) -> list[tuple[Ints, Floats]]:
        """Per query its rows and grades."""
        order = np.argsort(self.of_P, kind="stable")
        ends = np.cumsum(np.bincount(self.of_P, minlength=len(self.queries)))[:-1]
        return list(zip(np.split(self.rows_P[order], ends), np.split(self.grades_P[order], ends), strict=True))

    def good(self, grade: float = GOOD) -> Ints:
        """Places of the pairs graded so or better."""
        return np.flatnonzero(self.grades_P >= grade)
