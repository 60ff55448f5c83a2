"""Forgetting a user, and looking again whether anything is left of him.

From the moment `forget` returns he is a stranger to every replica: his `Standing` says so, and the
live log holds nothing of him. Releases are amended after that, by `erase`. A receipt holds his id
under the log's own key, so the shop need not keep it: whoever has the receipt can have the shop
look again, and learns nothing but what is left."""

from __future__ import annotations

import base64
import json
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from recsys.config import Setup
from recsys.errors import NotFoundError, ReleaseError
from recsys.interfaces import EventStore
from recsys.models.snapshots import erase_votes, snapshot_states
from recsys.privacy.erasure import (
    GRACE_S,
    PEERS,
    QUARANTINE,
    USERS,
    PrivacyDecisions,
    amend,
    named,
    sweep,
    time_of,
)
from recsys.release.release import Manifest, read_manifest
from recsys.storage.artifacts import ArtifactStore
from recsys.types import utc_days

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Receipt:
    """What became of a wish to be forgotten: rows deleted at once, by place, and what is left of
    before `forgotten`."""

    token: str
    forgotten: datetime
    gone: dict[str, int]
    left: dict[str, int]


def forget(setup: Setup, events: EventStore, user_id: str, now: datetime | None = None) -> Receipt:
    """What he did until now does not exist any more: not for answers, not for the log, not for the
    next night. What releases still hold, `erase` takes out."""
    now = now or datetime.now(UTC)
    events.set_privacy_state(user_id, replace(events.privacy_state(user_id), forgotten=now))
    gone = {f"log/{name}": count for name, count in events.forget(user_id).items() if count}
    return Receipt(sealed(events, user_id, now), now, gone, left(setup, events, user_id, now))


def erase(
    setup: Setup, events: EventStore, only: Collection[str] | None = None, grace_s: float = GRACE_S
) -> dict[str, int]:
    """Amends what was published so that nobody is in it whose standing rules that out, `only` these
    users where they are given: rows deleted, by release. Deletes what earlier amendments replaced,
    once it is `grace_s` old; and of the log what was written for `only` while `forget` was at
    it."""
    store, decided, gone = ArtifactStore(setup.home), PrivacyDecisions.of(events), dict[str, int]()
    for user_id in only or ():
        forgotten = events.privacy_state(user_id).forgotten
        if forgotten and any(_in_log(events, user_id, forgotten).values()):
            events.forget(user_id)  # who has come back within these seconds begins anew once more
    for version in store.versions():
        with suppress(
            ReleaseError, NotFoundError
        ):  # of another format, or pruned just now; `left` sees those
            if rows := amend(store, version, decided, only):
                gone[version] = rows
            sweep(store, version, grace_s)
    erase_votes(
        setup, {key for key, standing in decided.standings.items() if not standing.allows(_EPOCH)}
    )
    for view in _stale(store):
        store.drop(view)
    return gone


def finish(setup: Setup) -> dict[str, int]:
    """`erase` for everybody: what a night and a training begin or end with."""
    events = setup.event_store()
    try:
        return erase(setup, events)
    finally:
        events.close()


def left(setup: Setup, events: EventStore, user_id: str, forgotten: datetime) -> dict[str, int]:
    """Looks everywhere for what he did up to `forgotten`: rows or files by place, nothing where all
    is gone.

    Places: log/..., releases/VERSION/FILE, work/VERSION (a night that runs or failed),
    online/VERSION (snapshots), and cache/... (copies of a bucket's files on this node)."""
    store = ArtifactStore(setup.home)
    found = {f"log/{name}": count for name, count in _in_log(events, user_id, forgotten).items()}
    for version in sorted({path.split("/")[1] for path in store.files("releases")}):
        found |= _in_release(store, version, user_id, forgotten)
    for version in sorted({path.split("/")[1] for path in store.files("work")}):
        found[f"work/{version}"] = _in_night(store, version, user_id, forgotten)
    for version, states in snapshot_states(setup).items():
        found[f"online/{version}"] = int(events.digest(user_id) in states)
    for view in _stale(store):
        names = [path for path in view.rglob("*") if path.name in (USERS, PEERS)]
        tables = [pa.ipc.open_file(pa.memory_map(str(path))).read_all() for path in names]
        found[f"cache/{view.name[:12]}"] = sum(_rows(table, user_id, None) for table in tables)
    return {place: count for place, count in found.items() if count}


# Receipts


def sealed(events: EventStore, user_id: str, forgotten: datetime) -> str:
    """A receipt's token: his id and the time, encrypted and signed under the log's own key. It is
    kept nowhere."""
    told = json.dumps([user_id, forgotten.isoformat()]).encode()
    return str(_fernet(events).encrypt(told).decode())


def unsealed(events: EventStore, token: str) -> tuple[str, datetime]:
    """Whose receipt it is, and from when. Raises NotFoundError for what is none of this shop's."""
    from cryptography.fernet import InvalidToken

    try:
        user_id, forgotten = json.loads(_fernet(events).decrypt(token.encode()))
    except (InvalidToken, UnicodeEncodeError, ValueError):
        raise NotFoundError(
            "this is no receipt of this shop's event log: give the one that DELETE /users/{id} answered with, whole"
        ) from None
    return user_id, datetime.fromisoformat(forgotten)


