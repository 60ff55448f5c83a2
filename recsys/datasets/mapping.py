"""Which column of an unknown table is which: by the names that shops give it, then by what stands
in it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc

from recsys.attributes.declaration import Attribute
from recsys.datasets.platforms.adapter import Kind
from recsys.datasets.platforms.columns import ExportColumns
from recsys.errors import InputError

SAMPLE_ROWS = 10_000
_MOST_ATTRIBUTES = 20
_IMAGES = ("image", "additional_images")
_LINK = r"^https?:|^/|\.(jpe?g|png|webp)$"

#: Names by canonical column, likeliest first; compared without case, spaces and punctuation.
ITEM_NAMES = {
    "item_id": "item_id product_id sku id asin parent_asin article_number article_id article_no "
    "product_code item_code stock_code code artikelnummer artikel_nr artnr ean gtin upc barcode",
    "title": "title name product_name product_title item_name item_title bezeichnung "
    "artikelbezeichnung titel nombre titulo nom titre naam nome produktname label product",
    "description": "description product_description long_description body body_html details "
    "beschreibung descripcion desc omschrijving descrizione short_description text",
    "category": "category categories category_path category_name product_category product_type "
    "main_category department kategorie kategorien categoria categorie warengruppe section type",
    "brand": "brand brand_name manufacturer vendor maker marke hersteller marca marque merk",
    "price": "price selling_price current_price unit_price sales_price preis verkaufspreis vk "
    "precio prix prezzo prijs preco retail_price price_eur price_usd price_gbp amount",
    "list_price": "list_price msrp rrp uvp compare_at_price original_price old_price was_price "
    "regular_price statt_preis",
    "sale_price": "sale_price special_price promo_price discount_price angebotspreis offer_price",
    "currency": "currency currency_code price_currency waehrung devise moneda",
    "in_stock": "in_stock is_in_stock availability available stock stock_status stock_quantity "
    "inventory inventory_quantity quantity qty lagerbestand bestand verfuegbarkeit auf_lager",
    "image": "image image_url image_link image_src img picture photo bild bild_url imagen "
    "main_image main_image_url primary_image product_image product_image_url images image_urls "
    "image_links pictures photos bilder imagenes hauptbild thumbnail",
    "additional_images": "additional_images additional_image additional_image_link "
    "additional_image_links additional_image_urls more_images other_images extra_images gallery "
    "gallery_images image_gallery media_gallery weitere_bilder imagenes_adicionales",
    "attributes": "attributes attribute specifications specs features properties eigenschaften",
    "group_id": "group_id item_group_id parent_id parent_sku parent product_group_id master_sku "
    "style_id model_id modell_id variant_group variantengruppe handle",
    "added": "added date_added created_at created created_on release_date published_at launch_date "
    "introduction_date angelegt_am",
    "updated_at": "updated_at updated date_updated last_updated last_update modified modified_at "
    "date_modified last_modified updated_on changed_at geaendert_am aktualisiert_am mis_a_jour_le",
    "gtin": "gtin ean ean13 upc barcode isbn gtin13",
    "mpn": "mpn manufacturer_part_number part_number model_number herstellernummer",
}
EVENT_NAMES = {
    "user_id": "user_id customer_id userid customer user visitor_id client_id account_id "
    "household_id member_id shopper_id kundennummer kunden_id cliente_id email customer_email "
    "visitor session_id",
    "item_id": ITEM_NAMES["item_id"] + " item product line_item_sku lineitem_sku",
    "type": "type event_type event event_name action behavior behaviour interaction activity",
    "time": "time timestamp event_time datetime date created_at event_timestamp order_date "
    "invoice_date purchase_date transaction_date ordered_at occurred_at ts at zeit zeitpunkt "
    "datum bestelldatum fecha",
    "event_id": "event_id event_uuid uuid message_id line_id transaction_line_id",
    "order_id": "order_id order_number order_no order invoice invoice_no invoice_id transaction_id "
    "basket_id bestellnummer receipt_id",
    "quantity": "quantity qty units count item_quantity menge anzahl cantidad",
    "price": "price unit_price item_price sales_price preis precio prix",
    "request_id": "request_id",
}


def propose_mapping(raw: pa.Table, kind: Kind, path: str) -> dict[str, str]:
    """Canonical names to the table's, for the columns that can be told.

    Raises InputError where what a catalogue or a log must have cannot."""
    names = ITEM_NAMES if kind == "items" else EVENT_NAMES
    columns = ExportColumns(raw.slice(0, SAMPLE_ROWS))
    mapping: dict[str, str] = {}
    for canonical in names:
        theirs = _column_for(canonical, names[canonical], raw.column_names, columns)
        if theirs and theirs not in mapping.values():
            mapping[canonical] = theirs
    if kind == "items":
        mapping |= _by_content(raw.column_names, columns, mapping)
    needed = ("item_id", "title") if kind == "items" else ("user_id", "item_id", "time")
    for canonical in needed:
        if canonical not in mapping:
            raise InputError(
                f"{path} has no column that can be told to be the {canonical}, only "
                f"{', '.join(raw.column_names)}: write {kind[:-1]}_columns of a FilesAdapter by "
                "hand, as README.md shows"
            )
    return mapping


def propose_attributes(raw: pa.Table, mapping: Mapping[str, str]) -> list[Attribute]:
    """The columns that are left over and hold what a shopper would filter by: few distinct short
    values, or numbers."""
    columns = ExportColumns(raw.slice(0, SAMPLE_ROWS))
    attributes = []
    for name in raw.column_names:
        kind = _attribute_kind(columns[name]) if name not in mapping.values() else None
        with suppress(InputError):  # a name that no filter can have
            attributes += [Attribute(name, kind)] if kind else []
    return attributes[:_MOST_ATTRIBUTES]


def _attribute_kind(cells: pa.Array) -> Literal["text", "number"] | None:
    values = cells.drop_null()
    distinct = len(values.unique())
    if len(values) < 0.1 * len(cells) or distinct < 2 or _share(values, _LINK) > 0.1:
        return None
    if _share(values, r"^[-+]?\d+([.,]\d+)? ?[^\d\s]{0,5}$") > 0.9:
        is_number = distinct < len(values) and _share(values, r"^0\d") < 0.1
        return "number" if is_number else None
    is_short = (pc.mean(pc.utf8_length(values)).as_py() or 0) <= 40
    return "text" if is_short and distinct <= max(20, 0.5 * len(values)) else None


def table_kind(names: Sequence[str]) -> Kind:
    """A log names users and times beside items; a catalogue does not."""
    folded = {_fold(name) for name in names}
    needed = (EVENT_NAMES[name] for name in ("user_id", "item_id", "time"))
    is_log = all(folded & {_fold(word) for word in words.split()} for words in needed)
    return "events" if is_log else "items"


def _column_for(
    canonical: str, words: str, names: Sequence[str], columns: ExportColumns
) -> str | None:
    """The first of the words that is a column's name, if what stands there can be it."""
    by_word: dict[str, str] = {}
    for name in names:
        by_word.setdefault(_fold(name), name)
    matches = [by_word[_fold(word)] for word in words.split() if _fold(word) in by_word]
    fits = _FITS.get(canonical, _is_filled)
    read = columns.references if canonical in _IMAGES else columns.__getitem__
    return next((name for name in dict.fromkeys(matches) if fits(read(name))), None)


