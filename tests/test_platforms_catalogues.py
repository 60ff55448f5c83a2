"""Catalogues of Magento, BigCommerce, merchant feeds and schema.org, cell for cell."""

from __future__ import annotations

import json

import pytest

from recsys.datasets.platforms.bigcommerce import BigCommerce
from recsys.datasets.platforms.magento import Magento
from recsys.datasets.platforms.merchant_feed import MerchantFeed
from recsys.datasets.platforms.schema_org import SchemaOrg
from recsys.errors import InputError
from tests.test_platforms import export, items_of


def test_magento_variations_inherit_and_are_a_group():
    adapter = Magento(export("magento_products.csv"))
    items = items_of(adapter)
    assert list(items) == ["MT01-M-Red", "MT01-L-Red", "BAG1", "OLD1"]
    large = items["MT01-L-Red"]
    assert (large["group_id"], large["category"]) == ("MT01", ["Men > Tops", "Sale"])
    assert (large["image"], large["description"]) == ("/m/t/tank.jpg", "<p>A tank.</p>")
    assert json.loads(large["attributes"]) == {"color": "Red", "size": "L"}
    assert not large["in_stock"]
    assert not items["OLD1"]["in_stock"]
    assert sum(adapter.left_out("items").values()) == 3


def test_magento_texts_of_a_store_view(tmp_path):
    path = tmp_path / "products.csv"
    path.write_text(
        "sku,store_view_code,product_type,name,description\n"
        "a,,simple,Bag,Holds it\na,fr,simple,Sac,\na,de,simple,Tasche,\n"
    )
    item = items_of(Magento(str(path), store_view="fr"))["a"]
    assert (item["title"], item["description"]) == ("Sac", "Holds it")


def test_a_comma_within_an_attribute_parts_nothing(tmp_path):
    path = tmp_path / "products.csv"
    path.write_text(
        "sku,product_type,name,additional_attributes\n"
        'a,simple,Bag,"material=Cotton, combed|Wool,manufacturer=Corvane"\n'
    )
    item = items_of(Magento(str(path)))["a"]
    assert item["brand"] == "Corvane"
    assert json.loads(item["attributes"])["material"] == "Cotton, combed|Wool"


def test_bigcommerce_variants_inherit_from_the_product_above():
    items = items_of(BigCommerce(export("bigcommerce_products.csv")))
    assert {name: (item["price"], item["in_stock"]) for name, item in items.items()} == {
        "TEE-S-RED": ("19.99", True),
        "TEE-L-RED": ("24.99", False),
        "MUG": ("9.50", True),
        "103": ("9.50", False),  # not visible
    }
    assert json.loads(items["TEE-S-RED"]["attributes"]) == {"Size": "S", "Color": "Red"}
    assert items["TEE-S-RED"]["image"] == "https://cdn.example/red.jpg"
    assert items["TEE-L-RED"]["image"] == "https://cdn.example/tee.jpg"
    assert items["TEE-L-RED"]["group_id"] == "101"


def test_the_older_export_of_bigcommerce(tmp_path):
    path = tmp_path / "products.csv"
    path.write_text(
        "Item Type,Product ID,Product Name,Product Code/SKU,Brand Name,Product Description,Price,"
        "Product Visible?,Track Inventory,Current Stock Level,Category,Product Image File - 1\n"
        "Product,7,Tee,TEE,Corvane,Soft,19.99,Y,by option,0,Clothing/Tops;Sale,tee.jpg\n"
        '"  SKU",8,"[S]Size=Small,[CS]Color=Red:#ff0000",TEE-S,,,,,,3,,\n'
    )
    item = items_of(BigCommerce(str(path)))["TEE-S"]
    assert (item["title"], item["brand"], item["category"]) == (
        "Tee",
        "Corvane",
        ["Clothing > Tops", "Sale"],
    )
    assert json.loads(item["attributes"]) == {"Size": "Small", "Color": "Red"}
    assert item["in_stock"]


def test_a_merchant_feed_in_xml():
    items = items_of(MerchantFeed(export("merchant_feed.xml")))
    shirt = items["SHIRT-RED-M"]
    assert json.loads(shirt["category"]) == ["Clothing > Shirts", "Summer"]
    assert (shirt["price"], shirt["in_stock"]) == ("39.90 EUR", "in_stock")
    assert shirt["description"] == "<p>A light shirt</p> & more"
    assert json.loads(shirt["attributes"]) == {"color": "Red", "size": "M", "Wash": "40 C"}
    assert items["MUG"]["title"] == "Mug"
    assert items["MUG"]["category"] == "Home & Garden > Kitchen & Dining"


@pytest.mark.parametrize("name", ["merchant_feed_atom.xml", "merchant_feed.tsv"])
def test_a_merchant_feed_in_other_forms(name):
    item = items_of(MerchantFeed(export(name)))["MUG"]
    assert item["title"].startswith("Mug")
    assert (item["description"], item["in_stock"]) == ("Holds tea", "in stock")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ('<!DOCTYPE a [<!ENTITY x "y">]><rss><item><id>&x;</id></item></rss>', "entities"),
        ("<rss><item><id>a</item>", "is no XML"),
        ('<?xml version="1.0" encoding="klingon"?><rss/>', "is no XML"),
        ('<?xml version="1.0" encoding="gb2312"?><rss/>', "is no XML"),
        ("<rss><item><link>a</link></item></rss>", "has no 'id' of a product"),
    ],
)
def test_a_feed_that_cannot_be_read_says_why(tmp_path, text, sentence):
    path = tmp_path / "feed.xml"
    path.write_text(text)
    with pytest.raises(InputError, match=sentence):
        MerchantFeed(str(path)).item_chunks()


def test_schema_org_variants_inherit_from_their_group():
    items = items_of(SchemaOrg(export("schema_org.json")))
    blue = items["44E01-K11000"]
    assert (blue["title"], blue["brand"], blue["group_id"]) == (
        *("Wool winter coat", "Good brand", "44E01"),
    )
    assert (blue["price"], blue["in_stock"]) == ("49.99", "http://schema.org/OutOfStock")
    assert blue["image"] == "https://cdn.example/coat.jpg"
    assert json.loads(blue["attributes"]) == {"color": "Blue", "size": "large"}
    assert items["44E01-M11000"]["image"].split() == [
        "https://cdn.example/green.jpg",
        "https://cdn.example/green2.jpg",
    ]
    assert items["MUG-1"]["price"] == "9.50"
    assert json.loads(items["MUG-1"]["attributes"]) == {"Volume": "350 ml"}


def test_a_document_without_products_is_refused(tmp_path):
    path = tmp_path / "page.json"
    path.write_text('{"@type": "WebPage"}')
    with pytest.raises(InputError, match=r"no Product of schema\.org"):
        SchemaOrg(str(path)).item_chunks()
