"""The changes of the day over the rows of the shop's files, as a night takes them in.

A change wins over an older row and loses to a newer one, field by field: docs/live-catalogue.md
has the rule."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys.attributes.cells import CARRIED
from recsys.catalogue.changes import ItemState
from recsys.datasets.row_sources import ROW_SOURCE, STATED, UPDATED

#: An item that was put is in stock and not hidden where the put says nothing of it.
_WITHOUT_VALUE: dict[str, Any] = {"in_stock": True, "hidden": False, CARRIED: []}


@dataclass(frozen=True)
class FoldedItems:
    """The items, sorted by id; how many of them were `changed`, `added` and `withdrawn`, and of how
    many a newer file says something else than a change, which is `outdated`."""

    items: pa.Table
    counts: dict[str, int]


@dataclass
class _Values:
    """Values of one field for rows of the table."""

    rows: list[int] = field(default_factory=list)
    values: list[Any] = field(default_factory=list)

    def add(self, row: int, value: Any) -> None:
        self.rows.append(row)
        self.values.append(value)


@dataclass
class _Verdicts:
    """Rows whose deletion wins and loses against the file, and values of fields that do."""

    withdrawn: set[int] = field(default_factory=set)
    brought_back: set[int] = field(default_factory=set)
    newer: dict[str, _Values] = field(default_factory=lambda: defaultdict(_Values))
    older: dict[str, _Values] = field(default_factory=lambda: defaultdict(_Values))


def state_as_of(state: ItemState, number: int) -> ItemState | None:
    """What is left of a state without the changes after `number`; None for nothing. What a field
    had before a later change is not in the log."""
    if state.number <= number:
        return state
    fields = {name: each for name, each in state.fields.items() if each.number <= number}
    return replace(state, fields=fields) if fields else None


def fold_states(items: pa.Table, states: Sequence[ItemState]) -> FoldedItems:
    """`items` have the columns of `tables.ITEMS_IN` and `row_sources.ROW_SOURCE`, and CARRIED where
    the shop has attributes; of the states there is one an item. The result is without
    ROW_SOURCE."""
    places = pc.index_in(_ids(states), value_set=items["item_id"].combine_chunks())
    rows = pc.fill_null(places, -1).to_pylist()
    new = [state for state, row in zip(states, rows, strict=True) if row < 0 and state.whole]
    folded = items.drop_columns(ROW_SOURCE.names)
    of_rows = _judge(
        items, [(row, state) for row, state in zip(rows, states, strict=True) if row >= 0]
    )
    changed, outdated = (
        set[int]().union(*(_differing(folded[name], values) for name, values in each.items()))
        for each in (of_rows.newer, of_rows.older)
    )
    for name, values in of_rows.newer.items():
        folded = _overlaid(folded, name, values)
    stays = np.ones(items.num_rows, bool)
    stays[list(of_rows.withdrawn)] = False
    folded = pa.concat_tables([folded.filter(pa.array(stays)), _rows_of(new, folded.schema)])
    counts = {
        "changed": len(changed),
        "added": len(new),
        "withdrawn": len(of_rows.withdrawn),
        "outdated": len(outdated | of_rows.brought_back),
    }
    return FoldedItems(_with_higher_list_price(folded.sort_by("item_id")), counts)


def _judge(items: pa.Table, states: Sequence[tuple[int, ItemState]]) -> _Verdicts:
    """States and the rows of their items."""
    verdicts = _Verdicts()
    sources = _row_sources(items, [row for row, _ in states])
    for (row, state), (updated, stated) in zip(states, sources, strict=True):
        if state.deleted:
            is_older = updated is not None and updated >= state.time
            (verdicts.brought_back if is_older else verdicts.withdrawn).add(row)
        for name, change in state.fields.items():
            if name not in items.column_names:
                continue
            is_older = updated is not None and updated >= change.time and name in stated
            side = verdicts.older if is_older else verdicts.newer
            side[name].add(row, change.value)
    return verdicts


def _ids(states: Iterable[ItemState]) -> pa.Array:
    return pa.array([state.item_id for state in states], pa.string())


def _row_sources(
    items: pa.Table, rows: Sequence[int]
) -> Iterator[tuple[datetime | None, frozenset[str]]]:
    """When each of these rows was updated, and the fields that its file has."""
    chosen = items.select(ROW_SOURCE.names).take(pa.array(rows, pa.int64()))
    texts = chosen[STATED].cast(pa.string()).to_pylist()
    fields = {text: frozenset((text or "").split()) for text in set(texts)}
    return zip(chosen[UPDATED].to_pylist(), (fields[text] for text in texts), strict=True)


def _typed(values: Sequence[Any], type: pa.DataType) -> pa.Array:
    """Values as JSON has them as a column."""
    if pa.types.is_timestamp(type):
        values = [value and datetime.fromisoformat(value) for value in values]
    if pa.types.is_list(type):
        values = [
            pairs and [{"name": name, "value": value} for name, value in pairs] for pairs in values
        ]
    return pa.array(values, type)


def _differing(column: pa.ChunkedArray, others: _Values) -> set[int]:
    """The rows where the column has another value."""
    own = column.take(pa.array(others.rows, pa.int64())).to_pylist()
    values = _typed(others.values, column.type).to_pylist()
    return {row for row, mine, other in zip(others.rows, own, values, strict=True) if mine != other}


def _overlaid(table: pa.Table, name: str, values: _Values) -> pa.Table:
    column, place = table[name], table.schema.get_field_index(name)
    places = np.arange(len(column))
    places[values.rows] = len(column) + np.arange(len(values.rows))
    chunks = [*column.chunks, _typed(values.values, column.type)]
    return table.set_column(
        place, table.field(place), pa.chunked_array(chunks, column.type).take(pa.array(places))
    )


def _rows_of(states: Sequence[ItemState], schema: pa.Schema) -> pa.Table:
    columns = {"item_id": _ids(states)}
    for field_ in schema:
        if field_.name in columns:
            continue
        default = _WITHOUT_VALUE.get(field_.name)
        values = [state.values().get(field_.name) for state in states]
        values = [default if value is None else value for value in values]
        columns[field_.name] = _typed(values, field_.type)
    return pa.table(columns, schema=schema)


def _with_higher_list_price(items: pa.Table) -> pa.Table:
    """Price and list price may come from two sources: that of before a reduction is the higher."""
    is_higher = pc.fill_null(pc.greater(items["list_price"], items["price"]), False)
    prices = pc.if_else(is_higher, items["list_price"], pa.scalar(None, pa.float64()))
    place = items.schema.get_field_index("list_price")
    return items.set_column(place, items.field(place), prices)
