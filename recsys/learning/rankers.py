"""From the log of what was shown and done to rankers that may serve.

Nothing is computed again: features, scores and propensities are those that the answers were made
with. The newest day is kept apart; a ranker replaces the one that serves only if it is not worse
there."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from recsys.config import Setup
from recsys.errors import InputError, ReleaseError
from recsys.events.item_clicks import MAX_CLICKS_A_DAY, MAX_REPEATS_A_DAY
from recsys.events.joins import label_examples
from recsys.events.log_checks import count_anomalies
from recsys.experiments.exploration import Exploration
from recsys.interfaces import Ranker
from recsys.learning.gate import GateCriteria, Verdict, day_slices, judge, render_page
from recsys.models.composition import RANKERS, with_models, with_parts
from recsys.models.store import current_models
from recsys.pipeline.recommender import Recommender
from recsys.pipeline.rerank import FIRST, TABLE
from recsys.pipeline.search import SearchPage
from recsys.ranking.examination import Examination, from_swaps, regression_em
from recsys.ranking.linear import WeightedSum
from recsys.ranking.logged_rankings import LoggedRankings, split
from recsys.release.release import Release, read_manifest
from recsys.storage.artifacts import ArtifactStore
from recsys.training import EXAMINATION, GATE, NET, TREES
from recsys.types import Floats, Impression, Mask, Query

if TYPE_CHECKING:
    from recsys.training.ranker import NetRecipe, TreeRecipe

Say = Callable[[str], None]
#: Requests with a place left to chance that the curve needs; with fewer it comes from
#: regression-EM.
SWAPS = 500
#: Judged queries that the gate asks at most.
MOST_JUDGED = 500
#: The newest requests that the gate keeps, where the log has less than two days.
NEWEST = 0.2


@dataclass(frozen=True)
class RankingLog:
    """The ranked answers of a setup's live log as lists, and what `log_checks.count_anomalies`
    counted in it."""

    lists: LoggedRankings
    counts: Mapping[str, int]


@dataclass(frozen=True)
class RankerOptions:
    """What is trained, how, and what it has to clear. `trees` or `net` None leaves that ranker
    out."""

    trees: TreeRecipe | None
    net: NetRecipe | None
    bar: GateCriteria = field(default_factory=GateCriteria)

    @classmethod
    def here(cls, seed: int = 0) -> RankerOptions:
        """Both rankers."""
        from recsys.training.ranker import NetRecipe, TreeRecipe

        return cls(TreeRecipe(seed=seed), NetRecipe(seed=seed))


def read_ranking_log(setup: Setup, now: datetime | None = None) -> RankingLog:
    """What the setup's log holds of answers that were ranked with features, of the space that
    releases have now.

    Raises InputError where it holds none.
    """
    now, since = now or datetime.now(UTC), _space_since(setup)
    events = setup.event_store()
    try:
        shown = [each for each in events.impressions() if each.feature_names and each.time >= since]
        done = list(events.interactions(events.end().interactions))
    finally:
        events.close()
    examples, counts = label_examples(shown, done, now), count_anomalies(shown, done, now)
    examples = examples.filter(
        pc.is_in(examples["surface"], value_set=pa.array(["search", "recommend"]))
    )
    if not examples.num_rows:
        raise InputError("the log holds no ranked answers yet: serve some traffic first")
    greedy = requests_over_influence_limit(examples)
    kept = examples.filter(pc.invert(pc.is_in(examples["request_id"], value_set=greedy)))
    return RankingLog(
        LoggedRankings.of(kept, TABLE), {**counts, "answers_beyond_a_share": len(greedy)}
    )


def requests_over_influence_limit(examples: pa.Table) -> pa.Array:
    """The requests that teach nothing, so that nobody alone teaches much: those with a click on an
    item that the same user, or the same address, clicked before on that day (UTC), those past
    CLICKS_A_DAY clicks of one of them, and all of a user who clicked one item in more than AGAIN
    answers of the day."""
    clicks = examples.filter(pc.greater(examples["label"], 1)).sort_by("time")
    columns = ["request_id", "item_id", "user_id", "origin"]
    frame = (
        clicks.select(columns)
        .to_pandas()
        .assign(day=pc.floor_temporal(clicks["time"], unit="day").to_numpy())
    )
    often = frame.groupby(["user_id", "item_id", "day"])["item_id"].transform("size")
    pressing = often.groupby([frame["user_id"], frame["day"]]).transform("max") > MAX_REPEATS_A_DAY
    greedy = pressing.to_numpy(bool) & frame["user_id"].notna().to_numpy()
    for who in ("user_id", "origin"):
        again = frame.duplicated([who, "item_id", "day"]) | (
            frame.groupby([who, "day"]).cumcount() >= MAX_CLICKS_A_DAY
        )
        greedy |= again.to_numpy() & frame[who].notna().to_numpy()
    return pa.array(frame["request_id"].to_numpy()[greedy], pa.string()).unique()


def _space_since(setup: Setup) -> datetime:
    """When the oldest of the releases began that share the newest one's space without a break:
    features that were logged before are of other vectors."""
    store, since, space = ArtifactStore(setup.home), datetime.min.replace(tzinfo=UTC), None
    for version in reversed(store.versions()):
        try:
            manifest = read_manifest(store, version)
        except ReleaseError:
            break
        if space is not None and manifest.space != space:
            return since
        space, since = manifest.space, datetime.fromisoformat(manifest.created)
    return datetime.min.replace(tzinfo=UTC)


def hold_out_last_day(lists: LoggedRankings) -> tuple[LoggedRankings, LoggedRankings]:
    """What came before the log's last 24 hours, and these; at most the newest NEWEST of the
    requests are kept apart."""
    if not len(lists):
        return lists, lists
    newest = np.sort(lists.times_B)[int((1 - NEWEST) * (len(lists) - 1))]
    late_B = lists.times_B > max(lists.times_B.max() - np.timedelta64(1, "D"), newest)
    return lists.where(~late_B), lists.where(late_B)


def estimate_position_bias(
    lists: LoggedRankings, explore: Exploration, seed: int = 0, say: Say = lambda _: None
) -> Examination:
    """The examination curve: from what was left to chance where there is enough of it, else by
    regression-EM.

    `explore` is the policy that the log was made with: one that brings items from behind the list
    says nothing of places."""
    chance_B = np.any(lists.there_BK & (lists.propensities_BK < 1), axis=1)
    by_chance = int(chance_B.sum()) >= SWAPS and explore.kind in ("swap", "thompson")
    curve = (
        from_swaps(lists.where(chance_B), seed=seed)
        if by_chance
        else regression_em(lists, seed=seed)
    )
    how = (
        f"{int(chance_B.sum()):,} requests with something left to chance"
        if by_chance
        else "regression-EM"
    )
    told = " ".join(f"{value:.2f}" for value in np.asarray(curve.curve_K).tolist())
    say(f"places are looked at with {told} (from {how})")
    return curve


def train_rankers(
    setup: Setup,
    folder: Path,
    choices: RankerOptions,
    judged: LoggedRankings | None = None,
    seed: int = 0,
    say: Say = lambda _: None,
) -> dict[str, float]:
    """Leaves in `folder` the curve, the rankers that passed the gate, and the gate's report (json,
    and a page).

    Returns what was measured. Raises InputError where the log is too little to learn from, or no
    ranker passed: the sentence says why, and the report lies in the folder."""
    log = read_ranking_log(setup)
    say(
        f"{len(log.lists):,} ranked answers, {int(log.lists.teaches_B.sum()):,} of them led to something"
    )
    say("of the log: " + ", ".join(f"{name} {count:,}" for name, count in log.counts.items()))
    past, day = hold_out_last_day(log.lists)
    train, valid = split(past)
    folder.mkdir(parents=True, exist_ok=True)
    curve = estimate_position_bias(past, setup.day.explore, seed, say)
    curve.save(folder / EXAMINATION)
    measured = _trained(train, valid, curve, folder, choices, say)
    live, slices = load_live_ranker(setup), _slices(setup, past, day)
    rankers = with_parts(setup, folder).rankers
    verdicts = {
        name: judge(rankers[name](), live, day, curve, judged, slices, choices.bar)
        for name in measured
    }
    _report(folder, verdicts)
    for name, verdict in verdicts.items():
        say(f"{name} {'passed' if verdict.passed else 'was refused'}: {verdict.reason}")
        if not verdict.passed:
            shutil.rmtree(folder / RANKERS[name])
    if not any(verdict.passed for verdict in verdicts.values()):
        reasons = "; ".join(f"{name}: {verdict.reason}" for name, verdict in verdicts.items())
        raise InputError(f"no ranker passed the gate ({reasons}): {folder / GATE} has the numbers")
    return {f"{name}/ips_ndcg@10": value for name, value in measured.items()}


def _trained(
    train: LoggedRankings,
    valid: LoggedRankings,
    curve: Examination,
    folder: Path,
    choices: RankerOptions,
    say: Say,
) -> dict[str, float]:
    """The best validation of each ranker, by name."""
    from recsys.training.ranker import train_net, train_trees

    measured = {}
    if choices.trees is not None:
        measured["trees"] = train_trees(
            train, valid, curve, folder / TREES, choices.trees, say
        ).best
    if choices.net is not None:
        measured["net"] = train_net(train, valid, curve, folder / NET, choices.net, say).best
    return measured


def load_live_ranker(setup: Setup) -> Ranker:
    """What would serve without a new one: the current models' ranker, else the first stage's
    order."""
    now = with_models(setup, current_models(setup))
    return now.rankers[now.ranker]() if now.ranker in now.rankers else WeightedSum({FIRST: 1.0})


def _slices(setup: Setup, past: LoggedRankings, day: LoggedRankings) -> Mapping[str, Mask]:
    """What the gate looks at apart: cold are users of whom the past knows nothing, the tail is the
    release's."""
    release = Release.open(ArtifactStore(setup.home))
    tail = release.items["item_id"].take(pa.array(np.flatnonzero(release.item_features.tail_I)))
    known = {user for user in past.users_B.tolist() if user is not None}
    return day_slices(day, known, set(tail.to_pylist()))


