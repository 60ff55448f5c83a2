"""Leave-one-out splits of histories (Kang & McAuley 2018): the last item is the test target, the
last but one the validation target.

Legend: U users, E events, I items."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from recsys.arrays import Histories
from recsys.errors import InputError
from recsys.types import Ints, Mask

#: Users with shorter histories are not evaluated; their events are training data.
MIN_EVENTS = 3


@dataclass(frozen=True)
class EvalUsers:
    """U users to evaluate: their histories before the target, the target's item row, and their rows
    in the log."""

    histories: Histories
    targets_U: NDArray[np.int32]
    users_U: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.targets_U)

    def where(self, mask_U: Mask) -> EvalUsers:
        """The users of the mask."""
        return EvalUsers(
            _users(self.histories, mask_U), self.targets_U[mask_U], self.users_U[mask_U]
        )


@dataclass(frozen=True, kw_only=True)
class LeaveOneOutSplit:
    """One log, split.

    `train` is all users' histories without their last two items, `before_test` without their last:
    the training data for `valid` and for `test`. Histories of fewer than MIN_EVENTS are in both,
    whole. A model that stops early by `valid` trains on `train` alone. `part` says which of the two
    is evaluated."""

    train: Histories
    before_test: Histories
    valid: EvalUsers
    test: EvalUsers
    item_count: int
    part: str = "test"

    def __post_init__(self) -> None:
        if self.part not in ("valid", "test"):
            raise ValueError(f"part is {self.part!r}: score 'valid' or 'test'")

    @property
    def users(self) -> EvalUsers:
        """The users of the evaluated part."""
        return self.valid if self.part == "valid" else self.test

    @property
    def past(self) -> Histories:
        """All events before the targets: what counting models are fitted to."""
        return self.train if self.part == "valid" else self.before_test

    @property
    def counts_I(self) -> Ints:
        """Events of each item in `past`."""
        return np.bincount(self.past.items, minlength=self.item_count)


def leave_one_out(histories: Histories, item_count: int, part: str = "test") -> LeaveOneOutSplit:
    """The split. InputError where no history is long enough.

    A target that the history has already cannot be recommended: its user is not evaluated, only
    trained on."""
    sizes_U = np.diff(histories.offsets)
    long_U = sizes_U >= MIN_EVENTS
    if not long_U.any():
        raise InputError(
            f"no history has {MIN_EVENTS} events, one to recommend from and two targets: "
            "give longer ones"
        )
    last_E = histories.offsets[1:][long_U] - 1
    train, before_test = _without(histories, [*last_E - 1, *last_E]), _without(histories, last_E)
    valid, test = (
        _eval_users(_users(before, long_U), histories.items[targets_E], np.flatnonzero(long_U))
        for before, targets_E in ((train, last_E - 1), (before_test, last_E))
    )
    return LeaveOneOutSplit(
        train=train,
        before_test=before_test,
        valid=valid,
        test=test,
        item_count=item_count,
        part=part,
    )


def _eval_users(
    histories: Histories, targets_U: NDArray[np.int32], users_U: NDArray[np.int64]
) -> EvalUsers:
    repeat_E = histories.items == targets_U[histories.owners_E]
    new_U = np.bincount(histories.owners_E[repeat_E], minlength=len(histories)) == 0
    return EvalUsers(histories, targets_U, users_U).where(new_U)


def _without(histories: Histories, events: Sequence[int] | Ints) -> Histories:
    mask_E = np.ones(len(histories.items), bool)
    mask_E[events] = False
    return histories.where(mask_E)


def _users(histories: Histories, mask_U: Mask) -> Histories:
    return histories.users(np.flatnonzero(mask_U))


def sample_users(histories: Histories, share: float, seed: int) -> Histories:
    """A random share of the users, in their order."""
    if not 0 < share <= 1:
        raise InputError(f"a share of {share:g} of the users: give more than 0, up to 1")
    if share == 1:
        return histories
    return _users(histories, np.random.default_rng(seed).random(len(histories)) < share)


def shuffle_ties(histories: Histories, ids: Sequence[str], seed: int) -> Histories:
    """The histories with every maximal run of ascending item ids in random order; days and types
    stay in place.

    A file without times may write items of one day by id, so that their order tells a model what no
    shop could know. The true days are lost: an ascending run holds every such tie, and, as chance
    makes half of all neighbours ascend, many that are none. Shuffled before the split, targets
    change too. A score that does not fall owes nothing to ties; one that falls may have lost true
    order."""
    order_I = np.argsort(np.asarray(ids, object).astype(str), kind="stable")
    rank_I = np.empty(len(ids), np.int64)
    rank_I[order_I] = np.arange(len(ids))
    ranks_E, owners_E = rank_I[histories.items], histories.owners_E
    begins_E = np.append(True, (np.diff(ranks_E) <= 0) | (np.diff(owners_E) > 0))[: len(ranks_E)]
    order = np.lexsort((np.random.default_rng(seed).random(len(ranks_E)), np.cumsum(begins_E)))
    return replace(histories, items=histories.items[order])


def ascending_ends(histories: Histories) -> int:
    """The number of histories that end in two items of ascending row (rows are sorted by id): at
    most so many end in a tie."""
    last_U = histories.offsets[1:][np.diff(histories.offsets) > 1] - 1
    return int((histories.items[last_U] > histories.items[last_U - 1]).sum())


def cold_start_split(
    histories: Histories, item_count: int, share: float, seed: int, part: str = "test"
) -> LeaveOneOutSplit:
    """A split for item cold start: a share of the catalogue has no events except as test targets,
    and `test` has only users with such a target.

    The items are drawn among the last items of histories of MIN_EVENTS or more. They stay in the
    catalogue, which is ranked whole; they are in no training history, no validation target and no
    history of an evaluated user."""
    sizes_U, owners_E = np.diff(histories.offsets), histories.owners_E
    last_E = np.zeros(len(histories.items), bool)
    last_E[histories.offsets[1:][sizes_U >= MIN_EVENTS] - 1] = True
    targets = np.unique(histories.items[last_E])
    count = round(share * item_count)
    if not 0 < count <= len(targets):
        raise InputError(
            f"{share:g} of {item_count} items is {count}: of {len(targets)} targets give 1 to all"
        )
    cold_I = np.zeros(item_count, bool)
    cold_I[np.random.default_rng(seed).choice(targets, count, replace=False)] = True
    mask_E = last_E | ~cold_I[histories.items]
    # Users whose history is too short now are not evaluated: their cold last item would be trained
    # on.
    sizes_U = np.bincount(owners_E[mask_E], minlength=len(histories))
    mask_E &= (sizes_U >= MIN_EVENTS)[owners_E] | ~cold_I[histories.items]
    split = leave_one_out(histories.where(mask_E), item_count, part)
    return replace(split, test=split.test.where(cold_I[split.test.targets_U]))


def anonymous_sessions(users: EvalUsers, events: int, most: int = 2_000) -> EvalUsers:
    """A sample of the users as anonymous sessions: only the newest `events` of each history."""
    sample = np.random.default_rng(0).permutation(len(users))[:most]
    some = users.where(np.isin(np.arange(len(users)), sample))
    ages_E = some.histories.offsets[1:][some.histories.owners_E] - np.arange(
        len(some.histories.items)
    )
    return replace(some, histories=some.histories.where(ages_E <= events))
