"""The manifest of a release: its bytes, what cannot be read, and vectors of another space."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from recsys.errors import NotFoundError, ReleaseError, SpaceMismatchError
from recsys.release.manifest import (
    FORMAT,
    Manifest,
    OtherFormatError,
    check_picture_space,
    check_space,
    read_manifest,
)
from recsys.storage.artifacts import ArtifactStore

MANIFEST = Manifest(
    version="v2",
    space="words-2",
    setup="tea",
    commit="c",
    previous=None,
    created="2026-01-02T02:00:00+00:00",
    events_from=None,
    events_until=None,
    counts={"items": 1},
    quarantined={},
    sources=["茶"],
    metrics={"recall@10": 0.5},
    files={"users.arrow": "1", "moved/users.arrow": "2", "items.arrow": "3"},
)
JSON = """{
  "amended": "",
  "amendments": 0,
  "changes": 0,
  "commit": "c",
  "counts": {
    "items": 1
  },
  "created": "2026-01-02T02:00:00+00:00",
  "events_from": null,
  "events_until": null,
  "files": {
    "items.arrow": "3",
    "moved/users.arrow": "2",
    "users.arrow": "1"
  },
  "format": 4,
  "intake": [],
  "metrics": {
    "recall@10": 0.5
  },
  "models": null,
  "picture_space": "",
  "previous": null,
  "quarantined": {},
  "replaced": [],
  "setup": "tea",
  "sources": [
    "茶"
  ],
  "space": "words-2",
  "version": "v2"
}
"""


def test_a_manifest_is_written_byte_for_byte_and_read_back() -> None:
    assert MANIFEST.to_json().decode() == JSON
    assert Manifest.from_json(JSON.encode()) == MANIFEST


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"\xff",
        b"[]",
        b"{}",
        b'{"format": 4}',
        JSON.replace('"setup"', '"step"').encode(),
    ],
)
def test_what_is_no_manifest_is_refused_with_the_next_step(data: bytes) -> None:
    with pytest.raises(ReleaseError, match=r"a manifest cannot be read \(.*promote another"):
        Manifest.from_json(data)


def test_a_release_of_other_code_is_refused_by_its_format() -> None:
    for number in (FORMAT - 1, FORMAT + 1):
        fields = json.loads(JSON) | {"format": number}
        reason = f"release v2 has format {number}, this code reads {FORMAT}"
        with pytest.raises(OtherFormatError, match=reason):
            Manifest.from_json(json.dumps(fields).encode())


def test_files_of_users_lie_where_the_last_amendment_put_them() -> None:
    assert MANIFEST.path_of("users.arrow") == "users.arrow"
    amended = replace(MANIFEST, amended="moved")
    paths = [amended.path_of(name) for name in ("users.arrow", "items.arrow")]
    assert paths == ["moved/users.arrow", "items.arrow"]


def test_an_unpublished_version_is_answered_with_those_published(tmp_path: Path) -> None:
    store = ArtifactStore(str(tmp_path))
    with pytest.raises(NotFoundError, match=r"release v2 is not in .* \(none\)"):
        read_manifest(store, "v2")
    store.publish("v2", MANIFEST.to_json())
    assert read_manifest(store, "v2") == MANIFEST
    with pytest.raises(NotFoundError, match=r"release v1 is not in .* \(v2\)"):
        read_manifest(store, "v1")


def test_vectors_of_another_space_are_refused() -> None:
    check_space(MANIFEST, None)
    check_space(MANIFEST, "words-2")
    with pytest.raises(SpaceMismatchError, match=r"space 'words-2' but the encoder makes 'e5-768'"):
        check_space(MANIFEST, "e5-768")


def test_pictures_of_another_space_are_refused_where_there_are_any() -> None:
    pictured = replace(MANIFEST, picture_space="lite0")
    for manifest, space in ((MANIFEST, "vit"), (pictured, None), (pictured, "lite0")):
        check_picture_space(manifest, space)
    with pytest.raises(SpaceMismatchError, match=r"space 'lite0' but the encoder .* makes 'vit'"):
        check_picture_space(pictured, "vit")
