"""The catalogue of the default shop: models and their variants, composed from `product_types` by a
seed."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from itertools import count
from typing import Any

import pyarrow as pa
from stdnum import ean

from recsys.attributes.declaration import Attribute
from recsys.demo.product_types import (
    Bilingual,
    Brand,
    ProductType,
    brands_of,
    colours,
    line_names,
    product_types,
    shelf_in_chinese,
)
from recsys.tables import ITEMS_IN

#: Chinese titles and categories are searched; descriptions say little that those do not, and would
#: be a fifth of what the encoder reads.
ATTRIBUTES = (
    *(Attribute(name, filterable=False, facet=False) for name in ("title_zh", "category_zh")),
    Attribute("description_zh", searchable=False, filterable=False, facet=False),
    Attribute("colour", variant=True),
    Attribute("pack", variant=True),
    Attribute("material"),
    Attribute("size", "list"),
    Attribute("capacity", "number", unit="l"),
    Attribute("weight", "number", unit="kg"),
    Attribute("width", "number", unit="cm"),
    Attribute("length", "number", unit="cm"),
    Attribute("power", "number", unit="W"),
    Attribute("screen", "number", unit="in"),
    Attribute("battery", "number", unit="h"),
    Attribute("wireless", "boolean"),
)
CURRENCY = "USD"
#: The most variants of one model.
VARIANTS = 3
#: The shares of models that are reduced or new, and of items that are sold out.
REDUCED, NEW, SOLD_OUT = 0.18, 0.08, 0.05
#: The GTINs are of a range that GS1 leaves to each shop's own use: no product elsewhere has them.
OWN_GTINS = "29"
_CODES = {"black": "BLK", "brown": "BRN", "grey": "GRY", "green": "GRN"}
_RANGE = re.compile(r"([\d.]+)-([\d.]+) (\w+)")


@dataclass(frozen=True)
class Catalogue:
    """`items` (`tables.ITEMS_IN`), and the product type of each."""

    items: pa.Table
    types: tuple[ProductType, ...]


@dataclass(frozen=True, kw_only=True)
class _Model:
    """A product, whose variants are the items. A pack costs its place among `prices`; colours cost
    the first of them."""

    product_type: ProductType
    number: int
    place: int
    noun: Bilingual
    features: tuple[Bilingual, ...]
    brand: Brand
    line: str
    prices: tuple[float, ...]
    raised_by: float | None
    age: timedelta
    facts: Mapping[str, str | list[str]]


def make_catalogue(
    last_day: date, pictures: Mapping[tuple[str, str], str], seed: int = 0
) -> Catalogue:
    """The shop on a day, the same for the same arguments. `pictures` are references by drawing and
    colour ("": as it was drawn)."""
    numbers = count(1)
    rows, types = list[dict[str, Any]](), list[ProductType]()
    for product_type in product_types():
        rng = random.Random(f"{seed} {product_type.name}")
        for model in _models(product_type, rng, numbers):
            for item in _items(model, rng):
                item["image"] = pictures[product_type.picture, item["colour"]]
                item["added"] = datetime(*last_day.timetuple()[:3], 6, tzinfo=UTC) - model.age
                rows.append(item)
                types.append(product_type)
    columns = {name: [row.get(name) for row in rows] for name in ITEMS_IN.names}
    return Catalogue(pa.table(columns, ITEMS_IN), tuple(types))


def _models(
    product_type: ProductType, rng: random.Random, numbers: Iterator[int]
) -> Iterator[_Model]:
    """No two of a type share a line; brands and features take turns."""
    brands, features = brands_of(product_type.shelf), product_type.features
    shift = rng.randrange(len(brands) * len(features))
    lines = rng.sample(line_names(), len(product_type.models))
    for place, noun in enumerate(product_type.models):
        yield _Model(
            product_type=product_type,
            number=next(numbers),
            place=place,
            noun=noun,
            features=tuple(features[(shift + place + n) % len(features)] for n in (0, 1)),
            brand=brands[(shift + place) % len(brands)],
            line=lines[place],
            prices=_prices(product_type, rng),
            raised_by=rng.uniform(1.15, 1.6) if rng.random() < REDUCED else None,
            age=timedelta(
                days=rng.randrange(3, 28) if rng.random() < NEW else rng.randrange(60, 900)
            ),
            facts={name: _fact(name, text, rng) for name, text in product_type.facts},
        )


def _prices(product_type: ProductType, rng: random.Random) -> tuple[float, ...]:
    """One for each pack, the larger the dearer."""
    low, high = product_type.price
    packs = max(1, len(product_type.packs))
    position = rng.triangular(0, 1, 0.3)
    return tuple(
        _shop_price(low + (high - low) * (position + pack) / packs) for pack in range(packs)
    )


def _shop_price(amount: float) -> float:
    """As shops write prices: 3.49, 24.99, 129.00."""
    if amount < 10:
        return round(amount * 2) / 2 - 0.01
    return round(amount) - 0.01 if amount < 60 else float(round(amount / 5) * 5 - 1)


def _fact(name: str, text: str, rng: random.Random) -> str | list[str]:
    """All sizes that there are; one value of a range, or one of several words."""
    if name == "size":
        return text.split("|")
    if match := _RANGE.fullmatch(text):
        low, high, unit = float(match[1]), float(match[2]), match[3]
        value = rng.uniform(low, high)
        return f"{value:.1f} {unit}" if high < 20 else f"{value:.0f} {unit}"
    return rng.choice(text.split("|"))


def _items(model: _Model, rng: random.Random) -> Iterator[dict[str, Any]]:
    """The model's variants, a row each; with the column "colour", which is "" without one."""
    packs = model.product_type.packs
    options = model.product_type.colours or packs or ("",)
    for place in range(min(VARIANTS, len(options))):
        option = options[(model.place * VARIANTS + place) % len(options)]
        price = model.prices[place if packs else 0]
        raised = _shop_price(price * model.raised_by) if model.raised_by else price
        yield {
            "item_id": f"N{model.number:04d}-{place + 1}",
            "group_id": f"N{model.number:04d}",
            "mpn": f"{model.brand.letters}{4000 + 7 * model.number}-{_code(option, place, packs)}",
            "gtin": _gtin(10 * model.number + place),
            "title": ", ".join(
                filter(None, (f"{model.line} {model.noun.english}", _feature(model), option))
            ),
            "description": _description(model),
            "brand": model.brand.name,
            "category": " > ".join(model.product_type.shelf),
            "price": price,
            "list_price": raised if raised > price else None,
            "currency": CURRENCY,
            "in_stock": rng.random() >= SOLD_OUT,
            "attributes": json.dumps(_attributes(model, option), ensure_ascii=False),
            "hidden": False,
            "colour": "" if packs else option,
        }


def _feature(model: _Model) -> str:
    return model.features[0].english


def _description(model: _Model) -> str:
    """What it is for, and a feature that the title does not have."""
    about, (first, second) = model.product_type.about.english, model.features
    return about if first == second else f"{about} Also: {second.english}."


def _attributes(model: _Model, option: str) -> dict[str, str | list[str]]:
    kind = model.product_type
    title = [model.noun.chinese, model.features[0].chinese]
    variant = {"pack" if kind.packs else "colour": option} if option else {}
    named = [colours()[option].chinese] if kind.colours else [option] if option else []
    return {
        "title_zh": " ".join([model.brand.name, *title, *named]),
        # With the plain name of the type: in a title it may be part of a longer word.
        "category_zh": " > ".join([*shelf_in_chinese(kind.shelf), kind.chinese]),
        "description_zh": kind.about.chinese,
        **variant,
        **model.facts,
    }


def _code(option: str, place: int, packs: tuple[str, ...]) -> str:
    return str(place + 1) if packs or not option else _CODES.get(option, option[:3].upper())


def _gtin(number: int) -> str:
    digits = f"{OWN_GTINS}{number:010d}"
    return digits + str(ean.calc_check_digit(digits))
