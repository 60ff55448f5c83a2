"""What retrievers and user models take and give, as arrays: a block of users' histories, a block of
requests, the candidates of each.

Axis suffixes as in `types`; items are rows of the release (int32)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys.types import PURCHASE, Floats, Ints, Mask


@dataclass(frozen=True, kw_only=True)
class Histories:
    """What B users did, each oldest first, laid end to end.

    User b owns the events offsets[b]:offsets[b+1] of `items` (int32 item rows), `types` (int8,
    places in EVENT_TYPES) and `days` (float64, days since 1970-01-01 UTC). `prices` (float32) are
    what one piece cost then, NaN where the event does not say; None where none does."""

    offsets: NDArray[np.int64]
    items: NDArray[np.int32]
    types: NDArray[np.int8]
    days: NDArray[np.float64]
    prices: Floats | None = None

    def __post_init__(self) -> None:
        if not len(self.items) == len(self.types) == len(self.days) == self.offsets[-1]:
            raise ValueError(
                f"a history of {self.offsets[-1]} events has {len(self.items)} items, "
                f"{len(self.types)} types and {len(self.days)} days: make them equally long"
            )
        if self.prices is not None and len(self.prices) != len(self.items):
            raise ValueError(
                f"{len(self.items)} events have {len(self.prices)} prices: "
                "give one an event, or None"
            )

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def prices_E(self) -> Floats:
        """[E]: `prices`, NaN where there are none."""
        return np.full(len(self.items), np.nan, np.float32) if self.prices is None else self.prices

    @property
    def owners_E(self) -> NDArray[np.int64]:
        """The user (0..B-1) of each event."""
        return np.repeat(np.arange(len(self)), np.diff(self.offsets))

    def slice(self, start: int, stop: int) -> Histories:
        """Users start..stop-1."""
        low, high = self.offsets[start], self.offsets[stop]
        return _events_of(self, self.offsets[start : stop + 1] - low, slice(low, high))

    def users(self, chosen: Ints) -> Histories:
        """These users, in this order."""
        starts, counts = self.offsets[chosen], np.diff(self.offsets)[chosen]
        events = np.repeat(starts - np.cumsum(counts) + counts, counts) + np.arange(counts.sum())
        offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        return _events_of(self, offsets, events)

    def where(self, mask_E: Mask) -> Histories:
        """All users, with these events only."""
        sizes = np.bincount(self.owners_E[mask_E], minlength=len(self))
        offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        return _events_of(self, offsets, mask_E)

    def newest(self, most: int) -> Histories:
        """All users, each with their newest `most` events."""
        if int(np.diff(self.offsets).max(initial=0)) <= most:
            return self
        from_end_E = np.repeat(self.offsets[1:], np.diff(self.offsets)) - np.arange(len(self.items))
        return self.where(from_end_E <= most)

    def followed_by(self, later: Histories) -> Histories:
        """The same users, each with `later`'s events after their own."""
        order = np.argsort(np.concatenate([self.owners_E, later.owners_E]), kind="stable")
        return Histories(
            offsets=self.offsets + later.offsets,
            items=np.concatenate([self.items, later.items])[order],
            types=np.concatenate([self.types, later.types])[order],
            days=np.concatenate([self.days, later.days])[order],
            prices=None
            if self.prices is later.prices is None
            else np.concatenate([self.prices_E, later.prices_E])[order],
        )

    def mapped(self, rows_I: Ints) -> Histories:
        """The same events of other rows: row r is now `rows_I[r]`; without those that have none
        (-1)."""
        items = np.append(rows_I, -1)[self.items].astype(np.int32)
        mapped = replace(self, items=items)
        return mapped if len(items) == 0 or items.min() >= 0 else mapped.where(items >= 0)

    def bought(self) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
        """Exclusion lists for `top_k`: offsets [B+1] and, per user, the item rows they bought
        (repeats allowed)."""
        purchase_E = self.types == PURCHASE
        counts = np.bincount(self.owners_E[purchase_E], minlength=len(self))
        return np.concatenate([[0], np.cumsum(counts)]), self.items[purchase_E]

    @classmethod
    def empty(cls, users: int = 1) -> Histories:
        return cls(
            offsets=np.zeros(users + 1, np.int64),
            items=np.empty(0, np.int32),
            types=np.empty(0, np.int8),
            days=np.empty(0, np.float64),
        )


class StackedRows:
    """Two arrays of equally shaped rows as one, neither copied: a release's vectors, mapped from
    disk, and behind them those of the items that came by day. Row -1 is the last."""

    def __init__(self, first: NDArray[Any], second: NDArray[Any]) -> None:
        self.first, self.second = first, second

    def __len__(self) -> int:
        return len(self.first) + len(self.second)

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self), *self.first.shape[1:])

    def __getitem__(self, rows: Any) -> NDArray[Any]:
        """A copy of these rows: one, a slice, or an array of them in any shape."""
        if isinstance(rows, slice):
            rows = np.arange(*rows.indices(len(self)))
        rows_N = np.asarray(rows) % max(1, len(self))
        is_second_N = rows_N >= len(self.first)
        if not is_second_N.any():
            return self.first[rows_N]
        values_ND = np.empty((*rows_N.shape, *self.first.shape[1:]), self.first.dtype)
        values_ND[~is_second_N] = self.first[rows_N[~is_second_N]]
        values_ND[is_second_N] = self.second[rows_N[is_second_N] - len(self.first)]
        return values_ND

    def __matmul__(self, other: NDArray[Any]) -> NDArray[Any]:
        return np.concatenate([self.first @ other, self.second @ other])


def stacked(first: NDArray[Any], second: NDArray[Any]) -> Any:
    """The rows of both: the first array itself where the second is empty."""
    return StackedRows(first, second) if len(second) else first


def _events_of(
    histories: Histories, offsets: NDArray[np.int64], events: Ints | Mask | slice
) -> Histories:
    prices = None if histories.prices is None else histories.prices[events]
    return Histories(
        offsets=offsets,
        items=histories.items[events],
        types=histories.types[events],
        days=histories.days[events],
        prices=prices,
    )


@dataclass(frozen=True, kw_only=True)
class Requests:
    """A block of B requests, as retrievers take them: one request by day, a few hundred users at
    night.

    A retriever uses what it needs (texts, vectors, histories) and answers with no candidates where
    that is missing. `vectors_BD` are query vectors when there are texts, user vectors otherwise; a
    row of zeros is no vector. `now_days` (days since 1970 UTC) is when they ask; None is unknown.
    """

    size: int
    texts: tuple[str, ...] | None = None
    vectors_BD: Floats | None = None
    histories: Histories | None = None
    now_days: float | None = None


@dataclass(frozen=True)
class Candidates:
    """For each of B requests up to N item rows, best first: `rows_BN` int32 (-1 pads), `scores_BN`
    float32."""

    source: str
    rows_BN: NDArray[np.int32]
    scores_BN: Floats

    @classmethod
    def none(cls, source: str, size: int) -> Candidates:
        return cls(source, np.empty((size, 0), np.int32), np.empty((size, 0), np.float32))


def utc_days(time: datetime) -> float:
    """Days since 1970-01-01 UTC, the unit of `Histories.days`."""
    return time.astimezone(UTC).timestamp() / 86400.0
