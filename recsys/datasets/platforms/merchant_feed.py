"""Product feeds in Google Merchant Center's terms, which Meta, Bing, Pinterest and others read
too: RSS 2.0, Atom, or a table."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from xml.etree.ElementTree import Element, ParseError

import pyarrow as pa
import pyarrow.compute as pc
from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import iterparse

from recsys.datasets.casts import to_mask
from recsys.datasets.platforms.adapter import Export, Extract, PlatformAdapter, keep_rows
from recsys.datasets.platforms.columns import ExportColumns, attribute_objects, where
from recsys.datasets.platforms.reading import open_export, read_export, record_table
from recsys.errors import InputError

#: What else a feed says of an item, as its attributes.
ATTRIBUTES = (
    *("color", "size", "material", "pattern", "gender", "age_group", "size_system", "condition"),
    *("energy_efficiency_class", "unit_pricing_measure"),
)
_ITEMS = ("item", "entry")


class MerchantFeed(PlatformAdapter):
    """`products` is an RSS or Atom file (.xml) or a table of tabs or commas (.tsv, .txt, .csv).

    An item has the feed's id and is of the group `item_group_id`. Its category is the shop's own
    `product_type`, without one the path of `google_product_category`."""

    name = "merchant_feed"

    def __init__(self, products: str) -> None:
        super().__init__(Export(products, _extract_products))


def _extract_products(path: str) -> Extract:
    is_xml = ".xml" in path.casefold() or ".rss" in path.casefold() or ".atom" in path.casefold()
    raw = record_table(list(_xml_items(path))) if is_xml else _plain_names(read_export(path))
    columns = ExportColumns(raw)
    for name in ("id", "title"):
        if name not in columns:
            raise InputError(
                f"{path} has no {name!r} of a product: give a feed in the terms of Google Merchant "
                "Center"
            )
    google = columns["google_product_category"]
    is_number = to_mask(pc.match_substring_regex(google, r"^\d+$"))
    pairs: list[tuple[pa.Array | str, pa.Array]] = [(name, columns[name]) for name in ATTRIBUTES]
    pairs += [(match[1], cells) for match, cells in columns.matching(r"detail:(.+)")]
    pairs += [(match[0], cells) for match, cells in columns.matching(r"custom_label_\d")]
    items = {
        "item_id": columns["id"],
        "title": columns["title"],
        "description": columns.first_of("description", "summary"),
        "category": pc.coalesce(columns["product_type"], where(~is_number, google)),
        "brand": columns["brand"],
        "price": columns["price"],
        "sale_price": columns["sale_price"],
        "sale_price_effective_date": columns["sale_price_effective_date"],
        "in_stock": columns["availability"],
        "image": columns["image_link"],
        "additional_images": columns["additional_image_link"],
        "attributes": attribute_objects(pairs),
        "group_id": columns["item_group_id"],
        "gtin": columns["gtin"],
        "mpn": columns["mpn"],
    }
    return keep_rows(raw, items, [])


def _plain_names(raw: pa.Table) -> pa.Table:
    """`g:image_link` and `image link` are image_link."""
    names = [name.strip().casefold().removeprefix("g:") for name in raw.column_names]
    return raw.rename_columns([name.replace(" ", "_") for name in names])


def _xml_items(path: str) -> Iterator[dict[str, Any]]:
    """An item's elements by name. Streams: only one item is in memory; entities are refused."""
    try:
        with open_export(path) as stream:
            for _, element in iterparse(stream, forbid_entities=True):
                if _name(element) in _ITEMS:
                    yield _item(element)
                    element.clear()
    except DefusedXmlException as error:
        raise InputError(
            f"{path} defines entities of its own, which are not read: export the feed without a "
            "document type"
        ) from error
    except (ParseError, LookupError, ValueError) as error:  # of an encoding too
        raise InputError(f"{path} is no XML ({error}): export the feed again, in UTF-8") from error


def _item(element: Element) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for child in element:
        name, text = _name(child), (child.text or "").strip()
        if name == "product_detail":
            parts = {_name(part): (part.text or "").strip() for part in child}
            values[f"detail:{parts.get('attribute_name')}"] = parts.get("attribute_value")
        elif name in ("product_type", "additional_image_link"):
            values.setdefault(name, []).append(text)
        elif text:
            values.setdefault(name, text)
    return values


def _name(element: Element) -> str:
    return str(element.tag).rpartition("}")[2]
