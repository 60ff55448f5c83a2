"""Products as schema.org's JSON-LD, as pages carry them and as feeds collect them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import pyarrow as pa

from recsys.datasets.platforms.adapter import Export, Extract, PlatformAdapter, keep_rows
from recsys.datasets.platforms.columns import ExportColumns, attribute_objects
from recsys.datasets.platforms.reading import read_documents, record_table
from recsys.errors import InputError
from recsys.types import NEXT_PICTURE

_GTINS = ("gtin", "gtin13", "gtin12", "gtin14", "gtin8")
_IDS = ("sku", "productID", "mpn", *_GTINS, "@id", "url")
_ATTRIBUTES = ("color", "size", "material", "pattern")
Node = Mapping[str, Any]


class SchemaOrg(PlatformAdapter):
    """`products` is a file of JSON-LD: a document, an array, a graph, an ItemList, or one product a
    line.

    An item is a Product, or a ProductGroup's variant, which inherits from it; its id is the first
    that it has of sku, productID, mpn, gtin, @id and url. A price is the first offer's, of an
    AggregateOffer the lowest."""

    name = "schema_org"

    def __init__(self, products: str) -> None:
        super().__init__(Export(products, _extract_products))


def _extract_products(path: str) -> Extract:
    rows = [
        row for document in read_documents(path) for node in nodes(document) for row in _rows(node)
    ]
    if not rows:
        raise InputError(
            f"{path} has no Product of schema.org: give JSON-LD with '@type': 'Product'"
        )
    raw = record_table(rows)
    columns = ExportColumns(raw)
    items = {name: columns[name] for name in rows[0] if not name.startswith("attribute:")}
    pairs: list[tuple[pa.Array | str, pa.Array]] = [
        (match[1], cells) for match, cells in columns.matching(r"attribute:(.+)")
    ]
    if pairs:
        items["attributes"] = attribute_objects(pairs)
    return keep_rows(raw, items, [])


def nodes(document: Any) -> Iterator[Node]:
    """The products and groups of products in a document, wherever they stand."""
    if isinstance(document, list):
        for each in document:
            yield from nodes(each)
    elif isinstance(document, Mapping):
        if _types(document) & {"Product", "ProductGroup", "IndividualProduct", "ProductModel"}:
            yield document
        else:
            for name in ("@graph", "itemListElement", "item", "mainEntity", "products"):
                yield from nodes(document.get(name))


def _types(node: Node) -> set[str]:
    types = node.get("@type")
    return {
        str(each).rpartition("/")[2] for each in (types if isinstance(types, list) else [types])
    }


def _rows(node: Node) -> Iterator[dict[str, Any]]:
    variants = _list(node.get("hasVariant"))
    if not variants:
        yield _row(node)
    group = _first(node.get("productGroupID"), _id(node))
    for variant in variants:
        own = {name: value for name, value in variant.items() if value not in (None, "", [])}
        yield _row({**_shared(node), **own}) | {"group_id": group}


def _shared(group: Node) -> dict[str, Any]:
    """What a variant inherits: all but what names the group itself."""
    own = {"hasVariant", "@type", "@id", "sku", "productID", "url", "productGroupID", "variesBy"}
    return {name: value for name, value in group.items() if name not in own}


def _row(node: Node) -> dict[str, Any]:
    offer = _mapping(node.get("offers"))
    specification = _mapping(offer.get("priceSpecification"))
    attributes = {name: _text(node.get(name)) for name in _ATTRIBUTES}
    for each in _list(node.get("additionalProperty")):
        value, unit = _text(each.get("value")), _text(each.get("unitText"))
        attributes[_text(each.get("name")) or "property"] = f"{value} {unit}" if unit else value
    group = node.get("inProductGroupWithID") or _id(_mapping(node.get("isVariantOf")))
    return {
        "item_id": _id(node),
        "title": _text(node.get("name")),
        "description": _text(node.get("description")),
        "category": _category(node.get("category")),
        "brand": _text(node.get("brand")),
        "price": _first(offer.get("price"), offer.get("lowPrice"), specification.get("price")),
        "currency": _first(offer.get("priceCurrency"), specification.get("priceCurrency")),
        "in_stock": _text(offer.get("availability")),
        "image": _images(node.get("image")),
        "group_id": group,
        "gtin": _first(*(node.get(name) for name in _GTINS)),
        "mpn": _text(node.get("mpn")),
        **{f"attribute:{name}": value for name, value in attributes.items()},
    }


def _id(node: Node) -> str | None:
    return _first(*(node.get(name) for name in _IDS))


def _category(category: Any) -> list[str] | None:
    return list(filter(None, map(_text, _items(category)))) or None


def _images(image: Any) -> str | None:
    objects = _items(image)
    urls = (_first_value(o, "contentUrl", "url") if isinstance(o, Mapping) else o for o in objects)
    texts = (_text(each) for url in urls for each in _items(url))
    return NEXT_PICTURE.join(filter(None, texts)) or None


def _first_value(node: Node, *names: str) -> Any:
    return next((node[name] for name in names if node.get(name)), None)


def _first(*values: Any) -> str | None:
    return next((text for value in values if (text := _text(value))), None)


def _text(value: Any) -> str | None:
    """A text, number, the name of a thing, or the first of several."""
    if isinstance(value, list):
        value = next(iter(value), None)
    if isinstance(value, Mapping):
        value = _first_value(value, "name", "@value", "value")
    return None if value is None else str(value).strip() or None


def _items(value: Any) -> Iterable[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]


def _list(value: Any) -> list[Node]:
    return [each for each in _items(value) if isinstance(each, Mapping)]


def _mapping(value: Any) -> Node:
    return next(iter(_list(value)), {})
