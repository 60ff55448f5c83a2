"""Names: what Algolia's front-ends call an item's fields and facets, and what they are to us."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from recsys.types import BELOW, AttributeFilter, AttributeValue, Filters, Item, Quantity
from serve.routes.errors import RequestError

#: Between the levels of a category, as `hierarchicalMenu` has it.
LEVEL = " > "
#: Facets beside the attributes.
FACETS = ("brand", "category", "price", "in_stock")
_LEVEL = re.compile(r"^(?:hierarchical)?categories\.lvl(\d)$", re.IGNORECASE)
_ATTRIBUTE = "attributes."
OPERATORS = {"<": "lt", "<=": "lte", ">": "gt", ">=": "gte"}


@dataclass(frozen=True)
class FacetField:
    """A facet: the `name` that we know it by, and the level of a category (None: all)."""

    name: str
    level: int | None = None

    @classmethod
    def of(cls, attribute: str) -> FacetField:
        """`categories.lvl0` is a level; an attribute may be named with `attributes.` or without."""
        if match := _LEVEL.match(attribute):
            return cls("category", int(match[1]))
        return cls(attribute.removeprefix(_ATTRIBUTE))

    @property
    def is_category(self) -> bool:
        return self.name.casefold() == "category"

    def holds(self, value: str) -> bool:
        """Whether a value of ours, such as "home / chairs", is one of this facet."""
        return self.level is None or value.count(BELOW) == self.level

    def shown(self, value: str) -> str:
        """A value of ours as front-ends have it."""
        return value.replace(BELOW, LEVEL) if self.is_category else value


def facet_name(name: str) -> str:
    """What answers call a facet of ours that `*` found."""
    return name if name in FACETS else f"{_ATTRIBUTE}{name}"


def equal_to(attribute: str, value: str) -> Filters:
    """The filter `attribute:value`."""
    facet, folded = FacetField.of(attribute), value.strip().casefold()
    match facet.name.casefold():
        case "category":
            return Filters(category=(value.strip().replace(LEVEL, BELOW),))
        case "brand":
            return Filters(brand=(value.strip(),))
        case "in_stock" if folded in ("true", "1", "false", "0"):
            return Filters(in_stock=folded in ("true", "1"))
        case "in_stock":
            raise RequestError(attribute, value, "true or false")
        case "price":
            return compared(attribute, "=", value)
        case "_tags":
            raise RequestError(attribute, value, "a facet: items of this shop have no tags")
        case _:
            return Filters(attributes=(AttributeFilter(facet.name, "eq", value.strip()),))


def compared(attribute: str, operator: str, value: str) -> Filters:
    """The filter `attribute < value`; of <, <=, =, !=, >, >=."""
    try:
        number = float(value)
    except ValueError:
        raise RequestError(attribute, value, "a number") from None
    if operator == "!=":
        return Filters(none_of=(compared(attribute, "=", value),))
    name = FacetField.of(attribute).name
    if name.casefold() == "price":
        return _priced(operator, number)
    if name.casefold() == "in_stock":
        return _stocked(attribute, operator, number)
    if name.casefold() in ("brand", "category"):
        raise RequestError(attribute, value, f"{attribute}:value: it is no number")
    text = np.format_float_positional(number, trim="-")
    return Filters(attributes=(AttributeFilter(name, OPERATORS.get(operator, "eq"), text),))


def _priced(operator: str, number: float) -> Filters:
    """Our bounds are inclusive: beyond a number is from the next one on."""
    low, high = {
        "<": (None, float(np.nextafter(number, -np.inf))),
        "<=": (None, number),
        "=": (number, number),
        ">": (float(np.nextafter(number, np.inf)), None),
        ">=": (number, None),
    }[operator]
    return Filters(min_price=low, max_price=high)


def _stocked(attribute: str, operator: str, number: float) -> Filters:
    if operator != "=" or number not in (0, 1):
        raise RequestError(attribute, f"{operator} {number:g}", "= 0 or = 1")
    return Filters(in_stock=number == 1)


def within(attribute: str, low: str, high: str) -> Filters:
    """The filter `attribute:low TO high`, both inclusive."""
    bounds = (compared(attribute, ">=", low), compared(attribute, "<=", high))
    return Filters(any_of=tuple((bound,) for bound in bounds))


def record_of(item: Item) -> dict[str, Any]:
    """The item as a record of an index. Numbers of attributes are in the unit that the shop
    declared, without it."""
    paths = item.categories or tuple(filter(None, [item.category]))
    levels: dict[str, list[str]] = {}
    for path in paths:
        parts = path.split(BELOW)
        for depth in range(len(parts)):
            values = levels.setdefault(f"lvl{depth}", [])
            if (value := LEVEL.join(parts[: depth + 1])) not in values:
                values.append(value)
    return {
        "objectID": item.item_id,
        "title": item.title,
        "name": item.title,
        "description": item.description,
        "brand": item.brand,
        "price": item.price if item.price == item.price else None,
        "list_price": item.list_price if item.list_price == item.list_price else None,
        "currency": item.currency or None,
        "in_stock": item.in_stock,
        "image": item.image or None,
        "category": paths[0].replace(BELOW, LEVEL) if paths else "",
        "categories": levels,
        "group_id": item.group_id or None,
        "attributes": {name: _bare(value) for name, value in item.attribute_values.items()},
    }


def _bare(value: AttributeValue) -> Any:
    if isinstance(value, Quantity):
        return value.value
    return [*value] if isinstance(value, tuple) else value


def retrieved(record: Mapping[str, Any], attributes: list[str] | None) -> dict[str, Any]:
    """What `attributesToRetrieve` leaves of a record: names, `*`, `-name`; always its objectID."""
    if attributes is None or "*" in attributes:
        excluded = {name[1:] for name in attributes or () if name.startswith("-")}
        return {name: value for name, value in record.items() if name not in excluded}
    chosen: dict[str, Any] = {"objectID": record["objectID"]}
    for name in attributes:
        top, _, below = name.partition(".")
        if not below and top in record:
            chosen[top] = record[top]
        elif below and isinstance(part := record.get(top), Mapping) and below in part:
            chosen.setdefault(top, {})[below] = part[below]
    return chosen
