"""Segment's (and RudderStack's) track calls of the e-commerce specification: raw messages, or
tables of a warehouse."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from recsys.datasets.platforms.adapter import Export, Extract, PlatformAdapter, with_malformed
from recsys.datasets.platforms.reading import (
    is_parquet,
    read_export,
    read_head,
    read_records,
    record_table,
)
from recsys.errors import InputError

#: What a track call is to us, by both generations of its names.
TYPES = {
    "product viewed": "view",
    "viewed product": "view",
    "product clicked": "click",
    "clicked product": "click",
    "product added": "cart",
    "added product": "cart",
    "order completed": "purchase",
    "completed order": "purchase",
    "order refunded": "return",
    "refunded order": "return",
    "order cancelled": "return",
}
_COLUMNS = (
    *("event_id", "order_id", "user_id", "item_id", "type", "time", "quantity", "price"),
    "request_id",
)
Record = Mapping[str, Any]
_IDS = ("product_id", "productId", "sku", "id")


class SegmentCalls(PlatformAdapter):
    """`events` is a folder (or file) of messages as JSON, or of warehouse tables as CSV or Parquet.

    Product Viewed is a view, Product Clicked a click, Product Added an addition to the cart, each
    product of Order Completed a purchase; Order Refunded and Order Cancelled take it back. The user
    is userId, else anonymousId. Other calls are left out. `item_key` names the property that is the
    item's id in the catalogue; where it is missing, product_id, sku or id."""

    name = "segment"

    def __init__(self, events: str, item_key: str = "product_id") -> None:
        super().__init__(None, Export(events, partial(_extract_events, item_key)))


def _extract_events(item_key: str, path: str) -> Extract:
    malformed: list[str] = []
    if is_parquet(path) or not read_head(path, 1).startswith(("{", "[")):
        records = read_export(path).to_pylist()
    else:
        records, malformed = read_records(path)
    if records and not any("event" in record or "type" in record for record in records):
        raise InputError(
            f"{path} has no track calls: give Segment's raw messages, or its warehouse's tables"
        )
    extract = extract_calls(records, item_key)
    return replace(extract, rows=with_malformed(extract.rows, malformed))


def extract_calls(records: Sequence[Record], item_key: str = "product_id") -> Extract:
    """The events of messages, in memory as they came."""
    rows: list[dict[str, Any]] = []
    left_out: Counter[str] = Counter()
    for record in records:
        name = str(record.get("event") or record.get("type") or "unnamed")
        type = TYPES.get(name.replace("_", " ").casefold())
        products = _products(record) if type else []
        if not products:
            left_out[f"{name} calls" + (" without products" if type else "")] += 1
        elif type:
            rows += _rows(record, products, type, item_key)
    return Extract(record_table(rows, _COLUMNS), dict(left_out))


def _products(record: Record) -> list[Record]:
    """The products of an order; a call of one product is its own."""
    properties = _properties(record)
    products = properties.get("products")
    if isinstance(products, str):  # as warehouses keep them
        products = json.loads(products)
    if products is None and any(name in properties for name in _IDS[:3]):
        return [properties]
    return [product for product in products or () if isinstance(product, Mapping)]


def _properties(record: Record) -> Record:
    """Of a message; a warehouse's row is flat."""
    properties = record.get("properties")
    return properties if isinstance(properties, Mapping) else record


def _rows(
    record: Record, products: list[Record], type: str, item_key: str
) -> Iterator[dict[str, Any]]:
    properties = _properties(record)
    message = _first(record, "messageId", "message_id", "id")
    for number, product in enumerate(products, 1):
        yield {
            "event_id": f"{message}-{number}" if message else None,
            "order_id": _first(properties, "order_id", "orderId"),
            "user_id": _first(record, "userId", "user_id", "anonymousId", "anonymous_id"),
            "item_id": _first(product, item_key, *_IDS),
            "type": type,
            "time": _first(record, "timestamp", "originalTimestamp", "original_timestamp"),
            "quantity": _first(product, "quantity"),
            "price": _first(product, "price"),
            "request_id": _first({**properties, **product}, "request_id", "query_id", "queryID"),
        }


def _first(record: Record, *names: str) -> str | None:
    return next((str(record[name]) for name in names if record.get(name) not in (None, "")), None)
