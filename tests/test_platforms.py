"""Every platform's adapter over a small export in its platform's form, against the seam's
contract."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from recsys.datasets.platforms.adapter import ItemsAndEvents
from recsys.datasets.platforms.bigcommerce import BigCommerce
from recsys.datasets.platforms.ga4 import Ga4
from recsys.datasets.platforms.magento import Magento
from recsys.datasets.platforms.merchant_feed import MerchantFeed
from recsys.datasets.platforms.schema_org import SchemaOrg
from recsys.datasets.platforms.segment import SegmentCalls
from recsys.datasets.platforms.shopify import Shopify
from recsys.datasets.platforms.snowplow import Snowplow
from recsys.datasets.platforms.woocommerce import WooCommerce
from recsys.datasets.validate import check_items
from recsys.interfaces import DatasetAdapter
from recsys.types import NEXT_CATEGORY
from tests.contracts import DatasetAdapterContract

EXPORTS = Path(__file__).parent / "exports"


def export(name: str) -> str:
    return str(EXPORTS / name)


def items_of(adapter: DatasetAdapter) -> dict[str, dict]:
    tables = [adapter.read_items(chunk) for chunk in adapter.item_chunks()]
    return {row["item_id"]: row for row in pa.concat_tables(tables).to_pylist()}


def events_of(adapter: DatasetAdapter) -> list[dict]:
    chunks = adapter.event_chunks()
    return [row for chunk in chunks for row in adapter.read_events(chunk).to_pylist()]


class TestShopify(DatasetAdapterContract):
    def make(self, folder):
        return Shopify(export("shopify_products.csv"), export("shopify_orders.csv"))


class TestWooCommerce(DatasetAdapterContract):
    def make(self, folder):
        return WooCommerce(export("woocommerce_products.csv"), export("woocommerce_orders.csv"))


class TestMagento(DatasetAdapterContract):
    def make(self, folder):
        events = SegmentCalls(export("segment_messages.jsonl"))
        return ItemsAndEvents(Magento(export("magento_products.csv")), events)


class TestBigCommerce(DatasetAdapterContract):
    def make(self, folder):
        events = Ga4(export("ga4_events.jsonl"))
        return ItemsAndEvents(BigCommerce(export("bigcommerce_products.csv")), events)


class TestMerchantFeed(DatasetAdapterContract):
    def make(self, folder):
        events = Ga4(export("ga4_events.jsonl"))
        return ItemsAndEvents(MerchantFeed(export("merchant_feed.xml")), events)


class TestSchemaOrg(DatasetAdapterContract):
    def make(self, folder):
        events = Snowplow(export("snowplow_enriched.tsv"))
        return ItemsAndEvents(SchemaOrg(export("schema_org.json")), events)


@pytest.mark.parametrize(
    ("adapter", "paths"),
    [
        (WooCommerce(export("woocommerce_products.csv")), {"Clothing / Tshirts", "Sale"}),
        (Magento(export("magento_products.csv")), {"Men / Tops", "Gear / Bags"}),
        (MerchantFeed(export("merchant_feed.xml")), {"Clothing / Shirts", "Summer"}),
        (SchemaOrg(export("schema_org.json")), {"Coats", "Winter"}),
        (Shopify(export("shopify_products.csv")), {"Apparel & Accessories / Clothing", "Kitchen"}),
    ],
)
def test_categories_are_paths_and_may_be_several(adapter, paths):
    (chunk,) = adapter.item_chunks()
    good = check_items(adapter.read_items(chunk), chunk.path, chunk.start).good
    categories = good["category"].drop_null().to_pylist()
    assert paths <= {path for each in categories for path in each.split(NEXT_CATEGORY)}
