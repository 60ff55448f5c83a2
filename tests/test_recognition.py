"""What a file is, by its columns; which column of an unknown table is which."""

from __future__ import annotations

import random

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recsys.datasets.files import FilesAdapter
from recsys.datasets.inspection import variant_names
from recsys.datasets.mapping import propose_mapping, table_kind
from recsys.datasets.platforms.adapter import ItemsAndEvents
from recsys.datasets.platforms.shopify import Shopify
from recsys.datasets.recognition import make_dataset, recognise, with_item_key
from recsys.errors import InputError
from tests.test_platforms import export


@pytest.mark.parametrize(
    ("name", "adapter", "argument"),
    [
        ("shopify_products.csv", "Shopify", "products"),
        ("shopify_orders.csv", "Shopify", "orders"),
        ("woocommerce_products.csv", "WooCommerce", "products"),
        ("woocommerce_orders.csv", "WooCommerce", "orders"),
        ("magento_products.csv", "Magento", "products"),
        ("bigcommerce_products.csv", "BigCommerce", "products"),
        ("merchant_feed.xml", "MerchantFeed", "products"),
        ("merchant_feed_atom.xml", "MerchantFeed", "products"),
        ("merchant_feed.tsv", "MerchantFeed", "products"),
        ("schema_org.json", "SchemaOrg", "products"),
        ("ga4_events.jsonl", "Ga4", "events"),
        ("segment_messages.jsonl", "SegmentCalls", "events"),
        ("snowplow_enriched.tsv", "Snowplow", "events"),
    ],
)
def test_an_export_is_known_by_its_columns(name, adapter, argument):
    form = recognise(export(name)).form
    assert (form.adapter.__name__, form.argument) == (adapter, argument)


def test_products_json_is_known(tmp_path):
    path = tmp_path / "products.json"
    path.write_text('{"products": [{"title": "Mug", "handle": "mug", "variants": [{"sku": "a"}]}]}')
    assert recognise(str(path)).form.adapter is Shopify


def test_exports_of_one_platform_are_one_adapter():
    sources = [recognise(export(f"shopify_{kind}.csv")) for kind in ("orders", "products")]
    adapter = make_dataset(sources)
    assert isinstance(adapter, Shopify)
    assert adapter.event_chunks()


def test_a_catalogue_and_a_log_of_two_platforms_are_joined():
    sources = [recognise(export(name)) for name in ("merchant_feed.xml", "ga4_events.jsonl")]
    adapter = make_dataset(sources)
    assert isinstance(adapter, ItemsAndEvents)
    assert adapter.left_out("items") == {}
    assert adapter.left_out("events")["page_view events"] == 1


@pytest.mark.parametrize(
    ("names", "sentence"),
    [
        (["ga4_events.jsonl"], "there is no catalogue among"),
        (["shopify_products.csv", "magento_products.csv"], "are both items"),
        (["shopify_products.csv", "ga4_events.jsonl", "shopify_orders.csv"], "are both events"),
    ],
)
def test_what_does_not_go_together_is_refused(names, sentence):
    with pytest.raises(InputError, match=sentence):
        make_dataset([recognise(export(name)) for name in names])


def test_a_table_of_german_names(tmp_path):
    path = tmp_path / "artikel.csv"
    path.write_text(
        "Artikelnummer;Bezeichnung;Warengruppe;Preis;Lagerbestand;EAN\n"
        "A1;Messinglampe groß;Lampen;12,50;3;4006381333931\n"
        "A2;Gartenschlauch 20 m;Garten;29,00;0;4006381333948\n",
        encoding="cp1252",
    )
    source = recognise(str(path))
    assert source.columns == {
        "item_id": "Artikelnummer",
        "title": "Bezeichnung",
        "category": "Warengruppe",
        "price": "Preis",
        "in_stock": "Lagerbestand",
        "gtin": "EAN",
    }
    dataset = make_dataset([source])
    assert isinstance(dataset, FilesAdapter)
    assert dataset.event_chunks() == []
    assert dataset.read_items(dataset.item_chunks()[0])["title"][0].as_py() == "Messinglampe groß"


