"""What a shop's file is: a platform's export, known by its columns, or a table of its own."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from recsys.attributes.declaration import Attribute
from recsys.datasets.files import FilesAdapter
from recsys.datasets.mapping import propose_attributes, propose_mapping, table_kind
from recsys.datasets.platforms.adapter import ItemsAndEvents, Kind
from recsys.datasets.platforms.bigcommerce import BigCommerce
from recsys.datasets.platforms.columns import ExportColumns
from recsys.datasets.platforms.ga4 import Ga4
from recsys.datasets.platforms.magento import Magento
from recsys.datasets.platforms.merchant_feed import MerchantFeed
from recsys.datasets.platforms.reading import export_columns, export_files, read_export, read_head
from recsys.datasets.platforms.schema_org import SchemaOrg
from recsys.datasets.platforms.segment import SegmentCalls
from recsys.datasets.platforms.shopify import Shopify
from recsys.datasets.platforms.snowplow import FIELDS, Snowplow
from recsys.datasets.platforms.woocommerce import WooCommerce
from recsys.errors import InputError
from recsys.interfaces import DatasetAdapter


@dataclass(frozen=True, kw_only=True)
class Form:
    """A form of file: the adapter that reads it, as which of its arguments, and the columns that
    tell it, one of each group."""

    label: str
    kind: Kind
    adapter: type
    argument: str = "products"
    signs: tuple[tuple[str, ...], ...] = ()


SHOPIFY = Form(
    label="Shopify's product export",
    kind="items",
    adapter=Shopify,
    signs=(
        ("handle", "url handle"),
        ("title",),
        ("variant sku", "variant price", "option1 name", "option1 value"),
    ),
)
MERCHANT_FEED = Form(
    label="a merchant feed",
    kind="items",
    adapter=MerchantFeed,
    signs=(
        ("id", "g:id"),
        ("title", "g:title"),
        ("availability", "g:availability"),
        ("image_link", "image link", "g:image_link", "google_product_category"),
    ),
)
SCHEMA_ORG = Form(label="products of schema.org", kind="items", adapter=SchemaOrg)
FORMS = (
    SHOPIFY,
    Form(
        label="Shopify's order export",
        kind="events",
        adapter=Shopify,
        argument="orders",
        signs=(("name",), ("lineitem name",), ("lineitem quantity",), ("created at",)),
    ),
    Form(
        label="WooCommerce's product export",
        kind="items",
        adapter=WooCommerce,
        signs=(("id",), ("type",), ("name",), ("regular price",), ("in stock?", "published")),
    ),
    Form(
        label="an order export of WooCommerce",
        kind="events",
        adapter=WooCommerce,
        argument="orders",
        signs=(
            ("order id", "order number", "order_id", "order_number", "order #"),
            ("item name", "item_name", "item cost", "item_sku"),
            ("order status", "order_status", "status"),
            ("order date", "order_date", "date"),
        ),
    ),
    Form(
        label="Magento's product export",
        kind="items",
        adapter=Magento,
        signs=(("sku",), ("product_type",), ("attribute_set_code", "additional_attributes")),
    ),
    Form(
        label="BigCommerce's product export",
        kind="items",
        adapter=BigCommerce,
        signs=(
            ("item", "item type"),
            ("name", "product name"),
            ("options", "product code/sku", "inventory tracking", "option set"),
        ),
    ),
    MERCHANT_FEED,
    Form(
        label="events of Google Analytics 4",
        kind="events",
        adapter=Ga4,
        argument="events",
        signs=(("event_name",), ("event_timestamp",), ("items",)),
    ),
    Form(
        label="calls of Segment",
        kind="events",
        adapter=SegmentCalls,
        argument="events",
        signs=(("event", "type"), ("messageid", "anonymousid", "anonymous_id", "message_id")),
    ),
)
#: Fields of a product that may be its id in the catalogue, the adapter's own first.
ITEM_KEYS: dict[type, tuple[str, ...]] = {
    Ga4: ("item_id", "item_variant"),
    SegmentCalls: ("product_id", "sku", "variant", "variant_id"),
}
_CURRENCIES = ("Currency", "Order Currency", "order_currency", "Order Currency Code")
SNOWPLOW = Form(
    label="enriched events of Snowplow", kind="events", adapter=Snowplow, argument="events"
)
ITEM_TABLE = Form(
    label="a table of items", kind="items", adapter=FilesAdapter, argument="items_path"
)
EVENT_TABLE = Form(
    label="a table of events", kind="events", adapter=FilesAdapter, argument="events_path"
)


@dataclass(frozen=True, kw_only=True)
class Source:
    """A file or folder of a shop, its form, for a table of its own which column is which and which
    are attributes of items, and of a tracker the field of a product that is its id."""

    path: str
    form: Form
    columns: Mapping[str, str] = field(default_factory=dict)
    attributes: Sequence[Attribute] = ()
    item_key: str | None = None

    def arguments(self) -> dict[str, Any]:
        """What its form's adapter is given."""
        path = self.path if "://" in self.path else str(Path(self.path).resolve())
        arguments: dict[str, Any]
        columns = {f"{self.form.kind[:-1]}_columns": dict(self.columns)} if self.columns else {}
        arguments = {self.form.argument: path} | columns
        if self.form is EVENT_TABLE and "type" not in self.columns:
            arguments["event_type"] = "purchase"
        if self.item_key:
            arguments["item_key"] = self.item_key
        if self.attributes:
            arguments["attribute_columns"] = [each.name for each in self.attributes]
        return arguments


