"""Online-learning snapshots as small releases, and the control that freezes or resets online
learning.

Snapshots lie in a store of their own, `<home>/online`, under the rules of releases: a version is
its manifest, and `current` names the newest. A snapshot is valid only with the models that it was
trained from and the reset it was made after: a release of other models, or `reset_learning`, puts
the nightly network back at once."""

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
from recsys.release.manifest import read_manifest
from recsys.storage.artifacts import ArtifactStore
from recsys.storage.files import below
from recsys.training import NET
from recsys.training.influence import names_user

KEEP = 5
STATE, CONTROL = "state.json", "control.json"


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """A snapshot's manifest. `base` is the models version it was trained from, `mark` the reset it
    was made after ("": none); `files` maps each path to its sha256, for STATE the original one:
    erasure rewrites that file."""

    version: str
    base: str
    mark: str
    created: str
    metrics: dict[str, float]
    files: dict[str, str]


@dataclass(frozen=True)
class LearningControl:
    """An operator's decision: whether learning is frozen, and when it was last reset to the nightly
    network (`mark`, an ISO time; "": never)."""

    frozen: bool = False
    mark: str = ""


def snapshot_store(setup: Setup) -> ArtifactStore:
    """The setup's snapshots."""
    return ArtifactStore(below(setup.home, "online"))


def read_control(setup: Setup) -> LearningControl:
    """The control in force. ReleaseError where its file cannot be read."""
    try:
        return LearningControl(**json.loads(snapshot_store(setup).read(CONTROL)))
    except NotFoundError:
        return LearningControl()
    except (ValueError, TypeError) as error:
        raise ReleaseError(
            f"{CONTROL} in {snapshot_store(setup).uri} cannot be read ({error}): delete it"
        ) from error


def freeze_learning(setup: Setup) -> LearningControl:
    """Stops learning; what was learned goes on serving. Events that arrive while frozen are never
    learned."""
    return _write_control(setup, replace(read_control(setup), frozen=True))


def unfreeze_learning(setup: Setup) -> LearningControl:
    """Resumes learning with the events that arrive from now on."""
    return _write_control(setup, replace(read_control(setup), frozen=False))


def reset_learning(setup: Setup, now: datetime | None = None) -> LearningControl:
    """Serves the nightly network again, and restarts learning from it."""
    return _write_control(
        setup, replace(read_control(setup), mark=(now or datetime.now(UTC)).isoformat())
    )


def _write_control(setup: Setup, control: LearningControl) -> LearningControl:
    snapshot_store(setup).write(CONTROL, json.dumps(asdict(control)).encode())
    return control


def served_models(setup: Setup) -> tuple[str | None, str]:
    """The models version and the space of the release that `current` names; None and "" where there
    is none."""
    store = ArtifactStore(setup.home)
    version = store.current()
    if version is None:
        return None, ""
    manifest = read_manifest(store, version)
    return manifest.models, manifest.space


def publish_snapshot(
    setup: Setup,
    folder: Path,
    *,
    base: str,
    mark: str,
    metrics: Mapping[str, float],
    state: Mapping[str, Any],
) -> Snapshot:
    """Copies the network in `folder` with its state into the store and points `current` at it; the
    newest KEEP stay."""
    store, now = snapshot_store(setup), datetime.now(UTC)
    version = f"{now:%Y-%m-%dT%H%M%S.%f}"
    files = {
        f"{NET}/{file.name}": store.write(
            f"releases/{version}/{NET}/{file.name}", file.read_bytes()
        )
        for file in sorted(folder.iterdir())
    }
    files[STATE] = store.write(f"releases/{version}/{STATE}", json.dumps(state).encode())
    snapshot = Snapshot(
        version=version,
        base=base,
        mark=mark,
        created=now.isoformat(),
        metrics=dict(metrics),
        files=files,
    )
    store.publish(version, json.dumps(asdict(snapshot), indent=2, sort_keys=True).encode())
    store.prune(KEEP)
    return snapshot


def current_snapshot(setup: Setup, base: str | None) -> Snapshot | None:
    """The newest snapshot, if it was trained from the models `base` and no reset came after it;
    else None: the nightly network serves.

    ReleaseError where its manifest cannot be read.
    """
    store = snapshot_store(setup)
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
    return snapshot if (snapshot.base, snapshot.mark) == (base, read_control(setup).mark) else None


def snapshot_network(setup: Setup, snapshot: Snapshot) -> Path:
    """A folder that `NetRanker` opens, every checksum compared; ReleaseError for a damaged one."""
    network = {path: total for path, total in snapshot.files.items() if path != STATE}
    return snapshot_store(setup).local_folder(f"releases/{snapshot.version}", network) / NET


def snapshot_state(setup: Setup, snapshot: Snapshot) -> dict[str, Any]:
    """The trainer's state that a restart resumes from."""
    return dict(json.loads(snapshot_store(setup).read(f"releases/{snapshot.version}/{STATE}")))


def snapshot_states(setup: Setup) -> dict[str, str]:
    """The trainer's state in every kept snapshot, as text, by version."""
    store, texts = snapshot_store(setup), dict[str, str]()
    for version in store.versions():
        with suppress(NotFoundError):
            texts[version] = store.read(f"releases/{version}/{STATE}").decode()
    return texts


def erase_votes(setup: Setup, users: Collection[str]) -> int:
    """Erases the spent votes of these users, by digest, from every snapshot's state; returns how
    many snapshots had any."""
    changed = 0
    for version, text in snapshot_states(setup).items() if users else ():
        state = json.loads(text)
        votes = state.get("learner", {}).get("votes", {}).get("votes", {})
        remaining = {key: spent for key, spent in votes.items() if not names_user(key, users)}
        if len(remaining) < len(votes):
            state["learner"]["votes"]["votes"] = remaining
            snapshot_store(setup).write(f"releases/{version}/{STATE}", json.dumps(state).encode())
            changed += 1
    return changed
