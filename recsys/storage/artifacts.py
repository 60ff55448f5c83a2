"""Where releases live: one folder on a disk or in a bucket.

releases/<version>/...            one night's files
releases/<version>/manifest.json  written last: a version exists if and only if its manifest does
work/<version>/...                a night's intermediate files
current                           one line: the version that is served
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
import tempfile
import time
import uuid
from collections.abc import Collection, Iterable, Iterator, Mapping
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa
from pyarrow import fs

from recsys.errors import FullError, InputError, NotFoundError, ReleaseError

_VERSION = re.compile(r"[0-9A-Za-z][0-9A-Za-z._-]{0,63}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_UNFINISHED = ".unfinished-"
_PIECE = 8 << 20
#: In each folder of links to a node's copies: of which store and folder they are.
_VIEW = ".view.json"
#: File systems where a file appears whole when its writer closes it; HDFS and the like show it half
#: written.
_ATOMIC_PUTS = ("s3", "gcs", "abfs")


class ArtifactStore:
    """A folder on the local disk (NFS included) or in a bucket: s3://, gs://, abfs://, as
    `pyarrow.fs` spells them.

    Paths are relative and POSIX; InputError refuses one that could leave the store. Files appear
    whole or not at all. Pickles as its URI. `cache` is the node's folder for copies of a bucket's
    files (default ~/.cache/nightshelf)."""

    def __init__(self, uri: str, cache: str | None = None) -> None:
        self.uri = uri if "://" in uri else str(Path(uri).expanduser().absolute())
        self.cache = cache

    def __reduce__(self) -> tuple[Any, ...]:
        return ArtifactStore, (self.uri, self.cache)

    def __repr__(self) -> str:
        return f"ArtifactStore({self.uri!r})"

    def write(self, path: str, data: bytes | pa.Buffer | Iterable[bytes | pa.Buffer]) -> str:
        """Puts a file there, whole or not at all, over one that was; its SHA-256 in hex. On a disk
        it is fsynced.

        What is larger than memory is given piece by piece. FullError when the disk has no room for
        it."""
        target = self._inside(path)
        pieces, found = ([data] if isinstance(data, bytes | pa.Buffer) else data), hashlib.sha256()
        summed = _summed(pieces, found)
        try:
            if self._is_local:
                write_whole(Path(target), summed)
            else:
                self._upload(target, summed)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            raise FullError(
                f"{path} cannot be written to {self.uri}: {error.strerror}: free some, then go on"
            ) from error
        return found.hexdigest()

    def read(self, path: str) -> bytes:
        """NotFoundError when there is no such file."""
        # S3 gives a size, then that many bytes: a part, where a longer file came between the two.
        while len(data := self._read_once(path)) != self.size(path):
            pass
        return data

    def open(self, path: str) -> Any:
        """The file as a random-access `pyarrow.NativeFile`; NotFoundError when there is no such
        file."""
        # open_input_file, because open_input_stream would unpack a name that ends in .gz.
        try:
            return self._fs.open_input_file(self._inside(path))
        except FileNotFoundError:
            raise self._missing(path) from None

    def exists(self, path: str) -> bool:
        """Whether there is a file; a folder is not one."""
        return self._info(path).type == fs.FileType.File

    def size(self, path: str) -> int:
        """In bytes; NotFoundError when there is no such file."""
        info = self._info(path)
        if info.type != fs.FileType.File:
            raise self._missing(path)
        return int(info.size)

    def sha256(self, path: str) -> str:
        """The file's SHA-256 in hex, read in pieces; NotFoundError when there is no such file."""
        with self.open(path) as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()

    def files(self, folder: str) -> list[str]:
        """Sorted paths of all files below the folder, relative to the store; none when there is no
        such folder."""
        selector = fs.FileSelector(self._inside(folder), allow_not_found=True, recursive=True)
        found = [
            info.path for info in self._fs.get_file_info(selector) if info.type == fs.FileType.File
        ]
        return sorted(
            path[len(self._root) + 1 :] for path in found if f"/{_UNFINISHED}" not in path
        )

    def delete(self, folder: str) -> None:
        """Deletes the folder and all below it; one that is not there is deleted already."""
        target = self._inside(folder)
        if self._fs.get_file_info(target).type == fs.FileType.Directory:
            self._fs.delete_dir(target)

    def remove(self, path: str) -> None:
        """Deletes a file; one that is not there is deleted already."""
        if self.exists(path):
            self._fs.delete_file(self._inside(path))

    def age_s(self, path: str) -> float:
        """Seconds since the file was written, by the clock of whoever keeps it; 0 where it is not
        there."""
        written = self._info(path).mtime_ns
        return 0.0 if written is None else time.time() - written / 1e9

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

    def on_disk(self, path: str) -> Path | None:
        """Where the file is, when the store itself is a folder of this machine."""
        return Path(self._inside(path)) if self._is_local else None

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
        view = (
            self._cache
            / hashlib.sha256(repr((self.uri, folder, sorted(files.items()))).encode()).hexdigest()
        )
        if not (view / _VIEW).exists():
            told = {"uri": self.uri, "folder": folder, "files": dict(files)}
            write_whole(view / _VIEW, [json.dumps(told).encode()])
        for name, sha256 in files.items():
            copy, link = self.local(f"{folder}/{name}", sha256), view / name
            link.parent.mkdir(parents=True, exist_ok=True)
            if not link.exists():
                fresh = link.with_name(f"{_UNFINISHED}{uuid.uuid4().hex}")
                fresh.symlink_to(copy)
                fresh.replace(link)
        return view

    def views(self) -> dict[Path, dict[str, Any]]:
        """This node's folders of links to copies of this store's files: `folder` and `files` as
        `local_folder` had them."""
        told = {
            view.parent: json.loads(view.read_bytes()) for view in self._cache.glob(f"*/{_VIEW}")
        }
        return {folder: each for folder, each in told.items() if each["uri"] == self.uri}

    def drop(self, view: Path) -> None:
        """Deletes one of `views`, and the copies that no other has. What is open stays open."""
        kept = {
            total
            for other, told in self.views().items()
            if other != view
            for total in told["files"].values()
        }
        (view / _VIEW).rename(view / f"{_UNFINISHED}view")  # deleted by half it must not be one
        for link in [path for path in view.rglob("*") if path.is_symlink()]:
            if (copy := link.resolve()).name not in kept:
                copy.unlink(missing_ok=True)
        shutil.rmtree(view, ignore_errors=True)

    def versions(self) -> list[str]:
        """Published versions in order of publishing: version strings sort by time."""
        names = self._folders("releases")
        manifests = self._fs.get_file_info([self._inside(_manifest(name)) for name in names])
        return [
            name
            for name, info in zip(names, manifests, strict=True)
            if info.type == fs.FileType.File
        ]

    def abandon(self, version: str) -> None:
        """Deletes all of a night that has not published; ReleaseError where it has."""
        if self.exists(_manifest(version)):
            raise ReleaseError(
                f"release {version} is published: prune deletes those that are not needed any more"
            )
        self._delete_version(version)

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
                f"release {version} is published already and never changes: give the new one its own name"
            )
        self.write(_manifest(version), manifest)
        self.point(version)

    def point(self, version: str) -> None:
        """Serve this version: forward, or back. NotFoundError when it was never published."""
        if not self.exists(_manifest(version)):
            there = ", ".join(self.versions()) or "none"
            raise NotFoundError(
                f"release {version} is not in {self.uri}: choose one of those published ({there})"
            )
        self.write("current", f"{version}\n".encode())

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

    @cached_property
    def _opened(self) -> tuple[fs.FileSystem, str]:
        opened, root = fs.FileSystem.from_uri(self.uri)
        if opened.type_name not in ("local", *_ATOMIC_PUTS):
            raise InputError(
                f"{self.uri} can show a file half written: use a local folder or s3://, gs:// or abfs://"
            )
        return opened, root.rstrip("/")

    @property
    def _fs(self) -> fs.FileSystem:
        return self._opened[0]

    @property
    def _root(self) -> str:
        return self._opened[1]

    @property
    def _is_local(self) -> bool:
        return bool(self._fs.type_name == "local")

    @property
    def _cache(self) -> Path:
        return Path(self.cache) if self.cache else Path.home() / ".cache" / "nightshelf"

    def _inside(self, path: str) -> str:
        parts = path.split("/")
        if "" in parts or "." in parts or ".." in parts or "\\" in path or "\0" in path:
            raise InputError(
                f"path {path!r} is not inside the store: give a relative one such as releases/v1/items"
            )
        return f"{self._root}/{path}"

    def _info(self, path: str) -> fs.FileInfo:
        return self._fs.get_file_info(self._inside(path))

    def _upload(self, target: str, pieces: Iterable[bytes | pa.Buffer]) -> None:
        # By way of a spool: an upload that its source breaks off is closed, and so would be
        # published half.
        with tempfile.TemporaryFile() as spool:
            spool.writelines(pieces)
            spool.seek(0)
            with self._fs.open_output_stream(target, compression=None) as stream:
                shutil.copyfileobj(spool, stream, _PIECE)

    def _read_once(self, path: str) -> bytes:
        with self.open(path) as stream:
            return stream.read()

    def _missing(self, path: str) -> NotFoundError:
        folder = str(PurePosixPath(path).parent)
        return NotFoundError(
            f"{path} is not in {self.uri}: see what {folder} holds, or run jobs.nightly to make it"
        )

    def _checked_pieces(self, path: str, sha256: str) -> Iterator[bytes]:
        """The file, piece by piece; ReleaseError after the last one when the sum is wrong."""
        found = hashlib.sha256()
        with self.open(path) as stream:
            while piece := stream.read(_PIECE):
                found.update(piece)
                yield piece
        if found.hexdigest() != sha256:
            raise self._damaged(path, sha256)

    def _damaged(self, path: str, sha256: str) -> ReleaseError:
        return ReleaseError(
            f"{path} in {self.uri} is damaged, its SHA-256 is not {sha256}: go back to another release"
        )

    def _folders(self, folder: str) -> list[str]:
        """Sorted version names that have a folder there."""
        selector = fs.FileSelector(self._inside(folder), allow_not_found=True)
        names = [
            info.base_name
            for info in self._fs.get_file_info(selector)
            if info.type == fs.FileType.Directory
        ]
        return sorted(name for name in names if _VERSION.fullmatch(name))


