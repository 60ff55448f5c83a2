"""What the shop sells: product types from the hand-written files of `products/`.

A text is `English=中文`; several are parted by semicolons."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "products"
#: The one file of them that is no list of products.
SHOP = "shop.toml"


@dataclass(frozen=True)
class Bilingual:
    """A text in English and in Chinese."""

    english: str
    chinese: str

    @classmethod
    def of(cls, text: str) -> Bilingual:
        english, _, chinese = text.rpartition("=")
        return cls(english.strip(), chinese.strip())


@dataclass(frozen=True, kw_only=True)
class ProductType:
    """One of the things that are sold, such as a running shoe.

    `picture` names the drawing by its code points. A model is one of `models` with one of
    `features`; its variants differ in colour or in the size of the pack. `facts` has a text or a
    range with a unit for each attribute; `goes_with` names other types; `season` has the months of
    high demand, 1 to 12."""

    name: str
    chinese: str
    picture: str
    shelf: tuple[str, ...]
    models: tuple[Bilingual, ...]
    features: tuple[Bilingual, ...]
    about: Bilingual
    price: tuple[float, float]
    colours: tuple[str, ...]
    packs: tuple[str, ...]
    facts: tuple[tuple[str, str], ...]
    goes_with: tuple[str, ...]
    season: frozenset[int]

    @classmethod
    def of(cls, name: str, fields: Mapping[str, Any]) -> ProductType:
        """From a table of a file."""
        low, high = map(float, fields["price"].split("-"))
        facts = (fact.partition(":") for fact in _parts(fields.get("facts", ""), ";"))
        return cls(
            name=name,
            chinese=fields["zh"],
            picture=fields["picture"],
            shelf=_parts(fields["shelf"], "/"),
            models=tuple(map(Bilingual.of, _parts(fields["models"], ";"))),
            features=tuple(map(Bilingual.of, _parts(fields["features"], ";"))),
            about=Bilingual.of(fields["about"]),
            price=(low, high),
            colours=tuple(fields.get("colours", "").split()),
            packs=_parts(fields.get("packs", ""), ","),
            facts=tuple((key.strip(), value.strip()) for key, _, value in facts),
            goes_with=_parts(fields.get("goes_with", ""), ","),
            season=_months(fields.get("season", "")),
        )


@dataclass(frozen=True, kw_only=True)
class Brand:
    """A made-up brand; its model numbers begin with `letters`."""

    name: str
    letters: str


@dataclass(frozen=True, kw_only=True)
class Colour:
    """A colour in OKLab: lightness 0..1, chroma, hue in degrees."""

    chinese: str
    lightness: float
    chroma: float
    hue: float


@cache
def product_types() -> tuple[ProductType, ...]:
    """All of them, by file and place."""
    files = sorted(file for file in FOLDER.glob("*.toml") if file.name != SHOP)
    tables = [tomllib.loads(file.read_text(encoding="utf-8")) for file in files]
    return tuple(ProductType.of(name, table[name]) for table in tables for name in table)


@cache
def colours() -> Mapping[str, Colour]:
    """By the words that titles have."""
    return {
        name: Colour(chinese=values.pop("zh"), **values)
        for name, values in _shop()["colours"].items()
    }


def brands_of(shelf: tuple[str, ...]) -> tuple[Brand, ...]:
    """The brands that sell on a shelf: those of the longest path that has some."""
    brands = _shop()["brands"]
    paths = (" / ".join(shelf[:levels]) for levels in range(len(shelf), 0, -1))
    entries = _parts(next(brands[path] for path in paths if path in brands), ",")
    return tuple(
        Brand(name=name, letters=letters)
        for name, _, letters in (entry.partition("=") for entry in entries)
    )


def line_names() -> tuple[str, ...]:
    return _parts(_shop()["lines"]["words"], ",")


def shelf_in_chinese(shelf: tuple[str, ...]) -> tuple[str, ...]:
    chinese = _shop()["zh"]
    return tuple(chinese[level] for level in shelf)


@cache
def _shop() -> dict[str, Any]:
    return tomllib.loads((FOLDER / SHOP).read_text(encoding="utf-8"))


def _parts(text: str, separator: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(separator) if part.strip())


def _months(text: str) -> frozenset[int]:
    """ "10-2" is from October to February."""
    if not text:
        return frozenset()
    first, last = map(int, text.split("-"))
    return frozenset((month - 1) % 12 + 1 for month in range(first, last + 1 + 12 * (last < first)))
