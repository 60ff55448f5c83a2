"""Files in one folder on a disk or in a bucket; each appears whole or not at all."""

from __future__ import annotations

import errno
import hashlib
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import pyarrow as pa
from pyarrow import fs

from recsys.errors import FullError, InputError, NotFoundError
from recsys.storage.disk import UNFINISHED, write_whole

PIECE = 8 << 20
#: File systems where a file appears whole when its writer closes it; HDFS and the like show it half
#: written.
_ATOMIC_PUTS = ("s3", "gcs", "abfs")


class StoredFile(NamedTuple):
    """A file below a store; `written_ns` is since 1970, by the clock of whoever keeps it."""

    path: str
    size: int
    written_ns: int


class FileStore:
    """A folder on the local disk (NFS included) or in a bucket: s3://, gs://, abfs://, as
    `pyarrow.fs` spells them.

    Paths are relative and POSIX; InputError refuses one that could leave the store. Pickles as its
    URI. `cache` is the node's folder for copies of a bucket's files (default
    ~/.cache/nightshelf)."""

    def __init__(self, uri: str, cache: str | None = None) -> None:
        self.uri = uri if "://" in uri else str(Path(uri).expanduser().absolute())
        self.cache = cache

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.uri, self.cache)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.uri!r})"

    def write(self, path: str, data: bytes | pa.Buffer | Iterable[bytes | pa.Buffer]) -> str:
        """Puts a file there, whole or not at all, over one that was; its SHA-256 in hex. On a disk
        it is fsynced.

        What is larger than memory is given piece by piece. FullError when the disk has no room for
        it."""
        target = self._inside(path)
        digest = hashlib.sha256()
        pieces = _digesting([data] if isinstance(data, bytes | pa.Buffer) else data, digest)
        try:
            if self._is_local:
                write_whole(Path(target), pieces)
            else:
                self._upload(target, pieces)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            raise FullError(
                f"{path} cannot be written to {self.uri}: {error.strerror}: free some, then go on"
            ) from error
        return digest.hexdigest()

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
        return [file.path for file in self.listing(folder)]

    def listing(self, folder: str) -> list[StoredFile]:
        """The same with sizes and times, of one look at the folder."""
        selector = fs.FileSelector(self._inside(folder), allow_not_found=True, recursive=True)
        files = (
            StoredFile(info.path[len(self._root) + 1 :], info.size, info.mtime_ns or 0)
            for info in self._fs.get_file_info(selector)
            if info.type == fs.FileType.File and f"/{UNFINISHED}" not in info.path
        )
        return sorted(files)

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

    def on_disk(self, path: str) -> Path | None:
        """Where the file is, when the store itself is a folder of this machine."""
        return Path(self._inside(path)) if self._is_local else None

    @cached_property
    def _opened(self) -> tuple[fs.FileSystem, str]:
        opened, root = fs.FileSystem.from_uri(self.uri)
        if opened.type_name not in ("local", *_ATOMIC_PUTS):
            raise InputError(
                f"{self.uri} can show a file half written: "
                "use a local folder or s3://, gs:// or abfs://"
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

    def _inside(self, path: str) -> str:
        parts = path.split("/")
        if "" in parts or "." in parts or ".." in parts or "\\" in path or "\0" in path:
            raise InputError(
                f"path {path!r} is not inside the store: "
                "give a relative one such as releases/v1/items"
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
                shutil.copyfileobj(spool, stream, PIECE)

    def _read_once(self, path: str) -> bytes:
        with self.open(path) as stream:
            return stream.read()

    def _missing(self, path: str) -> NotFoundError:
        folder = str(PurePosixPath(path).parent)
        return NotFoundError(
            f"{path} is not in {self.uri}: see what {folder} holds, or run jobs.nightly to make it"
        )


def below(uri: str, name: str) -> str:
    """The folder `name` in a store's folder or URI, whose settings ("?region=...") stay at its
    end."""
    root, mark, settings = uri.partition("?") if "://" in uri else (uri, "", "")
    return f"{root.rstrip('/')}/{name}{mark}{settings}"


def _digesting(
    pieces: Iterable[bytes | pa.Buffer], digest: hashlib._Hash
) -> Iterator[bytes | pa.Buffer]:
    for piece in pieces:
        digest.update(piece)
        yield piece