def _report(folder: Path, verdicts: Mapping[str, Verdict]) -> None:
    (folder / GATE).mkdir(exist_ok=True)
    for name, verdict in verdicts.items():
        (folder / GATE / f"{name}.json").write_text(json.dumps(verdict.to_dict(), indent=2) + "\n")
        (folder / GATE / f"{name}.html").write_text(render_page(name, verdict))


def judged_lists(shop: Recommender, encode: Callable[[str], Floats], path: Path) -> LoggedRankings:
    """Judged queries as the gate takes them: what the release's search finds of the judged items,
    with its features.

    `path` is a Parquet file with query, item_id and relevance (1 wrong .. 3 exactly right);
    `encode` gives a text's vector. At most MOST_JUDGED queries. Raises InputError where no query
    has two items that were found."""
    table = pq.read_table(path, columns=["query", "item_id", "relevance"])
    judged: dict[str, dict[int, float]] = {}
    rows = shop.release.item_ids.rows(table["item_id"])
    for text, row, grade in zip(
        table["query"].to_pylist(), rows.tolist(), table["relevance"].to_pylist(), strict=True
    ):
        if row >= 0:
            judged.setdefault(text, {})[row] = (grade - 1) / 2
    searching, shown, gains = SearchPage(shop.release, shop.searcher, shop.reranker), [], []
    for number, (text, grades) in enumerate(list(judged.items())[:MOST_JUDGED]):
        understood = shop.understand(text)
        asked = searching.found(
            Query(request_id="judged", text=text),
            encode(understood.understanding.normalised),
            understood,
        )
        places = np.flatnonzero(np.isin(asked.pool.rows_N, list(grades)))
        places = places[np.argsort(asked.pool.rows_N[places])]  # by row: an order that says nothing
        if len(places) > 1:
            rows = asked.pool.rows_N[places].tolist()
            ids = (shop.release.item_ids[row] for row in rows)
            values = map(
                tuple, shop.reranker.features(asked.pool.at(places), asked.context).tolist()
            )
            # The query stands for the user: intervals draw whole queries again.
            shown.append(
                Impression(
                    request_id=f"judged {number}",
                    time=datetime.now(UTC),
                    release=shop.release.version,
                    surface="search",
                    item_ids=tuple(ids),
                    feature_names=TABLE,
                    features=tuple(values),
                    user_id=text,
                    query=text,
                )
            )
            gains.append([grades[row] for row in rows])
    if not shown:
        raise InputError(
            f"{path} judges no two items that one of its {len(judged):,} queries finds: give others"
        )
    lists = LoggedRankings.of(label_examples(shown, ()), TABLE)
    for at, gains_K in enumerate(gains):
        lists.gains_BK[at, : len(gains_K)] = gains_K
    return lists
