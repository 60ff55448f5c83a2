"""Ids, codes and completions of a release and of the items behind it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys.release.arrow import IdMap
from recsys.types import Ints, Mask, Rows
from recsys.understanding.codes import CodeIndex
from recsys.understanding.suggestions import Suggestion, Suggestions, completion_key


class ExtendedIds(IdMap):
    """The ids of a release's items, and behind them others. `live_rows_I` says where each item of
    the release is now: its own row, one of the others, or -1 where it is gone."""

    def __init__(self, first: IdMap, later: Sequence[str], live_rows_I: Ints) -> None:
        self.first, self.later, self.live_rows_I = first, later, live_rows_I
        self._rows = {item_id: len(first) + at for at, item_id in enumerate(later)}

    def __len__(self) -> int:
        return len(self.first) + len(self.later)

    def __getitem__(self, row: int) -> str:
        return self.first[row] if row < len(self.first) else self.later[row - len(self.first)]

    def row(self, key: str) -> int | None:
        if (later := self._rows.get(key)) is not None:
            return later
        row = self.first.row(key)
        live = -1 if row is None else int(self.live_rows_I[row])
        return live if live >= 0 else None

    def rows(self, keys: pa.Array | pa.ChunkedArray) -> Rows:
        rows = np.append(self.live_rows_I, -1)[self.first.rows(keys)].astype(np.int32)
        later = pc.index_in(keys, value_set=pa.array(self.later, pa.string()))
        later_N = np.asarray(pc.fill_null(later, -1)).astype(np.int32)
        return np.where(later_N >= 0, later_N + len(self.first), rows)


class ExtendedCodes(CodeIndex):
    """The codes of `first`, and of items behind its `start`; of items that are not visible none."""

    def __init__(
        self, first: CodeIndex, later: CodeIndex, start: int, visible: Mask | None
    ) -> None:
        self.first, self.later, self.start, self.visible = first, later, start, visible

    def __len__(self) -> int:
        return len(self.first) + len(self.later)

    def rows(self, code: str) -> Rows:
        later = self.later.rows(code) + self.start
        return self._visible(np.concatenate([self.first.rows(code), later]))

    def lookup(self, query: str) -> tuple[Rows, bool]:
        """As `CodeIndex.lookup`; where the whole query is a code of either, it is only that."""
        rows, is_whole = self.first.lookup(query)
        later, later_is_whole = self.later.lookup(query)
        rows, later = self._visible(rows), self._visible(later + self.start)
        wholes = [each for each, is_all in ((rows, is_whole), (later, later_is_whole)) if is_all]
        if any(map(len, wholes)):
            return np.concatenate(wholes).astype(np.int32), True
        return np.concatenate([rows, later]).astype(np.int32), False

    def variants(self, query: str) -> Rows:
        later = self.later.variants(query) + self.start
        return self._visible(np.concatenate([self.first.variants(query), later]).astype(np.int32))

    def respelled(self, query: str) -> str | None:
        return self.first.respelled(query) or self.later.respelled(query)

    def _visible(self, rows: Rows) -> Rows:
        return rows if self.visible is None else rows[self.visible[rows]]


class ExtendedSuggestions(Suggestions):
    """The completions of `first` and of `later`, without texts that only items name which are gone
    (`is_gone`)."""

    def __init__(
        self, first: Suggestions, later: Suggestions, is_gone: Callable[[str], bool]
    ) -> None:
        self.first, self.later, self.is_gone = first, later, is_gone

    def __len__(self) -> int:
        return len(self.first) + len(self.later)

    def complete(self, prefix: str, k: int = 8) -> list[Suggestion]:
        """As `Suggestions.complete`: those that begin with the prefix first, each by weight."""
        key = completion_key(prefix)
        merged: dict[str, Suggestion] = {}
        for each in (*self.first.complete(prefix, 2 * k), *self.later.complete(prefix, k)):
            merged.setdefault(completion_key(each.text), each)
        in_order = sorted(
            merged.items(), key=lambda pair: (not pair[0].startswith(key), -pair[1].weight)
        )
        remaining = (each for _, each in in_order if not self.is_gone(each.text))
        return [each for each, _ in zip(remaining, range(k), strict=False)]
