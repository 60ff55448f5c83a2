"""Events of Google Analytics 4 and Segment."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.parquet as pq

from recsys.datasets.platforms.ga4 import Ga4
from recsys.datasets.platforms.segment import SegmentCalls
from recsys.datasets.platforms.snowplow import Snowplow
from recsys.datasets.validate import LINE
from tests.test_platforms import events_of, export

FIRST = datetime(2026, 10, 1, 10, tzinfo=UTC)


def test_each_item_of_a_ga4_event_is_an_event():
    *events, malformed = events_of(Ga4(export("ga4_events.jsonl")))
    assert [
        (each["user_id"], each["type"], each["item_id"], each["quantity"]) for each in events
    ] == [
        ("1005694.58", "view", "MUG-1", "1"),
        ("1005694.58", "view", "LAMP-1", None),
        ("ada", "purchase", "MUG-1", "2"),
        ("ada", "purchase", None, "1"),  # (not set)
        ("ada", "return", "MUG-1", "1"),
        ("ada", "return", "LAMP-1", None),
    ]
    assert events[0]["time"] == FIRST
    assert len({each["event_id"] for each in events}) == 6
    assert malformed[LINE].startswith('{"event_date":"20261002"')


def test_a_page_that_was_loaded_again_is_no_second_purchase():
    assert Ga4(export("ga4_events.jsonl")).left_out("events") == {
        "page_view events": 1,
        "purchase events of an order before": 1,
        "events without items": 1,
    }


def test_ga4_in_parquet_both_shapes_of_lists(tmp_path):
    item = {"item_id": "MUG-1", "price": 12.0, "quantity": 2}
    columns = {
        "event_name": ["purchase"],
        "event_timestamp": [1_790_848_800_000_000],
        "user_pseudo_id": ["1.2"],
        "user_id": pa.array([None], pa.string()),
        "ecommerce": [{"transaction_id": "T-1"}],
    }
    plain, wrapped = tmp_path / "plain.parquet", tmp_path / "wrapped.parquet"
    pq.write_table(pa.table(columns | {"items": [[item]]}), plain)
    pq.write_table(pa.table(columns | {"items": [{"list": [{"element": item}]}]}), wrapped)
    events = [events_of(Ga4(str(path))) for path in (plain, wrapped)]
    assert events[0] == events[1]
    assert events[0][0]["item_id"] == "MUG-1"
    assert events[0][0]["time"] == FIRST
    assert (events[0][0]["user_id"], events[0][0]["quantity"]) == ("1.2", "2")


def test_segments_calls():
    events = events_of(SegmentCalls(export("segment_messages.jsonl"), item_key="sku"))
    assert [
        (each["user_id"], each["type"], each["item_id"], each["quantity"]) for each in events
    ] == [
        ("anon-1", "view", "G-32", "1"),
        ("u-1", "cart", "G-32", "2"),
        ("u-1", "purchase", "G-32", "1"),
        ("u-1", "purchase", "46493-32", "2"),
        ("u-1", "return", "505bd76785ebb509fc183733", "2"),
    ]
    assert SegmentCalls(export("segment_messages.jsonl")).left_out("events") == {
        "page calls": 1,
        "Order Refunded calls without products": 1,
    }


def test_tables_of_segments_warehouse(tmp_path):
    products = json.dumps([{"product_id": "a", "quantity": 1}, {"product_id": "b"}])
    table = pa.table(
        {
            "id": ["m1"],
            "event": ["order_completed"],
            "user_id": ["u"],
            "timestamp": [FIRST],
            "order_id": ["o"],
            "products": [products],
        }
    )
    pq.write_table(table, tmp_path / "order_completed.parquet")
    events = events_of(SegmentCalls(str(tmp_path)))
    assert [each["item_id"] for each in events] == ["a", "b"]
    assert [each["event_id"] for each in events] == ["m1-1", "m1-2"]
    assert {each["time"] for each in events} == {"2026-10-01 10:00:00+00:00"}


def test_snowplows_lines():
    adapter = Snowplow(export("snowplow_enriched.tsv"))
    *events, malformed = events_of(adapter)
    assert [(each["user_id"], each["type"], each["item_id"], each["price"]) for each in events] == [
        ("b-1", "view", "MUG-1", "12"),
        ("ada", "cart", "MUG-1", "12"),
        ("ada", "purchase", "MUG-1", "12"),
        ("ada", "purchase", "LAMP-1", "80.5"),
        ("ada", "return", "LAMP-1", "80.5"),
    ]
    assert (events[2]["order_id"], events[2]["time"]) == ("T-1", "2026-10-01 10:05:00.000Z")
    assert malformed[LINE].endswith("cut off")
    assert adapter.left_out("events") == {"other events": 1, "checkout_step events": 1}


def test_snowplows_json(tmp_path):
    vendor = "com_snowplowanalytics_snowplow_ecommerce"
    record = {
        "event_id": "e2",
        "collector_tstamp": "2026-10-01T10:00:00.000Z",
        "user_id": None,
        "domain_userid": "b-1",
        f"unstruct_event_{vendor}_snowplow_ecommerce_action_1": {"type": "product_view"},
        f"contexts_{vendor}_product_1": [{"id": "MUG-1", "price": 12, "currency": "EUR"}],
    }
    path = tmp_path / "events.jsonl"
    path.write_text(json.dumps(record) + "\n")
    (event,) = events_of(Snowplow(str(path)))
    assert (event["event_id"], event["user_id"], event["type"]) == ("e2-1", "b-1", "view")
