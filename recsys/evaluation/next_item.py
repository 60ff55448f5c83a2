"""Evaluation of next-item recommendation: metrics of a system's lists over the whole catalogue.

Lists leave out the items of the history. Legend: U users, I items, K positions, S seeds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from recsys import metrics
from recsys.evaluation.baselines import Say, SystemFactory
from recsys.evaluation.leave_one_out import EvalUsers, LeaveOneOutSplit, anonymous_sessions
from recsys.intervals import bootstrap_mean, two_way_bootstrap_mean
from recsys.types import Floats, Ints, Mask

#: Length of the lists; `mrr` looks no deeper.
K = 20
#: Recall is reported by the length of the history: 1-4, 5-9, 10-19, 20+.
LENGTHS = (1, 5, 10, 20)
#: Events of the histories of anonymous sessions.
SESSIONS = (0, 1, 3)

Row = dict[str, float | list[float] | int]


def system_scores(
    factory: SystemFactory,
    split: LeaveOneOutSplit,
    items: pa.Table,
    items_ID: Floats,
    *,
    seeds: Sequence[int],
    say: Say,
) -> Row:
    """All metrics of one system: for whole histories, and recall@10 for anonymous sessions."""
    systems = [factory(split, items, items_ID, seed, say) for seed in seeds]
    lists = [recommend(split.users.histories, K) for recommend in systems]
    row = next_item_scores(lists, split.users, split.counts_I)
    for events in SESSIONS:
        sessions = anonymous_sessions(split.users, events)
        truth = ground_truth(sessions)
        recalls = [
            metrics.mean(metrics.recall_at_k(recommend(sessions.histories, 10), *truth, 10))
            for recommend in systems
        ]
        row[f"recall@10/session-{events}"] = float(np.mean(recalls))
    return row


def ground_truth(users: EvalUsers) -> tuple[Ints, Ints]:
    """The targets as `metrics` takes them: offsets [U + 1] and items."""
    return np.arange(len(users) + 1), users.targets_U


def next_item_scores(lists: Sequence[Ints], users: EvalUsers, counts_I: Ints) -> Row:
    """All metrics of the lists rows_UK of one or more seeds, K of 20 or more; `counts_I` as
    `LeaveOneOutSplit.counts_I`.

    recall@5, @10, @20, ndcg@10, mrr, coverage and novelty; `gini@10`; the tail's share
    (`metrics.tail`) of the positions, `tail_share@10`, and the recall of users whose target is in
    the tail, `tail_recall@10`; `cold_recall@10` of those whose target has no event at all;
    recall@10 by length of history, `recall@10/5-9`; and the numbers of those users. Metrics of
    exposure are of the first ten positions. Every number is the mean over seeds. 95 % intervals, of
    recall@10 and ndcg@10, resample users, and with several seeds users and seeds; `.../std` is the
    standard deviation of the seeds' means."""
    each = [_values(rows_UK, users) for rows_UK in lists]
    row: Row = {
        name: float(np.mean([metrics.mean(values[name]) for values in each])) for name in each[0]
    }
    for name in ("recall@10", "ndcg@10"):
        row |= _spread(name, np.stack([values[name] for values in each]))
    tail_I = metrics.tail(counts_I)
    recall_SU = np.stack([values["recall@10"] for values in each])
    for name, chosen_U in _slices(users, counts_I, tail_I).items():
        row[name] = metrics.mean(recall_SU.mean(axis=0)[chosen_U])
        row[f"{name}/users"] = int(chosen_U.sum())
    exposures = [_exposure(rows_UK[:, :10], counts_I, tail_I) for rows_UK in lists]
    means = {name: float(np.mean([one[name] for one in exposures])) for name in exposures[0]}
    return {**row, **means}


def _values(rows_UK: Ints, users: EvalUsers) -> dict[str, metrics.Values]:
    truth = ground_truth(users)
    return {
        **{f"recall@{k}": metrics.recall_at_k(rows_UK, *truth, k) for k in (5, 10, 20)},
        "ndcg@10": metrics.ndcg_at_k(rows_UK, *truth, 10),
        "mrr": metrics.reciprocal_rank(rows_UK[:, :K], *truth),
    }


def _spread(name: str, values_SU: metrics.Values) -> Row:
    if len(values_SU) == 1:
        return {f"{name}/interval": list(bootstrap_mean(values_SU[0]))}
    means_S = [metrics.mean(values_U) for values_U in values_SU]
    return {
        f"{name}/interval": list(two_way_bootstrap_mean(values_SU)),
        f"{name}/std": float(np.std(means_S, ddof=1)),
    }


def _slices(users: EvalUsers, counts_I: Ints, tail_I: Mask) -> dict[str, Mask]:
    lengths_U = np.diff(users.histories.offsets)
    stops = [*LENGTHS[1:], np.inf]
    by_length = {}
    for low, stop in zip(LENGTHS, stops, strict=True):
        label = f"{low}-{stop - 1}" if stop < np.inf else f"{low}+"
        by_length[f"recall@10/{label}"] = (lengths_U >= low) & (lengths_U < stop)
    cold_U = counts_I[users.targets_U] == 0
    return {**by_length, "tail_recall@10": tail_I[users.targets_U], "cold_recall@10": cold_U}


def _exposure(rows_UK: Ints, counts_I: Ints, tail_I: Mask) -> dict[str, float]:
    return {
        "coverage": metrics.coverage(rows_UK, len(counts_I)),
        "gini@10": metrics.gini(metrics.exposure(rows_UK, len(counts_I))),
        "tail_share@10": metrics.share_of_places(rows_UK, tail_I),
        "novelty": metrics.novelty(rows_UK, counts_I),
    }