def _by_content(
    names: Sequence[str], columns: ExportColumns, mapping: Mapping[str, str]
) -> dict[str, str]:
    """An id and a title where no name tells them: the first column of distinct short codes, the
    first of many words."""
    proposals: dict[str, str] = {}
    for canonical, fits in (("item_id", _is_id), ("title", _is_title)):
        others = {*mapping.values(), *proposals.values()}
        free = (name for name in names if name not in others and fits(columns[name]))
        if canonical not in mapping and (name := next(free, None)):
            proposals[canonical] = name
    return proposals


def _is_filled(cells: pa.Array) -> bool:
    return cells.null_count < len(cells)


def _is_id(cells: pa.Array) -> bool:
    """Almost always there and distinct, and short."""
    values = cells.drop_null()
    return (
        len(values) > 0.9 * len(cells)
        and len(values.unique()) > 0.9 * len(values)
        and _share(values, r"^\S.{0,63}$") > 0.9
        and _share(values, r"\s\S+\s") < 0.1
    )


def _is_title(cells: pa.Array) -> bool:
    values = cells.drop_null()
    return len(values) > 0.5 * len(cells) and _share(values, r"\pL{2,}.*[\s-]\S") > 0.5


def _share(values: pa.Array, pattern: str) -> float:
    """The share of values that match."""
    return float(pc.mean(pc.match_substring_regex(values, pattern)).as_py() or 0) if values else 0.0


def _like(pattern: str, least: float = 0.5) -> Callable[[pa.Array], bool]:
    return lambda cells: _share(cells.drop_null(), pattern) >= least


#: What must stand in a column for its name to be believed.
_FITS: dict[str, Callable[[pa.Array], bool]] = {
    "price": _like(r"\d"),
    "list_price": _like(r"\d"),
    "sale_price": _like(r"\d"),
    "quantity": _like(r"^-?\d"),
    "time": _like(r"\d{2}"),
    "added": _like(r"\d{4}"),
    "updated_at": _like(r"\d{4}"),
    "title": _like(r"\pL"),
    "description": _like(r"\pL"),
    "category": _like(r"\pL|\d"),
    **dict.fromkeys(_IMAGES, _like(r"[/.]|^picture:")),
    "currency": _like(r"^\pL{3}$|^\p{Sc}$"),
    "gtin": _like(r"^[\d -]{8,18}$"),
}


def _fold(name: str) -> str:
    return re.sub(r"[\W_]+", "", name).casefold()
