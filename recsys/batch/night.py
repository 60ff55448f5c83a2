"""The night in order: ingest, embed, candidates, index, verify, publish.

`begin` fixes a plan (or finds the one that was interrupted); `run_night` carries it out. If
anything fails, `current` still names yesterday."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from math import ceil

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from recsys.batch import candidates, embed, index, ingest, nearest
from recsys.batch.held_out import METRICS_FILE, evaluate_held_out
from recsys.batch.plan import LIVE, NightRun, Plan
from recsys.batch.report import write_report
from recsys.batch.stages import Stage, StageLine, run_stages
from recsys.config import Setup
from recsys.errors import InputError, NotFoundError, ReleaseError
from recsys.events.item_clicks import count_item_clicks, dcg_examination
from recsys.interfaces import Chunk
from recsys.models.composition import with_models
from recsys.models.store import current_models, models_folder, read_models_manifest
from recsys.privacy.decisions import PrivacyDecisions
from recsys.privacy.forget import finish_erasures
from recsys.ranking.examination import Examination
from recsys.release.checks import Check, checks, require
from recsys.release.release import Manifest, OtherFormatError, Release, read_manifest
from recsys.storage.artifacts import ArtifactStore
from recsys.storage.streams import parquet_bytes
from recsys.storage.version import code_commit
from recsys.tables import EVENTS, QUARANTINE
from recsys.training import EXAMINATION, USER_MODEL
from recsys.types import Floats, Ints
from recsys.understanding.suggestion_builder import frequent_queries

Say = Callable[[str], None]
#: Past queries are suggested for so long.
QUERIES_OF = timedelta(days=90)
#: What attracts is counted over so long.
ATTRACTION_OF = timedelta(days=90)


def begin(setup: Setup, until: datetime | None = None, version: str | None = None) -> NightRun:
    """The place of a new night, or of the one that was killed before it published.

    A night is continued when setup, models, encoder space and code are what they were; its time and
    inputs are the plan's."""
    store, commit, newest = ArtifactStore(setup.home), code_commit(), current_models(setup)
    setup = with_models(setup, newest)
    space = setup.encoder().space
    for unfinished in reversed(store.unfinished()):
        path = f"work/{unfinished}/plan.json"
        if version in (None, unfinished) and store.exists(path):
            plan = Plan.from_json(store.read(path))
            if (plan.setup, plan.space, plan.models, plan.commit) == (
                setup.name,
                space,
                newest,
                commit,
            ):
                return NightRun(store, setup, plan, _decided(setup))
    until = (until or datetime.now(UTC)).astimezone(UTC)
    return _planned(
        store, setup, space, newest, commit, until, version or f"{until:%Y-%m-%dT%H%M%S}"
    )


def _planned(
    store: ArtifactStore,
    setup: Setup,
    space: str,
    newest: str | None,
    commit: str,
    until: datetime,
    version: str,
) -> NightRun:
    """Looks at the inputs, copies the live events, and writes the plan: what is planned does not
    change any more."""
    dataset, choices, previous = setup.dataset(until), setup.night, _previous(store)
    item_chunks, event_chunks = dataset.item_chunks(), dataset.event_chunks()
    if not sum(chunk.rows for chunk in item_chunks):
        raise InputError(
            f"the catalogue of setup {setup.name} has no rows: give its dataset a table with items"
        )
    _drain(setup)
    live = _copy_live_events(store, setup, until, f"work/{version}/{LIVE}")
    _copy_queries(store, setup, until, f"work/{version}/{index.QUERIES}")
    _copy_attraction(store, setup, newest, until, f"work/{version}/{index.ATTRACTION}")
    event_chunks += [Chunk(LIVE, 0, live)] if live else []
    items, events = (sum(chunk.rows for chunk in chunks) for chunks in (item_chunks, event_chunks))
    plan = Plan(
        version=version,
        until=until.isoformat(),
        setup=setup.name,
        commit=commit,
        space=space,
        models=newest,
        previous=previous.version if previous else None,
        carry_from=previous.version if previous and previous.space == space else None,
        taste_from=previous.version
        if previous and _same_taste(setup, newest, space, previous)
        else None,
        item_chunks=item_chunks,
        event_chunks=event_chunks,
        item_parts=max(1, ceil(items / choices.items_per_shard)),
        text_parts=max(1, ceil(items / choices.texts_per_shard)),
        user_parts=max(1, ceil(events / choices.events_per_shard)),
    )
    store.write(f"work/{version}/plan.json", plan.to_json())
    return NightRun(store, setup, plan, _decided(setup))


