"""Snowplow's enriched events: the tab-separated lines of its pipeline, or the JSON that its
analytics SDKs make of them. E-commerce is tracked by its own plugin's actions and entities."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from recsys.datasets.platforms.adapter import Export, Extract, PlatformAdapter, with_malformed
from recsys.datasets.platforms.reading import filled_lines, read_head, read_records, record_table
from recsys.errors import InputError

#: What an e-commerce action is to us.
TYPES = {
    "product_view": "view",
    "list_click": "click",
    "add_to_cart": "cart",
    "transaction": "purchase",
    "refund": "return",
}
FIELDS = 131
#: Places in a line, which has no header.
_TIME, _EVENT_ID, _USER, _BROWSER, _ENTITIES, _ACTION = 3, 6, 12, 15, 52, 58
_COLUMNS = ("event_id", "order_id", "user_id", "item_id", "type", "time", "quantity", "price")
_VENDOR = "com_snowplowanalytics_snowplow_ecommerce"
_SCHEMAS = "com.snowplowanalytics.snowplow.ecommerce/"


@dataclass(frozen=True, kw_only=True)
class _Event:
    """One event: its e-commerce action, and its entities by name."""

    event_id: str | None
    user_id: str | None
    time: str | None
    action: str | None
    products: list[Mapping[str, Any]]
    orders: list[Mapping[str, Any]]


class Snowplow(PlatformAdapter):
    """`events` is a folder (or file) of enriched events.

    Each product of a product_view, list_click, add_to_cart and transaction is an event of the user
    that the site names, else of the browser; a refund takes back. Other events are left out.
    A product's `id` is the item's."""

    name = "snowplow"

    def __init__(self, events: str) -> None:
        super().__init__(None, Export(events, _extract_events))


def _extract_events(path: str) -> Extract:
    events, malformed = _read(path)
    rows: list[dict[str, Any]] = []
    left_out: Counter[str] = Counter()
    for event in events:
        type = TYPES.get(event.action or "")
        if type is None or not event.products:
            reason = " without products" if type else ""
            left_out[f"{event.action or 'other'} events{reason}"] += 1
        else:
            rows += _rows(event, type)
    return Extract(with_malformed(record_table(rows, _COLUMNS), malformed), dict(left_out))


def _rows(event: _Event, type: str) -> Iterator[dict[str, Any]]:
    order = next((_text(each, "transaction_id") for each in event.orders), None)
    for number, product in enumerate(event.products, 1):
        yield {
            "event_id": f"{event.event_id}-{number}" if event.event_id else None,
            "order_id": order,
            "user_id": event.user_id,
            "item_id": _text(product, "id"),
            "type": type,
            "time": event.time,
            "quantity": _text(product, "quantity"),
            "price": _text(product, "price"),
        }


def _read(path: str) -> tuple[list[_Event], list[str]]:
    """The events, and the lines that are none."""
    if read_head(path, 1).startswith(("{", "[")):
        records, malformed = read_records(path)
        return [_of_json(record) for record in records], malformed
    events, malformed = [], []
    for line in filled_lines(path):
        cells = line.split("\t")
        event = _of_cells(cells) if len(cells) == FIELDS else None
        if event:
            events.append(event)
        else:
            malformed.append(line)
    if malformed and not events:
        raise InputError(
            f"{path} has no lines of {FIELDS} fields parted by tabs: give Snowplow's enriched "
            "events"
        )
    return events, malformed


def _of_json(record: Mapping[str, Any]) -> _Event:
    action = record.get(f"unstruct_event_{_VENDOR}_snowplow_ecommerce_action_1") or {}
    return _Event(
        event_id=_text(record, "event_id"),
        user_id=_text(record, "user_id", "domain_userid"),
        time=_utc(_text(record, "derived_tstamp", "collector_tstamp")),
        action=_text(action, "type"),
        products=record.get(f"contexts_{_VENDOR}_product_1") or [],
        orders=record.get(f"contexts_{_VENDOR}_transaction_1") or [],
    )


def _of_cells(cells: list[str]) -> _Event | None:
    """None where the JSON inside is damaged."""
    try:
        entities = json.loads(cells[_ENTITIES] or "{}").get("data", [])
        action = json.loads(cells[_ACTION] or "{}").get("data", {})
        by_name: dict[str, list[Mapping[str, Any]]] = {"product": [], "transaction": []}
        for entity in entities:
            name = entity["schema"].partition(_SCHEMAS)[2].partition("/")[0]
            by_name.setdefault(name, []).append(entity["data"])
        is_ours = f"{_SCHEMAS}snowplow_ecommerce_action/" in action.get("schema", "")
        return _Event(
            event_id=cells[_EVENT_ID] or None,
            user_id=cells[_USER] or cells[_BROWSER] or None,
            time=_utc(cells[_TIME] or None),
            action=_text(action["data"], "type") if is_ours else None,
            products=by_name["product"],
            orders=by_name["transaction"],
        )
    except (ValueError, AttributeError, KeyError, TypeError):
        return None


def _utc(time: str | None) -> str | None:
    """Snowplow's times are UTC and do not say so."""
    return f"{time}Z" if time and time[-1].isdigit() and "+" not in time else time


def _text(record: Mapping[str, Any], *names: str) -> str | None:
    return next((str(record[name]) for name in names if record.get(name) not in (None, "")), None)
