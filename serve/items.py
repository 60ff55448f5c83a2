"""Items of a release by their ids."""

from __future__ import annotations

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
