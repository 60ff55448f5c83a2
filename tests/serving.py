"""A shop with two releases for tests: replicas in this process, or the application on Ray over
HTTP."""

import json
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import httpx
import pytest

from recsys.config import Setup
from recsys.storage.artifacts import ArtifactStore
from tests.checkerboard import setup

PORT = 8123
URL = f"http://127.0.0.1:{PORT}"


@pytest.fixture
def home(shop_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A store of this test's own, with both releases; `current` names the second."""
    shutil.copytree(shop_home, tmp_path / "home")
    monkeypatch.setenv("NIGHTSHELF_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("NIGHTSHELF_EVENTS", raising=False)
    return tmp_path / "home"


def eventually(check: Callable[[], bool], seconds: float = 15) -> None:
    """Every replica follows the pointer in its own time."""
    until = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < until, f"not so after {seconds} s"
        time.sleep(0.05)


def of_other_space(home: Path, version: str = "2026-01-09") -> str:
    """A release that is whole, but for another encoder."""
    store = ArtifactStore(str(home))
    last = store.versions()[-1]
    shutil.copytree(home / "releases" / last, home / "releases" / version)
    manifest = json.loads(store.read(f"releases/{last}/manifest.json")) | {
        "version": version,
        "space": "other-8",
    }
    store.write(f"releases/{version}/manifest.json", json.dumps(manifest).encode())
    return version


@pytest.fixture
def make_shop() -> Iterator[Callable[..., Any]]:
    """ShopReplicas, given an encoder's handle or without one; closed when the test ends."""
    from serve.replicas import ShopReplica

    shops: list[ShopReplica] = []

    def make(encoder: Any = None) -> ShopReplica:
        shops.append(ShopReplica(setup(), encoder))
        return shops[-1]

    yield make
    for shop in shops:
        shop.close()


@pytest.fixture
def run(home: Path, ray_session: None) -> Iterator[Callable[..., Setup]]:
    """Starts the application in a layout; it is gone when the test ends."""
    from ray import serve

    from serve.app import compose

    def start(layout: Literal["fused", "split"], **day: Any) -> Setup:
        shop = setup()
        shop = replace(shop, day=replace(shop.day, layout=layout, **day))
        serve.start(http_options={"host": "127.0.0.1", "port": PORT})
        serve.run(compose(shop), name="shop", route_prefix="/")
        return shop

    yield start
    serve.delete("shop")


def get(path: str, **parameters: Any) -> Any:
    response = httpx.get(f"{URL}{path}", params=parameters, timeout=30)
    assert response.status_code == 200, response.text
    return response.json()
