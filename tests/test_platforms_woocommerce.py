"""WooCommerce's exports, with its own columns and those of an order export plugin."""

from __future__ import annotations

import json

import pytest

from recsys.datasets.platforms.woocommerce import WooCommerce
from recsys.errors import InputError
from tests.test_platforms import events_of, export, items_of


def shop() -> WooCommerce:
    return WooCommerce(export("woocommerce_products.csv"), export("woocommerce_orders.csv"))


def test_items_are_what_can_be_bought():
    in_stock = {name: item["in_stock"] for name, item in items_of(shop()).items()}
    assert in_stock == {
        "woo-beanie": True,
        "50": True,  # no SKU; on backorder
        "woo-private": False,
        "vneck-red": True,
        "77": False,
    }


@pytest.mark.parametrize("name", ["vneck-red", "77"])  # by the parent's SKU, by its ID
def test_a_variation_inherits_from_its_parent(name):
    item = items_of(shop())[name]
    assert item["group_id"] == "44"
    assert item["category"] == ["Clothing > Tshirts", "Sale"]
    assert item["brand"] == "Acme"
    assert item["description"] == "<p>A <em>soft</em> shirt.</p>"


def test_attributes_are_the_variations_own():
    assert json.loads(items_of(shop())["77"]["attributes"]) == {
        "Color": "Green",
        "Size": "Large",
        "tags": "cotton",
    }


def test_lines_are_purchases_of_items():
    events = [(each["event_id"], each["user_id"], each["item_id"]) for each in events_of(shop())]
    assert events == [
        ("1201-1", "ada@example.com", "vneck-red"),
        ("1201-2", "ada@example.com", "77"),
        ("1202-1", None, "woo-beanie"),
    ]


def test_what_is_left_out_is_counted():
    assert shop().left_out("items") | shop().left_out("events") == {
        "variable products, which are groups of variations": 1,
        "drafts": 1,
        "products hidden from the catalogue": 1,
        "lines of unpaid, cancelled or refunded orders": 2,
        "lines that were refunded": 1,
    }


def test_the_columns_of_another_plugin(tmp_path):
    path = tmp_path / "orders.csv"
    path.write_text(
        "order_id,order_number,order_date,status,customer_id,billing_email,item_product_id,"
        "item_name,item_sku,item_quantity\n"
        "7,1007,2026-10-01 09:12:44,wc-completed,5,,48,Beanie,woo-beanie,1\n"
        "8,1008,2026-10-01 09:12:44,wc-refunded,5,,48,Beanie,woo-beanie,1\n"
    )
    events = events_of(WooCommerce(export("woocommerce_products.csv"), str(path)))
    assert [(each["event_id"], each["user_id"]) for each in events] == [("7-1", "5")]


def test_translated_column_names_are_refused(tmp_path):
    path = tmp_path / "products.csv"
    path.write_text("ID,Typ,Artikelnummer,Name\n1,simple,a,b\n")
    with pytest.raises(InputError, match="set to English"):
        WooCommerce(str(path)).item_chunks()
