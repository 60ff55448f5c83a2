"""Attributes of a raw chunk of a catalogue: from columns of their own, and from the pairs in its
column `attributes`, whatever form those have."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from recsys.attributes.declaration import Attribute, fold_name
from recsys.attributes.values import parse_boolean
from recsys.errors import InputError
from recsys.types import Ints, Mask

#: What rows of a chunk say of their attributes, in the shop's own words; a name may come twice.
PAIRS = pa.list_(pa.struct([("name", pa.string()), ("value", pa.string())]))
COLUMN = "attributes"
#: Where valid items carry PAIRS until their columns are typed.
CARRIED = "_attributes"
#: Words for no value.
_MISSING = ("", "nan", "null", "n/a")
_NAME_KEYS = ("name", "key", "label", "attribute", "attribute_name", "k")
_VALUE_KEYS = ("value", "values", "options", "option", "attribute_value", "v")
#: One pair of a text; a piece without a colon or "=" is text alone.
_PAIR = r"(?s)^\s*(?P<name>[^:=]{1,64}?)\s*[:=]\s*(?P<value>.*?)\s*$"
_NEXT_PAIR = r"[,|]\s*(\pL[^=:;\n|,]{0,63}[:=])"
_SPLIT = "\x1e"


@dataclass(frozen=True)
class Pairs:
    """E pairs of rows `owners_E`, ascending; a name of "" is text that is no pair."""

    owners_E: Ints
    names_E: pa.Array
    values_E: pa.Array

    @classmethod
    def of(cls, parts: Sequence[tuple[Ints, pa.Array, pa.Array]]) -> Pairs:
        """The pairs of all parts by row, without missing values."""
        owners = np.concatenate([np.empty(0, np.int64), *(part[0] for part in parts)])
        names, values = (
            pa.concat_arrays([pa.array([], pa.string()), *(part[at] for part in parts)])
            for at in (1, 2)
        )
        values = pc.utf8_trim_whitespace(values)
        missing = pc.is_in(pc.utf8_lower(values), value_set=pa.array(_MISSING))
        places = np.flatnonzero(~np.asarray(pc.or_(missing, pc.is_null(values))))
        places = places[np.argsort(owners[places], kind="stable")]
        return cls(owners[places], names.take(pa.array(places)), values.take(pa.array(places)))

    def by_row(self, rows: int) -> pa.ListArray:
        """PAIRS, one list a row."""
        pairs = np.flatnonzero(np.asarray(pc.not_equal(self.names_E, "")))
        offsets = _offsets(self.owners_E[pairs], rows)
        names, values = (each.take(pa.array(pairs)) for each in (self.names_E, self.values_E))
        structs = pa.StructArray.from_arrays([names, values], ["name", "value"])
        return pa.ListArray.from_arrays(offsets, structs)


def read_attributes(
    raw: pa.Table, attributes: Sequence[Attribute], infer: bool = False
) -> tuple[pa.Table, pa.ListArray | None]:
    """The table with its attributes as one searchable text, and PAIRS; where none are declared or
    to be inferred, a column of texts stays as it is, and there are no PAIRS.

    Raises InputError where the table lacks a column that a declaration names."""
    column = raw[COLUMN] if raw.column_names.count(COLUMN) == 1 else None
    plain = column is None or not pa.types.is_nested(column.type)
    if not attributes and not infer and plain:
        return raw, None
    parts = [
        (owners, pa.array([attribute.name] * len(owners), pa.string()), values)
        for attribute, name in _own_columns(raw, attributes)
        for owners, values in [_values(_only_column(raw, name))]
    ]
    if column is not None:
        try:
            parts += list(_pairs_of_column(column.combine_chunks()))
        except (ValueError, OverflowError, pa.ArrowException):  # times beyond Python's, or worse
            return raw, Pairs.of(parts).by_row(raw.num_rows) if attributes or infer else None
    pairs = Pairs.of(parts)
    texts = _searchable_texts(pairs, attributes, raw.num_rows)
    if raw.column_names.count(COLUMN) < 2:  # of two, validation refuses the table
        raw = raw.drop_columns([COLUMN] * (column is not None)).append_column(COLUMN, texts)
    return raw, pairs.by_row(raw.num_rows) if attributes or infer else None


def _own_columns(raw: pa.Table, attributes: Sequence[Attribute]) -> Iterator[tuple[Attribute, str]]:
    """The declared attributes that have a column, and its name there."""
    columns = {fold_name(name): name for name in reversed(raw.column_names) if name != COLUMN}
    for attribute in attributes:
        if attribute.column is not None:
            if attribute.column not in raw.column_names and COLUMN not in raw.column_names:
                raise InputError(
                    f"attribute {attribute.name} is to be read from the column "
                    f"{attribute.column!r}, but the items have only "
                    f"{', '.join(raw.column_names)}: name one of them, and name it in the "
                    "adapter's attribute_columns"
                )
            if attribute.column in raw.column_names:
                yield attribute, attribute.column
        elif fold_name(attribute.name) in columns:
            yield attribute, columns[fold_name(attribute.name)]


def _only_column(raw: pa.Table, name: str) -> pa.Array:
    if raw.column_names.count(name) > 1:
        raise InputError(f"the items have the column {name!r} twice: leave one")
    return raw[name].combine_chunks()


def _searchable_texts(pairs: Pairs, attributes: Sequence[Attribute], rows: int) -> pa.Array:
    """One text a row: values; of a number its name too, of a boolean its name where it is true;
    of what is not declared name and value."""
    by_key = {key: attribute for attribute in attributes for key in attribute.keys}
    names = pairs.names_E.dictionary_encode()
    declared = [by_key.get(fold_name(name)) for name in names.dictionary.to_pylist()]
    codes_E = np.asarray(names.indices)
    prefixes = [
        _prefix(name, attribute)
        for name, attribute in zip(names.dictionary.to_pylist(), declared, strict=True)
    ]
    hidden = np.array([each is not None and not each.searchable for each in declared], np.bool_)
    flags = np.array([each is not None and each.kind == "boolean" for each in declared], np.bool_)
    texts = pc.binary_join_element_wise(
        pa.array(prefixes, pa.string()).take(names.indices), pairs.values_E, ""
    )
    visible_E = ~hidden[codes_E]
    if flags.any():
        flag_E = flags[codes_E]
        visible_E &= ~flag_E | _is_true(pairs.values_E)
        texts = pc.if_else(pa.array(flag_E), pairs.names_E, texts)
    places = np.flatnonzero(visible_E)
    offsets = _offsets(pairs.owners_E[places], rows)
    joined = pc.binary_join(pa.ListArray.from_arrays(offsets, texts.take(pa.array(places))), "; ")
    return pc.if_else(pc.equal(joined, ""), pa.scalar(None, pa.string()), joined)


def _prefix(name: str, attribute: Attribute | None) -> str:
    if attribute is None:
        return f"{name}: " if name else ""
    return f"{attribute.name} " if attribute.kind == "number" else ""


def _is_true(values: pa.Array) -> Mask:
    coded = values.dictionary_encode()
    true = [parse_boolean(text) is True for text in coded.dictionary.to_pylist()]
    return np.array(true, np.bool_)[np.asarray(coded.indices)]


def _offsets(owners_E: Ints, rows: int) -> pa.Array:
    return pa.array(np.searchsorted(owners_E, np.arange(rows + 1)).astype(np.int32))


# Columns of any type


def _is_text(type: pa.DataType) -> bool:
    if pa.types.is_dictionary(type):
        return _is_text(type.value_type)
    tests = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
    return pa.types.is_null(type) or any(is_of_type(type) for is_of_type in tests)


def _is_bytes(type: pa.DataType) -> bool:
    return pa.types.is_binary(type) or pa.types.is_large_binary(type)


def _is_list(type: pa.DataType) -> bool:
    return pa.types.is_list(type) or pa.types.is_large_list(type)


def _is_plain(type: pa.DataType) -> bool:
    return not pa.types.is_nested(type)


def _values(column: pa.Array) -> tuple[Ints, pa.Array]:
    """Rows and values as texts; a list has several, nested ones are read as JSON."""
    if _is_list(column.type) and _is_plain(column.type.value_type):
        owners = np.asarray(pc.list_parent_indices(column)).astype(np.int64)
        return owners, _texts(pc.list_flatten(column))
    if _is_plain(column.type):
        return np.arange(len(column)), _texts(column)
    entries = [
        (row, text) for row, cell in enumerate(column.to_pylist()) for _, text in walk_pairs(cell)
    ]
    rows, texts = zip(*entries, strict=True) if entries else ((), ())
    return np.array(rows, np.int64), pa.array(texts, pa.string())


def _texts(column: pa.Array) -> pa.Array:
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if not _is_text(column.type) and not _is_bytes(column.type):
        return column.cast(pa.string())
    try:  # through bytes: readers of Parquet and CSV do not check that strings are UTF-8
        return column.cast(pa.binary()).cast(pa.string())
    except pa.ArrowInvalid:
        cells = column.cast(pa.binary()).to_pylist()
        return pa.array([cell and cell.decode("utf-8", "replace") for cell in cells], pa.string())


def _pairs_of_column(column: pa.Array) -> Iterator[tuple[Ints, pa.Array, pa.Array]]:
    """Of a column of structs, maps, lists or texts."""
    if pa.types.is_struct(column.type) and all(
        _is_plain(child.type) or (_is_list(child.type) and _is_plain(child.type.value_type))
        for child in column.type
    ):
        for name, child in zip((f.name for f in column.type), column.flatten(), strict=True):
            owners, values = _values(child)
            yield owners, pa.array([name] * len(owners), pa.string()), values
    elif pa.types.is_map(column.type) and _is_plain(column.type.item_type):
        # Not pc.list_flatten: it aborts on maps (pyarrow 24).
        offsets = np.asarray(column.offsets)
        owners = np.repeat(np.arange(len(column)), np.diff(offsets))
        names, values = (each[offsets[0] : offsets[-1]] for each in (column.keys, column.items))
        yield owners, _texts(names), _texts(values)
    elif not pa.types.is_nested(column.type):
        yield from _pairs_of_texts(_texts(column))
    else:
        yield _walked(enumerate(column.to_pylist()))


def _pairs_of_texts(texts: pa.Array) -> Iterator[tuple[Ints, pa.Array, pa.Array]]:
    """JSON objects and lists; pairs as `name: value; name: value` or `name=value,name=value`."""
    is_json = np.asarray(pc.fill_null(pc.match_substring_regex(texts, r"^\s*[\[{]"), False))
    rows = np.flatnonzero(is_json)
    if len(rows):
        cells = map(_json, texts.take(pa.array(rows)).to_pylist())
        yield _walked(zip(rows.tolist(), cells, strict=True))
    rows = np.flatnonzero(~is_json & np.asarray(pc.is_valid(texts)))
    others = texts.take(pa.array(rows))
    # A comma or | may stand in a value: it parts pairs where a name and a colon follow.
    others = pc.replace_substring_regex(others, _NEXT_PAIR, _SPLIT + r"\1")
    others = pc.replace_substring_regex(others, r"[;\n]", _SPLIT)
    pieces = pc.split_pattern(others, _SPLIT)
    owners = rows[np.asarray(pc.list_parent_indices(pieces))]
    flat = pc.list_flatten(pieces)
    parsed = pc.extract_regex(flat, _PAIR)
    names = pc.fill_null(pc.struct_field(parsed, "name"), "")
    yield owners, names, pc.coalesce(pc.struct_field(parsed, "value"), flat)


def _json(text: str) -> Any:
    """The value; the text itself where it only looks like JSON."""
    try:
        return orjson.loads(text)
    except ValueError:
        return text


def _walked(cells: Any) -> tuple[Ints, pa.Array, pa.Array]:
    rows, names, values = list[int](), list[str](), list[str]()
    for row, cell in cells:
        for name, value in walk_pairs(cell):
            rows.append(row)
            names.append(name)
            values.append(value)
    return np.array(rows, np.int64), pa.array(names, pa.string()), pa.array(values, pa.string())


def walk_pairs(cell: Any) -> Iterator[tuple[str, str]]:
    """Names and values in what JSON has for the attributes of an item, in whatever form."""
    return _walk("", cell)


def _walk(name: str, cell: Any) -> Iterator[tuple[str, str]]:
    """Pairs of what JSON holds: {"width": {"value": 60, "unit": "cm"}} is width 60 cm, and
    [{"name": "width", "value": "60 cm"}] too."""
    if isinstance(cell, Mapping):
        own_name, values = (_first(cell, keys) for keys in (_NAME_KEYS, _VALUE_KEYS))
        if values is not None and (own_name is not None or name):
            unit = cell.get("unit")
            for each in values if isinstance(values, list) else [values]:
                text = f"{each} {unit}" if isinstance(unit, str) and unit else each
                yield from _walk(name or str(own_name), text)
            return
        for key, value in cell.items():
            yield from _walk(f"{name}.{key}" if name else str(key), value)
    elif isinstance(cell, list | tuple | np.ndarray):
        for each in cell:
            yield from _walk(name, _own_pair(each) if not name else each)
    elif cell is not None:
        yield name, "true" if cell is True else "false" if cell is False else str(cell)


def _own_pair(cell: Any) -> Any:
    """A text `name: value` in a list, and a pair as Arrow writes out maps, as an object."""
    if isinstance(cell, tuple) and len(cell) == 2:
        return {str(cell[0]): cell[1]}
    if isinstance(cell, str) and ":" in cell:
        name, _, value = cell.partition(":")
        return {name.strip(): value}
    return cell


def _first(cell: Mapping[str, Any], keys: Sequence[str]) -> Any:
    return next((cell[key] for key in keys if cell.get(key) is not None), None)
