"""Whether a new ranker may take the live one's place: not worse on a held-out day, overall and for
those it could hurt.

The difference of both is taken request by request, so what makes a request hard drops out, and its
interval is over users. Legend: B requests, K places, U users, D draws."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from importlib.resources import files
from typing import Any

import numpy as np
from jinja2 import Environment, StrictUndefined
from numpy.typing import NDArray

from recsys.errors import InputError
from recsys.interfaces import Ranker
from recsys.intervals import cluster_bootstrap_mean, cluster_ids
from recsys.ranking.logged_rankings import CLIP, LoggedRankings, PositionBias, ips_ndcg
from recsys.types import Floats, Mask

Values = NDArray[np.floating[Any]]

OVERALL, JUDGED, COLD, TAIL = "overall", "judged set", "cold users", "tail items"
#: The feature that says whether the user has a past, where the log has it.
KNOWN_USER = "known_user"
_BLOCK = 512


@dataclass(frozen=True)
class GateCriteria:
    """What a candidate must clear: the interval's lower bound above -margin (non-inferiority).

    nDCG@k differs by about .3 from request to request for two rankers that have little in common,
    so that `least` requests leave an interval of .04 to either side: a ranker just as good clears
    `slice_margin` then, two times of three. The whole day must show more: for `margin` that takes
    about 1,250. A slice with fewer than `least` requests says too little: it is named and does not
    block. Overall, too little is a refusal."""

    margin: float = 0.02
    slice_margin: float = 0.05
    least: int = 200
    k: int = 10
    clip: float = CLIP
    level: float = 0.95
    draws: int = 1000
    seed: int = 0

    def __post_init__(self) -> None:
        if not (self.margin > 0 and self.slice_margin > 0 and self.least >= 1):
            raise InputError(
                f"margins of {self.margin} and {self.slice_margin} with {self.least} requests are no bar: "
                "give margins above 0, and at least 1 request"
            )


@dataclass(frozen=True)
class GateRow:
    """One slice: nDCG@k of both, what the candidate adds, and its interval. `passed` is None for
    too little to tell."""

    slice: str
    requests: int
    users: int
    live: float
    candidate: float
    difference: float
    low: float
    high: float
    passed: bool | None
    sentence: str


@dataclass(frozen=True)
class Verdict:
    """Whether the candidate may be published, why, and a row a slice, `overall` first."""

    passed: bool
    rows: tuple[GateRow, ...]
    reason: str

    def to_dict(self) -> dict[str, Any]:
        """Plain values as JSON has them: what was not measured is None."""
        rows = [
            {name: None if _is_nan(value) else value for name, value in asdict(row).items()}
            for row in self.rows
        ]
        return {"passed": self.passed, "reason": self.reason, "rows": rows}


def judge(
    candidate: Ranker,
    live: Ranker | None,
    day: LoggedRankings,
    examination: PositionBias | None = None,
    judged: LoggedRankings | None = None,
    slices: Mapping[str, Mask] | None = None,
    bar: GateCriteria = GateCriteria(),
) -> Verdict:
    """Compares two rankers on answers that neither learned from.

    `live` None is what the log's scores say, the rankers that made the answers. Each puts what was
    shown into its own order; nDCG@k weighs clicks by `examination`. `judged` holds grades as gains,
    looked at alike in all places, its items in an order that says nothing of them. `slices` are
    masks over `day`, `day_slices` makes the usual ones. Raises InputError where the log has none of
    a ranker's features, or a ranker's scores are no numbers."""
    new_BK, live_BK = _scores(candidate, day), _scores(live, day)
    rows = [_row(OVERALL, new_BK, live_BK, day, examination, bar.margin, bar)]
    for name, mask_B in (slices or {}).items():
        part = day.where(mask_B)
        rows.append(
            _row(name, new_BK[mask_B], live_BK[mask_B], part, examination, bar.slice_margin, bar)
        )
    if judged is not None:
        told = _scores(candidate, judged), _scores(live, judged)
        rows.append(_row(JUDGED, *told, judged, None, bar.slice_margin, bar))
    return _verdict(tuple(rows), bar)


def day_slices(
    day: LoggedRankings,
    known_users: Collection[str] | None = None,
    tail_items: Collection[str] = (),
) -> dict[str, Mask]:
    """The usual slices of a day: cold users, those who took something of the tail, and each surface
    of several.

    Cold are users who are not among `known_users`, those with a past before the day; without these,
    requests whose feature `known_user` is 0 for all items, and those without a user."""
    known, tail = set(known_users or ()), set(tail_items)
    cold_B = np.array([user is None or user not in known for user in day.users_B.tolist()], bool)
    if known_users is None:
        cold_B = np.array([user is None for user in day.users_B.tolist()], bool)
        if KNOWN_USER in day.names:
            cold_B |= ~np.any(day.features_BKF[:, :, day.names.index(KNOWN_USER)] > 0, axis=1)
    of_tail_BK = np.array([item in tail for item in day.items_BK.ravel().tolist()], bool).reshape(
        day.items_BK.shape
    )
    surfaces = sorted(set(day.surfaces_B.tolist()))
    by_surface = (
        {f"surface {name}": day.surfaces_B == name for name in surfaces}
        if len(surfaces) > 1
        else {}
    )
    return {COLD: cold_B, TAIL: np.any(of_tail_BK & day.clicked_BK, axis=1), **by_surface}


def render_page(name: str, verdict: Verdict) -> str:
    """The verdict on the ranker `name` as one HTML page that needs nothing else."""
    rooms = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    template = rooms.from_string((files("recsys.learning") / "gate.html.j2").read_text("utf-8"))

    def shown(value: float, sign: str) -> str:
        return "" if math.isnan(value) else f"{value:{sign}.4f}"

    return template.render(name=name, verdict=verdict, shown=shown)


def _scores(ranker: Ranker | None, lists: LoggedRankings) -> Floats:
    """[B, K], block by block: features of a day in another order would not fit beside them."""
    if ranker is None:
        return lists.scores_BK
    scores_BK = np.zeros(lists.positions_BK.shape, np.float32)
    for start in range(0, len(lists), _BLOCK):
        block = np.arange(start, min(start + _BLOCK, len(lists)))
        scores_BK[block] = ranker.score(lists.where(block).named(ranker.feature_names).features_BKF)
    return scores_BK


def _row(
    name: str,
    new_BK: Floats,
    live_BK: Floats,
    lists: LoggedRankings,
    examination: PositionBias | None,
    margin: float,
    bar: GateCriteria,
) -> GateRow:
    new_B, live_B = (
        ips_ndcg(scores_BK, lists, examination, bar.k, bar.clip) for scores_BK in (new_BK, live_BK)
    )
    known_B = ~np.isnan(new_B)
    clusters_B = cluster_ids(lists.users_B[known_B].tolist(), lists.request_ids_B[known_B].tolist())
    low, high = cluster_bootstrap_mean(
        (new_B - live_B)[known_B], clusters_B, level=bar.level, draws=bar.draws, seed=bar.seed
    )
    live, new = (
        float(values_B[known_B].mean()) if known_B.any() else math.nan
        for values_B in (live_B, new_B)
    )
    requests = int(known_B.sum())
    passed, said = _judged(requests, new - live, low, high, margin, bar.least)
    return GateRow(
        name, requests, len(np.unique(clusters_B)), live, new, new - live, low, high, passed, said
    )


def _judged(
    requests: int, difference: float, low: float, high: float, margin: float, least: int
) -> tuple[bool | None, str]:
    """Whether it passes, and why."""
    if requests < least:
        return (
            None,
            f"{requests:,} requests that led to something are too few to tell: it takes {least:,}",
        )
    told = f"{difference:+.4f} ({low:+.4f} to {high:+.4f}) on {requests:,} requests"
    if high < 0:
        return False, f"worse: {told}"
    if low <= -margin:
        return False, f"it may be worse by more than {margin:g}: {told}"
    return True, f"{'better' if low > 0 else 'not worse'}: {told}"


def _verdict(rows: tuple[GateRow, ...], bar: GateCriteria) -> Verdict:
    failed = [
        row for row in rows if row.passed is False or (row.passed is None and row.slice == OVERALL)
    ]
    silent = [
        f"{row.slice} ({row.requests:,})"
        for row in rows
        if row.passed is None and row.slice != OVERALL
    ]
    reason = "; ".join(f"{row.slice}: {row.sentence}" for row in failed or rows[:1])
    if silent:
        reason += f"; too few requests to tell of {', '.join(silent)}: it takes {bar.least:,}"
    return Verdict(not failed, rows, reason)


def _is_nan(value: Any) -> bool:
    return isinstance(value, float) and math.isnan(value)
