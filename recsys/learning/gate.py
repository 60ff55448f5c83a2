"""The publication gate: a non-inferiority test of a candidate ranker against the live one, on a
held-out day, overall and by slice.

The difference of IPS-weighted nDCG@k is paired by request, so that what makes a request hard
cancels, and its interval is a bootstrap over users. Legend: B requests, K places, U users, D
draws."""

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


@dataclass(frozen=True, kw_only=True)
class GateCriteria:
    """What a candidate must clear: the interval's lower bound above -margin (non-inferiority).

    nDCG@k differs by about .3 from request to request for two rankers that have little in common,
    so that `min_requests` leave an interval of .04 to either side: a ranker just as good clears
    `slice_margin` then, two times of three. The whole day must show more: for `margin` that takes
    about 1,250. A slice with fewer than `min_requests` is inconclusive: it is named and does not
    block. Overall, inconclusive is a refusal."""

    margin: float = 0.02
    slice_margin: float = 0.05
    min_requests: int = 200
    k: int = 10
    clip: float = CLIP
    level: float = 0.95
    draws: int = 1000
    seed: int = 0

    def __post_init__(self) -> None:
        if not (self.margin > 0 and self.slice_margin > 0 and self.min_requests >= 1):
            raise InputError(
                f"margins of {self.margin} and {self.slice_margin} with {self.min_requests} "
                "requests test nothing: give margins above 0, and at least 1 request"
            )


@dataclass(frozen=True, kw_only=True)
class GateRow:
    """One slice: nDCG@k of both, what the candidate adds, and its interval. `passed` is None where
    it is inconclusive."""

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
    *,
    examination: PositionBias | None = None,
    judged: LoggedRankings | None = None,
    slices: Mapping[str, Mask] | None = None,
    criteria: GateCriteria = GateCriteria(),
) -> Verdict:
    """Compares two rankers on answers that neither learned from.

    `live` None stands for the log's own scores, those of the rankers that made the answers. Each
    ranker re-orders the logged items; nDCG@k weighs clicks by the inverse of `examination`.
    `judged` has grades as gains, unbiased by position, its items in an order that says nothing of
    them. `slices` are masks over `day`, `day_slices` makes the usual ones. Raises InputError where
    the log has none of a ranker's features, or a ranker's scores are no finite numbers."""
    compare = _Comparison(criteria, examination)
    new_BK, live_BK = _scores(candidate, day), _scores(live, day)
    rows = [compare.row(OVERALL, new_BK, live_BK, day, margin=criteria.margin)]
    for name, mask_B in (slices or {}).items():
        part, margin = day.where(mask_B), criteria.slice_margin
        rows.append(compare.row(name, new_BK[mask_B], live_BK[mask_B], part, margin=margin))
    if judged is not None:
        new_BK, live_BK = _scores(candidate, judged), _scores(live, judged)
        unbiased = _Comparison(criteria, None)
        rows.append(unbiased.row(JUDGED, new_BK, live_BK, judged, margin=criteria.slice_margin))
    return _verdict(tuple(rows), criteria)


def day_slices(
    day: LoggedRankings,
    warm_users: Collection[str] | None = None,
    tail_items: Collection[str] = (),
) -> dict[str, Mask]:
    """The usual slices of a day: cold users, requests that led to a tail item, and each surface of
    several.

    Cold are users who are not among `warm_users`, those with a past before the day; without these,
    requests whose feature `known_user` is 0 for all items, and those without a user."""
    users, tail = day.users_B.tolist(), set(tail_items)
    if warm_users is None:
        cold_B = np.array([user is None for user in users], bool)
        if KNOWN_USER in day.names:
            cold_B |= ~np.any(day.features_BKF[:, :, day.names.index(KNOWN_USER)] > 0, axis=1)
    else:
        warm = set(warm_users)
        cold_B = np.array([user not in warm for user in users], bool)
    is_tail_BK = np.array([item in tail for item in day.items_BK.ravel().tolist()], bool).reshape(
        day.items_BK.shape
    )
    surfaces = sorted(set(day.surfaces_B.tolist()))
    by_surface = {f"surface {name}": day.surfaces_B == name for name in surfaces}
    return {
        COLD: cold_B,
        TAIL: np.any(is_tail_BK & day.clicked_BK, axis=1),
        **(by_surface if len(surfaces) > 1 else {}),
    }


