"""A night over the default shop, and what its searches find: synonyms, typos, codes, both
languages."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from fastapi.testclient import TestClient

from jobs.serve_plain import make_shop
from recsys.batch.night import run_night
from recsys.batch.planning import begin
from recsys.config import demo
from recsys.demo.catalogue import make_catalogue
from recsys.demo.pictures import picture_keys
from recsys.demo.shop import reference
from recsys.encoders import multilingual_e5
from recsys.encoders.efficientnet import EfficientNetEncoder
from recsys.errors import NotFoundError
from serve.routes.api import build_api

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.realdata]
UNTIL = datetime(2026, 11, 30, 2, tzinfo=UTC)
#: A search, and the types of products of which one must be among the first five.
SEARCHES = {
    "red sneakers": "running shoe",
    "trainers for women": "running shoe",
    "waterproof hiking boots": "hiking boot",
    "runing shoos": "running shoe",
    "headfones": "headphones",
    "noise cancelling earphones": "headphones",
    "mobile phone": "smartphone",
    "smartfone": "smartphone",
    "phone charger": "charger",
    "portable charger": "power bank",
    "couch": "sofa",
    "blue velvet sofa": "sofa",
    "something to sit on in the living room": "sofa, chair",
    "frock for a garden party": "dress",
    "sumer dress": "dress",
    "rucksack for school": "backpack",
    "brolly": "umbrella",
    "umbrela": "umbrella",
    "flashlight for camping": "torch",
    "wrench": "spanner",
    "skillet": "frying pan",
    "non stick pan": "frying pan",
    "telly": "television",
    "bike": "bicycle",
    "bycicle": "bicycle",
    "shades": "sunglasses",
    "cabin luggage on wheels": "suitcase",
    "soccer ball": "football",
    "ping pong paddle": "table tennis bat",
    "gift for a child who likes space": "toy rocket, telescope, toy robot",
    "tennis racquet": "tennis racket",
    "guitar for beginners": "electric guitar",
    "headphones under 100 dollars": "headphones",
    "green teapot": "teapot",
    "gamepad": "game controller",
    "warm muffler": "scarf",
    "跑鞋": "running shoe",
    "女士连衣裙": "dress",
    "降噪耳机": "headphones",
    "手机充电器": "charger",
    "红色沙发": "sofa",
    "双肩包": "backpack",
    "雨伞": "umbrella",
    "登山鞋": "hiking boot",
    "西红柿": "tomato",
    "电动吉他": "electric guitar",
    "给孩子的毛绒玩具": "teddy bear",
    "咖啡杯": "coffee cup",
}
#: Two of the 48 sentences say too little in common words for either encoder.
FLOOR = 0.93


@pytest.fixture(scope="module")
def client(ray_session: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    try:
        multilingual_e5()
        EfficientNetEncoder().load()
    except NotFoundError as error:
        pytest.skip(str(error))
    folder = tmp_path_factory.mktemp("demo")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NIGHTSHELF_HOME", str(folder / "home"))
        shop = demo()
        manifest = run_night(begin(shop, UNTIL), print)
        assert manifest.counts["items"] == manifest.counts["items_with_pictures"] > 800
        assert manifest.counts["pictures_broken"] == 0
        assert quarantined(shop.home) == 0
        with TestClient(build_api(make_shop(shop))) as client:
            yield client


def quarantined(home: str) -> int:
    return sum(pq.read_table(file).num_rows for file in Path(home).rglob("quarantine.parquet"))


@pytest.fixture(scope="module")
def types() -> dict[str, str]:
    """The type of each item by its id."""
    shop = make_catalogue(date(2026, 11, 29), {key: reference(key) for key in picture_keys()})
    names = [each.name for each in shop.types]
    return dict(zip(shop.items["item_id"].to_pylist(), names, strict=True))


def test_searches_find_what_they_ask_for(client: TestClient, types: dict[str, str]) -> None:
    misses = {}
    for text, expected in SEARCHES.items():
        answer = client.get("/search", params={"q": text, "k": 5}).json()
        first = [types[item["item_id"]] for item in answer["items"]]
        if not set(first) & set(expected.split(", ")):
            misses[text] = first
    assert 1 - len(misses) / len(SEARCHES) >= FLOOR, misses


@pytest.mark.parametrize("column", ["item_id", "gtin", "mpn"])
def test_a_code_finds_its_item(client: TestClient, column: str) -> None:
    answer = client.get("/search", params={"q": "green teapot"}).json()
    item = client.get(f"/items/{answer['items'][0]['item_id']}").json()
    code = item.get(column) or item["item"][column]
    first = client.get("/search", params={"q": code}).json()["items"][0]
    assert first["item_id"] == answer["items"][0]["item_id"]


def test_a_click_changes_recommendations(client: TestClient) -> None:
    before = client.get("/recommend", params={"user_id": "visitor", "k": 5}).json()
    shoes = client.get("/search", params={"q": "running shoe"}).json()
    event = {"user_id": "visitor", "item_id": shoes["items"][0]["item_id"], "type": "click"}
    assert client.post("/events", json=event).status_code == 200
    after = client.get("/recommend", params={"user_id": "visitor", "k": 5}).json()
    assert [i["item_id"] for i in before["items"]] != [i["item_id"] for i in after["items"]]
