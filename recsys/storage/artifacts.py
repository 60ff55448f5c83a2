"""Releases in one folder on a disk or in a bucket: published whole, pointed at, pruned.

releases/<version>/...            one night's files
releases/<version>/manifest.json  written last: a version exists if and only if its manifest does
work/<version>/...                a night's intermediate files
current                           one line: the version that is served
"""

from __future__ import annotations

import re
from collections.abc import Collection

from pyarrow import fs

from recsys.errors import InputError, NotFoundError, ReleaseError
from recsys.storage.copies import CopiedFileStore

_VERSION = re.compile(r"[0-9A-Za-z][0-9A-Za-z._-]{0,63}")


class ArtifactStore(CopiedFileStore):
    """The releases of a shop and the work of its nights; other trained parts lie in stores of the
    same kind."""

    def versions(self) -> list[str]:
        """Published versions in order of publishing: version strings sort by time."""
        names = self._folders("releases")
        manifests = self._fs.get_file_info([self._inside(_manifest(name)) for name in names])
        return [
            name
            for name, info in zip(names, manifests, strict=True)
            if info.type == fs.FileType.File
        ]

    def unfinished(self) -> list[str]:
        """Versions of nights that began and have not published, oldest first."""
        published = set(self.versions())
        return [version for version in self._folders("work") if version not in published]

    def current(self) -> str | None:
        """The version that is served; None before the first publish."""
        try:
            return self.read("current").decode().strip()
        except NotFoundError:
            return None

    def publish(self, version: str, manifest: bytes) -> None:
        """The manifest, last of the release's files, then the pointer; ReleaseError when the
        version exists."""
        if self.exists(_manifest(version)):
            raise ReleaseError(
                f"release {version} is published already and never changes: "
                "give the new one its own name"
            )
        self.write(_manifest(version), manifest)
        self.point(version)

    def point(self, version: str) -> None:
        """Serve this version: forward, or back. NotFoundError when it was never published."""
        if not self.exists(_manifest(version)):
            published = ", ".join(self.versions()) or "none"
            raise NotFoundError(
                f"release {version} is not in {self.uri}: "
                f"choose one of those published ({published})"
            )
        self.write("current", f"{version}\n".encode())

    def abandon(self, version: str) -> None:
        """Deletes all of a night that has not published; ReleaseError where it has."""
        if self.exists(_manifest(version)):
            raise ReleaseError(
                f"release {version} is published: prune deletes those that are not needed any more"
            )
        self._delete_version(version)

    def prune(self, keep: int, spare: Collection[str] = ()) -> list[str]:
        """Deletes what is older than the newest `keep` releases, except `spare` and the current
        one; the versions deleted.

        Leftovers go too: folders of nights that failed or were deleted by half, where they are
        older than all kept."""
        if keep < 1:
            raise InputError(f"keep is {keep}: keep at least 1 release")
        versions, current = self.versions(), self.current()
        newest = versions[-keep:]
        folders = {*self._folders("releases"), *self._folders("work")} if newest else set()
        old = sorted(name for name in folders if name < newest[0] and name not in (current, *spare))
        for version in old:
            self._delete_version(version)
        return [version for version in old if version in versions]

    def _delete_version(self, version: str) -> None:
        # The manifest first: what is deleted by half must not be a release.
        if self.exists(_manifest(version)):
            self._fs.delete_file(self._inside(_manifest(version)))
        self.delete(f"releases/{version}")
        self.delete(f"work/{version}")

    def _folders(self, folder: str) -> list[str]:
        """Sorted version names that have a folder there."""
        selector = fs.FileSelector(self._inside(folder), allow_not_found=True)
        names = [
            info.base_name
            for info in self._fs.get_file_info(selector)
            if info.type == fs.FileType.Directory
        ]
        return sorted(name for name in names if _VERSION.fullmatch(name))


def _manifest(version: str) -> str:
    if not _VERSION.fullmatch(version):
        raise InputError(
            f"version {version!r} cannot name a release: "
            "use up to 64 letters, digits, '.', '_' and '-'"
        )
    return f"releases/{version}/manifest.json"
