"""The versioned store of trained parts: publish, read, prune.

Models lie in a store of their own, `<home>/models`, under the same rules as releases: a version is
its manifest, and `current` names the one that the next night takes. A release says in its manifest
with which models it was made."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from recsys.config import Setup
from recsys.errors import NotFoundError, ReleaseError
from recsys.release.manifest import read_manifest
from recsys.storage.artifacts import ArtifactStore
from recsys.storage.files import below
from recsys.training import (
    CROSS_ENCODER,
    ENCODER,
    EXAMINATION,
    FUSION,
    GATE,
    INTENT,
    MIXER,
    NET,
    OF_THE_ENCODER,
    TREES,
    USAGE,
    USER_MODEL,
)

KEEP = 5
PARTS = (
    ENCODER,
    USAGE,
    CROSS_ENCODER,
    INTENT,
    FUSION,
    USER_MODEL,
    MIXER,
    TREES,
    NET,
    EXAMINATION,
    GATE,
)


@dataclass(frozen=True)
class ModelsManifest:
    """What a version of the models is. `files` maps each path to its sha256; `metrics` were
    measured in training."""

    version: str
    setup: str
    metrics: dict[str, float]
    files: dict[str, str]


def models_store(setup: Setup) -> ArtifactStore:
    """The setup's models."""
    return ArtifactStore(below(setup.home, "models"))


def publish_models(
    setup: Setup, version: str, folder: Path, metrics: dict[str, float]
) -> ModelsManifest:
    """Copies the parts in `folder` into the setup's store, writes their manifest, and points
    `current` at it.

    A part that is not in `folder` is carried over from the current version, unless it depends on an
    encoder that is replaced. Of older versions the newest KEEP stay, and those that a release
    names. ReleaseError when the version exists."""
    store = models_store(setup)
    if version in store.versions():
        raise ReleaseError(
            f"models {version} are published already and never change: "
            "publish under another version"
        )
    fresh = [name for name in PARTS if (folder / name).exists()]
    if not fresh:
        raise NotFoundError(f"{folder} holds no models: train into it first")
    files = _copy_parts(store, version, folder, fresh)
    if current := current_models(setup):
        outdated = OF_THE_ENCODER if ENCODER in fresh else ()
        carried_over = [name for name in PARTS if name not in (*fresh, *outdated)]
        files |= _copy_parts(store, version, models_folder(setup, current), carried_over)
    manifest = ModelsManifest(version, setup.name, metrics, files)
    store.publish(version, json.dumps(asdict(manifest), indent=2, sort_keys=True).encode())
    store.prune(KEEP, spare=_release_models(setup))
    return manifest


def _copy_parts(
    store: ArtifactStore, version: str, folder: Path, parts: Sequence[str]
) -> dict[str, str]:
    """The parts' files copied into the version: their checksums by path."""
    files = [
        file
        for name in parts
        for file in sorted([folder / name, *(folder / name).rglob("*")])
        if file.is_file()
    ]
    return {
        (path := file.relative_to(folder).as_posix()): store.write(
            f"releases/{version}/{path}", file.read_bytes()
        )
        for file in files
    }


def _release_models(setup: Setup) -> set[str]:
    """The models versions of every release that can still be served."""
    store, versions = ArtifactStore(setup.home), set[str]()
    for version in store.versions():
        # A release of another format, or just pruned, names none.
        with suppress(ReleaseError, NotFoundError):
            versions.add(read_manifest(store, version).models or "")
    return versions


def current_models(setup: Setup) -> str | None:
    """The version that the next night takes, or None where nothing was trained."""
    return models_store(setup).current()


def read_models_manifest(setup: Setup, version: str) -> ModelsManifest:
    """A version's manifest. Raises NotFoundError when it does not exist, ReleaseError when it
    cannot be read."""
    store = models_store(setup)
    try:
        return ModelsManifest(**json.loads(store.read(f"releases/{version}/manifest.json")))
    except NotFoundError:
        versions = ", ".join(store.versions()) or "none"
        raise NotFoundError(
            f"models {version} are not in {store.uri}: roll back to a release made with those that "
            f"are there ({versions}), or run jobs.nightly to make one"
        ) from None
    except (ValueError, TypeError) as error:
        raise ReleaseError(
            f"the manifest of models {version} cannot be read ({error}): train again"
        ) from error


def models_folder(setup: Setup, version: str, parts: Sequence[str] = PARTS) -> Path:
    """These parts of a version as files of this machine, every checksum compared.

    Raises NotFoundError when the version does not exist, ReleaseError when a file of it is damaged.
    """
    files = {
        path: checksum
        for path, checksum in read_models_manifest(setup, version).files.items()
        if path.split("/")[0] in parts
    }
    return models_store(setup).local_folder(f"releases/{version}", files)
