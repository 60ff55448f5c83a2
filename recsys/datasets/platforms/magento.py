"""Magento 2 (Adobe Commerce): the product export of System, Data Transfer, Export."""

from __future__ import annotations

import json
import re
from datetime import datetime
from functools import partial

import pyarrow as pa
import pyarrow.compute as pc

from recsys.datasets.casts import to_mask
from recsys.datasets.platforms.adapter import Export, Extract, PlatformAdapter, keep_rows
from recsys.datasets.platforms.columns import (
    ExportColumns,
    category_lists,
    distinct_map,
    first_of_key,
    where,
    words_mask,
)
from recsys.datasets.platforms.reading import read_export
from recsys.errors import InputError
from recsys.types import Mask

#: `color=Red,size=M`: a comma before the next name parts two attributes, one within a value none.
_PAIRS = re.compile(r",(?=[a-zA-Z_][\w-]*=)")
_BRANDS = ("brand", "manufacturer")


class Magento(PlatformAdapter):
    """`products` is catalog_product.csv.

    An item is a product that can be bought; its id is its SKU. A configurable product is the group
    of its variations, which inherit from it. Rows of a store view are translations: the texts of
    `store_view` replace those of the default, others are left out. Simple products that are not
    visible and of no configurable one are no items; disabled ones are out of stock. Category paths
    come without their first level, the root category. Magento exports orders without their lines:
    take events from a tracker, with `ItemsAndEvents`."""

    name = "magento"

    def __init__(self, products: str, store_view: str | None = None) -> None:
        super().__init__(Export(products, partial(_extract_products, store_view)))


class _Rows:
    """The rows of a product export; `parents` are the configurable products of variations."""

    def __init__(self, path: str, store_view: str | None) -> None:
        self.raw = read_export(path)
        self.columns = ExportColumns(self.raw)
        for name in ("sku", "product_type", "name"):
            if name not in self.columns:
                raise InputError(
                    f"{path} has no column {name!r}: export products from Magento's System, Data "
                    "Transfer, Export, Entity Type Products"
                )
        self.skus, views = self.columns["sku"], self.columns["store_view_code"]
        self.is_translation = to_mask(pc.is_valid(views))
        self._in_view = words_mask(views, [store_view.casefold()] if store_view else [])
        self.parents = _parents(self.columns)
        self._products = pc.coalesce(self.parents, self.skus)
        self._is_product = to_mask(pc.equal(self._products, self.skus))

    def cell(self, name: str) -> pa.Array:
        """Of the store view, of the default, of the configurable product."""
        column = self.columns[name]
        own = pc.coalesce(first_of_key(self.skus, where(self._in_view, column)), column)
        return pc.coalesce(own, first_of_key(self._products, where(self._is_product, own)))

    def in_stock(self) -> Mask:
        disabled = words_mask(self.columns["product_online"], ["2", "0"])
        return ~disabled & ~words_mask(self.columns["is_in_stock"], ["0"])

    def have_variations(self) -> Mask:
        is_group = words_mask(self.columns["product_type"], ["configurable"])
        return is_group & to_mask(pc.is_in(self.skus, value_set=self.parents, skip_nulls=True))

    def are_hidden(self) -> Mask:
        hidden = words_mask(self.columns["visibility"], ["not visible individually"])
        return hidden & to_mask(pc.is_null(self.parents))


def _extract_products(store_view: str | None, path: str) -> Extract:
    rows = _Rows(path, store_view)
    cell, columns = rows.cell, rows.columns
    attributes = distinct_map(cell("additional_attributes"), _attributes)
    items = {
        "item_id": rows.skus,
        "title": cell("name"),
        "description": pc.coalesce(cell("description"), cell("short_description")),
        "category": category_lists(distinct_map(cell("categories"), _without_root), ",", "/"),
        "brand": distinct_map(attributes, _brand),
        "price": cell("price"),
        "sale_price": columns["special_price"],
        "sale_starts": distinct_map(columns["special_price_from_date"], _iso_time),
        "sale_ends": distinct_map(columns["special_price_to_date"], _iso_time),
        "in_stock": pa.array(rows.in_stock()),
        "image": cell("base_image"),
        "additional_images": cell("additional_images"),
        "attributes": attributes,
        "group_id": rows.parents,
    }
    left_out = [
        ("translations of store views", rows.is_translation),
        ("configurable products, which are groups of variations", rows.have_variations()),
        ("products that are not visible", rows.are_hidden()),
    ]
    return keep_rows(rows.raw, items, left_out)


def _parents(columns: ExportColumns) -> pa.Array:
    """The configurable product of each row: `sku=shirt-red,color=Red|sku=shirt-blue,color=Blue`."""
    lists = pc.split_pattern(columns["configurable_variations"], "|")
    owners = columns["sku"].take(pc.list_parent_indices(lists))
    children = pc.extract_regex(pc.list_flatten(lists), r"(?:^|,)sku=(?P<sku>[^,]+)").field("sku")
    return owners.take(pc.index_in(columns["sku"], value_set=children, skip_nulls=True))


def _without_root(text: str) -> str | None:
    """`Default Category/Men,Default Category` to `Men`."""
    paths = [path.partition("/")[2] for path in text.split(",")]
    return ",".join(path for path in paths if path) or None


def _iso_time(text: str) -> str:
    """An American admin's `11/1/26, 12:00 AM`; other times as they are."""
    try:
        return datetime.strptime(" ".join(text.split()), "%m/%d/%y, %I:%M %p").isoformat()
    except ValueError:
        return text


def _attributes(text: str) -> str:
    pairs = [pair.partition("=") for pair in _PAIRS.split(text)]
    return json.dumps(
        {name: value.strip('"') for name, _, value in pairs if value}, ensure_ascii=False
    )


def _brand(attributes: str) -> str | None:
    values = json.loads(attributes)
    return next((values[name] for name in _BRANDS if name in values), None)
