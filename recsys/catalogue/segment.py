"""The segment of today: items that no night has seen, or saw with other texts, indexed as a night
indexes, but small.

Legend: I items of the release, S of the segment, D dimensions of texts, d of the user model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa

from recsys.attributes.cells import CARRIED, PAIRS
from recsys.attributes.columns import DECLARATION, typed_columns
from recsys.attributes.declaration import Attribute
from recsys.catalogue.changes import ItemState
from recsys.catalogue.values import VALUES
from recsys.encoders.text import item_texts, text_hashes
from recsys.interfaces import UserModel
from recsys.release.attributes import AttributeColumns
from recsys.release.release import Release
from recsys.retrieval.text.fields import FIELD_BOOSTS, searchable_fields
from recsys.retrieval.text.segments import SegmentedIndex
from recsys.tables import ITEMS, ITEMS_IN, QUERIES
from recsys.types import Floats, Ints, Mask
from recsys.understanding.codes import CodeIndex
from recsys.understanding.suggestion_builder import build_suggestion_file
from recsys.understanding.suggestions import Suggestions

_INDEXED = tuple(name for name in ITEMS_IN.names if name not in VALUES)
#: Item texts to vectors, in the release's space.
EncodeItems = Callable[[Sequence[str]], Floats]


@dataclass(frozen=True, kw_only=True)
class CatalogueSegment:
    """S items behind those of a release, sorted by id. `release_rows_S` are their rows in it, -1
    for new ones."""

    release: Release
    items: pa.Table
    release_rows_S: Ints
    item_vectors_SD: Floats
    user_space_vectors_Sd: Floats
    attributes: AttributeColumns

    def __len__(self) -> int:
        return self.items.num_rows

    @classmethod
    def empty(cls, release: Release) -> CatalogueSegment:
        return cls(
            release=release,
            items=ITEMS.empty_table(),
            release_rows_S=np.empty(0, np.int64),
            item_vectors_SD=release.item_vectors_ID[:0],
            user_space_vectors_Sd=release.user_space_item_vectors_ID[:0],
            attributes=AttributeColumns.none(0),
        )

    @classmethod
    def of(
        cls,
        release: Release,
        states: Sequence[ItemState],
        encode: EncodeItems,
        user_model: UserModel,
        decimal: str | None = None,
    ) -> CatalogueSegment:
        """Of states that `needs_row`. An item whose text is that of the release keeps its
        vectors."""
        if not states:
            return cls.empty(release)
        states = sorted(states, key=lambda state: state.item_id)
        rows = [release.item_ids.row(state.item_id) for state in states]
        rows_S = np.array([-1 if row is None else row for row in rows])
        cells = [_cells(release, state, row) for state, row in zip(states, rows, strict=True)]
        items = pa.Table.from_pylist(cells, ITEMS_IN)
        texts = item_texts(items)
        items = items.append_column(ITEMS.field("text_hash"), text_hashes(texts)).cast(ITEMS)
        is_same_S = _has_text_of(release, items, rows_S)
        vectors_SD = np.zeros((len(rows), release.item_vectors_ID.shape[1]), np.float32)
        vectors_SD[is_same_S] = release.item_vectors_ID[rows_S[is_same_S]]
        new = [at for at in np.flatnonzero(~is_same_S).tolist() if texts[at]]
        if new:
            vectors_SD[new] = encode([texts[at] for at in new])
        return cls(
            release=release,
            items=items,
            release_rows_S=rows_S,
            item_vectors_SD=vectors_SD,
            user_space_vectors_Sd=np.asarray(user_model.embed_items(items, vectors_SD), np.float32),
            attributes=_attributes(release, states, rows_S, decimal),
        )

    @property
    def is_new_S(self) -> Mask:
        """Which items the release does not have."""
        return self.release_rows_S < 0

    @cached_property
    def lexical(self) -> SegmentedIndex:
        """Of the release and the segment."""
        return SegmentedIndex(self.release.lexical, searchable_fields(self.items), FIELD_BOOSTS)

    @cached_property
    def codes(self) -> CodeIndex:
        return CodeIndex.of_items(self.items)

    @cached_property
    def suggestions(self) -> Suggestions:
        file = pa.ipc.open_file(build_suggestion_file(self.items, QUERIES.empty_table()))
        return Suggestions(file.get_batch(0), file.get_batch(1))


def needs_row(state: ItemState, release: Release, decimal: str | None = None) -> bool:
    """Whether the item is to be indexed anew: it is new, or more than its values differ from the
    release's."""
    if state.deleted:
        return False
    if (row := release.item_ids.row(state.item_id)) is None:
        return state.whole
    changed = state.changed_since(release.manifest.changes)
    if changed.keys() <= set(VALUES):
        return False
    own, nightly = _cells(release, state, row), release.items.slice(row, 1).to_pylist()[0]
    if any((own[name] or None) != (nightly.get(name) or None) for name in _INDEXED):
        return True
    if CARRIED not in changed or not release.attributes.attributes:
        return False
    typed = _attributes(release, [state], np.array([-1]), decimal)
    return typed.values(0) != release.attributes.values(row)