def _decided(setup: Setup) -> PrivacyDecisions:
    events = setup.event_store()
    try:
        return PrivacyDecisions.load(events)
    finally:
        events.close()


def _previous(store: ArtifactStore) -> Manifest | None:
    """The manifest of the current release; None where code of another format wrote it: this night
    is then a first."""
    try:
        return read_manifest(store, current) if (current := store.current()) else None
    except OtherFormatError:
        return None


def _same_taste(setup: Setup, newest: str | None, space: str, previous: Manifest) -> bool:
    """Whether the user model places items where the previous release has them."""
    if (previous.space, previous.setup) != (space, setup.name):
        return False
    now, then = (
        {
            path: sum
            for path, sum in _trained_files(setup, version).items()
            if path.startswith(f"{USER_MODEL}/")
        }
        for version in (newest, previous.models)
    )
    return now == then


def _trained_files(setup: Setup, version: str | None) -> dict[str, str]:
    """The models' files and their sums; none where nothing was trained, or what was is gone."""
    try:
        return read_models_manifest(setup, version).files if version else {}
    except NotFoundError:
        return {}


def run_night(night: NightRun, say: Say) -> Manifest:
    """Every stage, then verify, then publish. Raises ReleaseError, with `current` untouched, when a
    check fails."""
    plan = night.plan
    lines: dict[str, StageLine] = {}

    def go(*stages: Stage) -> None:
        result = run_stages(night, *stages)
        lines.update(result)
        for line in result.values():
            say(str(line))

    go(
        Stage("read items", len(plan.item_chunks), ingest.read_items),
        Stage("read events", len(plan.event_chunks), ingest.read_events),
    )
    _require_good_input(night, lines["read items"], lines["read events"])
    go(Stage("items", plan.item_parts, ingest.sort_items))
    go(Stage("events", plan.user_parts, ingest.sort_events))
    go(Stage("embed items", plan.text_parts, embed.tokenize_texts, embed.TextEncoderActor))
    go(Stage("vectors", plan.item_parts, embed.gather_vectors))
    _require_good_input(night, lines["vectors"])
    go(Stage("places", plan.item_parts, embed.embed_items))
    index.assemble_table(night, "items", plan.item_parts)
    index.assemble_array(night, "item_vectors", plan.item_parts)
    if night.store.exists(night.work_path("taste_vectors/00000.npy")):
        index.assemble_array(night, "taste_vectors", plan.item_parts)
    _add_up_popularity(night)
    blocks, near_blocks = len(index.similar_blocks(night)), len(index.neighbour_blocks(night))
    big = len(night.open_array("item_vectors")) > night.choices.ann_above
    go(
        Stage("embed users", plan.user_parts, candidates.embed_users),
        Stage("co_occurrence", near_blocks, index.compute_co_occurrence),
        Stage("lexical", 1, index.build_lexical),
        Stage("habits", 1, index.compute_item_stats),
        Stage("attraction", 1, index.align_attraction),
        Stage("projections", 1, index.project_vectors),
        Stage("codes", 1, index.build_codes),
        Stage("suggestions", 1, index.build_suggestions),
        *([Stage("dense", 1, index.build_ann)] if big else []),
    )
    index.assemble_table(night, "users", plan.user_parts)
    index.assemble_array(night, "user_vectors", plan.user_parts)
    for name in ("co_occurrence_rows", "co_occurrence_scores"):
        index.assemble_array(night, name, near_blocks)
    go(Stage("similar", blocks, index.compute_similar))
    for name in ("similar_rows", "similar_scores", "content_rows", "content_scores"):
        index.assemble_array(night, name, blocks)
    asked_for = night.setup.recommend_ranker().feature_names
    if "follows" in asked_for:
        go(Stage("follows", near_blocks, index.compute_follows))
        for name in ("follows_rows", "follows_scores"):
            index.assemble_array(night, name, near_blocks)
    if nearest.SOURCE in asked_for:
        go(nearest.stage(night))
    go(
        Stage("candidates", plan.user_parts, candidates.rank_candidates),
        Stage("held out", 1, evaluate_held_out),
    )
    for name in ("candidates_rows", "candidates_features", "candidates_sources"):
        index.assemble_array(night, name, plan.user_parts)
    night.assemble("quarantine.parquet", parquet_bytes(_quarantined(night)))
    manifest = _manifest(night, lines)
    release = Release(
        night.store.local_folder(night.release_path("")[:-1], manifest.files), manifest
    )
    found = verified(night, release, lines)
    require(found)
    return _publish(night, release, lines, found, say)


