"""Google Analytics 4: the events that it exports to BigQuery, as Parquet or lines of JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from recsys.datasets.casts import cast, to_mask
from recsys.datasets.platforms.adapter import Export, Extract, PlatformAdapter, with_malformed
from recsys.datasets.platforms.columns import (
    ExportColumns,
    begins_key,
    joined,
    number_in_key,
    where,
)
from recsys.datasets.platforms.reading import is_parquet, open_export, read_records
from recsys.errors import InputError
from recsys.tables import TIME

#: What an event is to us. A list that was shown is an impression, which is no event.
TYPES = {
    "view_item": "view",
    "select_item": "click",
    "add_to_cart": "cart",
    "purchase": "purchase",
    "refund": "return",
}
Record = Mapping[str, Any]
_ITEM_FIELDS = ("quantity", "price", "request_id")
_COLUMNS = ("event_name", "event_timestamp", "user_pseudo_id", "user_id", "ecommerce", "items")


class Ga4(PlatformAdapter):
    """`events` is the folder of the tables events_YYYYMMDD, or one of them, in Parquet or JSONL.

    Each item of a view, a click, an addition to the cart and a purchase is an event of the user
    that the site names, else of the browser. A refund takes the purchase back. Other events are
    left out. `item_key` names the field of an item that is its id in the catalogue."""

    name = "ga4"

    def __init__(self, events: str, item_key: str = "item_id") -> None:
        super().__init__(None, Export(events, partial(_extract_events, item_key)))


def _extract_events(item_key: str, path: str) -> Extract:
    raw, malformed = _read(path, item_key)
    extract = _extract_rows(raw, item_key)
    return replace(extract, rows=with_malformed(extract.rows, malformed))


def extract_records(records: Sequence[Record], item_key: str = "item_id") -> Extract:
    """The events of records, in memory as the export has them."""
    return _extract_rows(_table(records, item_key), item_key)


def _extract_rows(raw: pa.Table, item_key: str) -> Extract:
    names = ExportColumns(raw)["event_name"]
    left_out = {
        f"{each['values']} events": each["counts"]
        for each in pc.value_counts(names).to_pylist()
        if each["values"] not in TYPES
    }
    raw = raw.filter(pc.is_in(names, value_set=pa.array(list(TYPES))))
    orders = where(to_mask(pc.equal(raw["event_name"], "purchase")), _transaction_ids(raw))
    reloaded = to_mask(pc.is_valid(orders)) & ~begins_key(orders)
    if reloaded.any():
        left_out["purchase events of an order before"] = int(reloaded.sum())
    raw = raw.filter(pa.array(~reloaded))
    items = _lists(raw["items"].combine_chunks())
    empty = to_mask(pc.equal(pc.list_value_length(items), 0)) | to_mask(pc.is_null(items))
    if empty.any():
        left_out["events without items"] = int(empty.sum())
    return Extract(_events(raw, items, item_key), left_out)


def _events(raw: pa.Table, items: pa.Array, item_key: str) -> pa.Table:
    """An event for each item of each row."""
    owners, flat = pc.list_parent_indices(items), pc.list_flatten(items)
    event = ExportColumns(raw.drop_columns(["items"]).take(owners))
    names, browsers = event["event_name"], event["user_pseudo_id"]
    microseconds = cast(event["event_timestamp"], pa.int64())
    orders = _transaction_ids(raw).take(owners)
    # Events of one batch have one time: their number tells them apart.
    keys = joined("-", pc.coalesce(orders, joined("-", browsers, event["event_timestamp"])), names)
    types = pa.array(list(TYPES.values())).take(pc.index_in(names, value_set=pa.array(list(TYPES))))
    return pa.table(
        {
            "event_id": joined("-", keys, number_in_key(keys)),
            "order_id": orders,
            "user_id": event.first_of("user_id", "user_pseudo_id"),
            "item_id": _field(flat, item_key),
            "type": types,
            "time": microseconds.cast(pa.timestamp("us")).cast(TIME),
            "quantity": _field(flat, "quantity"),
            "price": _field(flat, "price"),
            "request_id": _field(flat, "request_id"),
        }
    )


def _read(path: str, item_key: str) -> tuple[pa.Table, list[str]]:
    """The columns that we read, and the lines that are no JSON."""
    malformed: list[str] = []
    if is_parquet(path):
        with open_export(path) as stream:
            file = pq.ParquetFile(pa.BufferReader(stream.read()))
        names = [name for name in _COLUMNS if name in file.schema_arrow.names]
        raw = file.read(columns=names)
    else:
        records, malformed = read_records(path)
        raw = _table(records, item_key)
    for name in ("event_name", "event_timestamp", "items"):
        if name not in raw.column_names:
            raise InputError(
                f"{path} has no column {name!r}: export the tables events_YYYYMMDD of BigQuery"
            )
    return raw, malformed


def _table(records: Sequence[Record], item_key: str) -> pa.Table:
    """The records with texts alone, numbers as they are written."""
    item = pa.struct([(name, pa.string()) for name in (item_key, *_ITEM_FIELDS)])
    items = [
        [{field.name: _text(each.get(field.name)) for field in item} for each in record["items"]]
        if record.get("items")
        else None
        for record in records
    ]
    orders = [(record.get("ecommerce") or {}).get("transaction_id") for record in records]
    columns = {
        name: pa.array([_text(record.get(name)) for record in records], pa.string())
        for name in _COLUMNS[:4]
        if any(name in record for record in records) or not records
    }
    order = pa.StructArray.from_arrays(
        [pa.array(map(_text, orders), pa.string())], names=["transaction_id"]
    )
    return pa.table(columns | {"ecommerce": order, "items": pa.array(items, pa.list_(item))})


def _lists(items: pa.Array) -> pa.Array:
    """Lists of structs; older exports of BigQuery wrap both, as `list` and `element`."""
    if pa.types.is_struct(items.type) and items.type.num_fields == 1:
        return _lists(pc.struct_field(items, [0]))
    return items


def _field(items: pa.Array, name: str) -> pa.Array:
    """A field of each item as text, null where the export has none or says `(not set)`."""
    while items.type.num_fields == 1 and pa.types.is_struct(items.type.field(0).type):
        items = pc.struct_field(items, [0])
    if items.type.get_field_index(name) < 0:
        return pa.nulls(len(items), pa.string())
    text = ExportColumns(pa.table({"field": pc.struct_field(items, name)}))["field"]
    return where(~to_mask(pc.equal(text, "(not set)")), text)


def _transaction_ids(raw: pa.Table) -> pa.Array:
    if "ecommerce" not in raw.column_names:
        return pa.nulls(raw.num_rows, pa.string())
    return _field(raw["ecommerce"].combine_chunks(), "transaction_id")


def _text(value: Any) -> str | None:
    return None if value is None else str(value)
