"""A node's copies of a bucket's files: one of each content, shared by all its processes."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from recsys.errors import InputError, ReleaseError
from recsys.storage.disk import UNFINISHED, write_whole
from recsys.storage.files import PIECE, FileStore

_SHA256 = re.compile(r"[0-9a-f]{64}")
#: In each folder of links to a node's copies: of which store and folder they are.
_VIEW = ".view.json"


class CopiedFileStore(FileStore):
    """A store whose files can be opened or mapped by path: on a disk themselves, of a bucket their
    copies, named by checksum."""

    def local(self, path: str, sha256: str) -> Path:
        """A file to open or map: the file itself on a disk, else the node's one copy, named by its
        checksum.

        Any number of processes may ask at once. NotFoundError when there is no such file;
        ReleaseError when what came from the bucket has another checksum. On a disk the checksum is
        not read again."""
        if self._is_local:
            self.size(path)  # raises when it is not there
            return Path(self._inside(path))
        if not _SHA256.fullmatch(sha256):
            raise InputError(
                f"checksum {sha256!r} of {path} is not a SHA-256: give 64 lower-case hex digits"
            )
        copy = self._cache / sha256
        if not copy.exists():
            write_whole(copy, self._checked_pieces(path, sha256))
        return copy

    def local_folder(self, folder: str, files: Mapping[str, str]) -> Path:
        """A folder's `files` (name below it -> SHA-256) under their own names, every checksum
        compared.

        On a disk that is the folder itself; elsewhere a folder of links to the node's copies.
        """
        if self._is_local:
            for name, sha256 in files.items():
                if self.sha256(f"{folder}/{name}") != sha256:
                    raise self._damaged(f"{folder}/{name}", sha256)
            return Path(self._inside(folder))
        key = repr((self.uri, folder, sorted(files.items()))).encode()
        view = self._cache / hashlib.sha256(key).hexdigest()
        if not (view / _VIEW).exists():
            origin = {"uri": self.uri, "folder": folder, "files": dict(files)}
            write_whole(view / _VIEW, [json.dumps(origin).encode()])
        for name, sha256 in files.items():
            copy, link = self.local(f"{folder}/{name}", sha256), view / name
            link.parent.mkdir(parents=True, exist_ok=True)
            if not link.exists():
                fresh = link.with_name(f"{UNFINISHED}{uuid.uuid4().hex}")
                fresh.symlink_to(copy)
                fresh.replace(link)
        return view

    def views(self) -> dict[Path, dict[str, Any]]:
        """This node's folders of links to copies of this store's files: `folder` and `files` as
        `local_folder` had them."""
        paths = self._cache.glob(f"*/{_VIEW}")
        origins = {path.parent: json.loads(path.read_bytes()) for path in paths}
        return {view: origin for view, origin in origins.items() if origin["uri"] == self.uri}

    def drop(self, view: Path) -> None:
        """Deletes one of `views`, and the copies that no other has. What is open stays open."""
        others = (origin for other, origin in self.views().items() if other != view)
        shared = {sha256 for origin in others for sha256 in origin["files"].values()}
        (view / _VIEW).rename(view / f"{UNFINISHED}view")  # deleted by half it must not be one
        for link in [path for path in view.rglob("*") if path.is_symlink()]:
            if (copy := link.resolve()).name not in shared:
                copy.unlink(missing_ok=True)
        shutil.rmtree(view, ignore_errors=True)

    @property
    def _cache(self) -> Path:
        return Path(self.cache) if self.cache else Path.home() / ".cache" / "nightshelf"

    def _checked_pieces(self, path: str, sha256: str) -> Iterator[bytes]:
        """The file, piece by piece; ReleaseError after the last one when the sum is wrong."""
        digest = hashlib.sha256()
        with self.open(path) as stream:
            while piece := stream.read(PIECE):
                digest.update(piece)
                yield piece
        if digest.hexdigest() != sha256:
            raise self._damaged(path, sha256)

    def _damaged(self, path: str, sha256: str) -> ReleaseError:
        return ReleaseError(
            f"{path} in {self.uri} is damaged, its SHA-256 is not {sha256}: "
            "go back to another release"
        )