def verified(night: NightRun, release: Release, lines: dict[str, StageLine]) -> list[Check]:
    """The checks of the release in the making, against the one that is current."""
    previous = Release.open(night.store, night.plan.previous) if night.plan.previous else None
    counts = {
        "events": lines["events"].rows,
        "unknown_items": lines["events"].counts.get("unknown_items", 0),
    }
    return checks(release, previous, counts, release.manifest.metrics)


def _publish(
    night: NightRun, release: Release, lines: dict[str, StageLine], found: list[Check], say: Say
) -> Manifest:
    """The report and the stage times beside the release; the manifest last; the pointer; then the
    sweeping up."""
    manifest, store = release.manifest, night.store
    write_report(night, release, list(lines.values()), found)
    stages = [line.to_dict() for line in lines.values()]
    store.write(night.release_path("run.json"), json.dumps({"stages": stages}, indent=2).encode())
    store.publish(manifest.version, manifest.to_json())
    store.delete(f"work/{manifest.version}")
    for version in store.prune(night.choices.keep_releases):
        say(f"release {version} deleted: the newest {night.choices.keep_releases} are kept")
    _finish_forgetting(night, say)
    return manifest


def _finish_forgetting(night: NightRun, say: Say) -> None:
    """Nights before this one that never ended go, and so does everybody from the releases who asked
    for it since."""
    published = night.store.versions()
    for version in sorted({path.split("/")[1] for path in night.store.files("work")}):
        if version in published:
            night.store.delete(f"work/{version}")
        elif version < night.plan.version:
            night.store.abandon(version)
            say(f"night {version}, which never ended, deleted: this one is newer")
    for version, rows in finish_erasures(night.setup).items():
        say(f"release {version} amended: {rows:,} rows of users who asked to be forgotten deleted")


def _require_good_input(night: NightRun, *lines: StageLine) -> None:
    for line in lines:
        bad, share = line.counts.get("quarantined", 0), night.choices.max_bad_share
        if bad > share * line.rows:
            reasons = "; ".join(
                f"{count:,} x {reason}" for reason, count in _reasons(_quarantined(night)).items()
            )
            raise ReleaseError(
                f"{line.name}: {bad:,} of {line.rows:,} rows cannot be used, more than the {share:.0%} allowed "
                f"({reasons}): see {night.store.uri}/{night.work_path('quarantine')}, mend the input or its column "
                "mapping, or raise night.max_bad_share"
            )


def _quarantined(night: NightRun) -> pa.Table:
    paths = night.store.files(night.work_path("quarantine"))
    return pa.concat_tables(
        [QUARANTINE.empty_table(), *(pq.read_table(night.store.open(path)) for path in paths)]
    )


#: What a reason says of one row, and of all that broke the same rule.
_RULES = (
    (r"(\w+) is .*: ", r"\1: "),
    (r"(\w+) .* repeats row \d+ of .*: ", r"\1 stands there before: "),
    (r"item .* is not in the catalogue: ", "item not in the catalogue: "),
    (r"the text of item .*: the encoder fails", "text: the encoder fails"),
)


