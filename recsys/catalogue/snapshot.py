"""A release as the changes up to a number make it: what answers are computed from.

Its items are the release's, and behind them those of the segment. Everything that a `Release` says
of its items it says of these, so that search and recommendation need not know of changes. Legend: I
items of the release, S of the segment, L = I + S."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from recsys.arrays import Histories, stacked
from recsys.catalogue.changes import ItemState
from recsys.catalogue.lookups import ExtendedCodes, ExtendedIds, ExtendedSuggestions
from recsys.catalogue.segment import CatalogueSegment
from recsys.catalogue.values import ItemValues
from recsys.ranking.item_features import ItemFeatures
from recsys.ranking.projection import project
from recsys.release.arrow import added_days
from recsys.release.attributes import AttributeColumns, ExtendedColumns
from recsys.release.labels import Labels
from recsys.release.release import Release
from recsys.retrieval.text.bm25 import LexicalIndex
from recsys.tables import ITEMS
from recsys.types import Ints, Item, Mask, Rows
from recsys.understanding.suggestions import Suggestions

#: What is computed from values. All else the next snapshot of a segment shares.
_OF_VALUES = ("item_ids", "item_features", "_group_ranges", "visible_I", "codes", "suggestions")


class CatalogueSnapshot(Release):
    """`release` with the changes up to `number`: the rows of `segment`, and `values` of all items.

    `live_rows_I` says where an item of the release is now: in its own row, in one of the segment,
    or -1 where it is deleted. `release_rows_L` is the way back: -1 for a new item."""

    def __init__(
        self,
        release: Release,
        segment: CatalogueSegment,
        values: ItemValues,
        live_rows_I: Ints,
        number: int,
    ) -> None:
        # Not Release.__init__: nothing is opened again.
        self.__dict__ |= {
            name: value for name, value in vars(release).items() if name not in _COMPUTED
        }
        self.release, self.segment = release, segment
        self.values, self.live_rows_I, self.number = values, live_rows_I, number
        self.release_rows_L = np.concatenate([np.arange(len(live_rows_I)), segment.release_rows_S])
        self.items = pa.concat_tables([_as_items(release.items), segment.items])
        self.item_vectors_ID = stacked(release.item_vectors_ID, segment.item_vectors_SD)
        self.user_space_item_vectors_ID = stacked(
            release.user_space_item_vectors_ID, segment.user_space_vectors_Sd
        )
        self.popularity_I = self._kept(release.popularity_I, 0.0)

    @classmethod
    def of(cls, release: Release) -> CatalogueSnapshot:
        """The release as its night left it."""
        values, rows_I = ItemValues.of(release.items), np.arange(release.items.num_rows)
        return cls(
            release, CatalogueSegment.empty(release), values, rows_I, release.manifest.changes
        )

    @property
    def snapshot(self) -> str:
        return f"{self.version}@{self.number}"

    def with_segment(self, segment: CatalogueSegment, number: int) -> CatalogueSnapshot:
        """The same values of the release's items, and the items of another segment."""
        size = len(self.live_rows_I)
        values = self.values.first(size).followed_by(ItemValues.of(segment.items))
        live_rows_I = np.where(self.live_rows_I >= size, np.arange(size), self.live_rows_I)
        moved_S = np.flatnonzero(segment.release_rows_S >= 0)
        live_rows_I[segment.release_rows_S[moved_S]] = size + moved_S
        return CatalogueSnapshot(self.release, segment, values, live_rows_I, number)

    def with_states(self, states: Sequence[ItemState], number: int) -> CatalogueSnapshot:
        """After these states, none of which makes another segment."""
        changed = copy.copy(self)
        for name in _OF_VALUES:
            changed.__dict__.pop(name, None)
        changed.number, changed.live_rows_I = number, self.live_rows_I.copy()
        cells = list[tuple[int, dict[str, Any]]]()
        for state in states:
            row = self.segment_row(state.item_id)
            if row is not None:
                new = self.release_rows_L[row] < 0
                values = state.values() if new else state.changed_since(self.manifest.changes)
                cells.append((row, values))
            elif (row := self.release.item_ids.row(state.item_id)) is not None:
                changed.live_rows_I[row] = -1 if state.deleted else row
                cells.append((row, state.changed_since(self.manifest.changes)))
        changed.values = self.values.changed(cells)
        if "item_features" in self.__dict__:
            changed.item_features = self.item_features.with_values(
                changed.values.price, changed.values.in_stock
            )
        return changed

    def segment_row(self, item_id: str) -> int | None:
        """The row of an item of the segment."""
        at = self._segment_rows.get(item_id)
        return None if at is None else len(self.live_rows_I) + at

    @cached_property
    def _segment_rows(self) -> dict[str, int]:
        ids = self.segment.items["item_id"].to_pylist()
        return {item_id: at for at, item_id in enumerate(ids)}

    # What a release has, of all items. The cached ones are replaced, not computed again

    @cached_property
    def item_ids(self) -> ExtendedIds:  # type: ignore[override]
        return ExtendedIds(self.release.item_ids, list(self._segment_rows), self.live_rows_I)

    @cached_property
    def lexical(self) -> LexicalIndex:  # type: ignore[override]
        return self.segment.lexical if len(self.segment) else self.release.lexical

    @cached_property
    def codes(self) -> ExtendedCodes:  # type: ignore[override]
        start = len(self.live_rows_I)
        return ExtendedCodes(self.release.codes, self.segment.codes, start, self.visible_I)

    @cached_property
    def suggestions(self) -> Suggestions:  # type: ignore[override]
        return ExtendedSuggestions(
            self.release.suggestions, self.segment.suggestions, self._is_gone
        )

    @property
    def in_stock_I(self) -> Mask:
        return self.values.in_stock

    @property
    def prices_I(self) -> NDArray[np.float64]:
        return self.values.price

    @cached_property
    def visible_I(self) -> Mask | None:
        """Also without the rows that are another's now."""
        own_L = np.ones(len(self.values), bool)
        own_L[: len(self.live_rows_I)] = self.live_rows_I == np.arange(len(self.live_rows_I))
        visible_L = own_L & ~self.values.hidden
        return None if visible_L.all() else visible_L

    @cached_property
    def labels(self) -> dict[str, Labels]:
        return {
            name: labels.followed_by(Labels.of(self.segment.items[name], nested=name == "category"))
            if len(self.segment)
            else labels
            for name, labels in self.release.labels.items()
        }

    @cached_property
    def attributes(self) -> AttributeColumns:
        if not len(self.segment):
            return self.release.attributes
        return ExtendedColumns(self.release.attributes, self.segment.attributes)

    @cached_property
    def added_I(self) -> NDArray[np.float64]:
        return np.concatenate([self.release.added_I, added_days(self.segment.items)])

    @cached_property
    def item_features(self) -> ItemFeatures:
        features = self.release.item_features
        if len(self.segment):
            features = features.followed_by(self._segment_features())
        return features.with_values(self.values.price, self.values.in_stock)

    def item(self, row: int) -> Item:
        """With the values of now; a list price that is not above the price is none."""
        item = super().item(row)
        price, list_price = float(self.values.price[row]), float(self.values.list_price[row])
        return replace(
            item,
            price=None if np.isnan(price) else price,
            list_price=list_price if list_price > price else None,
            in_stock=bool(self.values.in_stock[row]),
            hidden=bool(self.values.hidden[row]),
        )

    def history(self, user_row: int) -> Histories:
        """Its items where they are now."""
        return self.release.history(user_row).mapped(self.live_rows_I)

    def rows_now(self, rows: Rows) -> Rows:
        return np.append(self.live_rows_I, -1)[rows].astype(np.int32)

    def rows_then(self, rows: Rows) -> Rows:
        return np.append(self.release_rows_L, -1)[rows].astype(np.int32)

    def pictures_of(self, row: int) -> range:
        """None of a new item: pictures are read at night."""
        row = int(self.release_rows_L[row])
        return self.release.pictures_of(row) if row >= 0 else range(0)

    def _segment_features(self) -> ItemFeatures:
        """What the log says of an item that moved, and nothing of a new one."""
        night, size = self.release.item_features, len(self.live_rows_I)
        projections = self.release.projections
        vectors = (self.segment.item_vectors_SD, self.segment.user_space_vectors_Sd)
        projected = [project(v, p) for v, p in zip(vectors, projections, strict=True)]
        later = slice(size, None)
        return ItemFeatures(
            prices_I=self.values.price[later],
            in_stock_I=self.values.in_stock[later],
            popularity_I=self.popularity_I[later],
            touches_TI=np.stack([self._kept(each, 0)[later] for each in night.touches_TI]),
            exposure_I=self._kept(night.exposure_I, 0.0)[later],
            clicks_I=self._kept(night.clicks_I, 0.0)[later],
            first_days_I=self._first_days()[later],
            categories_I=self._label_codes("category")[later],
            brands_I=self._label_codes("brand")[later],
            item_projected_IP=projected[0],
            taste_projected_IP=projected[1],
            attribute_codes=tuple(codes[later] for codes in self.attributes.codes()),
        )

    def _first_days(self) -> NDArray[np.float64]:
        days_L = self._kept(self.release.item_features.first_days_I, np.inf)
        return np.fmin(days_L, np.where(self.release_rows_L < 0, self.added_I, np.nan))

    def _kept(self, values_I: NDArray[Any], new: float) -> NDArray[Any]:
        """[L]: a value of the release's items, in the rows that items have moved to as well."""
        values_S = np.append(values_I, new)[self.segment.release_rows_S]
        return np.concatenate([values_I, values_S.astype(values_I.dtype)])

    def _is_gone(self, text: str) -> bool:
        """Whether there are items with all terms of the text, and none is visible."""
        if self.visible_I is None:
            return False
        rows = self.lexical.rows_with(text)
        return len(rows) > 0 and not self.visible_I[rows].any()


#: What a release computes of its items, and a snapshot anew of all.
_COMPUTED = {"item_ids", "lexical", "codes", "suggestions"} | {
    name
    for name, value in vars(Release).items()
    if isinstance(value, cached_property) and name not in ("relevance", "projections")
}


def _as_items(items: pa.Table) -> pa.Table:
    """With the columns that a release of before them lacks."""
    for field in ITEMS:
        if field.name not in items.column_names:
            items = items.append_column(field, pa.nulls(items.num_rows, field.type))
    return items.select(ITEMS.names)
