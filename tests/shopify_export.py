"""A generated shop in the form of Shopify's exports: products with variants, orders with lines."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np

KINDS = {
    "Linen shirt": ("Apparel & Accessories > Clothing > Shirts & Tops", "Size", 39),
    "Wool jumper": ("Apparel & Accessories > Clothing > Shirts & Tops", "Size", 79),
    "Rain jacket": ("Apparel & Accessories > Clothing > Outerwear", "Size", 119),
    "Running shoes": ("Apparel & Accessories > Shoes", "Size", 99),
    "Coffee mug": ("Home & Garden > Kitchen & Dining > Tableware", "Colour", 12),
    "Desk lamp": ("Home & Garden > Lighting > Lamps", "Colour", 59),
    "Picnic blanket": ("Home & Garden > Linens & Bedding > Bedding", "Colour", 45),
    "Garden hose": ("Home & Garden > Lawn & Garden > Watering", "Length", 29),
    "Wooden puzzle": ("Toys & Games > Puzzles", "Pieces", 19),
    "Leather wallet": ("Apparel & Accessories > Handbags, Wallets & Cases", "Colour", 49),
}
OPTIONS = {
    "Size": ("S", "M", "L", "XL"),
    "Colour": ("Red", "Forest green", "Navy", "Sand"),
    "Length": ("10 m", "20 m", "30 m", "50 m"),
    "Pieces": ("100", "250", "500", "1000"),
}
STYLES = (
    "Classic",
    "Modern",
    "Rustic",
    "Striped",
    "Nordic",
    "Vintage",
    "Slim",
    "Everyday",
    "Heavy",
)
PLACES = ("Oslo", "Porto", "Bergen", "Kyoto", "Genoa", "Tallinn", "Sydney", "Quebec", "Bristol")
ZONE = timezone(timedelta(hours=-5))


def write_export(
    folder: Path, products: int = 1_000, orders: int = 2_000, last: datetime | None = None
) -> tuple[Path, Path]:
    """products_export.csv and orders_export.csv; the orders end the day before `last`."""
    random = np.random.default_rng(20261130)
    paths = folder / "products_export.csv", folder / "orders_export.csv"
    rows = list(product_rows(random, products))
    variants = [row for row in rows if row.get("Variant Price")]
    _write(paths[0], rows)
    _write(paths[1], list(order_rows(random, variants, orders, last or datetime.now(ZONE))))
    return paths


def product_rows(random: np.random.Generator, products: int) -> Iterator[dict[str, Any]]:
    """About 2.5 variants a product; every fourth has a row of a further image."""
    for number in range(products):
        kind = list(KINDS)[number % len(KINDS)]
        category, option, price = KINDS[kind]
        title = f"{random.choice(STYLES)} {kind.lower()} {random.choice(PLACES)} {number}"
        handle = title.lower().replace(" ", "-")
        image = f"https://cdn.shopify.com/s/files/1/{number}"
        first: dict[str, Any] = {
            "Handle": handle,
            "Title": title,
            "Body (HTML)": f"<p>A {title.lower()}, <strong>made to last</strong>.</p>",
            "Vendor": f"{random.choice(PLACES)} & Co.",
            "Product Category": category,
            "Type": kind,
            "Tags": f"{kind.split()[-1]}, gift",
            "Published": "true",
            "Option1 Name": option,
            "Image Src": f"{image}.jpg",
            "Status": "draft" if number % 50 == 49 else "active",
        }
        values = OPTIONS[option][: int(random.choice([1, 2, 3, 4], p=[0.2, 0.3, 0.3, 0.2]))]
        for place, value in enumerate(values):
            yield (first if place == 0 else {"Handle": handle}) | {
                "Option1 Value": value,
                "Variant SKU": f"SKU-{number:05d}-{place}" if number % 20 else "",
                "Variant Grams": 250,
                "Variant Inventory Tracker": "shopify",
                "Variant Inventory Qty": int(random.integers(0, 40)),
                "Variant Inventory Policy": "deny",
                "Variant Price": f"{price + number % 7 - 0.1:.2f}",
                "Variant Compare At Price": f"{price + 10:.2f}" if number % 5 == 0 else "",
            }
        if number % 4 == 0:
            yield {"Handle": handle, "Image Src": f"{image}-2.jpg", "Image Position": 2}


def order_rows(
    random: np.random.Generator, variants: list[dict[str, Any]], orders: int, last: datetime
) -> Iterator[dict[str, Any]]:
    """Orders of up to four lines, most of what few shoppers like; one in thirty is cancelled."""
    titles = {row["Handle"]: row["Title"] for row in variants if row.get("Title")}
    likes = random.dirichlet(np.full(len(variants), 0.3))
    for number in range(orders):
        time = last - timedelta(days=1 + 90 * (orders - number) / orders)
        created = f"{time:%Y-%m-%d %H:%M:%S %z}"
        first: dict[str, Any] = {
            "Name": f"#{1001 + number}",
            "Email": f"shopper{random.integers(orders // 3)}@example.com",
            "Financial Status": "paid",
            "Currency": "EUR",
            "Created at": created,
            "Cancelled at": created if number % 30 == 29 else "",
        }
        lines = random.choice(len(variants), int(random.integers(1, 5)), p=likes, replace=False)
        for place, line in enumerate(lines):
            variant = variants[line]
            shared = {name: first[name] for name in ("Name", "Email", "Created at")}
            yield (first if place == 0 else shared) | {
                "Lineitem quantity": int(random.integers(1, 3)),
                "Lineitem name": f"{titles[variant['Handle']]} - {variant['Option1 Value']}",
                "Lineitem price": variant["Variant Price"],
                "Lineitem sku": variant["Variant SKU"],
            }


def _write(path: Path, rows: list[dict[str, Any]]) -> None:
    names = dict.fromkeys(name for row in rows for name in row)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(names))
        writer.writeheader()
        writer.writerows(rows)
