"""Generated exports of every platform: never anything but rows or a sentence, and each row of a
file is an item, an event, quarantined or counted as left out."""

from __future__ import annotations

import csv
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, given, settings

from recsys.datasets.platforms.adapter import PlatformAdapter
from recsys.datasets.platforms.bigcommerce import BigCommerce
from recsys.datasets.platforms.ga4 import Ga4
from recsys.datasets.platforms.magento import Magento
from recsys.datasets.platforms.merchant_feed import MerchantFeed
from recsys.datasets.platforms.schema_org import SchemaOrg
from recsys.datasets.platforms.segment import SegmentCalls
from recsys.datasets.platforms.shopify import Shopify
from recsys.datasets.platforms.snowplow import Snowplow
from recsys.datasets.platforms.woocommerce import WooCommerce
from recsys.datasets.validate import check_events, check_items
from recsys.errors import InputError
from tests.test_platforms import export

TABLES: dict[str, Callable[[str], PlatformAdapter]] = {
    "shopify_products.csv": Shopify,
    "shopify_orders.csv": lambda path: Shopify(export("shopify_products.csv"), path),
    "woocommerce_products.csv": WooCommerce,
    "woocommerce_orders.csv": lambda path: WooCommerce(export("woocommerce_products.csv"), path),
    "magento_products.csv": Magento,
    "bigcommerce_products.csv": BigCommerce,
}
DOCUMENTS: dict[str, Callable[[str], PlatformAdapter]] = {
    "merchant_feed.xml": MerchantFeed,
    "schema_org.json": SchemaOrg,
    "ga4_events.jsonl": Ga4,
    "segment_messages.jsonl": SegmentCalls,
    "snowplow_enriched.tsv": Snowplow,
}
CELLS = st.one_of(
    st.just(""),
    st.sampled_from(["linen-shirt", "id:44", "variation", "Variant", "0", "sku=a,size=M|sku=b"]),
    st.text(st.characters(codec="utf-8", exclude_characters="\r\n\0"), max_size=12),
)
PIECES = st.sampled_from(["", "null", "[", '"', "{}", "7"])
RELAXED = settings(
    deadline=None, max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def check(adapter: PlatformAdapter, kind: str) -> tuple[int, int]:
    """The rows that are checked, and those left out."""
    rows = 0
    if kind == "items":
        for chunk in adapter.item_chunks():
            result = check_items(adapter.read_items(chunk), chunk.path, chunk.start)
            rows += result.good.num_rows + result.quarantined.num_rows
            assert chunk.rows == result.good.num_rows + result.quarantined.num_rows
    for chunk in adapter.event_chunks() if kind == "events" else ():
        checked = check_events(
            adapter.read_events(chunk), chunk.path, chunk.start, datetime.now(UTC)
        )
        good, ignored = checked.good.num_rows, checked.ignored
        assert chunk.rows == good + checked.quarantined.num_rows + ignored
        rows += chunk.rows
    return rows, sum(adapter.left_out("items" if kind == "items" else "events").values())


@pytest.mark.parametrize("name", TABLES)
@RELAXED
@given(data=st.data())
def test_every_row_of_a_table_is_accounted_for(tmp_path: Path, name: str, data: st.DataObject):
    with open(export(name), encoding="utf-8", newline="") as file:
        header, *rows = csv.reader(file)
    count = data.draw(st.integers(0, 6))
    for _ in range(count):
        row = list(rows[data.draw(st.integers(0, len(rows) - 1))])
        for _ in range(data.draw(st.integers(0, 5))):
            row[data.draw(st.integers(0, len(row) - 1))] = data.draw(CELLS)
        rows.insert(data.draw(st.integers(0, len(rows))), row)
    path = tmp_path / name
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    kind = "events" if "orders" in name else "items"
    try:
        checked, left_out = check(TABLES[name](str(path)), kind)
    except InputError:
        return
    assert checked + left_out == len(rows)


@pytest.mark.parametrize("name", DOCUMENTS)
@RELAXED
@given(data=st.data())
def test_a_damaged_document_is_rows_or_a_sentence(tmp_path: Path, name: str, data: st.DataObject):
    text = Path(export(name)).read_text(encoding="utf-8")
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(text) - 1))
        stop = start + data.draw(st.integers(0, 20))
        text = (
            text[:start]
            + data.draw(st.sampled_from(["", "null", "[", '"', "{}", "7"]))
            + text[stop:]
        )
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    try:
        check(DOCUMENTS[name](str(path)), "events" if name.endswith(("jsonl", "tsv")) else "items")
    except InputError:
        return


@pytest.mark.parametrize("name", TABLES)
def test_a_header_alone_is_no_rows(tmp_path: Path, name: str):
    path = tmp_path / name
    path.write_text(Path(export(name)).read_text(encoding="utf-8").split("\n")[0] + "\n")
    kind = "events" if "orders" in name else "items"
    assert check(TABLES[name](str(path)), kind) == (0, 0)
