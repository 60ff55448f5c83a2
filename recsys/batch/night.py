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
from recsys.batch.held_out import HELD_OUT, held_out
from recsys.batch.plan import LIVE, NightRun, Plan
from recsys.batch.report import write_report
from recsys.batch.stages import Stage, StageLine, run
from recsys.config import Setup
from recsys.errors import InputError, NotFoundError, ReleaseError
from recsys.events.feedback import attraction, unmeasured
from recsys.interfaces import Chunk
from recsys.models.composition import with_models
from recsys.models.store import current_models, models_folder, read_models_manifest
from recsys.privacy import forget as forgetting
from recsys.privacy.erasure import PrivacyDecisions
from recsys.ranking.examination import Examination
from recsys.release.checks import Check, checks, require
from recsys.release.release import Manifest, OtherFormatError, Release, read_manifest
from recsys.storage.artifacts import ArtifactStore
from recsys.storage.streams import parquet_bytes
from recsys.storage.version import code_commit
from recsys.tables import EVENTS, QUARANTINE
from recsys.training import EXAMINATION, USER_MODEL
from recsys.types import Floats, Ints
from recsys.understanding.suggest import asked

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
    dataset, night, previous = setup.dataset(until), setup.night, _previous(store)
    item_chunks, event_chunks = dataset.item_chunks(), dataset.event_chunks()
    if not sum(chunk.rows for chunk in item_chunks):
        raise InputError(
            f"the catalogue of setup {setup.name} has no rows: give its dataset a table with items"
        )
    _drain(setup)
    live = _copy_live_events(store, setup, until, f"work/{version}/{LIVE}")
    _copy_queries(store, setup, until, f"work/{version}/{index.ASKED}")
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
        item_parts=max(1, ceil(items / night.items_per_shard)),
        text_parts=max(1, ceil(items / night.texts_per_shard)),
        user_parts=max(1, ceil(events / night.events_per_shard)),
    )
    store.write(f"work/{version}/plan.json", plan.to_json())
    return NightRun(store, setup, plan, _decided(setup))


def _decided(setup: Setup) -> PrivacyDecisions:
    events = setup.event_store()
    try:
        return PrivacyDecisions.of(events)
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


def run_night(place: NightRun, say: Say) -> Manifest:
    """Every stage, then verify, then publish. Raises ReleaseError, with `current` untouched, when a
    check fails."""
    plan = place.plan
    lines: dict[str, StageLine] = {}

    def go(*stages: Stage) -> None:
        done = run(place, *stages)
        lines.update(done)
        for line in done.values():
            say(str(line))

    go(
        Stage("read items", len(plan.item_chunks), ingest.read_items),
        Stage("read events", len(plan.event_chunks), ingest.read_events),
    )
    _require_good_input(place, lines["read items"], lines["read events"])
    go(Stage("items", plan.item_parts, ingest.sort_items))
    go(Stage("events", plan.user_parts, ingest.sort_events))
    go(Stage("embed items", plan.text_parts, embed.tokenize, embed.Encode))
    go(Stage("vectors", plan.item_parts, embed.spread_vectors))
    _require_good_input(place, lines["vectors"])
    go(Stage("places", plan.item_parts, embed.embed_items))
    index.assemble_table(place, "items", plan.item_parts)
    index.assemble_array(place, "item_vectors", plan.item_parts)
    if place.store.exists(place.work("taste_vectors/00000.npy")):
        index.assemble_array(place, "taste_vectors", plan.item_parts)
    _add_up_popularity(place)
    blocks, near_blocks = len(index.similar_blocks(place)), len(index.neighbour_blocks(place))
    big = len(place.released_array("item_vectors")) > place.setup.night.ann_above
    go(
        Stage("embed users", plan.user_parts, candidates.embed_users),
        Stage("co_occurrence", near_blocks, index.co_occurrence),
        Stage("lexical", 1, index.lexical),
        Stage("habits", 1, index.item_stats),
        Stage("attraction", 1, index.attraction),
        Stage("projections", 1, index.project),
        Stage("codes", 1, index.codes),
        Stage("suggestions", 1, index.suggestions),
        *([Stage("dense", 1, index.dense)] if big else []),
    )
    index.assemble_table(place, "users", plan.user_parts)
    index.assemble_array(place, "user_vectors", plan.user_parts)
    for name in ("co_occurrence_rows", "co_occurrence_scores"):
        index.assemble_array(place, name, near_blocks)
    go(Stage("similar", blocks, index.similar))
    for name in ("similar_rows", "similar_scores", "content_rows", "content_scores"):
        index.assemble_array(place, name, blocks)
    asked_for = place.setup.recommend_ranker().feature_names
    if "follows" in asked_for:
        go(Stage("follows", near_blocks, index.follows))
        for name in ("follows_rows", "follows_scores"):
            index.assemble_array(place, name, near_blocks)
    if nearest.SOURCE in asked_for:
        go(nearest.stage(place))
    go(Stage("candidates", plan.user_parts, candidates.candidates), Stage("held out", 1, held_out))
    for name in ("candidates_rows", "candidates_features", "candidates_sources"):
        index.assemble_array(place, name, plan.user_parts)
    place.assemble("quarantine.parquet", parquet_bytes(_quarantined(place)))
    manifest = _manifest(place, lines)
    release = Release(place.store.local_folder(place.release("")[:-1], manifest.files), manifest)
    found = verified(place, release, lines)
    require(found)
    return _publish(place, release, lines, found, say)


