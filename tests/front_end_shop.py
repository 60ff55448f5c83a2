"""A shop of 48 things behind the whole HTTP application, in this process: what the front-ends of
others are tested against.

Six things of two brands in four colours; the colours of a thing are variants of one product.
Thing n costs 10 + n; every third is out of stock."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import pyarrow as pa
import pytest
import uvicorn
from fastapi import FastAPI

from recsys.attributes.declaration import Attribute
from recsys.batch import night, planning
from recsys.config import Setup
from recsys.datasets.choices import CatalogueChoices
from recsys.interfaces import Chunk, Encoder
from recsys.simulation.processes import free_port
from recsys.types import Vectors
from serve.access import KeyAccess
from serve.keys import create_key, write_keys
from serve.replicas import ShopReplica
from serve.routes.api import build_api
from tests.checkerboard import UNTIL, Checkerboard, setup
from tests.in_process import in_this_process

COLOURS, BRANDS = ("red", "blue", "green", "black"), ("Acme", "Globex")
THINGS = {
    "shirt": "Clothing / Tops / Shirts",
    "jacket": "Clothing / Tops / Jackets",
    "trousers": "Clothing / Bottoms / Trousers",
    "mug": "Home / Kitchen / Mugs",
    "plate": "Home / Kitchen / Plates",
    "lamp": "Home / Lighting / Lamps",
}
ITEMS = len(THINGS) * len(BRANDS) * len(COLOURS)
ATTRIBUTES = (
    Attribute("colour", variant=True),
    Attribute("width", "number", unit="cm"),
    Attribute("washable", "boolean"),
)
#: A page of a browser calls from another origin than the API's.
ORIGIN = "http://shop.localhost"


def thing(n: int) -> dict[str, Any]:
    name = list(THINGS)[n // 8]
    brand, colour = BRANDS[n // 4 % 2], COLOURS[n % 4]
    words = f"A {colour} {name} that lasts for years of everyday use, "
    return {
        "item_id": f"i{n:02d}",
        "title": f"{colour} {name}",
        "description": f"{words}made by {brand} with <b>care</b> & patience in small workshops.",
        "category": THINGS[name],
        "brand": brand,
        "price": 10.0 + n,
        "list_price": 20.0 + n if n % 2 else None,
        "currency": "EUR",
        "image": f"https://pictures.example/{n}.webp",
        "in_stock": n % 3 != 0,
        "group_id": f"{name}-{brand}",
        "added": UNTIL - timedelta(days=n),
        "attributes": json.dumps({"colour": colour, "width": f"{5 * n} cm", "washable": n < 24}),
    }


@dataclass(frozen=True)
class Outfitters(Checkerboard):
    def item_chunks(self) -> list[Chunk]:
        return [Chunk("items", 0, ITEMS)]

    def read_items(self, chunk: Chunk) -> pa.Table:
        return pa.Table.from_pylist([thing(n) for n in range(ITEMS)])


def outfitters(**day: Any) -> Setup:
    base = setup()
    return replace(
        base,
        dataset=Outfitters,
        catalogue=CatalogueChoices(attributes=ATTRIBUTES),
        night=replace(base.night, items_per_shard=ITEMS),
        day=replace(base.day, **{"deadline_ms": 60_000.0, **day}),
    )


class LocalEncoder:
    """In the place of a deployment's handle: Serve's batches need Ray."""

    def __init__(self, encoder: Encoder) -> None:
        self.encode = self.encode_items = self
        self.encoder = encoder

    async def remote(self, text: str) -> Vectors:
        return Vectors((text,), self.encoder.encode_queries([text]), self.encoder.space)


@pytest.fixture(scope="module")
def outfitters_shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ShopReplica]:
    """A replica over one night's release."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NIGHTSHELF_HOME", str(tmp_path_factory.mktemp("outfitters")))
        patch.setenv("NIGHTSHELF_COMMIT", "test")
        patch.delenv("NIGHTSHELF_EVENTS", raising=False)
        patch.setattr(night, "run_stages", in_this_process)
        patch.setattr("recsys.release.report._plots", lambda report: [])
        chosen = outfitters(cors_origins=(ORIGIN,))
        night.run_night(planning.begin(chosen, UNTIL), lambda line: None)
        shop = ShopReplica(chosen, LocalEncoder(chosen.encoder()))
        yield shop
        shop.close()


@dataclass(frozen=True)
class Served:
    """Where the application listens, and the key of a page: it may search and send events."""

    url: str
    key: str
    shop: ShopReplica

    @property
    def host(self) -> str:
        return self.url.removeprefix("http://")


@pytest.fixture(scope="module")
def served_shop(
    outfitters_shop: ShopReplica, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Served]:
    """The application over HTTP, for clients that are no Python, with access by keys."""
    secret, key = create_key("page", ["read", "events", "catalogue"], 10_000)
    path = tmp_path_factory.mktemp("keys") / "keys.json"
    write_keys(path, [key])
    with listening(build_api(outfitters_shop, KeyAccess(path))) as url:
        yield Served(url, secret, outfitters_shop)


class listening:
    """A server in a thread of this process, until the block ends."""

    def __init__(self, app: FastAPI) -> None:
        self.port = free_port()
        config = uvicorn.Config(app, port=self.port, log_level="error", lifespan="off")
        self.server = uvicorn.Server(config)
        self.thread = threading.Thread(target=self.server.run, daemon=True)

    def __enter__(self) -> str:
        self.thread.start()
        until(lambda: self.server.started)
        return f"http://127.0.0.1:{self.port}"

    def __exit__(self, *error: object) -> None:
        self.server.should_exit = True
        self.thread.join(10)


def until(check: Callable[[], Any], seconds: float = 15) -> Any:
    """What the check returns once that is true."""
    end = time.monotonic() + seconds
    while not (value := check()):
        assert time.monotonic() < end, f"not so after {seconds} s"
        time.sleep(0.02)
    return value
