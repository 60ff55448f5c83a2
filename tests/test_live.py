"""The live release: what is damaged is refused, promoting swaps or changes nothing."""

# ruff: noqa: F811 (fixtures are imported, and named again as parameters)

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from recsys.storage.artifacts import ArtifactStore
from serve.routes.api import build_api
from tests.serving import eventually, home, make_shop, of_other_space  # noqa: F401


@pytest.mark.ray
def test_what_is_damaged_is_refused_once_and_the_old_release_goes_on(
    home: Path, make_shop: Callable[[], Any], caplog: pytest.LogCaptureFixture
) -> None:
    store, shop = ArtifactStore(str(home)), make_shop()
    first, second = store.versions()
    assert shop.health().release == second
    vectors = home / "releases" / first / "item_vectors.npy"
    vectors.write_bytes(vectors.read_bytes()[:-4] + b"\0\0\0\1")
    store.point(first)
    eventually(lambda: first in shop.health().refused)
    time.sleep(3 * shop.day.refresh_s)
    assert shop.health().release == second
    assert "damaged" in shop.health().refused[first]
    assert sum("is refused" in record.message for record in caplog.records) == 1


@pytest.mark.ray
def test_promote_swaps_here_at_once_or_changes_nothing(
    home: Path, make_shop: Callable[[], Any]
) -> None:
    store, shop = ArtifactStore(str(home)), make_shop()
    first, second = store.versions()
    client = TestClient(build_api(shop))
    assert client.post(f"/releases/{of_other_space(home)}/promote").status_code == 409
    assert client.post("/releases/2001-01-01/promote").status_code == 404
    assert (store.current(), client.get("/recommend").json()["release"]) == (second, second)
    assert client.post(f"/releases/{first}/promote").status_code == 200
    assert (store.current(), client.get("/recommend").json()["release"]) == (first, first)


@pytest.mark.ray
def test_a_shop_opens_before_the_first_night_and_finds_its_release(
    home: Path, make_shop: Callable[[], Any]
) -> None:
    store = ArtifactStore(str(home))
    (home / "current").unlink()
    shop = make_shop()
    assert shop.health().release is None
    store.point(store.versions()[0])
    eventually(lambda: shop.health().release == store.versions()[0])
