"""BigCommerce: the product export, with the columns of version 3 or of the older Bulk Edit."""

from __future__ import annotations

import json
import re

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys.datasets.casts import to_float, to_mask
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

#: `Type=Swatch|Name=Colour|Value=Red[#ff0000]`, one behind the other.
_OPTION = re.compile(r"Name=([^|]+)\|Value=(.*?)(?:\[#[^\]]*\])?[;|,]?\s*(?=Type=|$)")
#: `[S]Size=Small,[CS]Colour=Red:#ff0000` of the older export.
_OLD_OPTION = re.compile(r"\[[A-Z]+\]([^=]+)=([^,]+)")
_VARIANTS = ("variant", "sku")


class BigCommerce(PlatformAdapter):
    """`products` is the file of Products, Export.

    An item is a product, or each of its variants where it has some; its id is its SKU, without one
    its ID. Variants are of their product's group and inherit from the product above them. Products
    that are not visible or not for sale are out of stock, as is what is tracked and has no stock.
    BigCommerce exports orders without a row a line: take events from a tracker, with
    `ItemsAndEvents`."""

    name = "bigcommerce"

    def __init__(self, products: str) -> None:
        super().__init__(Export(products, _extract_products))


class _Rows:
    """The rows of an export; `products` are the rows of the products that they are of."""

    def __init__(self, path: str) -> None:
        self.raw = read_export(path)
        self.columns = ExportColumns(self.raw)
        kinds = self.columns.first_of("Item", "Item Type")
        self.names = self.columns.first_of("Name", "Product Name")
        groups = (("Item", "Item Type"), ("Name", "Product Name"))
        if not all(any(name in self.columns for name in names) for names in groups):
            raise InputError(
                f"{path} has no columns Item and Name: export the products from BigCommerce's "
                "Products, Export"
            )
        self.is_product = words_mask(kinds, ["product"])
        self.is_variant = words_mask(kinds, _VARIANTS)
        numbers = np.where(self.is_product, np.arange(self.columns.rows), -1)
        above = np.maximum.accumulate(numbers)
        self.products = pa.array(above, mask=above < 0)

    def own(self, *names: str) -> pa.Array:
        return self.columns.first_of(*names)

    def of_product(self, *names: str) -> pa.Array:
        return self.columns.first_of(*names).take(self.products)

    def own_or_product(self, *names: str) -> pa.Array:
        return pc.coalesce(self.own(*names), self.of_product(*names))

    def item_ids(self) -> pa.Array:
        return self.own("SKU", "Product Code/SKU", "Product SKU", "ID", "Product ID")

    def have_variants(self) -> Mask:
        owners = np.asarray(self.products.fill_null(0))[self.is_variant]
        with_variants = np.zeros(self.columns.rows, bool)
        with_variants[owners] = True
        return with_variants & self.is_product

    def in_stock(self) -> Mask:
        hidden = words_mask(self.of_product("Is Visible", "Product Visible?"), ["false", "n", "no"])
        hidden |= words_mask(self.of_product("Allow Purchases?"), ["n", "no", "false"])
        tracking = self.of_product("Inventory Tracking", "Track Inventory")
        by_variant = words_mask(tracking, ["variant", "by option"])
        stock = ("Current Stock", "Current Stock Level", "Stock Level")
        counts = pc.if_else(pa.array(by_variant), self.own(*stock), self.of_product(*stock))
        empty = to_mask(pc.less_equal(to_float(counts), 0.0))
        tracked = ~words_mask(tracking, ["none"]) & to_mask(pc.is_valid(tracking))
        return ~hidden & ~(tracked & empty)

    def images(self) -> pa.Array:
        """The variant's own, or the first of its product's rows."""
        columns = self.own(
            *("Internal Image URL (Export)", "Image URL (Import)"),
            *("Product Image URL - 1", "Product Image File - 1"),
        )
        shared = first_of_key(self.products.cast(pa.string()), columns)
        return pc.coalesce(self.own("Variant Image URL"), shared)

    def attributes(self) -> pa.Array:
        options = pc.coalesce(self.own("Options"), where(self.is_variant, self.own("Product Name")))
        return distinct_map(options, _options)


def _extract_products(path: str) -> Extract:
    rows = _Rows(path)
    sale_price = rows.own_or_product("Sale Price")  # 0 is none
    categories = rows.of_product("Categories", "Category")
    is_number = to_mask(pc.match_substring_regex(categories, r"^[\d; ,]+$"))
    items = {
        "item_id": rows.item_ids(),
        "title": rows.names.take(rows.products),
        "description": rows.of_product("Description", "Product Description"),
        "category": category_lists(where(~is_number, categories), ";", "/"),
        "brand": rows.of_product("Brand Name", "Brand"),
        "price": rows.own_or_product("Price"),
        "sale_price": where(to_mask(pc.greater(to_float(sale_price), 0.0)), sale_price),
        "in_stock": pa.array(rows.in_stock()),
        "image": rows.images(),
        "attributes": rows.attributes(),
        "gtin": rows.own("UPC/EAN", "Product UPC/EAN", "Global Trade Number"),
        "mpn": rows.own("Manufacturer Part Number"),
        "group_id": where(rows.is_variant, rows.of_product("ID", "Product ID", "SKU")),
    }
    left_out = [
        ("products with variants, which are groups", rows.have_variants()),
        ("rows of images, videos and rules", ~rows.is_product & ~rows.is_variant),
    ]
    return keep_rows(rows.raw, items, left_out)


def _options(text: str) -> str | None:
    pairs = _OPTION.findall(text) or _OLD_OPTION.findall(text)
    values = {name.strip(): value.strip().partition(":#")[0] for name, value in pairs}
    return json.dumps(values, ensure_ascii=False) if values else None
