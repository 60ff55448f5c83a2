"""Attributes and variants of items as answers have them."""

from __future__ import annotations

from typing_extensions import TypedDict

from recsys.types import AttributeValue, Item, Quantity, VariantRange


class NumberWithUnit(TypedDict):
    """A number of an attribute that has a unit."""

    value: float
    unit: str


#: A list has several values; a number without a unit is bare.
AttributeJson = str | bool | float | NumberWithUnit | list[str | float]


class Variants(TypedDict):
    """The items of a product, and their prices from the lowest to the highest."""

    count: int
    min_price: float | None
    max_price: float | None


def attributes_json(item: Item) -> dict[str, AttributeJson]:
    return {name: _json(value) for name, value in item.attribute_values.items()}


def _json(value: AttributeValue) -> AttributeJson:
    if isinstance(value, Quantity):
        return {"value": value.value, "unit": value.unit}
    return [*value] if isinstance(value, tuple) else value


def variants_json(variants: VariantRange | None) -> Variants | None:
    if variants is None:
        return None
    return {
        "count": variants.count,
        "min_price": variants.min_price,
        "max_price": variants.max_price,
    }
