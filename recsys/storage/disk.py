"""Files on a local disk that appear whole or not at all."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa

#: How the names of files begin that are being written; readers pass over them.
UNFINISHED = ".unfinished-"


def write_whole(target: Path, pieces: Iterable[bytes | pa.Buffer], mode: int = 0o666) -> None:
    """To the disk under another name, then renamed: kill -9 leaves the old file or the new one.
    `mode` as umask leaves it."""
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = target.parent / f"{UNFINISHED}{uuid.uuid4().hex}"
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
