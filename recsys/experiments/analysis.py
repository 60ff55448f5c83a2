"""What an experiment's log says: each arm's rates with intervals, their differences to the control,
whether the arms are as large as they were meant to be, and which ranker's choices were clicked
where two shared a list.

A request is an answer that was shown. Its unit is its user, or itself where there is none;
intervals are of 95 % and clustered by unit (`intervals.mean`). Legend: B requests, N shown items.
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
from recsys.experiments.intervals import Mean, chi_square, difference, mean, units
from recsys.types import EVENT_TYPES, Impression, Mask

Row = dict[str, Any]
#: A sample ratio less likely than this is a fault of the experiment, not chance (Fabijan et al.
#: 2019).
MISMATCH = 1e-3
#: Of each request: items that were clicked (carted, bought) or bought, and whether anything was
#: done at all. A label of `tables.EXAMPLES` is the strongest thing that was done with an item: what
#: was bought counts as clicked.
METRICS = ("clicks", "purchases", "touched")
_CLICK, _PURCHASE = 1 + EVENT_TYPES.index("click"), 1 + EVENT_TYPES.index("purchase")


@dataclass(frozen=True)
class Requests:
    """The experiment's requests, one an answer: the arm, the unit, and the METRICS of each."""

    arms_B: NDArray[np.object_]
    units_B: NDArray[np.int64]
    surfaces_B: NDArray[np.object_]
    values: Mapping[str, NDArray[np.float64]]
    preferences_B: NDArray[np.int64]

    def where(self, mask_B: Mask) -> Requests:
        values = {name: value_B[mask_B] for name, value_B in self.values.items()}
        return Requests(
            self.arms_B[mask_B],
            self.units_B[mask_B],
            self.surfaces_B[mask_B],
            values,
            self.preferences_B[mask_B],
        )


def analyse(
    name: str,
    impressions: Iterable[Impression],
    examples: pa.Table,
    experiments: Sequence[Experiment] = (),
    control: str | None = None,
) -> tuple[list[Row], list[str]]:
    """Rows for a table, and in sentences what is wrong with the log; nothing in it is fatal.

    `examples` is what `joins.label_examples` made of these impressions. `control` is the
    experiment's first arm where `experiments` has it, else the arm with most requests. Rows by
    their `kind`: "arm", one a slice (all, and each surface where there are several) and arm, with
    requests, users and of each of METRICS the mean, `/low`, `/high`, and against the control
    `/difference`, `/difference/low`, `/difference/high`, `/p`; "ratio", the sample-ratio check;
    "preference", see `preferred`."""
    shown = list({each.request_id: each for each in impressions if name in each.arms}.values())
    experiment = next((each for each in experiments if each.name == name), None)
    if not shown:
        known = ", ".join(each.name for each in experiments) or "none"
        return [], [f"no answer was shown in an experiment named {name!r}: the setup has {known}"]
    notes = (
        []
        if experiment
        else [f"the setup has no experiment {name!r}: arms are judged as the log names them"]
    )
    requests = _requests(name, shown, examples, experiment)
    notes += _oddities(requests, experiment)
    if experiment:
        requests = requests.where(np.isin(requests.arms_B, _arms(experiment)))
    if not len(requests.arms_B):
        return [], [
            *notes,
            f"no answer is of an arm that {name!r} has: look where its requests went",
        ]
    if (requests.arms_B == INTERLEAVED).all():
        rows, more = preferred(requests, _teams(shown, experiment))
        return [*_arm_rows(requests, INTERLEAVED), *rows], [*notes, *more]
    rows, more = _compared(requests, experiment, control)
    return rows, [*notes, *more]


def _compared(
    requests: Requests, experiment: Experiment | None, control: str | None
) -> tuple[list[Row], list[str]]:
    """The rows of an A/B experiment."""
    counts = Counter(requests.arms_B.tolist())
    default = (
        experiment.control
        if experiment and experiment.control in counts
        else counts.most_common(1)[0][0]
    )
    notes, chosen = [], control if control is not None and control in counts else default
    if control is not None and chosen != control:
        notes.append(f"no answer is of the control {control!r}: {default!r} stands in for it")
    if len(counts) == 1:
        notes.append(f"all answers are of the arm {default!r}: there is nothing to compare")
    rows = _arm_rows(requests, chosen)
    ratio, more = _sample_ratio(requests, experiment)
    return [*rows, *ratio], [*notes, *more]


def _arm_rows(requests: Requests, control: str) -> list[Row]:
    surfaces = sorted(set(requests.surfaces_B.tolist()))
    slices = {"all": requests}
    if len(surfaces) > 1:
        slices |= {surface: requests.where(requests.surfaces_B == surface) for surface in surfaces}
    rows = []
    for name, part in slices.items():
        arms = sorted(set(part.arms_B.tolist()), key=lambda arm: (arm != control, arm))
        means = {arm: _means(part.where(part.arms_B == arm)) for arm in arms}
        rows += [
            _arm_row(name, arm, means[arm], None if arm == control else means.get(control))
            for arm in arms
        ]
    return rows


def _means(requests: Requests) -> dict[str, Mean]:
    return {metric: mean(requests.values[metric], requests.units_B) for metric in METRICS}


