"""WooCommerce: its product export, and order exports with one row a line."""

from __future__ import annotations

from functools import partial

import pyarrow as pa
import pyarrow.compute as pc

from recsys.datasets.casts import to_float, to_mask
from recsys.datasets.platforms.adapter import Export, Extract, PlatformAdapter, keep_rows
from recsys.datasets.platforms.columns import (
    ExportColumns,
    attribute_objects,
    category_lists,
    first_of_key,
    inherited,
    joined,
    number_in_key,
    where,
    words_mask,
)
from recsys.datasets.platforms.reading import export_files, read_export
from recsys.errors import InputError
from recsys.types import Mask

#: Names of one thing in the order exports of the plugins that write one row a line.
ORDER_COLUMNS = {
    "order": ("Order ID", "Order Number", "order_id", "order_number", "Order #"),
    "user_id": ("Email (Billing)", "Billing Email", "billing_email", "customer_email"),
    "account": ("Customer User ID", "customer_id", "Customer ID", "customer_user"),
    "sku": ("SKU", "item_sku", "Item SKU", "Product SKU"),
    "variation": ("Variation ID", "item_variation_id", "variation_id", "Product Variation ID"),
    "product": ("Product ID", "item_product_id", "product_id"),
    "time": ("Order Date", "order_date", "Order Date and Time", "Date"),
    "quantity": ("Quantity (- Refund)", "Quantity", "item_quantity", "Item Quantity"),
    "price": ("Item Cost", "item_price", "Item Price", "Product Current Price"),
    "status": ("Order Status", "order_status", "Status"),
}
#: Orders that were not paid, or taken back.
_NO_PURCHASE = ("cancelled", "refunded", "failed", "pending", "pending payment", "trash", "draft")


class WooCommerce(PlatformAdapter):
    """`products` is the file of Products, Export with English column names; `orders` an export with
    one row a line, as the order export plugins write it.

    An item is a product or a variation; its id is its SKU, without one its ID. A variable product
    with variations is their group, and they inherit from it. What is hidden from the catalogue and
    drafts are no items; private products are out of stock.

    A line is a purchase by the user of that email address. Orders that were not paid, cancelled or
    refunded are left out."""

    name = "woocommerce"

    def __init__(self, products: str, orders: str | None = None) -> None:
        log = Export(orders, partial(_extract_lines, products)) if orders else None
        super().__init__(Export(products, _extract_products), log)


class _Products:
    """The rows of a product export; `parents` are the IDs of what they are variations of."""

    def __init__(self, path: str) -> None:
        self.raw = read_export(path)
        self.columns = ExportColumns(self.raw)
        for name in ("ID", "Type", "Name"):
            if name not in self.columns:
                raise InputError(
                    f"{path} has no column {name!r}: export the products from WooCommerce's "
                    "Products, Export, with the site's language set to English"
                )
        self.is_variation = to_mask(pc.match_substring(self.columns["Type"], "variation"))
        self.parents = where(self.is_variation, self._parent_ids())
        self.products = pc.coalesce(self.parents, self.columns["ID"])

    def _parent_ids(self) -> pa.Array:
        """`id:44`, or the parent's SKU."""
        references, skus = self.columns["Parent"], self.columns["SKU"]
        by_sku = self.columns["ID"].take(pc.index_in(references, value_set=skus, skip_nulls=True))
        return pc.coalesce(by_sku, pc.replace_substring_regex(references, "^id: *", ""))

    def item_ids(self) -> pa.Array:
        return self.columns.first_of("SKU", "ID")

    def of_product(self, name: str) -> pa.Array:
        """The product's cell, also for its variations."""
        return first_of_key(self.products, where(~self.is_variation, self.columns[name]))

    def own_or_product(self, name: str) -> pa.Array:
        return pc.coalesce(self.columns[name], self.of_product(name))

    def have_variations(self) -> Mask:
        return to_mask(pc.is_in(self.columns["ID"], value_set=self.parents, skip_nulls=True))

    def in_stock(self) -> Mask:
        private = words_mask(self.of_product("Published"), ["0"])
        sold_out = words_mask(self.own_or_product("In stock?"), ["0", "no", "false", "outofstock"])
        return ~private & ~sold_out

    def attributes(self) -> pa.Array:
        """A variation's value, or the product's list of them where it has none of its own."""
        pairs = []
        for match, names in self.columns.matching(r"Attribute (\d+) name"):
            values = self.columns[f"Attribute {match[1]} value(s)"]
            pairs.append((names, where(~self.have_variations(), values)))
        return attribute_objects([*pairs, ("tags", self.of_product("Tags"))])


