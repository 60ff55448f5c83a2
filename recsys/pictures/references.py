"""What an item's `image` cell names: URLs, paths, `pyarrow.fs` URIs, `data:` URIs, and
`picture:HASH`, whose bytes came in a column and lie in the home's `store.PictureStore`."""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b

from recsys.types import NEXT_PICTURE

#: Begins the reference of a picture in the store; its content hash in hex follows.
STORED = "picture:"


def content_hash(data: bytes) -> bytes:
    """blake2b-128, as `tables.PICTURES` has it."""
    return blake2b(data, digest_size=16).digest()


def picture_references(cell: str | None) -> list[str]:
    """The references of a canonical cell, the main one first, none twice."""
    references = (reference.strip() for reference in (cell or "").split(NEXT_PICTURE))
    return list(dict.fromkeys(filter(None, references)))


def join_references(references: Iterable[str]) -> str:
    """A canonical cell of them."""
    return NEXT_PICTURE.join(dict.fromkeys(references))


def stored_reference(digest: bytes) -> str:
    """Names the picture of this content hash."""
    return f"{STORED}{digest.hex()}"


def main_picture(cell: str | None) -> str | None:
    """The first reference that a page can show by itself: a URL or path, nothing that lies in the
    store or in a bucket."""
    references = picture_references(cell)
    return next(filter(_is_shown, references), None)


def _is_shown(reference: str) -> bool:
    scheme, mark, _ = reference.partition("://")
    return not reference.startswith((STORED, "data:")) and (
        not mark or scheme.lower() in ("http", "https")
    )
