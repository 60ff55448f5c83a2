"""Items as the storefront's pages show them."""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from urllib.parse import quote, urlsplit

from recsys.types import BELOW, AttributeValue, Item, Quantity, Ranking, ScoredItem
from serve.web.wording import Wording

#: Characters of a title on a card; a page of its own shows all.
MAX_TITLE = 200
#: Colours of the tiles that stand for missing pictures.
TILES = 8
#: Names of attributes that are a field in another language.
_TRANSLATION = re.compile(r"^(title|description|category)_[a-z]{2}$")


@dataclass(frozen=True, kw_only=True)
class Card:
    """`segments` are the title in pieces, each with whether the query matches it. `list_price` is
    "" where the price is not reduced, by `reduction` in percent. `letter` stands on the tile of an
    item without a picture. `variants` counts the product's items, 1 without others; then `price` is
    the lowest of several."""

    item: Item
    path: str
    title: str
    segments: tuple[tuple[str, bool], ...]
    price: str
    list_price: str
    reduction: str
    picture: str
    letter: str
    tile: int
    variants: int = 1
    has_prices: bool = False


@dataclass(frozen=True)
class ItemShelf:
    """A list of items under a heading, as one answer of the shop."""

    name: str
    title: str
    request_id: str
    cards: Sequence[Card]


@dataclass(frozen=True)
class CardMaker:
    """Makes cards in one language; `thumbnails` are paths of pictures by item id."""

    wording: Wording
    thumbnails: Mapping[str, str]

    def cards_of(self, ranking: Ranking) -> list[Card]:
        return [self.card_of(each.item, each) for each in ranking.items]

    def card_of(self, item: Item, scored: ScoredItem | None = None) -> Card:
        """`scored` is the item in an answer: what its title matches, and what it stands for."""
        card = _card(item, self.wording, scored)
        thumbnail = self.thumbnails.get(item.item_id)
        return replace(card, picture=thumbnail) if thumbnail else card


def _card(item: Item, wording: Wording, scored: ScoredItem | None) -> Card:
    highlights = scored.highlights if scored else ()
    variants = scored.variants if scored else None
    lowest = variants.min_price if variants else None
    differs = bool(variants and lowest is not None and variants.max_price != lowest)
    price = lowest if differs else item.price
    is_reduced = not differs and is_sale(item)
    reduction = 1 - (item.price or 0) / item.list_price if is_reduced and item.list_price else 0.0
    label = (item.category or item.brand or item.title).rsplit(BELOW, 1)[-1].strip()
    title = text_of(item, "title", wording)
    # The ranges are of the title that was searched.
    ranges = highlights if title == item.title else ()
    return Card(
        item=item,
        path=item_path(item.item_id),
        title=title,
        segments=tuple(title_segments(title, ranges)),
        price=wording.price(price, item.currency),
        list_price=wording.price(item.list_price, item.currency) if is_reduced else "",
        reduction=wording.percent(reduction) if is_reduced else "",
        picture=picture_url(item.image),
        letter=label[:1].upper(),
        tile=zlib.crc32(label.encode("utf-8", "replace")) % TILES,
        variants=variants.count if variants else 1,
        has_prices=differs,
    )


def text_of(item: Item, name: str, wording: Wording) -> str:
    """A field of an item in the visitor's language: a shop in several has an attribute such as
    `title_zh` beside the field. An item without a title is called by its id."""
    translation = item.attribute_values.get(f"{name}_{wording.language}")
    text = translation if isinstance(translation, str) else str(getattr(item, name))
    return text or (item.item_id if name == "title" else "")


def is_sale(item: Item) -> bool:
    return item.price is not None and item.list_price is not None and item.price < item.list_price


def item_path(item_id: str) -> str:
    """Relative to the storefront."""
    return f"items/{quote(item_id, safe='')}"


def picture_url(image: str) -> str:
    """The first reference that a browser may load: of this site, or over HTTP(S); else ""."""
    for reference in image.split():
        parts = urlsplit(reference)
        if parts.scheme in ("http", "https") and parts.netloc:
            return reference
        if not parts.scheme and not parts.netloc and reference.startswith("/"):
            return reference
    return ""


def title_segments(
    title: str, highlights: Sequence[tuple[int, int]], most: int = MAX_TITLE
) -> list[tuple[str, bool]]:
    """The title in order, cut after `most` characters; True for what the query matches."""
    segments, end = list[tuple[str, bool]](), 0
    text = title if len(title) <= most else f"{title[: most - 1].rstrip()}…"
    for start, stop in sorted(highlights):
        start, stop = max(start, end), min(stop, len(text))
        if start >= stop:
            continue
        segments += [(text[end:start], False), (text[start:stop], True)]
        end = stop
    return [segment for segment in (*segments, (text[end:], False)) if segment[0]]


def attribute_rows(item: Item, wording: Wording) -> list[tuple[str, str]]:
    """Names of attributes, and their values in words."""
    values: Mapping[str, AttributeValue] = item.attribute_values
    return [
        (label_of(name), value_words(value, wording))
        for name, value in values.items()
        if not _TRANSLATION.search(name)
    ]


def value_words(value: AttributeValue, wording: Wording) -> str:
    if isinstance(value, bool):
        return wording.text("yes") if value else wording.text("no")
    if isinstance(value, Quantity):
        return f"{wording.number(value.value)} {value.unit}"
    if isinstance(value, tuple):
        return ", ".join(value_words(each, wording) for each in value)
    return wording.number(value) if isinstance(value, float) else str(value)


def label_of(name: str) -> str:
    """An attribute's name as a heading: "seat_height" is "Seat height"."""
    words = name.replace("_", " ").strip()
    return words[:1].upper() + words[1:]
