"""Analysis of a controlled experiment from its log: each arm's rates with intervals, differences to
the control, the sample-ratio check, and preferences between interleaved rankers.

A request is an answer that was shown. Intervals are of 95 % and clustered by user
(`intervals.clustered_mean`); a request without a user is a cluster of its own. Legend: B requests.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from recsys.experiments.assignment import INTERLEAVED, Experiment
from recsys.experiments.interleaving import preference
from recsys.intervals import (
    ClusteredMean,
    chi_square_test,
    cluster_ids,
    clustered_mean,
    sign_test,
    welch_difference,
)
from recsys.types import EVENT_TYPES, Impression, Mask

Row = dict[str, Any]
Result = tuple[list[Row], list[str]]
#: A sample ratio less likely than this is a fault of the experiment, not chance (Fabijan et al.
#: 2019).
MISMATCH_P = 1e-3
#: Of each request: the number of items that were clicked (carted, bought), the number bought, and
#: whether there was any interaction at all. A label of `tables.EXAMPLES` is the strongest
#: interaction with an item: what was bought counts as clicked.
METRICS = ("clicks", "purchases", "touched")
_CLICK, _PURCHASE = 1 + EVENT_TYPES.index("click"), 1 + EVENT_TYPES.index("purchase")


@dataclass(frozen=True, kw_only=True)
class ExperimentRequests:
    """The experiment's requests, one an answer: the arm, the user as a cluster, the surface, the
    METRICS, and which of two interleaved arms is preferred (1 the second, -1 the first)."""

    arms_B: NDArray[np.object_]
    clusters_B: NDArray[np.int64]
    surfaces_B: NDArray[np.object_]
    values: Mapping[str, NDArray[np.float64]]
    preferences_B: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.arms_B)

    def where(self, mask_B: Mask) -> ExperimentRequests:
        return ExperimentRequests(
            arms_B=self.arms_B[mask_B],
            clusters_B=self.clusters_B[mask_B],
            surfaces_B=self.surfaces_B[mask_B],
            values={name: value_B[mask_B] for name, value_B in self.values.items()},
            preferences_B=self.preferences_B[mask_B],
        )


def analyse(
    name: str,
    impressions: Iterable[Impression],
    examples: pa.Table,
    experiments: Sequence[Experiment] = (),
    control: str | None = None,
) -> Result:
    """Rows for a table, and in sentences what is wrong with the log; nothing in it is fatal.

    `examples` is what `joins.label_examples` made of these impressions. `control` is the
    experiment's first arm where `experiments` has it, else the arm with most requests. Rows by
    their `kind`: "arm", one a slice (all, and each surface where there are several) and arm, with
    requests, users and of each of METRICS the mean, `/low`, `/high`, and against the control
    `/difference`, `/difference/low`, `/difference/high`, `/p`; "ratio", the sample-ratio check;
    "preference", see `preference_row`."""
    answers = list({each.request_id: each for each in impressions if name in each.arms}.values())
    experiment = next((each for each in experiments if each.name == name), None)
    if not answers:
        names = ", ".join(each.name for each in experiments) or "none"
        return [], [f"no answer was shown in an experiment named {name!r}: the setup has {names}"]
    notes = []
    if experiment is None:
        notes.append(f"the setup has no experiment {name!r}: arms are judged as the log names them")
    teams = _teams(answers, experiment)
    requests = _requests(name, answers, examples, teams)
    notes += _anomalies(requests, experiment)
    if experiment:
        requests = requests.where(np.isin(requests.arms_B, _arms(experiment)))
    if not len(requests):
        reason = f"no answer is of an arm that {name!r} has: look where its requests went"
        return [], [*notes, reason]
    if (requests.arms_B == INTERLEAVED).all():
        row, more = preference_row(requests, teams)
        return [*_arm_rows(requests, INTERLEAVED), row], [*notes, *more]
    rows, more = _compare_arms(requests, experiment, control)
    return rows, [*notes, *more]


def preference_row(requests: ExperimentRequests, teams: tuple[str, str]) -> tuple[Row, list[str]]:
    """Which of two teams is preferred.

    A request prefers the team with more clicks. `wins` and `losses` count those that prefer the
    second team and the first, `p/sign` is the sign test of them; `preference` is the mean of 1, -1
    and 0 over all requests with its interval clustered by user, and `p` that it is 0."""
    wins = int((requests.preferences_B == 1).sum())
    losses = int((requests.preferences_B == -1).sum())
    mean = clustered_mean(requests.preferences_B.astype(np.float64), requests.clusters_B)
    against_zero = welch_difference(
        mean, ClusteredMean(0.0, 0.0, mean.requests, max(mean.clusters, 2))
    )
    row: Row = {
        "kind": "preference",
        "name": f"{teams[1]} over {teams[0]}",
        "requests": mean.requests,
        "users": mean.clusters,
        "wins": wins,
        "losses": losses,
        "ties": mean.requests - wins - losses,
        "preference": mean.value,
        "preference/low": against_zero.low,
        "preference/high": against_zero.high,
        "p": against_zero.p,
        "p/sign": sign_test(wins, losses),
    }
    if wins + losses:
        return row, []
    return row, ["no request prefers a team: nothing was clicked that only one of them chose"]


# A/B comparisons


def _compare_arms(
    requests: ExperimentRequests, experiment: Experiment | None, control: str | None
) -> Result:
    counts = Counter(requests.arms_B.tolist())
    default = counts.most_common(1)[0][0]
    if experiment and experiment.control in counts:
        default = experiment.control
    baseline, notes = control if control is not None and control in counts else default, []
    if control is not None and baseline != control:
        notes.append(f"no answer is of the control {control!r}: {default!r} stands in for it")
    if len(counts) == 1:
        notes.append(f"all answers are of the arm {default!r}: there is nothing to compare")
    ratio, more = _sample_ratio(requests, experiment)
    return [*_arm_rows(requests, baseline), *ratio], [*notes, *more]


def _arm_rows(requests: ExperimentRequests, control: str) -> list[Row]:
    surfaces = sorted(set(requests.surfaces_B.tolist()))
    slices = {"all": requests}
    if len(surfaces) > 1:
        slices |= {surface: requests.where(requests.surfaces_B == surface) for surface in surfaces}
    rows = []
    for name, part in slices.items():
        arms = sorted(set(part.arms_B.tolist()), key=lambda arm: (arm != control, arm))
        means = {arm: _means(part.where(part.arms_B == arm)) for arm in arms}
        for arm in arms:
            baseline = None if arm == control else means.get(control)
            rows.append({"kind": "arm", "name": arm, "slice": name, **_rates(means[arm], baseline)})
    return rows


def _means(requests: ExperimentRequests) -> dict[str, ClusteredMean]:
    return {
        metric: clustered_mean(requests.values[metric], requests.clusters_B) for metric in METRICS
    }


def _rates(means: Mapping[str, ClusteredMean], baseline: Mapping[str, ClusteredMean] | None) -> Row:
    """Of each of METRICS the mean with its interval, and the difference to the baseline's."""
    first = means[METRICS[0]]
    row: Row = {"requests": first.requests, "users": first.clusters}
    for metric, mean in means.items():
        row[metric] = mean.value
        row[f"{metric}/low"], row[f"{metric}/high"] = mean.interval
        if baseline is not None:
            difference = welch_difference(mean, baseline[metric])
            row[f"{metric}/difference"], row[f"{metric}/p"] = difference.value, difference.p
            row[f"{metric}/difference/low"] = difference.low
            row[f"{metric}/difference/high"] = difference.high
    return row


