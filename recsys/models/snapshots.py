"""Snapshots of what was learned by day, as small releases, and the switch that freezes them or puts
the night back.

Snapshots lie in a store of their own, `<home>/online`, under the rules of releases: a version is
its manifest, and `current` names the newest. One counts only beside the models that it grew from,
and under the reset it was made after: a release of other models, or `reset`, puts the nightly
network back at once."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from recsys.config import Setup
from recsys.errors import NotFoundError, ReleaseError
from recsys.release.release import read_manifest
from recsys.storage.artifacts import ArtifactStore, below
from recsys.training import NET
from recsys.training.guard import is_of

KEEP = 5
STATE, CONTROL = "state.json", "control.json"


@dataclass(frozen=True)
class Snapshot:
    """The manifest of one. `base` is the models version it grew from, `mark` the reset it was made
    after ("": none); `files` maps each path to its sha256; of STATE, as it was at first: who is
    forgotten leaves it."""

    version: str
    base: str
    mark: str
    created: str
    metrics: dict[str, float]
    files: dict[str, str]


@dataclass(frozen=True)
class Control:
    """What a person decided: whether nothing is learned for now, and when all was last put back to
    the night's."""

    frozen: bool = False
    mark: str = ""


def store_of(setup: Setup) -> ArtifactStore:
    """The setup's snapshots."""
    return ArtifactStore(below(setup.home, "online"))


def control(setup: Setup) -> Control:
    """As it is now. ReleaseError where its file cannot be read."""
    try:
        return Control(**json.loads(store_of(setup).read(CONTROL)))
    except NotFoundError:
        return Control()
    except (ValueError, TypeError) as error:
        raise ReleaseError(
            f"{CONTROL} in {store_of(setup).uri} cannot be read ({error}): delete it"
        ) from error


def freeze(setup: Setup) -> Control:
    """Nothing is learned from now on, what was learned serves on. What happens meanwhile is never
    learned."""
    return _decide(setup, replace(control(setup), frozen=True))


def unfreeze(setup: Setup) -> Control:
    """Learning goes on with what comes from now on."""
    return _decide(setup, replace(control(setup), frozen=False))


def reset(setup: Setup, now: datetime | None = None) -> Control:
    """The night's network serves again, and learning begins anew from it."""
    return _decide(setup, replace(control(setup), mark=(now or datetime.now(UTC)).isoformat()))


def _decide(setup: Setup, decided: Control) -> Control:
    store_of(setup).write(CONTROL, json.dumps(asdict(decided)).encode())
    return decided


def served(setup: Setup) -> tuple[str | None, str]:
    """The models version and the space of the release that `current` names; None and "" where there
    is none."""
    store = ArtifactStore(setup.home)
    version = store.current()
    if version is None:
        return None, ""
    manifest = read_manifest(store, version)
    return manifest.models, manifest.space


def publish(
    setup: Setup,
    base: str,
    mark: str,
    folder: Path,
    metrics: Mapping[str, float],
    state: Mapping[str, Any],
) -> Snapshot:
    """Copies the network in `folder` with its state into the store and points `current` at it; the
    newest KEEP stay."""
    store, now = store_of(setup), datetime.now(UTC)
    version = f"{now:%Y-%m-%dT%H%M%S.%f}"
    files = {
        f"{NET}/{file.name}": store.write(
            f"releases/{version}/{NET}/{file.name}", file.read_bytes()
        )
        for file in sorted(folder.iterdir())
    }
    files[STATE] = store.write(f"releases/{version}/{STATE}", json.dumps(state).encode())
    snapshot = Snapshot(version, base, mark, now.isoformat(), dict(metrics), files)
    store.publish(version, json.dumps(asdict(snapshot), indent=2, sort_keys=True).encode())
    store.prune(KEEP)
    return snapshot


def current(setup: Setup, base: str | None) -> Snapshot | None:
    """The newest snapshot, if it grew from the models `base` and no reset came after it; else None:
    the night's serves.

    ReleaseError where its manifest cannot be read.
    """
    store = store_of(setup)
    version = store.current() if base is not None else None
    if version is None:
        return None
    try:
        snapshot = Snapshot(**json.loads(store.read(f"releases/{version}/manifest.json")))
    except NotFoundError:  # pruned between the two
        return None
    except (ValueError, TypeError) as error:
        raise ReleaseError(
            f"snapshot {version} in {store.uri} cannot be read ({error}): reset to the night"
        ) from error
    return snapshot if (snapshot.base, snapshot.mark) == (base, control(setup).mark) else None


def network_of(setup: Setup, snapshot: Snapshot) -> Path:
    """A folder that `NetRanker` opens, every checksum compared; ReleaseError for a damaged one."""
    network = {path: total for path, total in snapshot.files.items() if path != STATE}
    return store_of(setup).local_folder(f"releases/{snapshot.version}", network) / NET


def state_of(setup: Setup, snapshot: Snapshot) -> dict[str, Any]:
    """What its trainer left for a restart."""
    return dict(json.loads(store_of(setup).read(f"releases/{snapshot.version}/{STATE}")))


def states(setup: Setup) -> dict[str, str]:
    """What the trainers of all kept snapshots left, as text, by version."""
    store, told = store_of(setup), dict[str, str]()
    for version in store.versions():
        with suppress(NotFoundError):
            told[version] = store.read(f"releases/{version}/{STATE}").decode()
    return told


def forget(setup: Setup, users: Collection[str]) -> int:
    """Takes the votes of these users, by digest, out of every snapshot's state; how many snapshots
    had some."""
    changed = 0
    for version, text in states(setup).items() if users else ():
        state = json.loads(text)
        votes = state.get("learner", {}).get("votes", {}).get("votes", {})
        kept = {key: spent for key, spent in votes.items() if not is_of(key, users)}
        if len(kept) < len(votes):
            state["learner"]["votes"]["votes"] = kept
            store_of(setup).write(f"releases/{version}/{STATE}", json.dumps(state).encode())
            changed += 1
    return changed
