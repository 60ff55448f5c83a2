"""How well a history foretells its next item: leave one out, and the scores of the answers.

Of every history the last item is the test target and the last but one the validation target (Kang &
McAuley 2018); answers rank the whole catalogue without what the history holds. Legend: U users
asked, E events, I items, K places, S seeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from recsys import metrics
from recsys.errors import InputError
from recsys.intervals import bootstrap_mean, two_way_bootstrap_mean
from recsys.types import Floats, Histories, Ints, Mask

#: Answers are this long; `mrr` looks no deeper.
K = 20
#: Shorter histories take no part in the test; they stay in what is fitted.
MIN_EVENTS = 3
#: Recall is told apart by the length of the history that was asked with: 1-4, 5-9, 10-19, 20+.
LENGTHS = (1, 5, 10, 20)
#: What an item may lose, together: its text, what it is filed under, its price.
FIELDS = (("title", "description"), ("attributes", "category", "brand"), ("price",))

Row = dict[str, float | list[float] | int]


@dataclass(frozen=True)
class EvalUsers:
    """U users to be answered: what each did before his target, the target's item row, and his row
    in the log."""

    histories: Histories
    targets_U: NDArray[np.int32]
    users_U: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.targets_U)

    def only(self, kept_U: Mask) -> EvalUsers:
        """These users alone."""
        return EvalUsers(
            _only(self.histories, kept_U), self.targets_U[kept_U], self.users_U[kept_U]
        )


@dataclass(frozen=True)
class Split:
    """One log, cut for leave one out.

    `train` is all users' histories without their last two items, `before_test` without their last:
    what may be fitted for `valid` and for `test`. Histories of fewer than MIN_EVENTS are in both,
    whole. A model that stops early by `valid` trains on `train` alone. `part` says which of the two
    is scored."""

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
    def asked(self) -> EvalUsers:
        """Who is scored."""
        return self.valid if self.part == "valid" else self.test

    @property
    def fitted(self) -> Histories:
        """All that is known before the targets: what counting models are fitted to."""
        return self.train if self.part == "valid" else self.before_test

    @property
    def counts_I(self) -> Ints:
        """Events of each item in `fitted`."""
        return np.bincount(self.fitted.items, minlength=self.item_count)


def leave_one_out(histories: Histories, item_count: int, part: str = "test") -> Split:
    """The split. InputError where no history is long enough.

    A target that the history holds already cannot be answered: its user is not asked, and counts
    only in what is fitted."""
    sizes_U = np.diff(histories.offsets)
    long_U = sizes_U >= MIN_EVENTS
    if not long_U.any():
        raise InputError(
            f"no history has {MIN_EVENTS} events, one to ask with and two to be found: give longer ones"
        )
    last_E = histories.offsets[1:][long_U] - 1
    train, before_test = _without(histories, [*last_E - 1, *last_E]), _without(histories, last_E)
    valid, test = (
        _asked(_only(before, long_U), histories.items[targets_E], np.flatnonzero(long_U))
        for before, targets_E in ((train, last_E - 1), (before_test, last_E))
    )
    return Split(train, before_test, valid, test, item_count, part)


def _asked(
    histories: Histories, targets_U: NDArray[np.int32], users_U: NDArray[np.int64]
) -> EvalUsers:
    again_E = histories.items == targets_U[histories.owners_E]
    new_U = np.bincount(histories.owners_E[again_E], minlength=len(histories)) == 0
    return EvalUsers(histories, targets_U, users_U).only(new_U)


def _without(histories: Histories, events: Sequence[int] | Ints) -> Histories:
    kept_E = np.ones(len(histories.items), bool)
    kept_E[events] = False
    return histories.where(kept_E)


def _only(histories: Histories, kept_U: Mask) -> Histories:
    """These users only."""
    return histories.users(np.flatnonzero(kept_U))


def sample(histories: Histories, share: float, seed: int) -> Histories:
    """A random share of the users, in their order."""
    if not 0 < share <= 1:
        raise InputError(f"a share of {share:g} of the users: give more than 0, up to 1")
    return (
        histories
        if share == 1
        else _only(histories, np.random.default_rng(seed).random(len(histories)) < share)
    )


def ties_shuffled(histories: Histories, ids: Sequence[str], seed: int) -> Histories:
    """The histories with every maximal run of ascending item ids in random order; days and types
    stay in place.

    A file without times may write items of one day by id, so that their order tells a model what no
    shop knows. The true days are lost: an ascending run holds every such tie, and, as chance makes
    half of all neighbours ascend, many that are none. Shuffled before the split, the targets move
    too. A score that survives this owes nothing to ties; one that falls may have lost true order.
    """
    order_I = np.argsort(np.asarray(ids, object).astype(str), kind="stable")
    rank_I = np.empty(len(ids), np.int64)
    rank_I[order_I] = np.arange(len(ids))
    ranks_E, owners_E = rank_I[histories.items], histories.owners_E
    begins_E = np.append(True, (np.diff(ranks_E) <= 0) | (np.diff(owners_E) > 0))[: len(ranks_E)]
    order = np.lexsort((np.random.default_rng(seed).random(len(ranks_E)), np.cumsum(begins_E)))
    return replace(histories, items=histories.items[order])


def ascending_ends(histories: Histories) -> int:
    """How many histories end in two items of ascending row (rows are sorted by id): all that may be
    such a tie."""
    last_U = histories.offsets[1:][np.diff(histories.offsets) > 1] - 1
    return int((histories.items[last_U] > histories.items[last_U - 1]).sum())


def without_items(
    histories: Histories, item_count: int, share: float, seed: int, part: str = "test"
) -> Split:
    """The cold start: a share of the catalogue loses every event but as a last item, and only who
    ended with one of them is asked in `test`.

    The items are drawn among the last items of histories of MIN_EVENTS or more. They stay in the
    catalogue, so that answers rank it whole; they are in no training history, no validation target
    and no history that is asked with."""
    sizes_U, owners_E = np.diff(histories.offsets), histories.owners_E
    last_E = np.zeros(len(histories.items), bool)
    last_E[histories.offsets[1:][sizes_U >= MIN_EVENTS] - 1] = True
    targets = np.unique(histories.items[last_E])
    wanted = round(share * item_count)
    if not 0 < wanted <= len(targets):
        raise InputError(
            f"{share:g} of {item_count} items is {wanted}: of {len(targets)} targets give 1 to all"
        )
    cold_I = np.zeros(item_count, bool)
    cold_I[np.random.default_rng(seed).choice(targets, wanted, replace=False)] = True
    kept_E = last_E | ~cold_I[histories.items]
    # Who is too short now is not asked, and would take his cold last item into the training.
    left_U = np.bincount(owners_E[kept_E], minlength=len(histories))
    kept_E &= (left_U >= MIN_EVENTS)[owners_E] | ~cold_I[histories.items]
    split = leave_one_out(histories.where(kept_E), item_count, part)
    return replace(split, test=split.test.only(cold_I[split.test.targets_U]))


def with_gaps(
    items: pa.Table, items_ID: Floats, share: float, seed: int
) -> tuple[pa.Table, Floats]:
    """The catalogue as a careless shop keeps it: a random share of the items loses one of FIELDS,
    null from then on.

    Which one is drawn for each from those that it has; who has none loses none. Without text there
    is no vector: a row of zeros. InputError for a share not within 0..1."""
    if not 0 <= share <= 1:
        raise InputError(f"a share of {share:g} of the items: give a number from 0 to 1")
    rng = np.random.default_rng(seed)
    there_IF = np.stack([_there(items, names) for names in FIELDS], axis=1)
    drawn_IF = np.where(there_IF, rng.random(there_IF.shape), -1)
    lost_IF = there_IF & (drawn_IF == drawn_IF.max(axis=1, keepdims=True))
    lost_IF &= (rng.random(len(there_IF)) < share)[:, None]
    for names, lost_I in zip(FIELDS, lost_IF.T, strict=True):
        for name in names:
            nothing = pa.scalar(None, items.schema.field(name).type)
            kept = pc.if_else(pa.array(lost_I), nothing, items[name])
            items = items.set_column(
                items.schema.get_field_index(name), items.schema.field(name), kept
            )
    return items, np.where(lost_IF[:, :1], 0, items_ID).astype(items_ID.dtype)


def _there(items: pa.Table, names: Sequence[str]) -> Mask:
    """[I]: who has a value in one of these columns; an empty text is none."""
    values = [
        pc.fill_null(pc.not_equal(items[name].cast(pa.string()), ""), False) for name in names
    ]
    return np.any([np.asarray(value.to_numpy(), bool) for value in values], axis=0)


def session(asked: EvalUsers, events: int, users: int = 2_000) -> EvalUsers:
    """Some of the users as strangers: of what each did only the newest `events` are known."""
    some = asked.only(
        np.isin(np.arange(len(asked)), np.random.default_rng(0).permutation(len(asked))[:users])
    )
    ages_E = some.histories.offsets[1:][some.histories.owners_E] - np.arange(
        len(some.histories.items)
    )
    return replace(some, histories=some.histories.where(ages_E <= events))


def truth(asked: EvalUsers) -> tuple[Ints, Ints]:
    """The targets as `metrics` takes them: offsets [U + 1] and items."""
    return np.arange(len(asked) + 1), asked.targets_U


def evaluate(answers: Sequence[Ints], asked: EvalUsers, counts_I: Ints) -> Row:
    """One row of scores for the answers rows_UK of one or more seeds, K of 20 or more; `counts_I`
    as `Split.counts_I`.

    recall@5, @10, @20, ndcg@10, mrr, coverage and novelty; `gini@10`; the tail's part
    (`metrics.tail`) in the places, `tail_share@10`, and the recall of users whose target lies
    there, `tail_recall@10`; `cold_recall@10` of those whose target has no event at all; recall@10
    by length of history, `recall@10/5-9`; and the numbers of those users. Lists of exposure are the
    first ten places. Every number is the mean over seeds. 95 % intervals, of recall@10 and ndcg@10,
    draw users, and with several seeds users and seeds; `.../std` is the deviation of the seeds'
    means."""
    each = [_values(rows_UK, asked) for rows_UK in answers]
    row: Row = {
        name: float(np.mean([metrics.mean(values[name]) for values in each])) for name in each[0]
    }
    for name in ("recall@10", "ndcg@10"):
        row |= _spread(name, np.stack([values[name] for values in each]))
    tail_I = metrics.tail(counts_I)
    recall_SU = np.stack([values["recall@10"] for values in each])
    for name, chosen_U in _slices(asked, counts_I, tail_I).items():
        row[name] = metrics.mean(recall_SU.mean(axis=0)[chosen_U])
        row[f"{name}/users"] = int(chosen_U.sum())
    lists = [_exposure(rows_UK[:, :10], counts_I, tail_I) for rows_UK in answers]
    return {**row, **{name: float(np.mean([told[name] for told in lists])) for name in lists[0]}}


def _values(rows_UK: Ints, asked: EvalUsers) -> dict[str, metrics.Values]:
    known = truth(asked)
    return {
        **{f"recall@{k}": metrics.recall_at_k(rows_UK, *known, k) for k in (5, 10, 20)},
        "ndcg@10": metrics.ndcg_at_k(rows_UK, *known, 10),
        "mrr": metrics.reciprocal_rank(rows_UK[:, :K], *known),
    }


def _spread(name: str, values_SU: metrics.Values) -> Row:
    if len(values_SU) == 1:
        return {f"{name}/interval": list(bootstrap_mean(values_SU[0]))}
    means_S = [metrics.mean(values_U) for values_U in values_SU]
    return {
        f"{name}/interval": list(two_way_bootstrap_mean(values_SU)),
        f"{name}/std": float(np.std(means_S, ddof=1)),
    }


def _slices(asked: EvalUsers, counts_I: Ints, tail_I: Mask) -> dict[str, Mask]:
    lengths_U = np.diff(asked.histories.offsets)
    stops = [*LENGTHS[1:], np.inf]
    by_length = {
        f"recall@10/{low}-{stop - 1}" if stop < np.inf else f"recall@10/{low}+": (lengths_U >= low)
        & (lengths_U < stop)
        for low, stop in zip(LENGTHS, stops, strict=True)
    }
    cold_U = counts_I[asked.targets_U] == 0
    return {**by_length, "tail_recall@10": tail_I[asked.targets_U], "cold_recall@10": cold_U}


def _exposure(rows_UK: Ints, counts_I: Ints, tail_I: Mask) -> dict[str, float]:
    return {
        "coverage": metrics.coverage(rows_UK, len(counts_I)),
        "gini@10": metrics.gini(metrics.exposure(rows_UK, len(counts_I))),
        "tail_share@10": metrics.share_of_places(rows_UK, tail_I),
        "novelty": metrics.novelty(rows_UK, counts_I),
    }
