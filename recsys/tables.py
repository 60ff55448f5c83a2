"""Arrow schemas of every table we read or write. Column names live here and in `types.py`, nowhere
else."""

from __future__ import annotations

import pyarrow as pa

TIME = pa.timestamp("us", tz="UTC")

#: A valid item. `price` is what a shopper pays, `list_price` the higher one before a reduction,
#: both in `currency` (ISO 4217). `category` holds the item's paths, the leading one first, joined
#: by `types.NEXT_CATEGORY`; `image` its pictures' references
#: (`pictures.references`), the main one first. `gtin` has a right check digit. What is `hidden` no
#: answer shows or counts. Strings may be null.
ITEMS_IN = pa.schema(
    [
        pa.field("item_id", pa.string(), nullable=False),
        ("title", pa.string()),
        ("description", pa.string()),
        ("category", pa.string()),
        ("brand", pa.string()),
        ("price", pa.float64()),
        ("in_stock", pa.bool_()),
        ("image", pa.string()),
        ("attributes", pa.string()),
        ("group_id", pa.string()),
        ("added", TIME),
        ("list_price", pa.float64()),
        ("currency", pa.string()),
        ("gtin", pa.string()),
        ("mpn", pa.string()),
        ("hidden", pa.bool_()),
    ]
)

#: What a `DatasetAdapter` may give: the same columns, and those that prices are made of.
#: `sale_price` holds between `sale_starts` and `sale_ends`, or in an ISO 8601 interval
#: `start/end`. `updated_at` is when the shop last changed the row. `image` may be a list
#: or bytes; `additional_images` and numbered columns (image_2) follow it. A value of another type
#: is quarantined, not cast by force.
ITEMS_RAW = pa.schema(
    [
        *ITEMS_IN,
        ("sale_price", pa.float64()),
        ("sale_price_effective_date", pa.string()),
        ("sale_starts", TIME),
        ("sale_ends", TIME),
        ("updated_at", TIME),
        ("additional_images", pa.string()),
    ]
)

#: A release's catalogue: sorted by id within a shard; `text_hash` is blake2b-128 of the text that
#: was encoded.
ITEMS = pa.schema([*ITEMS_IN, pa.field("text_hash", pa.binary(16), nullable=False)])

#: A picture of an item that was read; place 0 is the main one. `content_hash` is blake2b-128 of its
#: bytes; `etag` and `last_modified` are what its host said of it. Sorted by the item's row, then by
#: place. `unsafe` is null where no model looked.
PICTURES = pa.schema(
    [
        pa.field("item_id", pa.string(), nullable=False),
        pa.field("place", pa.int32(), nullable=False),
        pa.field("reference", pa.string(), nullable=False),
        pa.field("content_hash", pa.binary(16), nullable=False),
        pa.field("width", pa.int32(), nullable=False),
        pa.field("height", pa.int32(), nullable=False),
        pa.field("bytes", pa.int64(), nullable=False),
        ("etag", pa.string()),
        ("last_modified", pa.string()),
        ("unsafe", pa.bool_()),
    ]
)

#: Small copies of pictures, WebP; some hashes may be there twice.
THUMBNAILS = pa.schema(
    [
        pa.field("content_hash", pa.binary(16), nullable=False),
        pa.field("thumbnail", pa.binary(), nullable=False),
    ]
)

#: A valid event. Without a `user_id` it is a guest's: it counts for the item alone. A purchase of a
#: negative quantity takes an earlier one back, of `-inf` all of it.
EVENTS = pa.schema(
    [
        pa.field("event_id", pa.string(), nullable=False),
        ("user_id", pa.string()),
        pa.field("item_id", pa.string(), nullable=False),
        pa.field("type", pa.string(), nullable=False),
        pa.field("time", TIME, nullable=False),
        ("request_id", pa.string()),
        ("quantity", pa.float64()),
        ("price", pa.float64()),
    ]
)

