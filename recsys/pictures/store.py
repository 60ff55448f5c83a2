"""Encoded pictures in the home, by content: fetched ones, and those that came in a column."""

from __future__ import annotations

from itertools import accumulate

from recsys.errors import NotFoundError
from recsys.pictures.references import content_hash
from recsys.storage.files import FileStore

FOLDER = "pictures"


class PictureStore:
    """One file a content hash, in a home on a disk or in a bucket; the oldest go when `trim` finds
    too many bytes. Any number of processes may use it at once."""

    def __init__(self, home: str, cache_bytes: int) -> None:
        self.files, self.cache_bytes = FileStore(home), cache_bytes

    def put(self, data: bytes) -> bytes:
        """The content hash under which it lies there now."""
        digest = content_hash(data)
        if not self.files.exists(path := _path(digest)):
            self.files.write(path, data)
        return digest

    def get(self, digest: bytes) -> bytes | None:
        """None where it is not there, or not any more."""
        try:
            data = self.files.read(_path(digest))
        except NotFoundError:
            return None
        return data if content_hash(data) == digest else None

    def trim(self) -> int:
        """Deletes the oldest beyond `cache_bytes`; the number of pictures deleted."""
        newest_first = sorted(self.files.listing(FOLDER), key=lambda file: -file.written_ns)
        sizes = accumulate(file.size for file in newest_first)
        pairs = zip(newest_first, sizes, strict=True)
        old = [file.path for file, size in pairs if size > self.cache_bytes]
        for path in old:
            self.files.remove(path)
        return len(old)


def _path(digest: bytes) -> str:
    name = digest.hex()
    return f"{FOLDER}/{name[:2]}/{name}"
