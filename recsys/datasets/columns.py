"""The columns of a shop's files by name: in any case, and inside nested ones by a dotted path."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys.datasets.casts import decode_layout
from recsys.errors import InputError

#: Ids that a table holds as numbers in many shops.
_NUMBER_IDS = ("item_id", "user_id", "group_id", "order_id", "gtin")


@dataclass(frozen=True)
class ColumnPath:
    """A column by its place, and the fields that lead to a value inside it."""

    place: int
    fields: tuple[str, ...] = ()


def resolve_columns(
    path: str,
    names: Sequence[str],
    *,
    canonical: Sequence[str],
    mapping: Mapping[str, str],
    required: Collection[str],
) -> dict[str, ColumnPath]:
    """Canonical name -> the column of `path` that holds it, for those that the file has. A name
    that is not mapped is its own.

    Raises InputError for a mapped or required column that is not there, and for two that it may
    be."""
    columns: dict[str, ColumnPath] = {}
    mapped = frozenset(mapping.values())
    for name in canonical:
        theirs = mapping.get(name, name)
        column = _find_column(path, names, theirs, frozenset() if name in mapping else mapped)
        if column is not None:
            columns[name] = column
        elif name in mapping or name in required:
            raise InputError(f"{path} {_missing_sentence(name, theirs, names)}")
    return columns


def has_column(path: str, names: Sequence[str], name: str) -> bool:
    """Whether the file has the column that a mapping names so."""
    return _find_column(path, names, name, frozenset()) is not None


def _missing_sentence(name: str, theirs: str, names: Sequence[str]) -> str:
    if not names:
        return "has no columns: write rows as objects, or under a line of names"
    if any(re.fullmatch(r"[-+]?\d+([.,]\d+)?", each) for each in names):
        return (
            f"has no column {theirs!r} for {name}: its first line, {', '.join(names)}, looks like "
            "a row, begin it with a line of names"
        )
    return f"has no column {theirs!r} for {name}: map one of {', '.join(names)}"


def _find_column(
    path: str, names: Sequence[str], name: str, rivals: frozenset[str]
) -> ColumnPath | None:
    """The column of this name, else the only one whose name differs in case, spaces or dashes, else
    a path into one. `rivals` are columns that hold something else."""
    exact = [place for place, each in enumerate(names) if each == name]
    folded = [
        place
        for place, each in enumerate(names)
        if _fold(each) == _fold(name) and each not in rivals
    ]
    places = exact or folded
    if len(places) > 1:
        titles = " and ".join(repr(names[place]) for place in places)
        raise InputError(
            f"{path} has two columns for {name!r}, {titles}: rename or remove one, or map the other"
            if folded != exact
            else f"{path} has the column {name!r} twice: rename or remove one"
        )
    if places:
        return ColumnPath(places[0])
    head, _, rest = name.rpartition(".")
    while head:
        if head in names:
            return ColumnPath(list(names).index(head), tuple(rest.split(".")))
        head, _, last = head.rpartition(".")
        rest = f"{last}.{rest}"
    return None


def _fold(name: str) -> str:
    return re.sub(r"[\s_-]+", "_", name.strip().casefold())


def extract_field(column: pa.ChunkedArray, fields: Sequence[str], path: str) -> pa.ChunkedArray:
    """The values inside: of structs, maps, and lists of them.

    Raises InputError for a field that is not there."""
    if not fields:
        return column
    array = column.combine_chunks()
    for field in fields:
        array = _field(array, field, path)
    return pa.chunked_array([array])


def _field(array: pa.Array, name: str, path: str) -> pa.Array:
    kind = array.type
    if pa.types.is_struct(kind):
        if kind.get_field_index(name) < 0:
            inside = ", ".join(field.name for field in kind) or "none"
            raise InputError(f"{path} has no field {name!r}: map one of {inside}")
        return pc.struct_field(array, name)
    if pa.types.is_map(kind):
        return pc.map_lookup(array, pa.scalar(name, kind.key_type), "first")
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        lengths = pc.list_value_length(array).cast(pa.int32())
        stops = np.concatenate([[0], np.cumsum(lengths.fill_null(0).to_numpy(False))])
        nulls = np.append(np.asarray(lengths.is_null()), False)
        offsets = pa.array(stops, pa.int32(), mask=nulls)
        return pa.ListArray.from_arrays(offsets, _field(array.flatten(), name, path))
    if pa.types.is_null(kind):
        return array
    raise InputError(f"{path}: {name!r} is inside a {kind}, which has no fields: map that itself")


def plain_column(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Without layouts that say the same values in another way; a float32 as the shortest decimal
    that it is nearest to: 19.99, not 19.989999771118164."""
    if isinstance(column.type, pa.BaseExtensionType):
        column = _plain_extension(column)
    column = decode_layout(column)
    if pa.types.is_float32(column.type):
        return column.cast(pa.string()).cast(pa.float64())
    return column.cast(pa.float64()) if pa.types.is_float16(column.type) else column


def _plain_extension(column: pa.ChunkedArray) -> pa.ChunkedArray:
    if column.type == pa.uuid():
        texts = [None if each is None else str(each) for each in column.to_pylist()]
        return pa.chunked_array([pa.array(texts, pa.string())])
    return pa.chunked_array([column.combine_chunks().storage])


def mend_float_ids(table: pa.Table) -> pa.Table:
    """Ids without the ".0" that pandas writes where one of a column of numbers is missing: only in
    a column whose ids all have it, so that two never become one."""
    for place, name in enumerate(table.column_names):
        column = table.column(place)
        if name not in _NUMBER_IDS or not pa.types.is_string(column.type):
            continue
        filled = column.filter(pc.greater(pc.binary_length(column), 0))
        # Most columns are told by their first rows.
        for ids in (filled.slice(0, 100), filled):
            if not len(ids) or not pc.all(pc.match_substring_regex(ids, r"^\d+\.0$")).as_py():
                break
        else:
            mended = pc.replace_substring_regex(column, r"\.0$", "")
            table = table.set_column(place, name, mended)
    return table