def _fernet(events: EventStore) -> Any:
    """Its key follows from the log's by `digest`, of texts that no user's id can be: it has a
    control character."""
    from cryptography.fernet import Fernet

    halves = (events.digest(f"\0receipt {half}") for half in (1, 2))
    return Fernet(base64.urlsafe_b64encode(bytes.fromhex("".join(halves))))


# Looking


def _in_log(events: EventStore, user_id: str, forgotten: datetime) -> dict[str, int]:
    """Who came back is in the log again: what is later than `forgotten` does not count."""
    found = dict(events.traces(user_id))
    if not any(found.values()):
        return {}
    if found.get(
        "interactions"
    ):  # in all of the log: of one with an archive, `user_events` has only the newest
        times = {
            each.event_id: each.time
            for each in events.user_events(user_id, _EPOCH, found["interactions"]).interactions
        }
        for batch in events.interactions(events.end().interactions):
            rows = batch.filter(pc.equal(batch["user_id"], user_id))
            times |= zip(rows["event_id"].to_pylist(), rows["time"].to_pylist(), strict=True)
        found["interactions"] = sum(time <= forgotten for time in times.values())
    if found.get("impressions"):
        shown = (each for each in events.impressions() if each.user_id == user_id)
        found["impressions"] = sum(each.time <= forgotten for each in shown)
    return found


def _in_release(
    store: ArtifactStore, version: str, user_id: str, forgotten: datetime
) -> dict[str, int]:
    """Every file of users in its folder, whether a manifest names it or not."""
    place, manifest = f"releases/{version}", None
    with suppress(ReleaseError, NotFoundError):
        manifest = read_manifest(store, version)
    made = time_of(manifest) if manifest else None
    until = None if made and made <= forgotten else forgotten
    found: dict[str, int] = {}
    for path in store.files(place):
        with suppress(NotFoundError, FileNotFoundError):  # what is deleted just now is gone
            name, below = path.rsplit("/", 1)[-1], path[len(place) + 1 :]
            if name in (USERS, PEERS, QUARANTINE):
                found[path] = _rows(_table(store, path, manifest), user_id, until)
            elif manifest and until is None and below in manifest.replaced:
                found[path] = 1  # rows without names: whose they were, nobody can tell
    return found


def _in_night(store: ArtifactStore, version: str, user_id: str, forgotten: datetime) -> int:
    """How many work files of an unfinished night hold something of him from before."""
    place = f"work/{version}"
    with suppress(NotFoundError):
        until = datetime.fromisoformat(json.loads(store.read(f"{place}/plan.json"))["until"])
        if until > forgotten:  # it began later, and left him out
            return 0
    named_in = [path for path in store.files(place) if path.endswith((".arrow", ".parquet"))]
    return sum(_names(store, path, user_id) for path in named_in)


def _names(store: ArtifactStore, path: str, user_id: str) -> bool:
    with suppress(NotFoundError, FileNotFoundError):  # the night goes on meanwhile
        return _rows(_table(store, path), user_id, None) > 0
    return False


def _table(store: ArtifactStore, path: str, manifest: Manifest | None = None) -> pa.Table:
    """Mapped, where the store is a disk; of a bucket's release, from this node's copy, which a view
    keeps track of."""
    local = store.on_disk(path)
    if local is None and manifest and (below := path.split("/", 2)[2]) in manifest.files:
        local = (
            store.local_folder(f"releases/{manifest.version}", {below: manifest.files[below]})
            / below
        )
    if path.endswith(".parquet"):
        return pq.read_table(local or store.open(path))
    return pa.ipc.open_file(pa.memory_map(str(local)) if local else store.open(path)).read_all()


def _rows(table: pa.Table, user_id: str, until: datetime | None) -> int:
    """How many rows are his; with `until`, those with something from up to then. Of rows that could
    not be used all count that name him: their times say nothing."""
    if "source" in table.column_names:
        return sum(user_id in named(source) for source in table["source"].to_pylist())
    if "user_id" not in table.column_names:
        return 0
    rows = table.filter(pc.equal(table["user_id"].cast(pa.string()), user_id))
    if until is None or not rows.num_rows:
        return int(rows.num_rows)
    return sum(
        bool(np.any(np.asarray(days, float) <= utc_days(until)))
        for days in rows["days"].to_pylist()
    )


def _stale(store: ArtifactStore) -> list[Path]:
    """This node's views of releases that were amended or deleted since."""
    views = store.views().items()
    return [
        view
        for view, told in views
        if not told["files"].items() <= _files(store, told["folder"]).items()
    ]


def _files(store: ArtifactStore, folder: str) -> dict[str, str]:
    with suppress(ReleaseError, NotFoundError):
        return read_manifest(store, folder.rsplit("/", 1)[-1]).files
    return {}
