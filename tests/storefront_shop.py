"""A small made-up shop behind its storefront on a port of this machine, and a browser before it."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from functools import partial
from itertools import product
from typing import Any

import pytest
import uvicorn

from jobs.serve_plain import make_shop
from recsys.attributes.declaration import Attribute
from recsys.config import Setup
from recsys.datasets.choices import CatalogueChoices
from recsys.datasets.files import FilesAdapter
from recsys.errors import InputError
from recsys.simulation.processes import free_port
from recsys.simulation.storefront import open_browser
from serve.routes.api import build_api
from tests.file_shop import UNTIL, FileShop, Rows

THINGS = {
    "kitchen / cookware": ["saucepan", "wok"],
    "kitchen / tea": ["teapot", "coffee mug"],
    "living / lamps": ["table lamp", "floor lamp"],
    "living / chairs": ["armchair", "stool"],
}
COLOURS, BRANDS = ["red", "blue", "green"], ["Tarn", "Halden", "Kiku"]
#: What runs where it is taken for markup or code; each beside ends of what it may stand in.
VECTORS = [
    "<script>window.ran=1</script>",
    "<img src=x onerror=window.ran=1>",
    "<svg onload=window.ran=1>",
    "<details open ontoggle=window.ran=1>",
    "<input autofocus onfocus=window.ran=1>",
    "<iframe srcdoc='<script>parent.ran=1</script>'></iframe>",
    "<a href=javascript:window.ran=1>x</a>",
    "<form hx-get=/shop/ hx-trigger=load hx-vals='js:{a:window.ran=1}'></form>",
    "<button hx-on:click=window.ran=1 autofocus>x</button>",
    "{{window.ran=1}}${window.ran=1}",
]
ENDS = ["", '">', "'>", "</title>", "</textarea>", "</script>", "-->", "</mark></a>", "\\'", "`"]
PAYLOADS = [f"{end}{vector}" for end, vector in product(ENDS, VECTORS)]


def items() -> list[dict[str, object]]:
    """Things in three colours each, which are variants of each other."""
    rows: list[dict[str, object]] = []
    for (category, things), model in product(THINGS.items(), range(2)):
        for thing, colour in product(things, COLOURS):
            price = 10 + 7 * len(rows) % 90
            rows.append(
                {
                    "item_id": f"n{len(rows):03d}",
                    "title": f"{colour} {BRANDS[model]} {thing}",
                    "description": f"A {thing}, made up for tests.",
                    "category": category,
                    "brand": BRANDS[(model + len(thing)) % 3],
                    "price": price,
                    "list_price": price + 5 if len(rows) % 4 == 0 else "",
                    "currency": "EUR",
                    "in_stock": len(rows) % 9 != 8,
                    "image": "/shop/assets/none/broken.webp" if len(rows) % 5 == 0 else "",
                    "group_id": f"{model} {thing}",
                    "attributes": "",
                    "colour": colour,
                    "width": 20 + 10 * (len(rows) % 6),
                }
            )
    return rows


def hostile_items() -> list[dict[str, object]]:
    """One for each payload, in its title, brand, category and attributes."""
    blank = dict.fromkeys(items()[0], "")
    return [
        blank
        | {
            "item_id": f"x{at:03d}",
            "title": f"hostile {payload}",
            "brand": f"brand {payload}",
            "category": f"hostile / {at % 7} {payload}",
            "description": payload,
            "colour": payload,
            "price": 1 + at,
            "in_stock": True,
            "image": f"https://127.0.0.1:9/{payload}",
        }
        for at, payload in enumerate(PAYLOADS)
    ]


def events() -> Rows:
    """Sixty people buy from two categories each, a few things on a day."""
    rng, rows = random.Random(0), []
    by_category: dict[object, list[object]] = {}
    for item in items():
        by_category.setdefault(item["category"], []).append(item["item_id"])
    for user in range(60):
        tastes = rng.sample(sorted(map(str, by_category)), 2)
        for days, _ in product(rng.sample(range(1, 60), 3), range(2)):
            rows.append(
                {
                    "event_id": f"e{len(rows)}",
                    "user_id": f"u{user}",
                    "item_id": rng.choice(by_category[rng.choice(tastes)]),
                    "type": "purchase",
                    "time": (UNTIL - timedelta(days=days, minutes=len(rows) % 50)).isoformat(),
                }
            )
    return rows


def files(folder: str, until: Any) -> FilesAdapter:
    return FilesAdapter(
        f"{folder}/items.csv", f"{folder}/events.csv", attribute_columns=("colour", "width")
    )


def publish(shop: FileShop, hostile: bool = False) -> Setup:
    """Writes the shop's files and runs its night; the setup that serves it."""
    shop.write([*items(), *(hostile_items() if hostile else [])], events())
    shop.choices = {
        "catalogue": CatalogueChoices(
            attributes=(Attribute("colour", variant=True), Attribute("width", "number", unit="cm"))
        )
    }
    setup = replace(shop.setup(), dataset=partial(files, str(shop.folder)))
    shop.setup = lambda **_: setup  # type: ignore[method-assign]
    shop.night()
    return setup


@contextmanager
def served(setup: Setup) -> Iterator[str]:
    """The URL of the whole application in a thread of this process, without Ray."""
    port = free_port()
    shop = make_shop(setup)
    config = uvicorn.Config(build_api(shop), port=port, log_level="error", access_log=False)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        while not server.started:
            time.sleep(0.02)
        yield f"http://127.0.0.1:{port}/shop/"
    finally:
        server.should_exit = True
        thread.join(10)


@contextmanager
def chromium() -> Iterator[Any]:
    """A browser, or the test is skipped."""
    try:
        with open_browser() as browser:
            yield browser
    except InputError as error:
        pytest.skip(str(error))