def below(uri: str, name: str) -> str:
    """The folder `name` in a store's folder or URI, whose settings ("?region=...") stay at its
    end."""
    root, mark, settings = uri.partition("?") if "://" in uri else (uri, "", "")
    return f"{root.rstrip('/')}/{name}{mark}{settings}"


def _manifest(version: str) -> str:
    if not _VERSION.fullmatch(version):
        raise InputError(
            f"version {version!r} cannot name a release: use up to 64 letters, digits, '.', '_' and '-'"
        )
    return f"releases/{version}/manifest.json"


def _summed(
    pieces: Iterable[bytes | pa.Buffer], found: hashlib._Hash
) -> Iterator[bytes | pa.Buffer]:
    for piece in pieces:
        found.update(piece)
        yield piece


def write_whole(target: Path, pieces: Iterable[bytes | pa.Buffer], mode: int = 0o666) -> None:
    """To the disk under another name, then renamed: kill -9 leaves the old file or the new one.
    `mode` as umask leaves it."""
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = target.parent / f"{_UNFINISHED}{uuid.uuid4().hex}"
    try:
        with os.fdopen(
            os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb"
        ) as stream:
            for piece in pieces:
                stream.write(piece)
            stream.flush()
            os.fsync(stream.fileno())
        unfinished.replace(target)
    finally:
        unfinished.unlink(missing_ok=True)
    fsync_folder(target.parent)


def fsync_folder(folder: Path) -> None:
    """So that a power cut does not take a new name in it."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
