"""Pictures in folders, on disks and in buckets: only below those that a setup names, and beside the
catalogue's own files, so that a feed cannot have other files read."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote

from pyarrow import fs

from recsys.errors import InputError

_OTHER = "name a folder above it in the pictures' folders, or give a URL"


class PictureFile(NamedTuple):
    """A file as its file system shows it; `version` differs when it was written again."""

    filesystem: fs.FileSystem
    path: str
    size: int
    version: str

    def read(self) -> bytes:
        with self.filesystem.open_input_file(self.path) as stream:
            return stream.read()


class PictureFolders:
    """`roots` are paths and `pyarrow.fs` URIs; their settings ("?region=...") hold below."""

    def __init__(self, roots: Sequence[str]) -> None:
        self.roots = tuple(roots)

    def find(self, reference: str) -> PictureFile:
        """The file that a path or URI names, below the first root that has it. A path is relative
        to the roots, even one that begins with "/" where it is not below one of them.

        InputError says why there is none."""
        if not self.roots:
            raise InputError(f"it is a file, and the setup names no folder of pictures: {_OTHER}")
        if "?" in reference and "://" in reference:
            raise InputError("settings of a bucket in an image: write them behind a folder's URI")
        places = [place for root in self._opened if (place := root.inside(reference)) is not None]
        if not places:
            raise InputError(f"it is not below {', '.join(self.roots)}: {_OTHER}")
        for filesystem, path in places:
            info = filesystem.get_file_info(path)
            if info.type == fs.FileType.File:
                return PictureFile(filesystem, path, info.size, f"{info.mtime_ns}-{info.size}")
        raise InputError(
            f"there is no such file below {', '.join(self.roots)}: put it there, or begin a URL "
            "with https://"
        )

    @cached_property
    def _opened(self) -> list[_Root]:
        return [_Root(root) for root in self.roots]


class _Root:
    def __init__(self, root: str) -> None:
        if "://" in root:
            self.scheme = root.partition("://")[0].lower()
            self.filesystem, self.path = fs.FileSystem.from_uri(root)
            self.uri = root.partition("?")[0].rstrip("/")
        else:
            self.scheme, self.uri = "file", ""
            self.filesystem, self.path = fs.LocalFileSystem(), str(Path(root).expanduser())
        self.is_local = self.filesystem.type_name == "local"
        if self.is_local:
            self.path = str(Path(self.path).resolve())

    def inside(self, reference: str) -> tuple[fs.FileSystem, str] | None:
        """Where it is in this root; None where it leads out of it, links followed."""
        scheme, mark, rest = reference.partition("://")
        if mark and scheme.lower() != self.scheme:
            return None
        if self.is_local:
            path = self._on_disk([unquote(rest)] if mark else [reference, reference.lstrip("/")])
        elif mark:
            below = reference.startswith(f"{self.uri}/")
            path = self._joined(reference.removeprefix(self.uri)) if below else None
        else:
            path = self._joined(reference)
        return None if path is None else (self.filesystem, path)

    def _on_disk(self, paths: Sequence[str]) -> str | None:
        root = Path(self.path)
        for path in paths:
            if (real := (root / path).resolve()).is_relative_to(root):
                return str(real)
        return None

    def _joined(self, reference: str) -> str | None:
        parts = reference.strip("/").split("/")
        if {"", ".", ".."} & set(parts):
            return None
        return "/".join([self.path.rstrip("/"), *parts])
