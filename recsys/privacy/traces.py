"""Audit of a forgotten user: a search of everything that is stored for what they did before."""

from __future__ import annotations

import json
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from recsys.arrays import utc_days
from recsys.config import Setup
from recsys.errors import NotFoundError, ReleaseError
from recsys.interfaces import EventStore
from recsys.models.snapshots import snapshot_states
from recsys.privacy.decisions import users_named
from recsys.privacy.erasure import PEERS, QUARANTINE, USERS, release_time
from recsys.release.manifest import Manifest, read_manifest
from recsys.storage.artifacts import ArtifactStore

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def find_traces(
    setup: Setup, events: EventStore, user_id: str, forgotten: datetime
) -> dict[str, int]:
    """Rows or files that hold what the user did up to `forgotten`, by place; empty where all is
    gone.

    Places: log/..., releases/VERSION/FILE, work/VERSION (a night that runs or failed),
    online/VERSION (snapshots), and cache/... (copies of a bucket's files on this node)."""
    store = ArtifactStore(setup.home)
    log = find_log_traces(events, user_id, forgotten)
    traces = {f"log/{name}": count for name, count in log.items()}
    for version in sorted({path.split("/")[1] for path in store.files("releases")}):
        traces |= _release_traces(store, version, user_id, forgotten)
    for version in sorted({path.split("/")[1] for path in store.files("work")}):
        traces[f"work/{version}"] = _night_traces(store, version, user_id, forgotten)
    for version, states in snapshot_states(setup).items():
        traces[f"online/{version}"] = int(events.digest(user_id) in states)
    for copy in stale_copies(store):
        paths = [path for path in copy.rglob("*") if path.name in (USERS, PEERS)]
        tables = [pa.ipc.open_file(pa.memory_map(str(path))).read_all() for path in paths]
        rows = sum(_user_rows(table, user_id, until=None) for table in tables)
        traces[f"cache/{copy.name[:12]}"] = rows
    return {place: count for place, count in traces.items() if count}


def find_log_traces(events: EventStore, user_id: str, forgotten: datetime) -> dict[str, int]:
    """Rows of the log by kind. A user who came back is in it again: what is later than `forgotten`
    does not count."""
    counts = dict(events.traces(user_id))
    if not any(counts.values()):
        return {}
    if counts.get("interactions"):
        # In all of the log: of one with an archive, `user_events` covers only the newest.
        recent = events.user_events(user_id, _EPOCH, counts["interactions"]).interactions
        times = {each.event_id: each.time for each in recent}
        for batch in events.interactions(events.end().interactions):
            rows = batch.filter(pc.equal(batch["user_id"], user_id))
            times |= zip(rows["event_id"].to_pylist(), rows["time"].to_pylist(), strict=True)
        counts["interactions"] = sum(time <= forgotten for time in times.values())
    if counts.get("impressions"):
        times_of_user = (each.time for each in events.impressions() if each.user_id == user_id)
        counts["impressions"] = sum(time <= forgotten for time in times_of_user)
    return counts


def stale_copies(store: ArtifactStore) -> list[Path]:
    """This node's copies of releases whose files were replaced or deleted since."""
    return [
        copy
        for copy, origin in store.views().items()
        if not origin["files"].items() <= _listed_files(store, origin["folder"]).items()
    ]


def _listed_files(store: ArtifactStore, folder: str) -> dict[str, str]:
    with suppress(ReleaseError, NotFoundError):
        return read_manifest(store, folder.rsplit("/", 1)[-1]).files
    return {}


def _release_traces(
    store: ArtifactStore, version: str, user_id: str, forgotten: datetime
) -> dict[str, int]:
    """In every file of users in its folder, whether a manifest names it or not."""
    base, manifest = f"releases/{version}", None
    with suppress(ReleaseError, NotFoundError):
        manifest = read_manifest(store, version)
    is_older = manifest is not None and release_time(manifest) <= forgotten
    until = None if is_older else forgotten
    traces: dict[str, int] = {}
    for path in store.files(base):
        with suppress(NotFoundError, FileNotFoundError):  # deleted just now
            if path.rsplit("/", 1)[-1] in (USERS, PEERS, QUARANTINE):
                try:
                    table = _read_table(store, path, manifest)
                except (pa.ArrowInvalid, ReleaseError):  # damaged: it may hold anybody
                    traces[path] = 1
                else:
                    traces[path] = _user_rows(table, user_id, until)
            elif manifest and is_older and path[len(base) + 1 :] in manifest.replaced:
                traces[path] = 1  # rows without names: whose they were, nobody can tell
    return traces


def _night_traces(store: ArtifactStore, version: str, user_id: str, forgotten: datetime) -> int:
    """How many work files of an unfinished night hold something of the user from before."""
    base = f"work/{version}"
    with suppress(NotFoundError):
        until = datetime.fromisoformat(json.loads(store.read(f"{base}/plan.json"))["until"])
        if until > forgotten:  # it began later, and left the user out
            return 0
    tables = [path for path in store.files(base) if path.endswith((".arrow", ".parquet"))]
    return sum(_names_user(store, path, user_id) for path in tables)


def _names_user(store: ArtifactStore, path: str, user_id: str) -> bool:
    with suppress(NotFoundError, FileNotFoundError):  # the night goes on meanwhile
        return _user_rows(_read_table(store, path), user_id, until=None) > 0
    return False


def _read_table(store: ArtifactStore, path: str, manifest: Manifest | None = None) -> pa.Table:
    """Mapped, where the store is a disk; of a bucket's release, from this node's copy, which the
    store keeps track of."""
    local = store.on_disk(path)
    if local is None and manifest and (below := path.split("/", 2)[2]) in manifest.files:
        sums = {below: manifest.files[below]}
        local = store.local_folder(f"releases/{manifest.version}", sums) / below
    if path.endswith(".parquet"):
        return pq.read_table(local or store.open(path))
    return pa.ipc.open_file(pa.memory_map(str(local)) if local else store.open(path)).read_all()


def _user_rows(table: pa.Table, user_id: str, until: datetime | None) -> int:
    """How many rows are the user's; with `until`, those with something from up to then. Of
    quarantined rows all count that name the user: their times say nothing."""
    if "source" in table.column_names:
        return sum(user_id in users_named(source) for source in table["source"].to_pylist())
    if "user_id" not in table.column_names:
        return 0
    rows = table.filter(pc.equal(table["user_id"].cast(pa.string()), user_id))
    if until is None or not rows.num_rows:
        return int(rows.num_rows)
    return sum(
        bool(np.any(np.asarray(days, float) <= utc_days(until)))
        for days in rows["days"].to_pylist()
    )
