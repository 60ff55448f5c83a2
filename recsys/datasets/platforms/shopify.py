"""Shopify: the product export (CSV of either generation, or products.json) and the order export."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from recsys.datasets.casts import to_float, to_mask
from recsys.datasets.platforms.adapter import Export, Extract, PlatformAdapter, keep_rows
from recsys.datasets.platforms.columns import (
    ExportColumns,
    all_of_key,
    attribute_objects,
    begins_key,
    first_of_key,
    inherited,
    joined,
    number_in_key,
    where,
    words_mask,
)
from recsys.datasets.platforms.reading import (
    export_files,
    read_documents,
    read_export,
    record_table,
)
from recsys.errors import InputError
from recsys.types import Mask

_OPTIONS = (1, 2, 3)


class Shopify(PlatformAdapter):
    """`products` is products_export.csv, with the columns of either generation, or products.json;
    `orders` is orders_export.csv. Each may be a folder of such files.

    An item is a variant. Its id is its SKU, without one the product's handle and its option values:
    `linen-shirt/Red/M`. It is of its product's group and has what stands in the product's first
    row alone. Drafts, and rows that carry a further image, are no items; what is archived or not
    published is out of stock, as is a tracked variant without stock that may not be oversold.

    An order's line is a purchase by the user of that email address; one without SKU is of the
    variant of that name. Orders that were cancelled, voided or refunded as a whole are left out."""

    name = "shopify"

    def __init__(self, products: str, orders: str | None = None) -> None:
        log = Export(orders, partial(_extract_orders, products)) if orders else None
        super().__init__(Export(products, _extract_products), log)


class _Variants:
    """The rows of a product table, and what their products give them."""

    def __init__(self, path: str) -> None:
        is_json = ".json" in path.casefold() and ".jsonl" not in path.casefold()
        self.raw = _product_table(path) if is_json else read_export(path)
        self.columns = ExportColumns(self.raw)
        self.handles = self.columns.first_of("Handle", "URL handle")
        names = ("Handle", "URL handle")
        if "Title" not in self.columns or not any(name in self.columns for name in names):
            raise InputError(
                f"{path} has no columns Handle and Title: export the products from Shopify's "
                "admin, Products, Export"
            )
        numbers = [(f"Option{each} Name", f"Option{each} Value") for each in _OPTIONS]
        self.option_names = [first_of_key(self.handles, self.columns[name]) for name, _ in numbers]
        values = [self.columns[value] for _, value in numbers]
        self.option_values = [where(~words_mask(each, ["default title"]), each) for each in values]

    def of_product(self, *names: str) -> pa.Array:
        return inherited(self.handles, self.columns.first_of(*names))

    def item_ids(self) -> pa.Array:
        # Shopify writes an apostrophe before what a spreadsheet would take for a number.
        skus = pc.utf8_ltrim(self.columns.first_of("Variant SKU", "SKU"), "'")
        return pc.coalesce(skus, joined("/", self.handles, *self.option_values))

    def order_names(self) -> pa.Array:
        """What an order calls them: `Linen shirt - Red / M`."""
        return joined(" - ", self.of_product("Title"), joined(" / ", *self.option_values))

    def carry_a_variant(self) -> Mask:
        """A product's first row, and those with anything of a variant."""
        names = ("Variant SKU", "SKU", "Variant Price", "Price", "Option1 Value")
        cells = self.columns.first_of(*names)
        return begins_key(self.handles) | to_mask(pc.is_valid(cells))

    def in_stock(self) -> Mask:
        of, column = self.of_product, self.columns.first_of
        published = of("Published", "Published on online store")
        hidden = words_mask(of("Status"), ["archived", "unlisted"])
        hidden |= words_mask(published, ["false"])
        tracker = column("Variant Inventory Tracker", "Inventory tracker")
        quantity = to_float(column("Variant Inventory Qty", "Inventory quantity"))
        empty = to_mask(pc.is_valid(tracker)) & to_mask(pc.less_equal(quantity, 0.0))
        oversold = words_mask(column("Variant Inventory Policy"), ["continue"])
        oversold |= words_mask(column("Continue selling when out of stock"), ["true"])
        return ~hidden & ~(empty & ~oversold)

    def images(self) -> pa.Array:
        own = self.columns.first_of("Variant Image", "Variant image URL")
        return pc.coalesce(own, self.of_product("Image Src", "Product image URL"))

    def additional_images(self) -> pa.Array:
        """All of the product's, for a variant without one of its own: they may show the others."""
        own = self.columns.first_of("Variant Image", "Variant image URL")
        sources = self.columns.first_of("Image Src", "Product image URL")
        return where(to_mask(pc.is_null(own)), all_of_key(self.handles, sources, "\n"))

    def attributes(self) -> pa.Array:
        """The options, the merchant's own type and tags, and the metafields."""
        metafields = self.columns.matching(r"(.+?) \(product\.metafields\..+\)")
        return attribute_objects(
            [
                *zip(self.option_names, self.option_values, strict=True),
                ("type", self.of_product("Type")),
                ("tags", self.of_product("Tags")),
                *((match[1], inherited(self.handles, cells)) for match, cells in metafields),
            ]
        )