def _cells(release: Release, state: ItemState, row: int | None) -> Mapping[str, Any]:
    """The item's row of `tables.ITEMS_IN`."""
    cells: dict[str, Any] = {}
    changed = state.values()
    if row is not None:
        cells = release.items.slice(row, 1).to_pylist()[0]
        changed = state.changed_since(release.manifest.changes)
    cells |= {name: value for name, value in changed.items() if name != CARRIED}
    if isinstance(cells.get("added"), str):
        cells["added"] = datetime.fromisoformat(cells["added"])
    cells |= {"item_id": state.item_id, "hidden": bool(cells.get("hidden"))}
    cells["in_stock"] = cells.get("in_stock") is not False
    return {name: cells.get(name) for name in ITEMS_IN.names}


def _has_text_of(release: Release, items: pa.Table, rows_S: Ints) -> Any:
    """[S]: which items have the text that the release encoded."""
    hashes = items["text_hash"].to_pylist()
    own = [
        row >= 0 and release.items["text_hash"][row].as_py() == text_hash
        for row, text_hash in zip(rows_S.tolist(), hashes, strict=True)
    ]
    return np.array(own, bool)


def _attributes(
    release: Release, states: Sequence[ItemState], rows_S: Ints, decimal: str | None
) -> AttributeColumns:
    """The attributes of the release, of each item as its pairs say; of an item whose pairs did not
    change, as the release has them."""
    attributes, size = release.attributes.attributes, len(states)
    if not attributes:
        return AttributeColumns.none(size)
    pairs = [
        [{"name": name, "value": value} for name, value in state.values().get(CARRIED) or ()]
        for state in states
    ]
    typed = typed_columns(pa.chunked_array([pa.array(pairs, PAIRS)]), attributes, decimal=decimal)
    changed = np.array(
        [CARRIED in state.changed_since(release.manifest.changes) for state in states]
    )
    is_nightly_S = ~changed & (rows_S >= 0)
    columns = [
        _merged(attribute, release.attributes.column(attribute), column, rows_S, is_nightly_S)
        for attribute, column in zip(attributes, typed.table.columns, strict=True)
    ]
    fields = [
        pa.field(attribute.name, column.type, metadata={DECLARATION: attribute.to_json()})
        for attribute, column in zip(attributes, columns, strict=True)
    ]
    return AttributeColumns(pa.table(columns, schema=pa.schema(fields)), size)


def _merged(
    attribute: Attribute,
    nightly: pa.ChunkedArray,
    own: pa.ChunkedArray,
    rows_S: Ints,
    is_nightly_S: Any,
) -> pa.Array:
    """The release's cells where they are kept, else those of today; numbers as lists where either
    has lists."""
    cells, type = own.to_pylist(), own.type
    for at in np.flatnonzero(is_nightly_S).tolist():
        cells[at] = nightly[int(rows_S[at])].as_py()
    if attribute.kind == "number":
        lists = any(isinstance(cell, list) for cell in cells)
        type = pa.list_(pa.float64()) if lists else pa.float64()
        cells = [_as_list(cell) if lists else cell for cell in cells]
        cells = cells if lists else [np.nan if cell is None else cell for cell in cells]
    if pa.types.is_dictionary(type):
        return pa.array([cell or "" for cell in cells], pa.string()).dictionary_encode()
    return pa.array(cells, type)


def _as_list(cell: Any) -> list[float]:
    if isinstance(cell, list):
        return cell
    return [] if cell is None or cell != cell else [cell]