def render_page(name: str, verdict: Verdict) -> str:
    """The verdict on the ranker `name` as one self-contained HTML page."""
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    source = (files("recsys.learning") / "gate.html.j2").read_text("utf-8")

    def number(value: float, sign: str) -> str:
        return "" if math.isnan(value) else f"{value:{sign}.4f}"

    return environment.from_string(source).render(name=name, verdict=verdict, number=number)


def _scores(ranker: Ranker | None, lists: LoggedRankings) -> Floats:
    """[B, K], block by block: a second copy of a whole day's features, in the ranker's order, would
    not fit into memory."""
    if ranker is None:
        return lists.scores_BK
    scores_BK = np.zeros(lists.positions_BK.shape, np.float32)
    for start in range(0, len(lists), _BLOCK):
        block = np.arange(start, min(start + _BLOCK, len(lists)))
        scores_BK[block] = ranker.score(
            lists.where(block).with_features(ranker.feature_names).features_BKF
        )
    return scores_BK


@dataclass(frozen=True)
class _Comparison:
    """How the two rankers' scores become a row."""

    criteria: GateCriteria
    examination: PositionBias | None

    def row(
        self, name: str, new_BK: Floats, live_BK: Floats, lists: LoggedRankings, *, margin: float
    ) -> GateRow:
        new_B, live_B = self._ndcg(new_BK, lists), self._ndcg(live_BK, lists)
        valid_B = ~np.isnan(new_B)
        clusters_B = cluster_ids(
            lists.users_B[valid_B].tolist(), lists.request_ids_B[valid_B].tolist()
        )
        low, high = cluster_bootstrap_mean(
            (new_B - live_B)[valid_B],
            clusters_B,
            level=self.criteria.level,
            draws=self.criteria.draws,
            seed=self.criteria.seed,
        )
        live, new = (
            float(values_B[valid_B].mean()) if valid_B.any() else math.nan
            for values_B in (live_B, new_B)
        )
        requests = int(valid_B.sum())
        passed, sentence = self._decide(requests, new - live, low, high, margin=margin)
        return GateRow(
            slice=name,
            requests=requests,
            users=len(np.unique(clusters_B)),
            live=live,
            candidate=new,
            difference=new - live,
            low=low,
            high=high,
            passed=passed,
            sentence=sentence,
        )

    def _ndcg(self, scores_BK: Floats, lists: LoggedRankings) -> Values:
        k, clip = self.criteria.k, self.criteria.clip
        return ips_ndcg(scores_BK, lists, self.examination, k, clip)

    def _decide(
        self, requests: int, difference: float, low: float, high: float, *, margin: float
    ) -> tuple[bool | None, str]:
        """Whether it passes, and why."""
        if requests < self.criteria.min_requests:
            return None, (
                f"{requests:,} requests that led to something are too few to tell: "
                f"it takes {self.criteria.min_requests:,}"
            )
        numbers = f"{difference:+.4f} ({low:+.4f} to {high:+.4f}) on {requests:,} requests"
        if high < 0:
            return False, f"worse: {numbers}"
        if low <= -margin:
            return False, f"it may be worse by more than {margin:g}: {numbers}"
        return True, f"{'better' if low > 0 else 'not worse'}: {numbers}"


def _verdict(rows: tuple[GateRow, ...], criteria: GateCriteria) -> Verdict:
    failed = [
        row for row in rows if row.passed is False or (row.passed is None and row.slice == OVERALL)
    ]
    inconclusive = [
        f"{row.slice} ({row.requests:,})"
        for row in rows
        if row.passed is None and row.slice != OVERALL
    ]
    reason = "; ".join(f"{row.slice}: {row.sentence}" for row in failed or rows[:1])
    if inconclusive:
        reason += (
            f"; too few requests to tell of {', '.join(inconclusive)}: "
            f"it takes {criteria.min_requests:,}"
        )
    return Verdict(not failed, rows, reason)


def _is_nan(value: Any) -> bool:
    return isinstance(value, float) and math.isnan(value)