def _sample_ratio(requests: ExperimentRequests, experiment: Experiment | None) -> Result:
    """Users an arm against the arms' shares, by chi-square: on a mismatch those who are missing
    were not lost by chance, and the arms cannot be compared (Fabijan et al. 2019)."""
    if experiment is None:
        return [], ["without the experiment's shares the sample ratio cannot be checked"]
    users = {
        arm: len(np.unique(requests.clusters_B[requests.arms_B == arm])) for arm in experiment.arms
    }
    statistic, p = chi_square_test(list(users.values()), list(experiment.arms.values()))
    row: Row = {
        "kind": "ratio",
        "name": "sample_ratio",
        "chi2": statistic,
        "p": p,
        "mismatch": p < MISMATCH_P,
        **{f"users/{arm}": count for arm, count in users.items()},
    }
    if p >= MISMATCH_P:
        return [row], []
    by_arm = ", ".join(f"{arm} {count:,}" for arm, count in users.items())
    return [row], [
        f"SAMPLE RATIO MISMATCH (p = {p:.1e}): users by arm are {by_arm}, so believe no difference "
        "before you know why"
    ]


# From the log


def _requests(
    name: str, answers: Sequence[Impression], examples: pa.Table, teams: tuple[str, str]
) -> ExperimentRequests:
    labels = _labels(examples)
    labels_B = [labels.get(each.request_id, {}) for each in answers]
    counts = {
        "clicks": [sum(n >= _CLICK for n in items.values()) for items in labels_B],
        "purchases": [sum(n >= _PURCHASE for n in items.values()) for items in labels_B],
        "touched": [any(n > 0 for n in items.values()) for items in labels_B],
    }
    preferences = [
        _preference(each, items, teams) for each, items in zip(answers, labels_B, strict=True)
    ]
    users, request_ids = [each.user_id for each in answers], [each.request_id for each in answers]
    return ExperimentRequests(
        arms_B=np.array([each.arms[name] for each in answers], object),
        clusters_B=cluster_ids(users, request_ids),
        surfaces_B=np.array([each.surface for each in answers], object),
        values={metric: np.array(values, np.float64) for metric, values in counts.items()},
        preferences_B=np.array(preferences, np.int64),
    )


