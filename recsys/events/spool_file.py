"""Append-only files of lines in one folder, each written by one process that holds it locked; an
unlocked one is of a process that died."""

from __future__ import annotations

import fcntl
import os
import uuid
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from recsys.storage.disk import fsync_folder

#: So much of a file is replayed at once.
READ_BYTES = 4 << 20


class SpoolFile:
    """This process's own file, made and locked at the first line."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.size, self._file = folder, 0, -1

    def append(self, line: bytes) -> None:
        """On the disk when it returns; nothing is left of the line where it raises OSError."""
        try:
            if self._file < 0:
                path = self.folder / f"{uuid.uuid4().hex}.spool"
                self._file = os.open(path, os.O_CREAT | os.O_RDWR | os.O_APPEND, 0o600)
                fcntl.flock(self._file, fcntl.LOCK_EX)
                fsync_folder(self.folder)
            written = os.write(self._file, line)
            if written < len(line):
                raise OSError(f"{written} of {len(line)} bytes were written")
            os.fsync(self._file)
        except OSError:
            if self._file >= 0:
                os.ftruncate(self._file, self.size)  # half a line would stand before the next one
            raise
        self.size += len(line)

    def read(self, start: int, stop: int) -> bytes:
        """See `read_lines`."""
        return read_lines(self._file, start, stop)

    def clear(self) -> None:
        """Empty again; still this process's."""
        if self._file >= 0:
            os.ftruncate(self._file, 0)
            os.fsync(self._file)
        self.size = 0

    def close(self) -> None:
        """Gives up the lock; what the file holds stays on the disk for another process."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


def read_lines(file: int, start: int, stop: int) -> bytes:
    """The next whole lines from `start` on, at most READ_BYTES of them unless one is longer. A last
    line without its end was never acknowledged."""
    data = os.pread(file, min(stop - start, READ_BYTES), start)
    if b"\n" not in data:
        data = os.pread(file, stop - start, start)
    return data[: data.rfind(b"\n") + 1]


def orphans(folder: Path) -> Iterator[tuple[Path, int]]:
    """The files of processes that died, each open and locked until the next one is asked for."""
    for path in sorted(folder.glob("*.spool")):
        with suppress(FileNotFoundError, BlockingIOError):  # another adopted it, or its owner lives
            file = os.open(path, os.O_RDWR)
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                yield path, file
            finally:
                os.close(file)