def _extract_products(path: str) -> Extract:
    variants = _Variants(path)
    items = {
        "item_id": variants.item_ids(),
        "title": variants.of_product("Title"),
        "description": variants.of_product("Body (HTML)", "Description"),
        "category": variants.of_product("Product Category", "Type"),
        "brand": variants.of_product("Vendor"),
        "price": variants.columns.first_of("Variant Price", "Price"),
        "in_stock": pa.array(variants.in_stock()),
        "image": variants.images(),
        "additional_images": variants.additional_images(),
        "attributes": variants.attributes(),
        "group_id": variants.handles,
        "gtin": variants.columns.first_of("Variant Barcode", "Barcode", "Barcodes"),
        "list_price": variants.columns.first_of("Variant Compare At Price", "Compare-at price"),
        "added": variants.of_product("Published at", "Created at"),
    }
    left_out = [
        ("rows that carry a further image", ~variants.carry_a_variant()),
        ("variants of drafts", words_mask(variants.of_product("Status"), ["draft"])),
    ]
    return keep_rows(variants.raw, items, left_out)


def _extract_orders(products: str, path: str) -> Extract:
    raw = read_export(path)
    columns = ExportColumns(raw)
    for name in ("Name", "Created at", "Lineitem name"):
        if name not in columns:
            raise InputError(
                f"{path} has no column {name!r}: export the orders from Shopify's admin, Orders, "
                "Export"
            )
    orders, lines = columns["Name"], columns["Lineitem name"]
    ids = pc.utf8_ltrim(columns["Lineitem sku"], "'")
    if ids.null_count:
        ids = pc.coalesce(ids, _ids_by_name(products, lines))
    events = {
        "event_id": joined("-", orders, number_in_key(orders)),
        "order_id": orders,
        "user_id": pc.utf8_lower(inherited(orders, columns.first_of("Email", "Phone"))),
        "item_id": ids,
        "type": pa.array(["purchase"] * columns.rows, pa.string()),
        "time": inherited(orders, columns["Created at"]),
        "quantity": columns["Lineitem quantity"],
        "price": columns["Lineitem price"],
    }
    cancelled = to_mask(pc.is_valid(inherited(orders, columns["Cancelled at"])))
    status = inherited(orders, columns["Financial Status"])
    cancelled |= words_mask(status, ["refunded", "voided"])
    return keep_rows(raw, events, [("lines of cancelled or refunded orders", cancelled)])


def _ids_by_name(products: str, names: pa.Array) -> pa.Array:
    """The ids of the variants that an order's lines name."""
    variants = [_Variants(path) for path in export_files(products)]
    titles = pa.concat_arrays([each.order_names() for each in variants])
    ids = pa.concat_arrays([each.item_ids() for each in variants])
    return ids.take(pc.index_in(names, value_set=titles, skip_nulls=True))


def _product_table(path: str) -> pa.Table:
    """The variants of products.json (the shop's own, or of the Admin API) under the names of the
    CSV's columns."""
    rows: list[dict[str, Any]] = []
    for document in read_documents(path):
        products = (
            document.get("products", [document]) if isinstance(document, Mapping) else document
        )
        for product in products:
            rows += _variant_rows(product)
    return record_table(rows)


def _variant_rows(product: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    images = {each.get("id"): each.get("src") for each in product.get("images") or ()}
    tags = product.get("tags")
    shared = {
        "Handle": product.get("handle"),
        "Title": product.get("title"),
        "Body (HTML)": product.get("body_html"),
        "Vendor": product.get("vendor"),
        "Type": product.get("product_type"),
        "Tags": ", ".join(tags) if isinstance(tags, list) else tags,
        "Status": product.get("status"),
        "Created at": product.get("created_at"),
        "Published at": product.get("published_at"),
        "Image Src": next(iter(images.values()), None),
        **_option_names(product.get("options") or ()),
    }
    for variant in product.get("variants") or ():
        featured = variant.get("featured_image") or {}
        available = variant.get("available")
        row = {
            "Variant SKU": variant.get("sku"),
            "Variant Price": variant.get("price"),
            "Variant Compare At Price": variant.get("compare_at_price"),
            "Variant Barcode": variant.get("barcode"),
            "Variant Image": images.get(variant.get("image_id")) or featured.get("src"),
            "Variant Inventory Tracker": variant.get("inventory_management"),
            "Variant Inventory Qty": variant.get("inventory_quantity"),
            "Variant Inventory Policy": variant.get("inventory_policy"),
            **{f"Option{each} Value": variant.get(f"option{each}") for each in _OPTIONS},
        }
        if available is False:  # the shop's own /products.json says no more than this
            row |= {"Variant Inventory Tracker": "shopify", "Variant Inventory Qty": 0}
        yield shared | row


def _option_names(options: Iterable[Any]) -> dict[str, Any]:
    names = [each.get("name") if isinstance(each, Mapping) else each for each in options]
    return {f"Option{number} Name": name for number, name in enumerate(names, 1)}
