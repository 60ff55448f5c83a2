"""Cells of pictures as shops write them, to references; bytes in columns."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from recsys.datasets.files import FilesAdapter
from recsys.datasets.image_cells import read_item_images, stored_pictures
from recsys.datasets.mapping import propose_mapping
from recsys.datasets.platforms.merchant_feed import MerchantFeed
from recsys.datasets.platforms.shopify import Shopify
from recsys.datasets.validate import check_items
from recsys.interfaces import DatasetAdapter
from recsys.pictures.references import (
    content_hash,
    join_references,
    main_picture,
    picture_references,
    stored_reference,
)

A, B, C = "https://cdn.example/a.jpg", "https://cdn.example/w_300,h_200/b.webp?v=2", "m/c.png"
CUT = "https://cdn.example/image/fetch/w_80,q_9/https://shop.example/x.jpg;width=300"
DATA = "data:image/png;base64,iVBORw0KGgo//8="


def png(colour: str) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (3, 3), colour).save(stream, "PNG")
    return stream.getvalue()


def references(**columns: Any) -> list[list[str]]:
    cells, _ = read_item_images(pa.table(columns))
    return [picture_references(cell) for cell in cells["image"].to_pylist()]


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        (A, [A]),
        (f"  {A} ", [A]),
        (f"{A}, {B}", [A, B]),
        (f"{B},{A}", [B, A]),
        (f"{A};{B}|{C}", [A, B, C]),
        (f"{A} {B}", [A, B]),
        (f"{A}\r\n{C}\n", [A, C]),
        (f'["{A}", "{B}"]', [A, B]),
        (f"['{A}','{B}']", [A, B]),
        ('["https:\\/\\/cdn.example\\/a.jpg"]', [A]),
        (f"{A},{A}", [A]),
        ("/m/b/1.jpg,/m/b/2.JPG,/m/b/3.jpg", ["/m/b/1.jpg", "/m/b/2.JPG", "/m/b/3.jpg"]),
        ("red, large.jpg", ["red, large.jpg"]),
        ("my photo; old.png", ["my photo; old.png"]),
        (CUT, [CUT]),
        (DATA, [DATA]),
        (f"{DATA} {A}", [DATA, A]),
        ("s3://b/x,1.jpg;gs://b/y.jpg", ["s3://b/x,1.jpg", "gs://b/y.jpg"]),
        ("//cdn.example/a.jpg", ["//cdn.example/a.jpg"]),
        ("", []),
        (None, []),
    ],
)
def test_a_text_is_its_references(cell: str | None, expected: list[str]) -> None:
    assert references(image=pa.array([cell], pa.string())) == [expected]


def test_several_columns_follow_the_main_one() -> None:
    columns = {"image_10": ["4"], "Image URL 2": ["3"], "additional_images": ["1,2"], "image": [A]}
    columns["additional_images"] = [f"{B},{A}"]
    assert references(**columns) == [[A, B, "3", "4"]]
    assert references(image_1=["", "a.jpg"], image_2=["b.jpg", None]) == [["b.jpg"], ["a.jpg"]]


@pytest.mark.parametrize(
    "column",
    [
        [[A, B], [], None, [None, C]],
        [[{"hi_res": None, "large": A}, {"hi_res": B, "large": C}], [], None, [{"large": C}]],
        [{"large": [A, B]}, {"large": []}, None, {"large": [C]}],
        [[{"src": A, "id": 1}, {"src": B, "id": 2}], [], None, [{"src": C, "id": 3}]],
        [[A.encode(), B.encode()], [], None, [C.encode()]],
    ],
    ids=["lists", "structs", "a struct of lists", "objects", "texts as bytes"],
)
def test_nested_columns_are_lists(column: list[Any]) -> None:
    assert references(image=column) == [[A, B], [], [], [C]]


def test_bytes_are_named_by_what_they_are() -> None:
    red, blue = png("red"), png("blue")
    named = [stored_reference(content_hash(data)) for data in (red, blue)]
    columns = [
        pa.array([red, blue, None, b""], pa.large_binary()),
        pa.array([{"bytes": red, "path": "a"}, {"bytes": blue}, None, {}]),
        pa.array([[red], [blue], [], None], pa.list_(pa.binary())),
    ]
    for column in columns:
        raw = pa.table({"image": column})
        assert references(image=column) == [named[:1], named[1:], [], []]
        assert list(stored_pictures(raw)) == [red, blue]
    mixed = pa.table({"image": pa.array([red, A.encode()], pa.binary())})
    assert references(image=mixed["image"]) == [named[:1], [A]]
    assert list(stored_pictures(mixed)) == [red]


def test_an_item_stays_without_a_picture_and_says_what_its_column_is() -> None:
    raw = pa.table({"item_id": ["a", "b"], "image": pa.array([{"x": 1}, None])})
    checked = check_items(raw, "shop.json", 0)
    assert checked.good["item_id"].to_pylist() == ["b"]
    (reason,) = checked.quarantined["reason"].to_pylist()
    assert "it must be a reference to a picture, or a picture" in reason


def test_a_file_brings_all_of_its_pictures(tmp_path: Path) -> None:
    path = tmp_path / "items.csv"
    path.write_text(
        f"sku,name,image_url,image_2,image_3\na,A shirt,{A},,{C}\nb,A hat,,'{B}',\n".replace(
            "'", '"'
        )
    )
    raw = pa.table({"sku": ["a"], "name": ["A shirt"], "image_url": [A], "image_2": [B]})
    mapping = propose_mapping(raw, "items", str(path))
    assert mapping["image"] == "image_url"
    adapter = FilesAdapter(str(path), item_columns=mapping)
    (chunk,) = adapter.item_chunks()
    good = check_items(adapter.read_items(chunk), chunk.path, 0).good
    assert [picture_references(cell) for cell in good["image"].to_pylist()] == [[A, C], [B]]
    assert adapter.unused_item_columns() == []


def test_columns_of_pictures_are_recognised_by_what_they_hold(tmp_path: Path) -> None:
    photos = pa.array([png("red"), png("blue")], pa.binary())
    lists = pa.array([[A], [B, C]])
    for name, column in (("photo", photos), ("images", lists)):
        raw = pa.table({"id": ["a", "b"], "title": ["A red shirt", "A hat"], name: column})
        mapping = propose_mapping(raw, "items", "shop.parquet")
        assert mapping["image"] == name
        pq.write_table(raw, tmp_path / "items.parquet")
        adapter = FilesAdapter(str(tmp_path / "items.parquet"), item_columns=mapping)
        (chunk,) = adapter.item_chunks()
        good = check_items(adapter.read_items(chunk), chunk.path, 0).good
        assert good["image"].null_count == 0


def test_a_worker_holds_no_more_than_a_part_of_a_file_of_pictures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos = pa.array([os.urandom(1000) for _ in range(50)], pa.binary())
    raw = pa.table({"item_id": [str(n) for n in range(50)], "image": photos})
    pq.write_table(raw, tmp_path / "items.parquet")
    monkeypatch.setattr("recsys.datasets.files.CHUNK_BYTES", 10_000)
    adapter = FilesAdapter(str(tmp_path / "items.parquet"))
    chunks = adapter.item_chunks()
    assert all(chunk.rows <= 10 for chunk in chunks)
    parts = pa.concat_tables([adapter.read_items(chunk) for chunk in chunks])
    assert parts["image"].to_pylist() == photos.to_pylist()


def pictures_of(adapter: DatasetAdapter) -> dict[str, list[str]]:
    (chunk,) = adapter.item_chunks()
    good = check_items(adapter.read_items(chunk), chunk.path, 0).good
    cells = zip(good["item_id"].to_pylist(), good["image"].to_pylist(), strict=True)
    return {item: picture_references(cell) for item, cell in cells}


def test_feeds_bring_all_of_their_pictures(tmp_path: Path) -> None:
    feed = tmp_path / "feed.xml"
    more = "".join(
        f"<g:additional_image_link>{url}</g:additional_image_link>" for url in (B, "//x/d.jpg")
    )
    feed.write_text(
        '<rss xmlns:g="http://base.google.com/ns/1.0"><channel><item><g:id>a</g:id>'
        f"<title>Hat</title><g:image_link>{A}</g:image_link>{more}</item></channel></rss>"
    )
    assert pictures_of(MerchantFeed(str(feed))) == {"a": [A, B, "//x/d.jpg"]}
    table = tmp_path / "feed.tsv"
    table.write_text(f"id\ttitle\timage link\tadditional image link\na\tHat\t{A}\t{B},{A}\n")
    assert pictures_of(MerchantFeed(str(table))) == {"a": [A, B]}


def test_variants_have_their_own_picture_or_all_of_their_products(tmp_path: Path) -> None:
    path = tmp_path / "products.csv"
    path.write_text(
        "Handle,Title,Option1 Name,Option1 Value,Variant SKU,Image Src,Variant Image\n"
        "tee,Tee,Colour,Red,R,1.jpg,red.jpg\ntee,,,Blue,B,2.jpg,\ntee,,,,,3.jpg,\n"
    )
    assert pictures_of(Shopify(products=str(path))) == {
        "R": ["red.jpg"],
        "B": ["2.jpg", "1.jpg", "3.jpg"],
    }


def test_a_page_is_shown_what_it_can_load() -> None:
    assert main_picture(join_references([stored_reference(bytes(16)), "s3://b/x", DATA, A])) == A
    assert main_picture("/m/a.jpg") == "/m/a.jpg"
    assert main_picture(DATA) is None
    assert main_picture(None) is None