def _reasons(quarantined: pa.Table) -> dict[str, int]:
    """How many rows broke each rule. Without the values, which may be somebody's."""
    rules = quarantined["reason"]
    for reason, rule in _RULES:
        rules = pc.replace_substring_regex(rules, f"(?s)^{reason}", rule)
    tables = pc.binary_join_element_wise(quarantined["table"], rules, ": ")
    counted = pc.value_counts(tables.combine_chunks()).to_pylist()
    return {
        entry["values"]: entry["counts"]
        for entry in sorted(counted, key=lambda e: (-e["counts"], e["values"]))
    }


def _add_up_popularity(night: NightRun) -> None:
    parts = [night.read_array("popularity", part) for part in range(night.plan.user_parts)]
    sink = pa.BufferOutputStream()
    np.save(sink, np.sum(parts, axis=0, dtype=np.float64).astype(np.float32))
    night.assemble("popularity.npy", sink.getvalue())


def _manifest(night: NightRun, lines: dict[str, StageLine]) -> Manifest:
    plan = night.plan
    times = [night.read_array("times", part) for part in range(plan.user_parts)]
    spans = np.concatenate([span for span in times if len(span)] or [np.empty(0, np.int64)])
    first, last = (_iso(spans.min()), _iso(spans.max())) if len(spans) else (None, None)
    counts = {
        "items": lines["items"].rows,
        "events": lines["events"].rows,
        "users": lines["embed users"].rows,
        "texts": lines["embed items"].rows,
        "unknown_item_events": lines["events"].counts.get("unknown_items", 0),
        "forgotten_events": lines["read events"].counts.get("forgotten", 0),
    }
    return Manifest(
        version=plan.version,
        space=plan.space,
        setup=plan.setup,
        commit=plan.commit,
        previous=plan.previous,
        created=plan.until,
        events_from=first,
        events_until=last,
        counts=counts,
        quarantined=_reasons(_quarantined(night)),
        sources=list(night.setup.recommend_ranker().feature_names),
        metrics=json.loads(night.store.read(night.work_path(METRICS_FILE))),
        files=night.checksums(),
        models=plan.models,
    )


def _iso(microseconds: int) -> str:
    return datetime.fromtimestamp(int(microseconds) / 1e6, UTC).isoformat()


def _drain(setup: Setup) -> None:
    """Moves the live log into its archive, where it has one; readers see both as one log."""
    events = setup.event_store()
    try:
        events.drain()
    finally:
        events.close()


def _copy_live_events(store: ArtifactStore, setup: Setup, until: datetime, path: str) -> int:
    """What the live log holds now, up to `until`, as one file of the night; how many events that
    is."""
    events = setup.event_store()
    try:
        sink, rows = pa.BufferOutputStream(), 0
        with pq.ParquetWriter(sink, EVENTS) as writer:
            for batch in _until(events.interactions(events.end().interactions), until):
                writer.write_batch(batch.select(EVENTS.names))
                rows += batch.num_rows
    finally:
        events.close()
    store.write(path, sink.getvalue())
    return rows


def _copy_queries(store: ArtifactStore, setup: Setup, until: datetime, path: str) -> None:
    """What several shoppers asked in the days before, as one file of the night."""
    events = setup.event_store()
    try:
        queries = frequent_queries(events.impressions(), until - QUERIES_OF, until)
    finally:
        events.close()
    store.write(path, parquet_bytes(queries))


def _copy_attraction(
    store: ArtifactStore, setup: Setup, newest: str | None, until: datetime, path: str
) -> None:
    """What was looked at and clicked in the days before, as one file of the night."""
    events = setup.event_store()
    try:
        result = events.interactions(events.end().interactions)
        counted = count_item_clicks(
            events.impressions(), result, _examined(setup, newest), until - ATTRACTION_OF, until
        )
    finally:
        events.close()
    store.write(path, parquet_bytes(counted))


def _examined(setup: Setup, newest: str | None) -> Callable[[Ints], Floats]:
    """The chance that a place is looked at, as trained; else that of a shop that has not measured
    it."""
    if newest and EXAMINATION in _trained_files(setup, newest):
        return Examination.load(models_folder(setup, newest, (EXAMINATION,)) / EXAMINATION).at
    return dcg_examination


def _until(batches: Iterator[pa.RecordBatch], until: datetime) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        yield batch.filter(
            pc.less_equal(batch["time"], pa.scalar(until, batch.schema.field("time").type))
        )