def test_an_id_and_a_title_are_known_by_what_stands_there():
    table = pa.table(
        {
            "farbe": ["red", "red", "blue", "red"],
            "kennung": ["x-1", "x-2", "x-3", "x-4"],
            "was": ["Desk lamp, brass", "Garden hose 20 m", "Coffee mug", "Picnic blanket"],
        }
    )
    assert propose_mapping(table, "items", "t.csv") == {"item_id": "kennung", "title": "was"}


def test_a_name_is_not_believed_against_what_stands_there():
    table = pa.table({"sku": ["a", "b"], "name": ["12", "13"], "product_title": ["Mug", "Lamp"]})
    assert propose_mapping(table, "items", "t.csv")["title"] == "product_title"


def test_order_lines_without_a_type_are_purchases(tmp_path):
    lines = {
        "Order No": ["o1", "o1"],
        "Customer ID": ["u", "u"],
        "StockCode": ["a", "b"],
        "Invoice Date": ["2026-10-01", "2026-10-01"],
        "Qty": [1, 2],
    }
    assert table_kind(list(lines)) == "events"
    pq.write_table(pa.table(lines), tmp_path / "lines.parquet")
    (tmp_path / "items.csv").write_text("sku,name\na,Mug\nb,Lamp\n")
    sources = [recognise(str(tmp_path / name)) for name in ("items.csv", "lines.parquet")]
    dataset = make_dataset(sources)
    events = dataset.read_events(dataset.event_chunks()[0])
    assert events["type"].to_pylist() == ["purchase", "purchase"]
    assert events["order_id"].to_pylist() == ["o1", "o1"]


def test_a_table_without_a_title_names_its_columns(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("a,b\n1,2\n3,4\n")
    with pytest.raises(InputError, match=r"can be told to be the title, only a, b"):
        recognise(str(path))


def test_what_shoppers_filter_by_is_an_attribute(tmp_path):
    path = tmp_path / "items.csv"
    path.write_text(
        "sku,name,model_id,Colour,Width,Page,Supplier note,Serial\n"
        + "".join(
            f"a{n},Desk lamp {n},m{n // 2},{'red' if n % 2 else 'blue'},{n % 3} cm,"
            f"https://a/{n},note of {n} that nobody filters by,{n}\n"
            for n in range(40)
        )
    )
    source = recognise(str(path))
    assert [(each.name, each.kind) for each in source.attributes] == [
        ("Colour", "text"),
        ("Width", "number"),
    ]
    assert source.columns["group_id"] == "model_id"
    dataset = make_dataset([source])
    raw = dataset.read_items(dataset.item_chunks()[0])
    assert raw["Colour"][:2].to_pylist() == ["blue", "red"]
    assert variant_names(raw) == ["Colour", "Width"]


def test_a_trackers_key_is_that_of_the_catalogue():
    source = recognise(export("segment_messages.jsonl"))
    assert with_item_key(source, {"507f1f77bcf86cd799439011"}).item_key is None
    by_sku = with_item_key(source, {"G-32", "46493-32"})
    assert by_sku.item_key == "sku"
    assert by_sku.arguments()["item_key"] == "sku"
    assert with_item_key(recognise(export("shopify_products.csv")), {"a"}).item_key is None


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("empty.csv", b"", "has no rows under a line of names"),
        ("header.csv", b"id,name\n", "has no rows under a line of names"),
        ("sheet.xlsx", b"PK\x03\x04junk", "cannot be read"),
        ("noise.csv", bytes(random.Random(0).randbytes(3_000)), "encoding|no column|no rows"),
        ("number.json", b"7", "has no rows under a line of names"),
        ("page.xml", b"<html><body>Hi</body></html>", None),
        ("picture.png", b"\x89PNG\r\n\x1a\n\x00\x00\x00", "cannot be read"),
    ],
)
def test_what_is_no_shops_file_is_a_sentence(tmp_path, name, content, sentence):
    path = tmp_path / name
    path.write_bytes(content)
    if sentence is None:
        assert recognise(str(path)).form.adapter.__name__ == "MerchantFeed"
        return
    with pytest.raises(InputError, match=sentence):
        recognise(str(path))
