"""The manifest of a release: what it is, and the checksum of every file."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field

from recsys.errors import NotFoundError, ReleaseError, SpaceMismatchError
from recsys.storage.artifacts import ArtifactStore

FORMAT = 4


class OtherFormatError(ReleaseError):
    """A release that other code wrote; a night begins anew after it."""


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What a release is. `files` maps each path to its sha256; times are ISO 8601, UTC.

    After `amendments` the files of users lie in the folder `amended`; `replaced` are those that lay
    elsewhere before. `intake` says what became of the rows that were read. The night read the log
    of the catalogue's changes up to number `changes`. `picture_space` is empty where no pictures
    were read."""

    version: str
    space: str
    setup: str
    commit: str
    previous: str | None
    created: str
    events_from: str | None
    events_until: str | None
    counts: dict[str, int]
    quarantined: dict[str, int]
    sources: list[str]
    metrics: dict[str, float]
    files: dict[str, str]
    models: str | None = None
    format: int = FORMAT
    amended: str = ""
    amendments: int = 0
    replaced: list[str] = field(default_factory=list)
    intake: list[str] = field(default_factory=list)
    changes: int = 0
    picture_space: str = ""

    def path_of(self, name: str) -> str:
        """A file's path below the release's folder."""
        moved = f"{self.amended}/{name}"
        return moved if moved in self.files else name

    def to_json(self) -> bytes:
        return (
            json.dumps(asdict(self), indent=2, sort_keys=True, ensure_ascii=False) + "\n"
        ).encode()

    @classmethod
    def from_json(cls, data: bytes) -> Manifest:
        try:
            fields = json.loads(data)
            if fields["format"] != FORMAT:
                raise OtherFormatError(
                    f"release {fields.get('version')} has format {fields['format']}, "
                    f"this code reads {FORMAT}: run jobs.nightly with this code, "
                    "or serve with the code that wrote it"
                )
            return cls(**fields)
        except (ValueError, TypeError, KeyError) as error:
            raise ReleaseError(
                f"a manifest cannot be read ({error}): promote another release"
            ) from error


def read_manifest(store: ArtifactStore, version: str) -> Manifest:
    """NotFoundError when the version is not published: it lists those that are."""
    try:
        return Manifest.from_json(store.read(f"releases/{version}/manifest.json"))
    except NotFoundError:
        published = ", ".join(store.versions()) or "none"
        raise NotFoundError(
            f"release {version} is not in {store.uri}: choose one of those published ({published})"
        ) from None


def check_space(manifest: Manifest, space: str | None) -> None:
    """Refuses a release whose vectors the running encoder does not share."""
    if space is not None and manifest.space != space:
        raise SpaceMismatchError(
            f"release {manifest.version} holds vectors of space {manifest.space!r} but the encoder "
            f"makes {space!r}: load that encoder, or run jobs.nightly with this one"
        )


def check_picture_space(manifest: Manifest, space: str | None) -> None:
    """Refuses a release whose pictures another encoder made vectors of; one without pictures has
    none to mistake."""
    if space and manifest.picture_space and manifest.picture_space != space:
        raise SpaceMismatchError(
            f"release {manifest.version} holds vectors of pictures of space "
            f"{manifest.picture_space!r} but the encoder of pictures makes {space!r}: load that "
            "encoder, or run jobs.nightly with this one"
        )
