"""The end of a night: manifest, checks, report, pointer, and what is deleted then."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime

import numpy as np

from recsys.batch.catalogue_changes import PHRASES
from recsys.batch.held_out import METRICS_FILE
from recsys.batch.intake import intake_lines
from recsys.batch.pictures import picture_counts
from recsys.batch.plan import NightRun
from recsys.batch.quarantine import count_rules, quarantined_rows
from recsys.batch.report import write_report
from recsys.batch.stages import StageLine
from recsys.pictures.store import PictureStore
from recsys.privacy.forget import finish_erasures
from recsys.release import files
from recsys.release.checks import check_release, require_passed
from recsys.release.manifest import Manifest
from recsys.release.release import Release
from recsys.storage.streams import parquet_bytes

Say = Callable[[str], None]


def publish(night: NightRun, lines: dict[str, StageLine], say: Say) -> Manifest:
    """Checks the release, writes report and stage times beside it, the manifest last, then the
    pointer. Raises ReleaseError, with `current` untouched, where a check fails."""
    store, plan = night.store, night.plan
    night.assemble(files.QUARANTINE.name, parquet_bytes(quarantined_rows(night)))
    manifest = _manifest(night, lines)
    for line in manifest.intake:
        say(line)
    folder = store.local_folder(night.release_path("")[:-1], manifest.files)
    release = Release(folder, manifest)
    previous = Release.open(store, plan.previous) if plan.previous else None
    checks = check_release(release, previous, night.choices.limits)
    require_passed(checks, night.allow)
    write_report(night, release, previous, list(lines.values()), checks)
    stages = {"stages": [line.to_dict() for line in lines.values()]}
    store.write(night.release_path("run.json"), json.dumps(stages, indent=2).encode())
    store.publish(plan.version, manifest.to_json())
    _clean_up(night, say)
    return manifest


def _clean_up(night: NightRun, say: Say) -> None:
    """Deletes work folders, old releases, nights before this one that never ended, and everybody
    who asked to be forgotten since it began."""
    store, keep = night.store, night.choices.keep_releases
    store.delete(f"work/{night.plan.version}")
    for version in store.prune(keep):
        say(f"release {version} deleted: the newest {keep} are kept")
    if (pictures := night.setup.pictures) is not None:
        PictureStore(night.setup.home, pictures.cache_bytes).trim()
    published = store.versions()
    for version in sorted({path.split("/")[1] for path in store.files("work")}):
        if version in published:
            store.delete(f"work/{version}")
        elif version < night.plan.version:
            store.abandon(version)
            say(f"night {version}, which never ended, deleted: this one is newer")
    for version, rows in finish_erasures(night.setup).items():
        say(f"release {version} amended: {rows:,} rows of users who asked to be forgotten deleted")


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
        "guest_events": lines["read events"].counts.get("guest_events", 0),
        "ignored_events": lines["read events"].counts.get("ignored", 0),
        "bots": lines["events"].counts.get("bots", 0),
        "bot_events": lines["events"].counts.get("bot_events", 0),
        "order_lines": lines["events"].counts.get("order_lines", 0),
        "returned_purchases": lines["events"].counts.get("returned_purchases", 0),
    }
    by_day = lines["items"].counts
    changed = {f"{name}_by_day": by_day[name] for name in PHRASES if by_day.get(name)}
    return Manifest(
        version=plan.version,
        space=plan.space,
        picture_space=plan.picture_space,
        setup=plan.setup,
        commit=plan.commit,
        previous=plan.previous,
        created=plan.until,
        events_from=first,
        events_until=last,
        counts=counts | picture_counts(lines) | changed,
        quarantined=count_rules(quarantined_rows(night)),
        sources=list(night.setup.recommend_ranker().feature_names),
        metrics=json.loads(night.store.read(night.work_path(METRICS_FILE))),
        files=night.checksums(),
        models=plan.models,
        intake=intake_lines(night, lines),
        changes=plan.changes,
    )


def _iso(microseconds: int) -> str:
    return datetime.fromtimestamp(int(microseconds) / 1e6, UTC).isoformat()