def _extract_products(path: str) -> Extract:
    products = _Products(path)
    own = products.own_or_product
    items = {
        "item_id": products.item_ids(),
        "title": own("Name"),
        "description": pc.coalesce(own("Description"), own("Short description")),
        "category": category_lists(products.of_product("Categories"), ",", " > "),
        "brand": pc.coalesce(products.of_product("Brands"), products.of_product("Brand")),
        "price": own("Regular price"),
        "sale_price": products.columns["Sale price"],
        "sale_starts": products.columns["Date sale price starts"],
        "sale_ends": products.columns["Date sale price ends"],
        "in_stock": pa.array(products.in_stock()),
        "image": own("Images"),
        "attributes": products.attributes(),
        "group_id": products.parents,
        "gtin": products.columns["GTIN, UPC, EAN, or ISBN"],
    }
    drafts = words_mask(products.of_product("Published"), ["-1"])
    hidden = words_mask(products.of_product("Visibility in catalog"), ["hidden"])
    left_out = [
        ("variable products, which are groups of variations", products.have_variations()),
        ("drafts", drafts),
        ("products hidden from the catalogue", hidden),
    ]
    return keep_rows(products.raw, items, left_out)


def _extract_lines(products: str, path: str) -> Extract:
    raw = read_export(path)
    columns = ExportColumns(raw)
    for part in ("order", "time"):
        if not any(name in columns for name in ORDER_COLUMNS[part]):
            raise InputError(
                f"{path} has no column for the {part}, such as {ORDER_COLUMNS[part][0]!r}: export "
                "the orders with one row a line and English column names"
            )
    cells = {part: columns.first_of(*names) for part, names in ORDER_COLUMNS.items()}
    orders = cells["order"]
    ids = cells["sku"]
    if ids.null_count:
        ids = pc.coalesce(ids, _ids_by_number(products, cells))
    account = where(~words_mask(cells["account"], ["0"]), cells["account"])
    users = pc.utf8_lower(pc.coalesce(cells["user_id"], account))
    events = {
        "event_id": joined("-", orders, number_in_key(orders)),
        "order_id": orders,
        "user_id": inherited(orders, users),
        "item_id": ids,
        "type": pa.array(["purchase"] * columns.rows, pa.string()),
        "time": inherited(orders, cells["time"]),
        "quantity": cells["quantity"],
        "price": cells["price"],
    }
    status = pc.replace_substring_regex(inherited(orders, cells["status"]), "^wc-", "")
    unpaid = words_mask(status, _NO_PURCHASE)
    quantity = to_float(cells["quantity"])
    refunded = to_mask(pc.less_equal(quantity, 0.0)) if "Quantity (- Refund)" in columns else unpaid
    left_out = [
        ("lines of unpaid, cancelled or refunded orders", unpaid),
        ("lines that were refunded", refunded),
    ]
    return keep_rows(raw, events, left_out)


def _ids_by_number(products: str, cells: dict[str, pa.Array]) -> pa.Array:
    """The item ids of the lines' variations or products; an unknown one's number."""
    tables = [_Products(path) for path in export_files(products)]
    numbers = pa.concat_arrays([each.columns["ID"] for each in tables])
    ids = pa.concat_arrays([each.item_ids() for each in tables])
    lines = pc.coalesce(
        where(~words_mask(cells["variation"], ["0"]), cells["variation"]), cells["product"]
    )
    return pc.coalesce(ids.take(pc.index_in(lines, value_set=numbers, skip_nulls=True)), lines)
