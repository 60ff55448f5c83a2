"""Shopify's exports, with the columns as its admin writes them."""

from __future__ import annotations

import json

import pytest

from recsys.datasets.platforms.shopify import Shopify
from recsys.errors import InputError
from tests.test_platforms import events_of, export, items_of


def shop() -> Shopify:
    return Shopify(export("shopify_products.csv"), export("shopify_orders.csv"))


def test_variants_inherit_from_the_first_row():
    items = items_of(shop())
    blue = items['linen-shirt/Blue/L "tall"']
    assert {name: blue[name] for name in ("title", "brand", "category", "group_id", "price")} == {
        "title": "Linen shirt",
        "brand": "Corvane",
        "category": "Apparel & Accessories > Clothing",
        "group_id": "linen-shirt",
        "price": "39.90",
    }
    assert json.loads(blue["attributes"]) == {
        "Color": "Blue",
        "Size": 'L "tall"',
        "type": "Shirts",
        "tags": "linen, summer",
        "Fabric": "Linen",
    }


def test_stock_is_what_may_be_bought():
    items = items_of(shop())
    assert {name: item["in_stock"] for name, item in items.items()} == {
        "0042": True,
        'linen-shirt/Blue/L "tall"': False,
        "MUG-1": True,  # not tracked
        "BOWL-1": False,  # archived
        "LAMP-1": True,  # may be oversold
    }


def test_a_variants_own_image_comes_before_its_products():
    items = items_of(shop())
    assert items["0042"]["image"] == "https://cdn.example/red.jpg"
    assert items['linen-shirt/Blue/L "tall"']["image"] == "https://cdn.example/2.jpg"


def test_lines_inherit_their_order_and_find_their_variant_by_name():
    events = events_of(shop())
    assert [(event["event_id"], event["user_id"], event["item_id"]) for event in events] == [
        ("#1001-1", "ada@example.com", "MUG-1"),
        ("#1001-2", "ada@example.com", 'linen-shirt/Blue/L "tall"'),
        ("#1004-1", None, "LAMP-1"),
        ("#1004-2", None, "MUG-1"),
    ]
    assert events[3]["time"] == "2026-10-03 09:00:00 -0400"
    assert events[0]["quantity"] == "2"


def test_what_is_left_out_is_counted():
    assert shop().left_out("items") | shop().left_out("events") == {
        "rows that carry a further image": 1,
        "variants of drafts": 1,
        "lines of cancelled or refunded orders": 2,
    }


def test_the_columns_of_the_newer_template(tmp_path):
    path = tmp_path / "products.csv"
    path.write_text(
        "Title,URL handle,Description,Vendor,Product category,Type,Published on online store,"
        "Status,SKU,Option1 name,Option1 value,Price,Inventory tracker,Inventory quantity,"
        "Continue selling when out of stock,Product image URL\n"
        "Mug,mug,Holds tea,Corvane,Home,Kitchen,FALSE,Active,MUG-1,Size,Big,12,shopify,4,FALSE,a\n"
        ",mug,,,,,,,MUG-2,,Small,10,shopify,0,FALSE,\n"
    )
    items = items_of(Shopify(str(path)))
    assert [items[name]["in_stock"] for name in ("MUG-1", "MUG-2")] == [False, False]
    assert items["MUG-2"]["title"] == "Mug"
    assert items["MUG-2"]["description"] == "Holds tea"
    assert items["MUG-2"]["price"] == "10"


def test_products_json(tmp_path):
    product = {
        "id": 1,
        "title": "Mug",
        "handle": "mug",
        "body_html": "<p>Holds tea</p>",
        "vendor": "Corvane",
        "product_type": "Kitchen",
        "created_at": "2026-01-02T03:04:05-05:00",
        "published_at": None,
        "tags": ["tea", "gift"],
        "options": [{"name": "Size"}],
        "images": [{"id": 9, "src": "big.jpg"}, {"id": 8, "src": "small.jpg"}],
        "variants": [
            {"id": 11, "sku": "MUG-1", "price": "12.00", "option1": "Big", "available": True},
            {
                "sku": "MUG-2",
                "price": "10.00",
                "option1": "Small",
                "available": False,
                "image_id": 8,
            },
        ],
    }
    path = tmp_path / "products.json"
    path.write_text(json.dumps({"products": [product]}))
    items = items_of(Shopify(str(path)))
    assert items["MUG-1"]["in_stock"]
    assert not items["MUG-2"]["in_stock"]
    assert items["MUG-1"]["image"] == "big.jpg"
    assert items["MUG-2"]["image"] == "small.jpg"
    assert items["MUG-1"]["added"] == "2026-01-02T03:04:05-05:00"
    assert json.loads(items["MUG-1"]["attributes"])["tags"] == "tea, gift"


def test_another_table_is_refused(tmp_path):
    path = tmp_path / "products.csv"
    path.write_text("sku,price\na,1\n")
    with pytest.raises(InputError, match="no columns Handle and Title"):
        Shopify(str(path)).item_chunks()