def with_item_key(source: Source, item_ids: Collection[str]) -> Source:
    """The source with the field by which most of its events are of items of the catalogue."""
    adapter, shares = source.form.adapter, dict[str, float]()
    for key in ITEM_KEYS.get(adapter, ()):
        events = adapter(source.path, item_key=key).events
        rows = events.extract(export_files(source.path)[0]).rows["item_id"].drop_null()
        matches = pc.is_in(rows, value_set=pa.array(list(item_ids), pa.string()))
        shares[key] = float(pc.mean(matches).as_py() or 0)
    if not shares or max(shares.values()) == next(iter(shares.values())):
        return source
    return replace(source, item_key=max(shares, key=shares.__getitem__))


def order_currency(sources: Sequence[Source]) -> str | None:
    """The currency of all orders, where their export says it and it is one."""
    codes: set[str] = set()
    for source in sources:
        for path in export_files(source.path) if source.form.argument == "orders" else ():
            currencies = ExportColumns(read_export(path)).first_of(*_CURRENCIES)
            codes.update(currencies.drop_null().to_pylist())
    return codes.pop() if len(codes) == 1 else None


def group_sources(sources: Sequence[Source]) -> list[list[Source]]:
    """The files of each adapter, that of the items first.

    Raises InputError for none or two of items, and two of events."""
    items = [source for source in sources if source.form.kind == "items"]
    events = [source for source in sources if source.form.kind == "events"]
    for several in (items, events):
        if len(several) > 1:
            labels = " and ".join(f"{each.path} ({each.form.label})" for each in several)
            raise InputError(
                f"{labels} are both {several[0].form.kind}: give one of them, or put files of one "
                "form into a folder of their own and give that"
            )
    if not items:
        raise InputError(
            f"there is no catalogue among {', '.join(source.path for source in sources)}: "
            "give the file of the products too"
        )
    if not events or events[0].form.adapter is items[0].form.adapter:
        return [[*items, *events]]
    return [items, events]


def make_dataset(sources: Sequence[Source]) -> DatasetAdapter:
    """The adapter of the files."""
    adapters = []
    for group in group_sources(sources):
        arguments: dict[str, Any] = {}
        for source in group:
            arguments |= source.arguments()
        adapters.append(group[0].form.adapter(**arguments))
    return adapters[0] if len(adapters) == 1 else ItemsAndEvents(*adapters)


def recognise(path: str) -> Source:
    """What the file is, or the first of the folder's.

    Raises InputError where it can be neither a platform's export nor a table of items or
    events."""
    files = export_files(path)
    if not files:
        raise InputError(f"{path} is an empty folder: give the files of a catalogue or a log")
    head = read_head(files[0])
    if head.startswith("<"):
        return Source(path=path, form=MERCHANT_FEED)
    if head.startswith(("{", "[")):
        if '"@type"' in head or '"@graph"' in head:
            return Source(path=path, form=SCHEMA_ORG)
        if '"variants"' in head and '"handle"' in head:
            return Source(path=path, form=SHOPIFY)
        if '"collector_tstamp"' in head and '"domain_userid"' in head:
            return Source(path=path, form=SNOWPLOW)
    if head.partition("\n")[0].count("\t") == FIELDS - 1:
        return Source(path=path, form=SNOWPLOW)
    names = export_columns(files[0])
    form = form_of(names)
    if form:
        return Source(path=path, form=form)
    kind = table_kind(names)
    raw = read_export(files[0])
    if not raw.num_rows or not names:
        raise InputError(f"{path} has no rows under a line of names: export it again")
    mapping = propose_mapping(raw, kind, files[0])
    if kind == "events":
        return Source(path=path, form=EVENT_TABLE, columns=mapping)
    return Source(
        path=path,
        form=ITEM_TABLE,
        columns=mapping,
        attributes=propose_attributes(raw, mapping),
    )


def form_of(names: Sequence[str]) -> Form | None:
    """The platform's form whose signs the columns have."""
    folded = {name.strip().casefold() for name in names}
    return next((form for form in FORMS if all(folded & set(group) for group in form.signs)), None)
