"""Train/validation splits of histories: leave-last-out, and by time.

Legend: E events, U users, B users of a split."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recsys.arrays import Histories
from recsys.types import PURCHASE, Rows

#: Users whose next item is predicted at each validation.
VALIDATED = 5_000
#: A day counts as the log's last when it has so many buyers.
MIN_BUYERS = 30


@dataclass(frozen=True)
class NextItemTargets:
    """Users to validate on: their histories, and the row of the item that came next."""

    histories: Histories
    next_B: Rows


def leave_last_out(histories: Histories, seed: int = 0) -> tuple[Histories, NextItemTargets]:
    """The histories without the newest event of up to VALIDATED users, and those events as targets.

    Of users with three events or more whose newest is of an item they had not met before.
    """
    lengths, ends = np.diff(histories.offsets), histories.offsets[1:]
    eligible = np.flatnonzero(lengths >= 3)
    eligible = eligible[is_first_interaction(histories)[ends[eligible] - 1]]
    chosen = np.sort(np.random.default_rng(seed).permutation(eligible)[:VALIDATED])
    train_E = np.ones(len(histories.items), bool)
    train_E[ends[chosen] - 1] = False
    before = histories.where(train_E)
    return before, NextItemTargets(before.users(chosen), histories.items[ends[chosen] - 1])


def split_last_days(
    histories: Histories, count: int = 1
) -> tuple[Histories, NDArray[np.int64], NDArray[np.int32]]:
    """Users with a history before the log's last `count` days who bought on them: that history, and
    what they bought (offsets, item rows).

    The last day is the last UTC day with MIN_BUYERS buyers, or the one with most: the night may
    come when a new day has barely begun. Later events are left out."""
    days_E, owners_E = np.floor(histories.days).astype(np.int64), histories.owners_E
    bought_E = histories.types == PURCHASE
    if not bought_E.any():
        return Histories.empty(0), np.zeros(1, np.int64), np.empty(0, np.int32)
    first = days_E[bought_E].min()
    buyers = np.unique(np.stack([days_E[bought_E] - first, owners_E[bought_E]]), axis=1)[0]
    count_by_day = np.bincount(buyers)
    full = np.flatnonzero(count_by_day >= min(MIN_BUYERS, count_by_day.max()))
    last = first + full[-1]
    early_E = days_E <= last - count
    late_E = bought_E & (days_E > last - count) & (days_E <= last)
    has_both_B = np.ones(len(histories), bool)
    for mask_E in (early_E, late_E):
        has_both_B &= np.bincount(owners_E[mask_E], minlength=len(histories)) > 0
    users = np.flatnonzero(has_both_B)
    return histories.where(early_E).users(users), *_unique_items(
        histories.where(late_E).users(users)
    )


def is_first_interaction(histories: Histories) -> NDArray[np.bool_]:
    """[E]: whether the user had never met the event's item before."""
    keys = histories.owners_E * (1 + int(histories.items.max(initial=0))) + histories.items
    first_E = np.zeros(len(keys), bool)
    first_E[np.unique(keys, return_index=True)[1]] = True
    return first_E


def _unique_items(histories: Histories) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """Offsets [B + 1] and the distinct items of each user."""
    pairs = np.unique(np.stack([histories.owners_E, histories.items]), axis=1)
    offsets = np.cumsum(np.bincount(pairs[0], minlength=len(histories)))
    return np.concatenate([[0], offsets]), pairs[1].astype(np.int32)
