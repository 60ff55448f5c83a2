"""A release's typed attributes by day: conditions of requests to masks, rows to values."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from recsys.attributes.columns import DECLARATION
from recsys.attributes.declaration import Attribute, fold_name
from recsys.attributes.units import convert
from recsys.attributes.values import BETWEEN, clean_value, parse_boolean, parse_quantity
from recsys.errors import FilterError
from recsys.release.labels import Labels
from recsys.types import AttributeFilter, AttributeValue, Ints, Mask, Quantity

#: Masks of recent conditions take at most so many bytes.
MASK_BYTES = 32 << 20
#: Attributes that the ranker compares with a user's history.
MAX_CODES = 8
_RANGE = re.compile(r"^(?P<low>.*?\d.*?)?\s?(?:-|–|\.\.)\s?(?P<high>-?[.,]?\d.*)?$")
#: Words of a value, of which "blue" is one in "navy blue" and "XL" none in "XXL".
_WORD = re.compile(r"\w+(?:[.,]\w+)*")
_COMPARE = {"gte": np.greater_equal, "lte": np.less_equal, "gt": np.greater, "lt": np.less}


@dataclass(frozen=True, kw_only=True)
class Condition:
    """What an item must have of one attribute: one of the labels or flags, or a number within one
    of the ranges and all `bounds` (operator and number)."""

    attribute: Attribute
    values: tuple[str, ...] = ()
    flags: tuple[bool, ...] = ()
    ranges: tuple[tuple[float, float], ...] = ()
    bounds: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True)
class Numbers:
    """Number v is of item `owners_V[v]`; without owners each item has its own, NaN for none."""

    values_V: NDArray[np.float64]
    owners_V: Ints | None = None

    def of(self, rows: Ints) -> tuple[NDArray[np.float64], Ints]:
        """The numbers of these items, and which of them has each."""
        if self.owners_V is None:
            values, owners = self.values_V[rows], np.arange(len(rows))
        else:
            starts = np.searchsorted(self.owners_V, rows)
            lengths = np.searchsorted(self.owners_V, rows, side="right") - starts
            owners = np.repeat(np.arange(len(rows)), lengths)
            steps = np.arange(len(owners)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
            values = self.values_V[np.repeat(starts, lengths) + steps]
        some = ~np.isnan(values)
        return values[some], owners[some]

    def followed_by(self, later: Numbers, items: int) -> Numbers:
        """With the numbers of more items behind these `items`."""
        if self.owners_V is later.owners_V is None:
            return Numbers(np.concatenate([self.values_V, later.values_V]))
        owners = [
            np.arange(len(each.values_V)) if each.owners_V is None else each.owners_V
            for each in (self, later)
        ]
        values = np.concatenate([self.values_V, later.values_V])
        return Numbers(values, np.concatenate([owners[0], owners[1] + items]))


class AttributeColumns:
    """The typed columns of I items. An attribute is found by its name in any case."""

    def __init__(self, table: pa.Table, items: int) -> None:
        self.items, self._table = items, table
        self.attributes = tuple(
            Attribute.from_json(field.metadata[DECLARATION]) for field in table.schema
        )
        self._by_name = {fold_name(each.name): each for each in self.attributes}
        self._columns: dict[str, Labels | Numbers | NDArray[np.int8]] = {}
        size = max(16, MASK_BYTES // max(1, items))
        self.mask = lru_cache(size)(self._mask)

    @classmethod
    def none(cls, items: int) -> AttributeColumns:
        return cls(pa.table({}), items)

    # Columns, read when they are first used

    def labels(self, attribute: Attribute) -> Labels:
        """Of a text or a list."""
        column = self._column(attribute)
        assert isinstance(column, Labels)
        return column

    def numbers(self, attribute: Attribute) -> Numbers:
        """Of a number."""
        column = self._column(attribute)
        assert isinstance(column, Numbers)
        return column

    def flags_I(self, attribute: Attribute) -> NDArray[np.int8]:
        """Of a boolean: 1, 0, or -1 for neither."""
        column = self._column(attribute)
        assert isinstance(column, np.ndarray)
        return column

    def _column(self, attribute: Attribute) -> Labels | Numbers | NDArray[np.int8]:
        name = attribute.name
        if name not in self._columns:
            self._columns[name] = _opened(attribute, self._table[name])
        return self._columns[name]

    def column(self, attribute: Attribute) -> pa.ChunkedArray:
        """The cells as the night typed them."""
        return self._table[attribute.name]

    def values(self, row: int) -> dict[str, AttributeValue]:
        """What the item has, by name; a number in a unit is a Quantity."""
        values: dict[str, AttributeValue] = {}
        for attribute, column in zip(self.attributes, self._table.columns, strict=True):
            value = _value(attribute, column[row].as_py())
            if value is not None:
                values[attribute.name] = value
        return values

    def codes(self) -> tuple[Ints, ...]:
        """[I] of each text, list and boolean that has a facet, at most MAX_CODES of them: equal
        where items have the same, -1 where they have none."""
        attributes = [each for each in self.attributes if each.facet and each.kind != "number"]
        return tuple(map(self._codes, attributes[:MAX_CODES]))

    def _codes(self, attribute: Attribute) -> Ints:
        if attribute.kind == "boolean":
            return self.flags_I(attribute)
        labels = self.labels(attribute)
        return np.where(labels.below([""])[labels.codes_I], -1, labels.codes_I)

    # Conditions

    def conditions(self, filters: Sequence[AttributeFilter]) -> list[Condition]:
        """One an attribute: of values that it repeats an item needs one, of bounds all.

        Raises FilterError for an attribute that is not filterable, or a value that it cannot
        have."""
        by_attribute: dict[str, list[AttributeFilter]] = {}
        for each in filters:
            by_attribute.setdefault(self._filterable(each).name, []).append(each)
        return [
            _condition(self._by_name[fold_name(name)], group)
            for name, group in by_attribute.items()
        ]

    def _filterable(self, condition: AttributeFilter) -> Attribute:
        attribute = self._by_name.get(fold_name(condition.name))
        if attribute is not None and attribute.filterable:
            return attribute
        names = [each.name for each in self.attributes if each.filterable]
        allowed = f"one of {', '.join(names)}" if names else "no attribute: this shop has none"
        field = f"filter[{condition.name[:100]}]"
        raise FilterError(
            f"{field} names no attribute to filter by: give {allowed}",
            field,
            condition.value,
            allowed,
        )

    def _mask(self, condition: Condition) -> Mask:
        """[I]: which items meet it. Read-only: it is kept for the next request."""
        attribute = condition.attribute
        if attribute.kind == "number":
            mask_I = self._numbers_mask(condition)
        elif attribute.kind == "boolean":
            mask_I = np.isin(self.flags_I(attribute), np.array(condition.flags, np.int8))
        else:
            labels = self.labels(attribute)
            mask_I = labels.below(condition.values)[labels.codes_I]
        mask_I.flags.writeable = False
        return mask_I

    def _numbers_mask(self, condition: Condition) -> Mask:
        numbers = self.numbers(condition.attribute)
        values_V = numbers.values_V
        meets_V = np.full(len(values_V), not condition.ranges)
        for low, high in condition.ranges:
            meets_V |= (values_V >= low) & (values_V <= high)
        for operator, bound in condition.bounds:
            meets_V &= _COMPARE[operator](values_V, bound)
        if numbers.owners_V is None:
            return meets_V & ~np.isnan(values_V)
        mask_I = np.zeros(self.items, bool)
        mask_I[numbers.owners_V[meets_V]] = True
        return mask_I

    # Variants

    @cached_property
    def variants(self) -> tuple[Attribute, ...]:
        """The attributes in which the variants of a product differ."""
        return tuple(
            each for each in self.attributes if each.variant and each.kind in ("text", "list")
        )

    @cached_property
    def named(self) -> dict[str, tuple[str, ...]]:
        """The values of texts and lists, by attribute: what a query may name."""
        return {
            each.name: self.labels(each).spellings_V
            for each in self.attributes
            if each.kind in ("text", "list") and (each.variant or (each.searchable and each.facet))
        }

    def other(self, named: AttributeFilter) -> Mask:
        """[I]: which items have another value than the named one. A value agrees where it has all
        words of the named one: "navy blue" is blue."""
        labels = self.labels(self._by_name[fold_name(named.name)])
        words = set(_words(named.value))
        agreeing = [each for each in labels.spellings_V if words <= set(_words(each))]
        other_L = ~labels.below(agreeing) & ~labels.below([""])
        return other_L[labels.codes_I]


class ExtendedColumns(AttributeColumns):
    """The columns of a release, and behind them those of the same attributes of more items."""

    def __init__(self, first: AttributeColumns, later: AttributeColumns) -> None:
        super().__init__(first._table, first.items + later.items)
        self.first, self.later = first, later

    def _column(self, attribute: Attribute) -> Labels | Numbers | NDArray[np.int8]:
        name = attribute.name
        if name not in self._columns:
            first, later = self.first._column(attribute), self.later._column(attribute)
            self._columns[name] = _followed(first, later, self.first.items)
        return self._columns[name]

    def values(self, row: int) -> dict[str, AttributeValue]:
        own = row < self.first.items
        return self.first.values(row) if own else self.later.values(row - self.first.items)


def _followed(first: Any, later: Any, items: int) -> Labels | Numbers | NDArray[np.int8]:
    if isinstance(first, Labels):
        return first.followed_by(later)
    if isinstance(first, Numbers):
        return first.followed_by(later, items)
    return np.concatenate([first, later])


def named_in(titles: pa.ChunkedArray, value: str) -> Mask:
    """[I]: which titles have all words of the value."""
    mask_I = np.ones(len(titles), bool)
    for word in _words(value):
        pattern = rf"(?:^|[^\pL\pN]){re.escape(word)}(?:$|[^\pL\pN])"
        has_word = pc.match_substring_regex(titles, pattern, ignore_case=True)
        mask_I &= np.asarray(pc.fill_null(has_word, False))
    return mask_I


def _words(text: str) -> Iterator[str]:
    return (match.group().casefold() for match in _WORD.finditer(text))


def _opened(attribute: Attribute, column: pa.ChunkedArray) -> Labels | Numbers | NDArray[np.int8]:
    if attribute.kind == "boolean":
        return np.asarray(column.cast(pa.int8()).fill_null(-1).to_numpy())
    if attribute.kind != "number":
        return Labels.of(column, nested=attribute.levels is not None, several=True)
    if not pa.types.is_list(column.type):
        return Numbers(np.asarray(column.to_numpy()))
    lists = column.combine_chunks()
    lengths = np.asarray(lists.value_lengths())
    return Numbers(np.asarray(lists.flatten()), np.repeat(np.arange(len(lists)), lengths))


def _value(attribute: Attribute, cell: Any) -> AttributeValue | None:
    if attribute.kind == "boolean" or cell is None:
        return cell
    if attribute.kind == "number":
        numbers = cell if isinstance(cell, list) else [cell]
        numbers = [number for number in numbers if number == number]
        if len(numbers) == 1 and attribute.unit:
            return Quantity(numbers[0], attribute.unit)
        return (numbers[0] if len(numbers) == 1 else tuple(numbers)) if numbers else None
    values = tuple(dict.fromkeys(filter(None, cell.split(BETWEEN))))
    return values if len(values) > 1 or (values and attribute.kind == "list") else cell or None


def _condition(attribute: Attribute, filters: Sequence[AttributeFilter]) -> Condition:
    equal = [each.value for each in filters if each.operator == "eq"]
    others = [each for each in filters if each.operator != "eq"]
    if attribute.kind == "number":
        return Condition(
            attribute=attribute,
            ranges=tuple(_range(attribute, text) for text in equal),
            bounds=tuple(
                (each.operator, _number(attribute, each.value, f"[{each.operator}]"))
                for each in others
            ),
        )
    for each in others:
        raise _refusal(attribute, each.value, "a value, without an operator", f"[{each.operator}]")
    if attribute.kind == "boolean":
        return Condition(attribute=attribute, flags=tuple(_flag(attribute, text) for text in equal))
    values = tuple(clean_value(text, attribute.levels) for text in equal)
    return Condition(attribute=attribute, values=values)


def _flag(attribute: Attribute, text: str) -> bool:
    if (flag := parse_boolean(text)) is None:
        raise _refusal(attribute, text, "true or false")
    return flag


def _range(attribute: Attribute, text: str) -> tuple[float, float]:
    """A single number, or both inclusive ends of a range as facets write it: 40-60, 40-, -60."""
    if parse_quantity(text) is not None:
        number = _number(attribute, text)
        return number, number
    if (match := _RANGE.match(text.strip())) is None or not (match["low"] or match["high"]):
        raise _refusal(attribute, text, _example(attribute))
    low, high = match["low"], match["high"]
    last = parse_quantity(high) if low and high else None
    if last and last[1] and (first := parse_quantity(low)) and not first[1]:
        low = f"{low} {last[1]}"  # 40-60 in
    return (
        _number(attribute, low) if low else -np.inf,
        _number(attribute, high) if high else np.inf,
    )


def _number(attribute: Attribute, text: str, operator: str = "") -> float:
    quantity = parse_quantity(text)
    number = convert(*quantity, to=attribute.unit or "") if quantity else None
    if number is None or (quantity and quantity[1] and not attribute.unit):
        raise _refusal(attribute, text, _example(attribute), operator)
    return number


def _example(attribute: Attribute) -> str:
    unit = f" in {attribute.unit}, or in a unit that converts into it" if attribute.unit else ""
    return f"a number{unit}"


def _refusal(attribute: Attribute, text: str, allowed: str, operator: str = "") -> FilterError:
    field = f"filter[{attribute.name}]{operator}"
    return FilterError(f"{field} is {text[:100]!r}: give {allowed}", field, text, allowed)


def group_ranges(
    prices_I: NDArray[np.float64], groups_I: NDArray[np.int32]
) -> tuple[Ints, NDArray[np.float64], NDArray[np.float64]]:
    """[G] of each group of variants: how many items, the lowest price, the highest; NaN where none
    has a price."""
    grouped = groups_I >= 0
    groups, prices = groups_I[grouped], prices_I[grouped]
    size = int(groups_I.max(initial=-1)) + 1
    low, high = np.full(size, np.nan), np.full(size, np.nan)
    np.fmin.at(low, groups, prices)
    np.fmax.at(high, groups, prices)
    return np.bincount(groups, minlength=size), low, high
