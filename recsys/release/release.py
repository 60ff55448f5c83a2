"""One night's artifacts, open by day: the manifest, and the files that `files` describes.

A release never changes, but for one thing: users who ask to be forgotten leave it
(`privacy.erasure`). The files of users then lie without them in a folder below, which the
manifest names as `amended`."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import datetime
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from recsys.arrays import Histories
from recsys.encoders.text import item_texts
from recsys.errors import NotFoundError, RecsysError, ReleaseError
from recsys.ranking.item_features import ItemFeatures
from recsys.release import files
from recsys.release.arrow import IdMap, added_days, histories_of, read_arrow, visible_items
from recsys.release.attributes import AttributeColumns, group_ranges, named_in
from recsys.release.files import ReleaseFile
from recsys.release.labels import Labels
from recsys.release.manifest import Manifest, check_picture_space, check_space, read_manifest
from recsys.retrieval.photos import PhotoHead
from recsys.retrieval.text.bm25 import LexicalIndex
from recsys.retrieval.vectors.relevance import DenseRelevance
from recsys.storage.artifacts import ArtifactStore
from recsys.tables import PICTURES, THUMBNAILS
from recsys.types import (
    NEXT_CATEGORY,
    AttributeFilter,
    Filters,
    Floats,
    Ints,
    Item,
    Mask,
    Rows,
    VariantRange,
)
from recsys.understanding.codes import CodeIndex
from recsys.understanding.suggestions import Suggestions


class Release:
    """An open release. Arrays are read-only and mapped from disk."""

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self.folder, self.manifest = folder, manifest
        self.items = read_arrow(self.path(files.ITEMS))
        self.item_ids = IdMap(self.items["item_id"])
        self.users = read_arrow(self.path(files.USERS))
        self.user_ids = IdMap(self.users["user_id"])
        self.item_vectors_ID = self.array(files.ITEM_VECTORS)
        own_space = self.path(files.TASTE_VECTORS).exists()
        self.user_space_item_vectors_ID = (
            self.array(files.TASTE_VECTORS) if own_space else self.item_vectors_ID
        )
        self.user_vectors_UD = self.array(files.USER_VECTORS)
        self.candidate_rows_UN = self.array(files.CANDIDATE_ROWS)
        self.candidate_features_UNF = self.array(files.CANDIDATE_FEATURES)
        self.candidate_sources_UN = self.array(files.CANDIDATE_SOURCES)
        self.similar_rows_IS = self.array(files.SIMILAR_ROWS)
        self.similar_scores_IS = self.array(files.SIMILAR_SCORES)
        self.co_occurrence = tuple(self.array(file) for file in files.CO_OCCURRENCE)
        self.complements = self._complements()
        self.popularity_I = self.array(files.POPULARITY)
        self.peers = read_arrow(self.path(files.PEERS))
        self.lexical = LexicalIndex.load(self.path(files.LEXICAL))
        self.suggestions = Suggestions.open(self.path(files.SUGGESTIONS))
        self.codes = CodeIndex.load(folder)

    @classmethod
    def open(
        cls,
        store: ArtifactStore,
        version: str | None = None,
        space: str | None = None,
        picture_space: str | None = None,
    ) -> Release:
        """Opens `version` (default: current), every checksum compared.

        Raises NotFoundError when it is not there, SpaceMismatchError when its vectors are not of
        `space`, or those of its pictures not of `picture_space`, ReleaseError when a file is
        missing or damaged."""
        version = version or store.current()
        if version is None:
            raise NotFoundError("nothing is published yet: run python -m jobs.nightly")
        manifest = read_manifest(store, version)
        check_space(manifest, space)
        check_picture_space(manifest, picture_space)
        try:
            return cls(store.local_folder(f"releases/{version}", manifest.files), manifest)
        except (RecsysError, FileNotFoundError):
            if read_manifest(store, version) == manifest:
                raise
        return cls.open(store, version, space, picture_space)  # it was amended meanwhile

    def path(self, file: ReleaseFile) -> Path:
        """Where a file lies: in the release's folder, or in that of its last amendment."""
        return self.folder / self.manifest.path_of(file.name)

    @property
    def created(self) -> datetime:
        """The night's time."""
        return datetime.fromisoformat(self.manifest.created)

    @property
    def snapshot(self) -> str:
        """The release, and up to which number of the catalogue's changes it is."""
        return f"{self.version}@{self.manifest.changes}"

    @property
    def version(self) -> str:
        return self.manifest.version

    def array(self, file: ReleaseFile) -> NDArray[Any]:
        try:
            return np.load(self.path(file), mmap_mode="r")
        except FileNotFoundError:
            raise ReleaseError(
                f"release {self.version} has no {file.name}: promote another release"
            ) from None

    def _complements(self) -> tuple[Rows, Floats] | None:
        """Lists by the learned compatibility; None in a release without."""
        if not self.path(files.COMPLEMENT_ROWS).exists():
            return None
        return self.array(files.COMPLEMENT_ROWS), self.array(files.COMPLEMENT_SCORES)

    def item(self, row: int) -> Item:
        values = {name: column[row].as_py() for name, column in self._item_columns.items()}
        categories = tuple((values["category"] or "").split(NEXT_CATEGORY))
        values |= {"category": categories[0], "categories": tuple(filter(None, categories))}
        values["attribute_values"] = self.attributes.values(row)
        return Item(**{name: value for name, value in values.items() if value is not None})

    @cached_property
    def _item_columns(self) -> dict[str, pa.ChunkedArray]:
        """By name; of one row five times as fast as a table of it."""
        return {name: self.items[name] for name in self.items.column_names if name != "text_hash"}

    def texts(self, rows: Ints) -> list[str]:
        """The texts of these items as they were encoded."""
        return (
            item_texts(pa.concat_tables([self.items.slice(int(row), 1) for row in rows]))
            if len(rows)
            else []
        )

    def rows_now(self, rows: Rows) -> Rows:
        """Where items of the night's lists are now, -1 where they are gone: changes by day move
        them (`catalogue.snapshot`)."""
        return rows

    def rows_then(self, rows: Rows) -> Rows:
        """Where items were at night, -1 for those that came by day."""
        return rows

    def history(self, user_row: int) -> Histories:
        return histories_of(self.users.slice(user_row, 1))

    @cached_property
    def in_stock_I(self) -> Mask:
        return np.asarray(pc.fill_null(self.items["in_stock"], True))

    @cached_property
    def visible_I(self) -> Mask | None:
        """Which items answers may show and count; None where all are."""
        visible_I = visible_items(self.items)
        return None if visible_I.all() else visible_I

    @cached_property
    def prices_I(self) -> NDArray[np.float64]:
        """NaN where the shop has no price; such items pass no price bound."""
        return np.asarray(self.items["price"].cast(pa.float64()).to_numpy())

    @cached_property
    def groups_I(self) -> NDArray[np.int32]:
        """Equal where items are variants of one product; -1 where an item is none."""
        groups = pc.utf8_trim_whitespace(self.items["group_id"])
        groups = pc.if_else(
            pc.equal(groups, ""), pa.scalar(None, pa.string()), groups
        ).combine_chunks()
        return np.asarray(pc.fill_null(groups.dictionary_encode().indices, -1)).astype(np.int32)

    @cached_property
    def products_I(self) -> Ints:
        """Equal where items are variants of one product; an item that is none is its own."""
        singles_I = self.groups_I.max(initial=-1) + 1 + np.arange(len(self.groups_I))
        return np.where(self.groups_I < 0, singles_I, self.groups_I)

    @cached_property
    def item_features(self) -> ItemFeatures:
        """What features are made of. A category or brand has its place among `labels`, below which
        an intent is found: `labels["category"].below([intent])` is a row of `Context.intent_BL`."""
        exposure_I, clicks_I = self.array(files.ATTRACTION)
        return ItemFeatures(
            prices_I=self.prices_I,
            in_stock_I=self.in_stock_I,
            popularity_I=self.popularity_I,
            touches_TI=self.array(files.TOUCHES),
            exposure_I=exposure_I,
            clicks_I=clicks_I,
            first_days_I=self.array(files.FIRST_DAYS),
            categories_I=self._label_codes("category"),
            brands_I=self._label_codes("brand"),
            item_projected_IP=self.array(files.ITEM_PROJECTED),
            taste_projected_IP=self.array(files.TASTE_PROJECTED),
            attribute_codes=self.attributes.codes(),
        )

    @cached_property
    def relevance(self) -> DenseRelevance | None:
        """None in a release of before it was measured."""
        path = self.path(files.RELEVANCE)
        return DenseRelevance.from_json(path.read_bytes()) if path.exists() else None

    @cached_property
    def pictures(self) -> pa.Table:
        """`tables.PICTURES`; empty in a release that read none."""
        path = self.path(files.PICTURES)
        return read_arrow(path) if path.exists() else PICTURES.empty_table()

    @cached_property
    def picture_vectors_GE(self) -> NDArray[np.float16]:
        """A row a picture; [0, 0] in a release that read none."""
        path = self.path(files.PICTURE_VECTORS)
        return np.load(path, mmap_mode="r") if path.exists() else np.empty((0, 0), np.float16)

    @cached_property
    def photo_head(self) -> PhotoHead | None:
        """None in a release that read no pictures."""
        path = self.path(files.PHOTO_HEAD)
        return PhotoHead.from_bytes(path.read_bytes()) if path.exists() else None

    @cached_property
    def photo_vectors_IH(self) -> Floats:
        """A row an item as of the night; [I, 0] in a release that read no pictures."""
        path = self.path(files.PHOTO_VECTORS)
        if not path.exists():
            return np.empty((self.items.num_rows, 0), np.float32)
        return np.load(path, mmap_mode="r")

    def pictures_of(self, row: int) -> range:
        """The rows in `pictures` of an item's pictures, its main one first."""
        first, end = self._picture_offsets[row : row + 2]
        return range(int(first), int(end))

    @cached_property
    def _picture_offsets(self) -> Ints:
        rows_G = self.item_ids.rows(self.pictures["item_id"])
        return np.searchsorted(rows_G, np.arange(len(self.item_ids) + 1))

    def main_picture_hash(self, row: int) -> bytes | None:
        """Of the first of an item's pictures that is not unsafe; None where it has none."""
        for place in self.pictures_of(row):
            if not self.pictures["unsafe"][place].as_py():
                return bytes(self.pictures["content_hash"][place].as_py())
        return None

    def thumbnail(self, content_hash: bytes) -> bytes | None:
        """WebP; None of a picture that this release has no small copy of."""
        if not self._thumbnails.num_rows:
            return None
        place = pc.index(self._thumbnails["content_hash"], pa.scalar(content_hash, pa.binary(16)))
        return self._thumbnails["thumbnail"][place.as_py()].as_py() if place.as_py() >= 0 else None

    @cached_property
    def _thumbnails(self) -> pa.Table:
        path = self.path(files.THUMBNAILS)
        return read_arrow(path) if path.exists() else THUMBNAILS.empty_table()

    @cached_property
    def projections(self) -> tuple[Floats, Floats]:
        """[D, P] of the texts' space, and [d, P] of the user model's."""
        return np.array(self.array(files.PROJECTION)), np.array(self.array(files.TASTE_PROJECTION))

    def _label_codes(self, column: str) -> Ints:
        """-1 where the item has no label."""
        none_I = pc.equal(pc.utf8_trim_whitespace(pc.fill_null(self.items[column], "")), "")
        return np.where(np.asarray(none_I), -1, self.labels[column].first_codes_I)

    @cached_property
    def added_I(self) -> NDArray[np.float64]:
        """When the shop began to sell each item, in days since 1970-01-01 UTC; NaN where it does
        not say."""
        return added_days(self.items)

    @cached_property
    def labels(self) -> dict[str, Labels]:
        return {
            name: Labels.of(self.items[name], nested=name == "category")
            for name in ("category", "brand")
        }

    @cached_property
    def attributes(self) -> AttributeColumns:
        """The typed attributes; none in a release whose night declared none."""
        if files.ATTRIBUTES.name not in self.manifest.files:
            return AttributeColumns.none(self.items.num_rows)
        return AttributeColumns(read_arrow(self.path(files.ATTRIBUTES)), self.items.num_rows)

    def variants(self, row: int) -> VariantRange | None:
        """The range of an item's group; None where it has none."""
        if (group := int(self.groups_I[row])) < 0:
            return None
        counts_G, low_G, high_G = self._group_ranges
        low, high = float(low_G[group]), float(high_G[group])
        bounds = (None, None) if math.isnan(low) else (low, high)
        return VariantRange(int(counts_G[group]), *bounds)

    def variant_rows(self, row: int) -> Rows:
        """The visible items of an item's group, itself among them if it is; itself alone where it
        has none."""
        members_I = self.products_I == self.products_I[row]
        if self.visible_I is not None:
            members_I &= self.visible_I
        return np.flatnonzero(members_I).astype(np.int32)

    @cached_property
    def _other_variants(self) -> Callable[[AttributeFilter], Mask]:
        return lru_cache(16)(self._find_other_variants)

    def _find_other_variants(self, named: AttributeFilter) -> Mask:
        """[I]: variants of products that have another value than the named one; but the "red" of a
        title, such as "Red wine glass", is no value."""
        other_I = self.attributes.other(named) & (self.groups_I >= 0)
        rows = np.flatnonzero(other_I)
        other_I[rows] = ~named_in(self.items["title"].take(pa.array(rows)), named.value)
        return other_I

    @cached_property
    def _group_ranges(self) -> tuple[Ints, NDArray[np.float64], NDArray[np.float64]]:
        groups_I, visible_I = self.groups_I, self.visible_I
        if visible_I is not None:
            groups_I = np.where(visible_I, groups_I, -1).astype(np.int32)
        return group_ranges(self.prices_I, groups_I)

    def filter_mask(self, filters: Filters) -> Mask | None:
        """Which items pass the filters, or None when nothing is filtered.

        Of several categories or brands one must fit. A category also names everything below it:
        "grocery" passes "GROCERY / FROZEN PIZZA". Case does not matter."""
        masks = list(self.passing(filters, slice(None)).values())
        if not masks:
            return None
        passing_I = masks[0].copy()  # of an attribute it is one that is kept
        for mask_I in masks[1:]:
            passing_I &= mask_I
        return passing_I

    def passing(self, filters: Filters, rows: Ints | slice) -> dict[str, Mask]:
        """Which of the rows pass each filter that is set, by its field's name; those of attributes
        are called `filter[name]` and `variants[name]`; `visible` is always set where an item is
        hidden. Raises FilterError."""
        masks: dict[str, Mask] = {}
        if self.visible_I is not None:
            masks["visible"] = self.visible_I[rows]
        for name, values in (("category", filters.category), ("brand", filters.brand)):
            if values:
                masks[name] = self.labels[name].below(values)[self.labels[name].codes_I[rows]]
        if filters.min_price is not None:
            masks["min_price"] = self.prices_I[rows] >= filters.min_price
        if filters.max_price is not None:
            masks["max_price"] = self.prices_I[rows] <= filters.max_price
        if filters.in_stock is not None:
            masks["in_stock"] = self.in_stock_I[rows] == filters.in_stock
        for condition in self.attributes.conditions(filters.attributes):
            name = f"filter[{condition.attribute.name}]"
            masks[name] = self.attributes.mask(condition)[rows]
        for named in filters.variants:
            masks[f"variants[{named.name}]"] = ~self._other_variants(named)[rows]
        for at, choice in enumerate(filters.any_of):
            passing = [self._passing_all(each, rows) for each in choice]
            masks[f"any_of[{at}]"] = np.logical_or.reduce(passing)
        for at, each in enumerate(filters.none_of):
            masks[f"none_of[{at}]"] = ~self._passing_all(each, rows)
        return masks

    def _passing_all(self, filters: Filters, rows: Ints | slice) -> Mask:
        masks = list(self.passing(filters, rows).values())
        return np.logical_and.reduce([np.ones(len(self.prices_I[rows]), bool), *masks])