#: What a `DatasetAdapter` may give: `event_id` may be missing; `order_id` tells orders apart then.
EVENTS_RAW = pa.schema(
    [field.with_nullable(field.nullable or field.name == "event_id") for field in EVENTS]
    + [pa.field("order_id", pa.string())]
)

#: Columns that the raw tables must have.
REQUIRED = {"items": ("item_id",), "events": ("user_id", "item_id", "type", "time")}

#: The live log knows every user, and where an event was sent from; no release does.
LIVE_EVENTS = pa.schema(
    [field.with_nullable(field.nullable and field.name != "user_id") for field in EVENTS]
    + [pa.field("origin", pa.string())]
)

#: The same, each row with its number in the log.
NUMBERED_EVENTS = pa.schema([pa.field("sequence", pa.int64(), nullable=False), *LIVE_EVENTS])

#: Archived impressions: `told` and `features` as `events.codec.encode_impression` makes them.
NUMBERED_IMPRESSIONS = pa.schema(
    [
        pa.field("sequence", pa.int64(), nullable=False),
        pa.field("request_id", pa.string(), nullable=False),
        ("user_id", pa.string()),
        pa.field("time", TIME, nullable=False),
        pa.field("told", pa.binary(), nullable=False),
        pa.field("features", pa.binary(), nullable=False),
    ]
)

#: Rows that could not be used: where they stood, why, and what they were (JSON).
QUARANTINE = pa.schema(
    [
        pa.field("table", pa.string(), nullable=False),
        pa.field("path", pa.string(), nullable=False),
        pa.field("row", pa.int64(), nullable=False),
        pa.field("reason", pa.string(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
    ]
)

#: What rankers learn from: one row an item that an answer showed, as `types.Impression` logged it.
#: `position` counts from 1 at the first page's first place; `label` is 0 for an item that nobody
#: touched, else 1 + the place in EVENT_TYPES of the strongest interaction; `origin` is where that
#: interaction came from.
EXAMPLES = pa.schema(
    [
        pa.field("request_id", pa.string(), nullable=False),
        ("user_id", pa.string()),
        pa.field("surface", pa.string(), nullable=False),
        ("query", pa.string()),
        pa.field("release", pa.string(), nullable=False),
        pa.field("time", TIME, nullable=False),
        pa.field("item_id", pa.string(), nullable=False),
        pa.field("position", pa.int32(), nullable=False),
        pa.field("features", pa.list_(pa.float32()), nullable=False),
        pa.field("score", pa.float32(), nullable=False),
        pa.field("propensity", pa.float32(), nullable=False),
        pa.field("team", pa.string(), nullable=False),
        pa.field("ranker", pa.string(), nullable=False),
        pa.field("arms", pa.map_(pa.string(), pa.string()), nullable=False),
        pa.field("label", pa.int8(), nullable=False),
        ("origin", pa.string()),
    ]
)

#: What `item_clicks.count_item_clicks` counts of each item that was shown.
ITEM_CLICKS = pa.schema(
    [
        pa.field("item_id", pa.string(), nullable=False),
        pa.field("exposure", pa.float64(), nullable=False),
        pa.field("clicks", pa.int64(), nullable=False),
    ]
)

#: Past queries worth suggesting: folded, sorted, with the number of users who asked them.
QUERIES = pa.schema(
    [pa.field("query", pa.string(), nullable=False), pa.field("users", pa.int64(), nullable=False)]
)

#: Completions (`suggestions.Suggestions`): sorted by `key`; `row` is the suggestion's place in the
#: first record batch, which alone has `text` and `kind`.
SUGGESTIONS = pa.schema(
    [
        pa.field("key", pa.string(), nullable=False),
        pa.field("weight", pa.float32(), nullable=False),
        pa.field("row", pa.int32(), nullable=False),
        ("text", pa.string()),
        ("kind", pa.string()),
    ]
)
