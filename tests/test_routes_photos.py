"""POST /search/photo over a shop of three items: what is sent, and every refusal."""

from __future__ import annotations

import io
from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient
from PIL import Image

from serve.limits import MAX_PHOTO_BYTES
from serve.routes.api import build_api
from tests.fake_shop import FakeShop, strict_json

JPEG = {"Content-Type": "image/jpeg"}


def photo() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (40, 30), "red").save(buffer, "JPEG")
    return buffer.getvalue()


@pytest.fixture
def shop() -> FakeShop:
    return FakeShop()


@pytest.fixture
def client(shop: FakeShop) -> Iterator[TestClient]:
    with TestClient(build_api(shop)) as client:
        yield client


def test_a_photo_as_bytes_and_as_a_form_is_the_same(client: TestClient, shop: FakeShop) -> None:
    path = "/search/photo?q=blue&brand=acme&k=1&crop=0,.5,1,1&photo_weight=.7"
    body = strict_json(client.post(path, content=photo(), headers=JPEG))
    assert [item["item_id"] for item in body["items"]] == ["i1"]
    assert client.post(path, files={"photo": ("me.jpg", photo())}).status_code == 200
    assert shop.photos[0] == shop.photos[1]
    assert (shop.photos[0].crop, shop.photos[0].weight) == ((0, 0.5, 1, 1), 0.7)
    assert (shop.queries[0].text, shop.queries[0].filters.brand) == ("blue", ("acme",))


def test_without_words_there_is_no_text(client: TestClient, shop: FakeShop) -> None:
    assert client.post("/search/photo", content=photo(), headers=JPEG).status_code == 200
    assert shop.queries[0].text is None


@pytest.mark.parametrize(
    ("path", "content", "kind", "refusal"),
    [
        ("", b"", "image/jpeg", (422, "0 bytes")),
        ("", b"hello", "image/jpeg", (422, "no picture")),
        ("", photo()[:300], "image/jpeg", (422, "damaged")),
        ("", photo(), "application/json", (415, "image/jpeg")),
        ("?crop=1,2", photo(), "image/jpeg", (422, "crop")),
        ("?crop=0,0,0,1", photo(), "image/jpeg", (422, "crop")),
        ("?photo_weight=2", photo(), "image/jpeg", (422, "photo_weight")),
        ("?colour=blue", photo(), "image/jpeg", (422, "unknown")),
        ("", b"--x\r\n\r\n--x--", "multipart/form-data; boundary=x", (422, "form")),
        ("", b"x" * (MAX_PHOTO_BYTES + 1), "image/png", (413, "smaller photo")),
    ],
)
def test_what_cannot_be_searched_is_refused_in_a_sentence(
    client: TestClient, path: str, content: bytes, kind: str, refusal: tuple[int, str]
) -> None:
    response = client.post(f"/search/photo{path}", content=content, headers={"Content-Type": kind})
    assert response.status_code == refusal[0]
    assert refusal[1] in response.json()["error"]["message"]
