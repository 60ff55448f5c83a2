"""Columns of labels with their levels: what categories and brands are to filters and facets."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from recsys.types import BELOW, NEXT_CATEGORY, Ints, Mask


@dataclass(frozen=True, kw_only=True)
class Labels:
    """A column of labels, case folded: `codes_I` names each item's, and each label lies below some
    values.

    A brand lies below itself, "a / b" below "a" and "a / b", several paths of one item below the
    values of each. Pair p says that label `labels_P[p]` lies below value `values_P[p]`;
    `spellings_V` are the values as most items spell them, and `value_index` finds them folded.
    `first_codes_I` names the label that is each item's first path alone."""

    codes_I: NDArray[np.int32]
    first_codes_I: NDArray[np.int32]
    labels_P: NDArray[np.int32]
    values_P: NDArray[np.int32]
    spellings_V: tuple[str, ...]
    value_index: Mapping[str, int]

    @classmethod
    def of(cls, column: pa.ChunkedArray, nested: bool, several: bool | None = None) -> Labels:
        """`nested` labels have levels; where they are `several` (by default where they are nested)
        an item's label may be some, with NEXT_CATEGORY between them."""
        coded = _coded(column)
        several = nested if several is None else several
        spellings, spelling_I = coded.dictionary.to_pylist(), np.asarray(coded.indices)
        counts: dict[str, Counter[str]] = {}  # of each value, how many items spell it how
        for spelling, items in zip(spellings, np.bincount(spelling_I).tolist(), strict=True):
            for value in _above(spelling, nested, several):
                counts.setdefault(value.casefold(), Counter())[value] += items
        value_index = {value: index for index, value in enumerate(counts)}
        spellings_V = tuple(
            min(variants, key=lambda text: (-variants[text], text)) for variants in counts.values()
        )
        folded: dict[str, int] = {}
        label_S = np.array(
            [folded.setdefault(text.casefold(), len(folded)) for text in spellings], np.int32
        )
        first_S = np.array(
            [
                folded.setdefault(text.casefold().split(NEXT_CATEGORY)[0], len(folded))
                for text in spellings
            ],
            np.int32,
        )
        pairs = [
            (at, value_index[value])
            for label, at in folded.items()
            for value in _above(label, nested, several)
        ]
        labels_P, values_P = np.array(pairs, np.int32).reshape(-1, 2).T
        return cls(
            codes_I=label_S[spelling_I],
            first_codes_I=first_S[spelling_I],
            labels_P=labels_P,
            values_P=values_P,
            spellings_V=spellings_V,
            value_index=value_index,
        )

    def followed_by(self, later: Labels) -> Labels:
        """With more items behind: labels and values that both have keep their codes here."""
        value_index = dict(self.value_index)
        spellings = list(self.spellings_V)
        for folded, at in later.value_index.items():
            if folded not in value_index:
                value_index[folded] = len(spellings)
                spellings.append(later.spellings_V[at])
        values_of = later._values_of_labels()
        folded_V = {at: folded for folded, at in later.value_index.items()}
        labels, pairs, codes = dict(self._label_index), list[tuple[int, int]](), list[int]()
        free = int(self.labels_P.max(initial=-1)) + 1
        for values in values_of:
            own = tuple(sorted(value_index[folded_V[at]] for at in values))
            if own not in labels:
                labels[own], free = free, free + 1
                pairs += [(labels[own], value) for value in own]
            codes.append(labels[own])
        added_P = np.array(pairs, np.int32).reshape(-1, 2).T
        code_L = np.array([*codes, 0], np.int32)
        return Labels(
            codes_I=np.concatenate([self.codes_I, code_L[later.codes_I]]),
            first_codes_I=np.concatenate([self.first_codes_I, code_L[later.first_codes_I]]),
            labels_P=np.concatenate([self.labels_P, added_P[0]]),
            values_P=np.concatenate([self.values_P, added_P[1]]),
            spellings_V=tuple(spellings),
            value_index=value_index,
        )

    def _values_of_labels(self) -> list[list[int]]:
        """The values that each label lies below."""
        values: list[list[int]] = [[] for _ in range(int(self.labels_P.max(initial=-1)) + 1)]
        for label, value in zip(self.labels_P.tolist(), self.values_P.tolist(), strict=True):
            values[label].append(value)
        return values

    @cached_property
    def _label_index(self) -> dict[tuple[int, ...], int]:
        """The label that lies below exactly these values; of labels that do, the last."""
        return {tuple(sorted(values)): at for at, values in enumerate(self._values_of_labels())}

    def below(self, values: Sequence[str]) -> Mask:
        """[L]: which labels lie below one of the values, in any case."""
        indices = [
            at for value in values if (at := self.value_index.get(value.casefold())) is not None
        ]
        below_L = np.zeros(int(self.labels_P.max(initial=-1)) + 1, bool)
        below_L[self.labels_P[np.isin(self.values_P, indices)]] = True
        return below_L

    def counts(self, rows: Ints, products_I: Ints | None = None) -> NDArray[np.int64]:
        """[V]: how many of the items lie below each value, or how many of their products."""
        if products_I is not None:
            return self._product_counts(self.codes_I[rows], products_I[rows])
        items_L = np.bincount(self.codes_I[rows], minlength=int(self.labels_P.max(initial=-1)) + 1)
        return np.bincount(self.values_P, items_L[self.labels_P], len(self.spellings_V)).astype(
            np.int64
        )

    def _product_counts(self, codes_N: Ints, products_N: Ints) -> NDArray[np.int64]:
        starts_N, ends_N = (np.searchsorted(self.labels_P, codes_N, side) for side in _SIDES)
        values_N, size = ends_N - starts_N, int(products_N.max(initial=0)) + 1
        steps = np.arange(values_N.sum()) - np.repeat(np.cumsum(values_N) - values_N, values_N)
        values = self.values_P[np.repeat(starts_N, values_N) + steps].astype(np.int64)
        pairs = np.unique(values * size + np.repeat(products_N, values_N))
        return np.bincount(pairs // size, minlength=len(self.spellings_V))


_SIDES: tuple[Literal["left", "right"], ...] = ("left", "right")


def _coded(column: pa.ChunkedArray) -> pa.DictionaryArray:
    array = column.combine_chunks()
    if pa.types.is_dictionary(column.type):
        return array.chunk(0) if isinstance(array, pa.ChunkedArray) else array
    return pc.fill_null(array, "").dictionary_encode()


def _above(label: str, nested: bool, several: bool) -> list[str]:
    """The values that a label lies below; of each path itself last."""
    paths = label.split(NEXT_CATEGORY) if several else [label]
    if not nested:
        return list(dict.fromkeys(paths))
    return list(dict.fromkeys(value for path in paths for value in _levels(path)))


def _levels(path: str) -> list[str]:
    ends = [at for at in range(len(path)) if path.startswith(BELOW, at)]
    return [*(path[:end] for end in ends), path]
