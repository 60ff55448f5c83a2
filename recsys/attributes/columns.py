"""Typed columns of attributes over a whole catalogue, as a release keeps them.

A column of labels is a dictionary of texts, in which the values of an item that has several stand
`values.BETWEEN` each other; numbers are float64, NaN for none, or lists of them where an item has
several; booleans may be null. Each field's metadata is its declaration."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from recsys.attributes.declaration import RESERVED, Attribute, Kind, fold_name
from recsys.attributes.units import base_of, convert
from recsys.attributes.values import (
    BETWEEN,
    clean_value,
    parse_boolean,
    parse_quantity,
    split_values,
)
from recsys.errors import InputError
from recsys.types import Ints, Mask

#: Metadata of a field: the declaration as JSON.
DECLARATION = b"attribute"
#: An undeclared attribute is a number or a boolean where so many of its values are.
INFERRED_SHARE = 0.95
#: Of undeclared attributes the most frequent, on so many items at least.
MAX_INFERRED, MIN_INFERRED_ITEMS = 100, 2
#: Of these the first so many have facets, but for a text with more values than that.
MAX_INFERRED_FACETS, MAX_INFERRED_VALUES = 20, 1_000


@dataclass(frozen=True)
class Unreadable:
    """A value that an attribute cannot have: so many items have it, and stay without it."""

    attribute: Attribute
    value: str
    items: int

    @property
    def reason(self) -> str:
        """`width is '5 kg': give a number in cm, or in a unit that converts into it`."""
        rule = "give yes or no"
        if self.attribute.kind == "number":
            unit = self.attribute.unit
            rule = f"give a number in {unit}, or a unit that converts into it"
            rule = rule if unit else "give one number"
        value = self.value if len(self.value) <= 100 else f"{self.value[:100]}..."
        name = re.sub(r"\W+", "_", self.attribute.name)
        return f"{name} is {value!r}: {rule}"


@dataclass(frozen=True)
class TypedColumns:
    """The columns, one row an item; and what could not be read, of each attribute the most
    frequent first."""

    table: pa.Table
    unreadable: list[Unreadable]


@dataclass(frozen=True)
class _Entries:
    """The values of one attribute: entry e is of item `owners_E[e]`, ascending, and has the text
    `texts_T[codes_E[e]]`."""

    owners_E: Ints
    codes_E: Ints
    texts_T: list[str]

    @property
    def counts_T(self) -> Ints:
        return np.bincount(self.codes_E, minlength=len(self.texts_T))


def typed_columns(
    pairs_I: pa.ChunkedArray,
    attributes: Sequence[Attribute],
    infer: bool = False,
    decimal: str | None = None,
) -> TypedColumns:
    """Of `cells.PAIRS`, one an item: the declared attributes, and with `infer` those that many
    items have besides. A value is read once, however many items have it."""
    items, entries = len(pairs_I), _by_key(pairs_I)
    declared_keys = {key for attribute in attributes for key in attribute.keys}
    declared = [(each, _merged(entries, each)) for each in attributes]
    if infer:
        others = {key: each for key, each in entries.items() if key not in declared_keys}
        declared += _inferred(others, decimal)
    fields, arrays, unreadable = list[pa.Field](), list[pa.Array](), list[Unreadable]()
    for attribute, each in declared:
        attribute, array, bad = _column(attribute, each, items, decimal)
        metadata = {DECLARATION: attribute.to_json()}
        fields.append(pa.field(attribute.name, array.type, metadata=metadata))
        arrays.append(array)
        unreadable += bad
    return TypedColumns(pa.table(arrays, schema=pa.schema(fields)), unreadable)


def _by_key(pairs_I: pa.ChunkedArray) -> dict[str, tuple[str, _Entries]]:
    """The values of each name, folded; and its most frequent spelling."""
    pairs = pairs_I.combine_chunks()
    owners_E = np.asarray(pc.list_parent_indices(pairs)).astype(np.int64)
    flat = pc.list_flatten(pairs)
    names, values = (pc.struct_field(flat, name).dictionary_encode() for name in ("name", "value"))
    spellings, texts = names.dictionary.to_pylist(), values.dictionary.to_pylist()
    spelling_E, value_E = np.asarray(names.indices), np.asarray(values.indices)
    counts = np.bincount(spelling_E, minlength=len(spellings))
    keys: dict[str, list[int]] = {}
    for at, spelling in enumerate(spellings):
        keys.setdefault(fold_name(spelling), []).append(at)
    order = np.argsort(spelling_E, kind="stable")
    ends = np.cumsum(counts)
    by_key = {}
    for key, spelled in keys.items():
        places = np.concatenate([order[ends[at] - counts[at] : ends[at]] for at in spelled])
        places.sort()
        used, codes_E = np.unique(value_E[places], return_inverse=True)
        entries = _Entries(owners_E[places], codes_E, [texts[at] for at in used])
        by_key[key] = (spellings[max(spelled, key=lambda at: counts[at])], entries)
    return by_key


def _merged(entries: Mapping[str, tuple[str, _Entries]], attribute: Attribute) -> _Entries:
    """The entries under all names of an attribute."""
    parts = [entries[key][1] for key in sorted(attribute.keys) if key in entries]
    if not parts:
        return _Entries(np.empty(0, np.int64), np.empty(0, np.int64), [])
    if len(parts) == 1:
        return parts[0]
    texts = [text for part in parts for text in part.texts_T]
    starts = np.cumsum([0, *(len(part.texts_T) for part in parts)])
    owners = np.concatenate([part.owners_E for part in parts])
    codes = np.concatenate([part.codes_E + at for part, at in zip(parts, starts, strict=False)])
    order = np.argsort(owners, kind="stable")
    return _Entries(owners[order], codes[order], texts)


def _inferred(
    entries: Mapping[str, tuple[str, _Entries]], decimal: str | None
) -> list[tuple[Attribute, _Entries]]:
    """Attributes that nobody declared, the most frequent ones, with the kind of their values."""
    frequent = sorted(
        (
            (-len(np.unique(each.owners_E)), name, each)
            for name, each in entries.values()
            if name.casefold() not in RESERVED
        ),
        key=lambda entry: entry[:2],
    )
    inferred = list[tuple[Attribute, _Entries]]()
    for items, name, each in frequent[:MAX_INFERRED]:
        if -items < MIN_INFERRED_ITEMS:
            break
        try:
            attribute = Attribute(name, _kind(each, decimal))
        except InputError:  # a name that no filter could have
            continue
        few = attribute.kind != "text" or len(each.texts_T) <= MAX_INFERRED_VALUES
        facet = few and len(inferred) < MAX_INFERRED_FACETS
        inferred.append((replace(attribute, facet=facet), each))
    return inferred


def _kind(entries: _Entries, decimal: str | None) -> Kind:
    counts_T, needed = entries.counts_T, INFERRED_SHARE * len(entries.codes_E)
    words = [parse_boolean(text) for text in entries.texts_T]
    if len(entries.texts_T) > 1 and all(word is not None for word in words):
        digits = all(text.strip() in "01" for text in entries.texts_T)
        return "number" if digits else "boolean"
    quantities = [parse_quantity(text, decimal) for text in entries.texts_T]
    bases: Counter[str] = Counter()
    for quantity, count in zip(quantities, counts_T.tolist(), strict=True):
        if quantity:
            bases[base_of(quantity[1]) or "" if quantity[1] else ""] += count
    plain = bases.pop("", 0)
    numbers = plain + max(bases.values(), default=0)
    return "number" if numbers >= needed else "text"


def _column(
    attribute: Attribute, entries: _Entries, items: int, decimal: str | None
) -> tuple[Attribute, pa.Array, list[Unreadable]]:
    if attribute.kind == "number":
        return _number_column(attribute, entries, items, decimal)
    if attribute.kind == "boolean":
        flags = [parse_boolean(text) for text in entries.texts_T]
        flag_I = np.full(items, -1, np.int8)
        flag_T = np.array([-1 if flag is None else flag for flag in flags], np.int8)
        readable_E = flag_T[entries.codes_E] >= 0
        owners = entries.owners_E[readable_E][::-1]  # the first value of an item counts
        flag_I[owners] = flag_T[entries.codes_E][readable_E][::-1]
        array = pa.array(flag_I == 1, mask=flag_I < 0)
        return attribute, array, _unreadable(attribute, entries, flag_T < 0)
    return attribute, _label_column(attribute, entries, items), []


def _label_column(attribute: Attribute, entries: _Entries, items: int) -> pa.Array:
    if attribute.kind == "list":
        values_T = [
            [
                clean_value(value, attribute.levels)
                for value in split_values(text, attribute.separator)
            ]
            for text in entries.texts_T
        ]
    else:
        values_T = [[clean_value(text, attribute.levels)] for text in entries.texts_T]
    labels_T = pa.array([BETWEEN.join(filter(None, values)) for values in values_T], pa.string())
    label_E = labels_T.take(pa.array(entries.codes_E))
    some_E = np.asarray(pc.not_equal(label_E, ""))
    offsets = np.searchsorted(entries.owners_E[some_E], np.arange(items + 1)).astype(np.int32)
    lists = pa.ListArray.from_arrays(pa.array(offsets), label_E.filter(pa.array(some_E)))
    return pc.binary_join(lists, BETWEEN).dictionary_encode()


def _label(attribute: Attribute, text: str) -> str:
    """The values in a text, BETWEEN each other."""
    lists = attribute.kind == "list"
    values = split_values(text, attribute.separator) if lists else [text]
    return BETWEEN.join(filter(None, (clean_value(each, attribute.levels) for each in values)))


def _number_column(
    attribute: Attribute, entries: _Entries, items: int, decimal: str | None
) -> tuple[Attribute, pa.Array, list[Unreadable]]:
    quantities = [parse_quantity(text, decimal) for text in entries.texts_T]
    units: Counter[str] = Counter()
    for quantity, count in zip(quantities, entries.counts_T.tolist(), strict=True):
        if quantity and quantity[1]:
            units[quantity[1]] += count
    unit = attribute.unit or min(units, key=lambda each: (-units[each], each), default="")
    attribute = replace(attribute, unit=unit or None)
    converted = [
        convert(*quantity, to=unit) if quantity is not None else None for quantity in quantities
    ]
    number_T = np.array([np.nan if each is None else each for each in converted], np.float64)
    array = _number_array(entries.owners_E, number_T[entries.codes_E], items)
    return attribute, array, _unreadable(attribute, entries, np.isnan(number_T))


def _number_array(owners_E: Ints, numbers_E: NDArray[np.float64], items: int) -> pa.Array:
    """Float64, or lists of them where an item has several different ones."""
    readable_E = ~np.isnan(numbers_E)
    owners_E, numbers_E = owners_E[readable_E], numbers_E[readable_E]
    order = np.lexsort((numbers_E, owners_E))
    owners_E, numbers_E = owners_E[order], numbers_E[order]
    first_E = np.append(True, (np.diff(owners_E) != 0) | (np.diff(numbers_E) != 0))
    owners_E, numbers_E = owners_E[first_E[: len(owners_E)]], numbers_E[first_E[: len(owners_E)]]
    if len(np.unique(owners_E)) == len(owners_E):
        number_I = np.full(items, np.nan)
        number_I[owners_E] = numbers_E
        return pa.array(number_I)
    offsets = np.searchsorted(owners_E, np.arange(items + 1)).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(numbers_E))


def _unreadable(attribute: Attribute, entries: _Entries, bad_T: Mask) -> list[Unreadable]:
    counts_T = entries.counts_T
    bad = [
        Unreadable(attribute, entries.texts_T[at], int(counts_T[at]))
        for at in np.flatnonzero(bad_T)
    ]
    return sorted(bad, key=lambda each: (-each.items, each.value))