def _arm_row(
    part: str, arm: str, means: Mapping[str, Mean], against: Mapping[str, Mean] | None
) -> Row:
    first = means[METRICS[0]]
    row: Row = {
        "kind": "arm",
        "name": arm,
        "slice": part,
        "requests": first.requests,
        "users": first.units,
    }
    for metric, found in means.items():
        row[metric] = found.value
        row[f"{metric}/low"], row[f"{metric}/high"] = found.interval
        if against is not None:
            apart = difference(found, against[metric])
            row[f"{metric}/difference"], row[f"{metric}/p"] = apart.value, apart.p
            row[f"{metric}/difference/low"], row[f"{metric}/difference/high"] = (
                apart.low,
                apart.high,
            )
    return row


def _sample_ratio(requests: Requests, experiment: Experiment | None) -> tuple[list[Row], list[str]]:
    """Units an arm against the arms' shares, by chi-square: a mismatch says that who is missing was
    not lost by chance, so that the arms cannot be compared (Fabijan et al. 2019)."""
    if experiment is None:
        return [], ["without the experiment's shares the sample ratio cannot be checked"]
    arms = list(experiment.arms)
    counts = [len(np.unique(requests.units_B[requests.arms_B == arm])) for arm in arms]
    statistic, p = chi_square(counts, list(experiment.arms.values()))
    row: Row = {
        "kind": "ratio",
        "name": "sample_ratio",
        "chi2": statistic,
        "p": p,
        "mismatch": p < MISMATCH,
    }
    row |= {f"users/{arm}": count for arm, count in zip(arms, counts, strict=True)}
    if p >= MISMATCH:
        return [row], []
    told = ", ".join(f"{arm} {n:,}" for arm, n in zip(arms, counts, strict=True))
    return [row], [
        f"SAMPLE RATIO MISMATCH (p = {p:.1e}): users by arm are {told}, so believe no difference before you know why"
    ]


def preferred(requests: Requests, teams: tuple[str, str]) -> tuple[list[Row], list[str]]:
    """Which of two teams is liked: one row.

    A request prefers the team with more clicks. `wins` and `losses` count those that prefer the
    second team and the first, `p/sign` is the binomial test that both are as likely; `preference`
    is the mean of 1, -1 and 0 over all requests with its interval clustered by user, and `p` that
    it is 0."""
    from scipy.stats import binomtest

    won_B = requests.preferences_B
    wins, losses = int((won_B == 1).sum()), int((won_B == -1).sum())
    found = mean(won_B.astype(np.float64), requests.units_B)
    apart = difference(found, Mean(0.0, 0.0, found.requests, max(found.units, 2)))
    row: Row = {
        "kind": "preference",
        "name": f"{teams[1]} over {teams[0]}",
        "requests": found.requests,
    }
    row |= {
        "users": found.units,
        "wins": wins,
        "losses": losses,
        "ties": found.requests - wins - losses,
    }
    row |= {
        "preference": found.value,
        "preference/low": apart.low,
        "preference/high": apart.high,
        "p": apart.p,
    }
    row["p/sign"] = float(binomtest(wins, wins + losses).pvalue) if wins + losses else float("nan")
    notes = (
        []
        if wins + losses
        else ["no request prefers a team: nothing was clicked that only one of them chose"]
    )
    return [row], notes


def _requests(
    name: str, shown: Sequence[Impression], examples: pa.Table, experiment: Experiment | None
) -> Requests:
    labels = _labels(examples)
    teams, counted = _teams(shown, experiment), [labels.get(each.request_id, {}) for each in shown]
    done = [list(items.values()) for items in counted]
    values = {
        "clicks": np.array([sum(label >= _CLICK for label in each) for each in done], np.float64),
        "purchases": np.array(
            [sum(label >= _PURCHASE for label in each) for each in done], np.float64
        ),
        "touched": np.array([any(label > 0 for label in each) for each in done], np.float64),
    }
    won = [
        preference(each.teams, [items.get(item, 0) >= _CLICK for item in each.item_ids], teams)
        if each.teams
        else 0
        for each, items in zip(shown, counted, strict=True)
    ]
    return Requests(
        np.array([each.arms[name] for each in shown], object),
        units([each.user_id for each in shown], [each.request_id for each in shown]),
        np.array([each.surface for each in shown], object),
        values,
        np.array(won, np.int64),
    )


def _labels(examples: pa.Table) -> dict[str, dict[str, int]]:
    """What was done with each item of each request, where something was."""
    touched = examples.filter(examples["label"].to_numpy() > 0)
    found: dict[str, dict[str, int]] = {}
    columns = (touched[column].to_pylist() for column in ("request_id", "item_id", "label"))
    for request, item, label in zip(*columns, strict=True):
        found.setdefault(request, {})[item] = label
    return found


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


def _oddities(requests: Requests, experiment: Experiment | None) -> list[str]:
    """What is in the log though it should not be."""
    notes = []
    strange = Counter(
        arm for arm in requests.arms_B.tolist() if experiment and arm not in _arms(experiment)
    )
    for arm, count in sorted(strange.items()):
        notes.append(
            f"{count:,} answers are of an arm {arm!r} that the experiment does not have: left out"
        )
    pairs = set(zip(requests.units_B.tolist(), requests.arms_B.tolist(), strict=True))
    twice = sum(count > 1 for count in Counter(unit for unit, _ in pairs).values())
    if twice:
        notes.append(
            f"{twice:,} users were in more than one arm: was its seed or its shares changed while it ran?"
        )
    return notes
