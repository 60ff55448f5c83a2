"""The feature log as ranked lists to learn from: read, limited in anyone's influence, split by
time.

Nothing is computed again: features, scores and propensities are those that the answers were made
with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys.config import Setup
from recsys.errors import InputError, ReleaseError
from recsys.events.item_clicks import MAX_CLICKS_A_DAY, MAX_REPEATS_A_DAY
from recsys.events.joins import label_examples
from recsys.events.log_checks import count_anomalies
from recsys.pipeline.rerank import TABLE
from recsys.ranking.logged_rankings import LoggedRankings
from recsys.release.manifest import read_manifest
from recsys.storage.artifacts import ArtifactStore

SURFACES = ("search", "recommend")
#: At most this share of the requests, the newest, is held out, where the log has less than a few
#: days.
MAX_HELD_OUT = 0.2


@dataclass(frozen=True)
class RankingLog:
    """The ranked answers of a setup's live log as lists, and what `log_checks.count_anomalies`
    counted in it."""

    lists: LoggedRankings
    counts: Mapping[str, int]


def read_ranking_log(setup: Setup, now: datetime | None = None) -> RankingLog:
    """The log's answers that were ranked with features, of the vector space that releases have now,
    without those of `requests_over_influence_limit`.

    Raises InputError where there are none.
    """
    now, since = now or datetime.now(UTC), _space_since(setup)
    events = setup.event_store()
    try:
        impressions = [
            each for each in events.impressions() if each.features.names and each.time >= since
        ]
        interactions = list(events.interactions(events.end().interactions))
    finally:
        events.close()
    examples = label_examples(impressions, interactions, now)
    counts = count_anomalies(impressions, interactions, now)
    examples = examples.filter(pc.is_in(examples["surface"], value_set=pa.array(SURFACES)))
    if not examples.num_rows:
        raise InputError("the log holds no ranked answers yet: serve some traffic first")
    excess = requests_over_influence_limit(examples)
    examples = examples.filter(pc.invert(pc.is_in(examples["request_id"], value_set=excess)))
    return RankingLog(
        LoggedRankings.of(examples, TABLE), {**counts, "answers_beyond_a_share": len(excess)}
    )


def requests_over_influence_limit(examples: pa.Table) -> pa.Array:
    """The requests to leave out so that nobody's clicks alone move a ranker far: those with a click
    on an item that the same user, or the same address, clicked before on that day (UTC); those past
    MAX_CLICKS_A_DAY clicks of one of them; and all of a user who clicked one item in more than
    MAX_REPEATS_A_DAY answers of the day."""
    clicks = examples.filter(pc.greater(examples["label"], 1)).sort_by("time")
    columns = ["request_id", "item_id", "user_id", "origin"]
    frame = (
        clicks.select(columns)
        .to_pandas()
        .assign(day=pc.floor_temporal(clicks["time"], unit="day").to_numpy())
    )
    repeats = frame.groupby(["user_id", "item_id", "day"])["item_id"].transform("size")
    most_repeats = repeats.groupby([frame["user_id"], frame["day"]]).transform("max")
    is_over = (most_repeats > MAX_REPEATS_A_DAY).to_numpy(bool)
    excess = is_over & frame["user_id"].notna().to_numpy()
    for source in ("user_id", "origin"):
        over = frame.duplicated([source, "item_id", "day"]) | (
            frame.groupby([source, "day"]).cumcount() >= MAX_CLICKS_A_DAY
        )
        excess |= over.to_numpy() & frame[source].notna().to_numpy()
    return pa.array(frame["request_id"].to_numpy()[excess], pa.string()).unique()


def hold_out_last_day(lists: LoggedRankings) -> tuple[LoggedRankings, LoggedRankings]:
    """The log before its last 24 hours, and these as a test set: at most the newest MAX_HELD_OUT of
    the requests."""
    if not len(lists):
        return lists, lists
    newest = np.sort(lists.times_B)[int((1 - MAX_HELD_OUT) * (len(lists) - 1))]
    late_B = lists.times_B > max(lists.times_B.max() - np.timedelta64(1, "D"), newest)
    return lists.where(~late_B), lists.where(late_B)


def _space_since(setup: Setup) -> datetime:
    """When the oldest of the releases began that share the newest one's space without a break:
    features logged before are of other vectors."""
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