def _preference(shown: Impression, labels: Mapping[str, int], teams: tuple[str, str]) -> int:
    if not shown.teams:
        return 0
    is_clicked = [labels.get(item, 0) >= _CLICK for item in shown.item_ids]
    return preference(shown.teams, is_clicked, teams)


def _labels(examples: pa.Table) -> dict[str, dict[str, int]]:
    """Labels above 0 by request and item."""
    touched = examples.filter(examples["label"].to_numpy() > 0)
    labels: dict[str, dict[str, int]] = {}
    columns = (touched[column].to_pylist() for column in ("request_id", "item_id", "label"))
    for request, item, label in zip(*columns, strict=True):
        labels.setdefault(request, {})[item] = label
    return labels


def _arms(experiment: Experiment) -> list[str]:
    return [INTERLEAVED] if experiment.kind == "interleave" else list(experiment.arms)


def _teams(shown: Sequence[Impression], experiment: Experiment | None) -> tuple[str, str]:
    """The experiment's arms, the control first; else the two names that most lists have."""
    if experiment and len(experiment.arms) == 2:
        first, second = experiment.arms
        return first, second
    counts = Counter(team for each in shown for team in set(each.teams) if team)
    first, second = [*sorted(name for name, _ in counts.most_common(2)), "", ""][:2]
    return first, second


def _anomalies(requests: ExperimentRequests, experiment: Experiment | None) -> list[str]:
    """What is in the log though it should not be."""
    arms = _arms(experiment) if experiment else set(requests.arms_B.tolist())
    unknown = Counter(arm for arm in requests.arms_B.tolist() if arm not in arms)
    notes = [
        f"{count:,} answers are of an arm {arm!r} that the experiment does not have: left out"
        for arm, count in sorted(unknown.items())
    ]
    pairs = set(zip(requests.clusters_B.tolist(), requests.arms_B.tolist(), strict=True))
    arms_of = Counter(cluster for cluster, _ in pairs)
    if several := sum(count > 1 for count in arms_of.values()):
        notes.append(
            f"{several:,} users were in more than one arm: was its seed or its shares changed "
            "while it ran?"
        )
    return notes
