"""Items of a release by their ids."""

from __future__ import annotations

from collections.abc import Sequence

from recsys.errors import NotFoundError
from recsys.release.release import Release
from recsys.types import Item
from serve.catalogue import CatalogueWriter

#: Variants of one product, in one answer.
MAX_VARIANTS = 60


def find_item(release: Release, item_id: str, catalogue: CatalogueWriter) -> tuple[str, Item]:
    """The release's version, and the item. Raises NotFoundError, which says why it is not there."""
    if (row := release.item_ids.row(item_id)) is None:
        catalogue.explain_absence(item_id, release)
        raise NotFoundError(
            f"item {item_id!r} is not in release {release.version}: take an id from /search"
        )
    return release.version, release.item(row)


def find_variants(release: Release, item_id: str) -> list[Item]:
    """The visible items of its product; none where the release does not have it."""
    if (row := release.item_ids.row(item_id)) is None:
        return []
    return [release.item(each) for each in release.variant_rows(row)[:MAX_VARIANTS].tolist()]


def find_thumbnails(release: Release, item_ids: Sequence[str]) -> dict[str, str]:
    """The hash, in hexadecimal, of the main picture of each item that has one."""
    rows = {item_id: release.item_ids.row(item_id) for item_id in item_ids}
    hashes = {
        item_id: release.main_picture_hash(row) for item_id, row in rows.items() if row is not None
    }
    return {item_id: digest.hex() for item_id, digest in hashes.items() if digest}


def find_thumbnail(release: Release, content_hash: str) -> bytes:
    """WebP. Raises NotFoundError where the release has none of that picture."""
    thumbnail = release.thumbnail(bytes.fromhex(content_hash))
    if thumbnail is None:
        raise NotFoundError(
            f"release {release.version} has no thumbnail of picture {content_hash}: it shows "
            "those of its own items"
        )
    return thumbnail