def verified(place: NightRun, release: Release, lines: dict[str, StageLine]) -> list[Check]:
    """The checks of the release in the making, against the one that is current."""
    previous = Release.open(place.store, place.plan.previous) if place.plan.previous else None
    counts = {
        "events": lines["events"].rows,
        "unknown_items": lines["events"].counts.get("unknown_items", 0),
    }
    return checks(release, previous, counts, release.manifest.metrics)


def _publish(
    place: NightRun, release: Release, lines: dict[str, StageLine], found: list[Check], say: Say
) -> Manifest:
    """The report and the stage times beside the release; the manifest last; the pointer; then the
    sweeping up."""
    manifest, store = release.manifest, place.store
    write_report(place, release, list(lines.values()), found)
    stages = [line.to_dict() for line in lines.values()]
    store.write(place.release("run.json"), json.dumps({"stages": stages}, indent=2).encode())
    store.publish(manifest.version, manifest.to_json())
    store.delete(f"work/{manifest.version}")
    for version in store.prune(place.setup.night.keep_releases):
        say(f"release {version} deleted: the newest {place.setup.night.keep_releases} are kept")
    _finish_forgetting(place, say)
    return manifest


def _finish_forgetting(place: NightRun, say: Say) -> None:
    """Nights before this one that never ended go, and so does everybody from the releases who asked
    for it since."""
    published = place.store.versions()
    for version in sorted({path.split("/")[1] for path in place.store.files("work")}):
        if version in published:
            place.store.delete(f"work/{version}")
        elif version < place.plan.version:
            place.store.abandon(version)
            say(f"night {version}, which never ended, deleted: this one is newer")
    for version, rows in forgetting.finish(place.setup).items():
        say(f"release {version} amended: {rows:,} rows of users who asked to be forgotten deleted")


def _require_good_input(place: NightRun, *lines: StageLine) -> None:
    for line in lines:
        bad, share = line.counts.get("quarantined", 0), place.setup.night.max_bad_share
        if bad > share * line.rows:
            reasons = "; ".join(
                f"{count:,} x {reason}" for reason, count in _reasons(_quarantined(place)).items()
            )
            raise ReleaseError(
                f"{line.name}: {bad:,} of {line.rows:,} rows cannot be used, more than the {share:.0%} allowed "
                f"({reasons}): see {place.store.uri}/{place.work('quarantine')}, mend the input or its column "
                "mapping, or raise night.max_bad_share"
            )


def _quarantined(place: NightRun) -> pa.Table:
    paths = place.store.files(place.work("quarantine"))
    return pa.concat_tables(
        [QUARANTINE.empty_table(), *(pq.read_table(place.store.open(path)) for path in paths)]
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


def _add_up_popularity(place: NightRun) -> None:
    parts = [place.read_array("popularity", part) for part in range(place.plan.user_parts)]
    sink = pa.BufferOutputStream()
    np.save(sink, np.sum(parts, axis=0, dtype=np.float64).astype(np.float32))
    place.assemble("popularity.npy", sink.getvalue())


def _manifest(place: NightRun, lines: dict[str, StageLine]) -> Manifest:
    plan = place.plan
    times = [place.read_array("times", part) for part in range(plan.user_parts)]
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
        quarantined=_reasons(_quarantined(place)),
        sources=list(place.setup.recommend_ranker().feature_names),
        metrics=json.loads(place.store.read(place.work(HELD_OUT))),
        files=place.sums(),
        models=plan.models,
    )


def _iso(microseconds: int) -> str:
    return datetime.fromtimestamp(int(microseconds) / 1e6, UTC).isoformat()


def _drain(setup: Setup) -> None:
    """Moves the live log into its archive, where it has one; readers see both as one log."""
    events = setup.event_store()
    try:
        getattr(events, "drain", int)()
    finally:
        events.close()


def _copy_live_events(store: ArtifactStore, setup: Setup, until: datetime, path: str) -> int:
    """What the live log holds now, up to `until`, as one file of the night; how many events that
    is."""
    events = setup.event_store()
    try:
        sink, rows = pa.BufferOutputStream(), 0
        with pq.ParquetWriter(sink, EVENTS) as writer:
            for batch in _until(events.interactions(events.last_sequence()), until):
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
        queries = asked(events.impressions(), until - QUERIES_OF, until)
    finally:
        events.close()
    store.write(path, parquet_bytes(queries))


def _copy_attraction(
    store: ArtifactStore, setup: Setup, newest: str | None, until: datetime, path: str
) -> None:
    """What was looked at and clicked in the days before, as one file of the night."""
    events = setup.event_store()
    try:
        done = events.interactions(events.last_sequence())
        counted = attraction(
            events.impressions(), done, _examined(setup, newest), until - ATTRACTION_OF, until
        )
    finally:
        events.close()
    store.write(path, parquet_bytes(counted))


def _examined(setup: Setup, newest: str | None) -> Callable[[Ints], Floats]:
    """The chance that a place is looked at, as trained; else that of a shop that has not measured
    it."""
    if newest and EXAMINATION in _trained_files(setup, newest):
        return Examination.load(models_folder(setup, newest, (EXAMINATION,)) / EXAMINATION).at
    return unmeasured


def _until(batches: Iterator[pa.RecordBatch], until: datetime) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        yield batch.filter(
            pc.less_equal(batch["time"], pa.scalar(until, batch.schema.field("time").type))
        )
