"""Files of a shop: the adapter contract over three formats, and what is wrong with files."""

from __future__ import annotations

import bz2
import gzip
import json
import os
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recsys.datasets import files
from recsys.datasets.files import FilesAdapter, read_file
from recsys.datasets.validate import LINE, check_items
from recsys.errors import InputError, NotFoundError
from recsys.interfaces import Chunk, DatasetAdapter
from tests.contracts import DatasetAdapterContract

ITEMS = pa.table(
    {
        "sku": [f"i{n}" for n in range(10)],
        "price": [n / 2 for n in range(10)],
        "colour": ["red"] * 10,
    }
)
EVENTS = pa.table(
    {
        "event_id": [str(n) for n in range(7)],
        "who": ["u"] * 7,
        "item_id": ["i1"] * 7,
        "type": ["view"] * 7,
        "time": ["2025-01-01T00:00:00Z"] * 7,
    }
)
MAPPED = ({"item_id": "sku"}, {"user_id": "who"})


def write_csv(table: pa.Table, path: Path) -> None:
    rows = [table.column_names, *(map(str, row.values()) for row in table.to_pylist())]
    path.write_text("".join(",".join(row) + "\n" for row in rows))


def write_jsonl(table: pa.Table, path: Path) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in table.to_pylist()))


class TestParquetFolder(DatasetAdapterContract):
    """Chunks of 4 rows over row groups of 3, in two files; as a URI."""

    def make(self, folder: Path) -> DatasetAdapter:
        for name, table in (("items", ITEMS), ("events", EVENTS)):
            (folder / name).mkdir()
            (folder / name / "_SUCCESS").touch()
            pq.write_table(table.slice(0, 6), folder / name / "part-0.parquet", row_group_size=3)
            pq.write_table(table.slice(6), folder / name / "part-1.parquet", row_group_size=3)
        return FilesAdapter(f"file://{folder}/items", f"file://{folder}/events", *MAPPED)

    @pytest.fixture(autouse=True)
    def small_chunks(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(files, "CHUNK_ROWS", 4)

    def test_chunks_cross_row_groups_and_lose_nothing(self, adapter: DatasetAdapter) -> None:
        chunks = adapter.item_chunks()
        assert [(chunk.start, chunk.rows) for chunk in chunks] == [(0, 4), (4, 2), (0, 4)]
        table = pa.concat_tables([adapter.read_items(chunk) for chunk in chunks])
        assert table.equals(ITEMS.select(["sku", "price"]).rename_columns(["item_id", "price"]))


class TestCsv(DatasetAdapterContract):
    def make(self, folder: Path) -> DatasetAdapter:
        write_csv(ITEMS, folder / "items.csv")
        write_csv(EVENTS, folder / "events.csv")
        return FilesAdapter(str(folder / "items.csv"), str(folder / "events.csv"), *MAPPED)


class TestJsonl(DatasetAdapterContract):
    def make(self, folder: Path) -> DatasetAdapter:
        write_jsonl(ITEMS, folder / "items.jsonl")
        write_jsonl(EVENTS, folder / "events.jsonl")
        return FilesAdapter(str(folder / "items.jsonl"), str(folder / "events.jsonl"), *MAPPED)


def items_of(path: Path, content: bytes, **columns: str) -> tuple[Chunk, pa.Table]:
    path.write_bytes(content)
    adapter = FilesAdapter(str(path), "none.csv", columns)
    (chunk,) = adapter.item_chunks()
    return chunk, adapter.read_items(chunk)


def test_csv_values_stay_the_text_they_are(tmp_path: Path) -> None:
    _, table = items_of(
        tmp_path / "a.csv", b'\xef\xbb\xbfitem_id,price,title\n007,NA,"tea,\ngreen"\n'
    )
    assert table.to_pylist() == [{"item_id": "007", "price": "NA", "title": "tea,\ngreen"}]


UGLY_CSV = b'item_id,price\na,1\n\nb\n"c\nc",2\nd,3,4\ne\xff,5\nf,6\xff,7\n\xe8\x8c\xb6,8\n'
UGLY_JSONL = (
    b'{"item_id": "a", "price": 1}\n\n{"item_id": "b"\n{"item_id": "\\ud800", "price": 2}\n'
    b'[3]\n{"item_id": 4}\n\xff'
)


def test_variants_and_dates_are_mapped_like_any_column(tmp_path: Path) -> None:
    content = b"item_id,parent,since\na,p1,2025-03-01\nb,p1,\n"
    chunk, table = items_of(tmp_path / "a.csv", content, group_id="parent", added="since")
    checked = check_items(table, chunk.path, chunk.start)
    assert checked.good["group_id"].to_pylist() == ["p1", "p1"]
    assert [added and added.date().isoformat() for added in checked.good["added"].to_pylist()] == [
        "2025-03-01",
        None,
    ]


@pytest.mark.parametrize(
    ("name", "content", "good", "bad"),
    [
        ("a.csv", UGLY_CSV, {0: "a", 6: "茶"}, [1, 2, 3, 4, 5]),
        ("a.jsonl", UGLY_JSONL, {0: "a", 4: "4"}, [1, 2, 3, 5]),
    ],
)
def test_a_bad_line_is_a_row_of_its_own_for_quarantine(
    tmp_path: Path, name: str, content: bytes, good: dict[int, str], bad: list[int]
) -> None:
    chunk, table = items_of(tmp_path / name, content)
    checked = check_items(table, chunk.path, chunk.start)
    assert (
        dict(
            zip(checked.good["_row"].to_pylist(), checked.good["item_id"].to_pylist(), strict=True)
        )
        == good
    )
    assert checked.quarantined["row"].to_pylist() == bad
    assert table[LINE].null_count >= len(good)


def test_a_mapped_column_that_is_not_there_is_named_beside_those_that_are(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no column 'ean' for item_id: map one of sku, cost"):
        items_of(tmp_path / "a.csv", b"sku,cost\n1,2\n", item_id="ean")
    with pytest.raises(InputError, match="no column 'preis' for price"):
        items_of(tmp_path / "a.csv", b"sku,cost\n1,2\n", item_id="sku", price="preis")
    with pytest.raises(InputError, match="no canonical column 'cost': map one of item_id, title"):
        FilesAdapter("a.csv", "b.csv", {"cost": "price"})


def test_paths_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"nothing at .*/none\.csv"):
        FilesAdapter(str(tmp_path / "none.csv"), "").item_chunks()
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="give a file with a row an item"):
        FilesAdapter(str(tmp_path / "empty"), "").item_chunks()
    with pytest.raises(
        InputError, match=r"a\.xlsx cannot be read: give files that end in \.parquet"
    ):
        items_of(tmp_path / "a.xlsx", b"")
    with pytest.raises(InputError, match=r"a\.parquet cannot be read"):
        items_of(tmp_path / "a.parquet", b"no parquet")


def test_an_empty_folder_holds_no_events_yet(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert FilesAdapter("", str(tmp_path / "empty")).event_chunks() == []


def test_a_fingerprint_changes_with_files_and_columns_alone(tmp_path: Path) -> None:
    items, events = tmp_path / "items.csv", tmp_path / "events.csv"
    items.write_text("item_id\n1\n")
    events.write_text("event_id\n")

    def fingerprint(**columns: str) -> str:
        return FilesAdapter(str(items), str(events), columns).fingerprint()

    first = fingerprint()
    assert fingerprint() == first != fingerprint(title="name")
    os.utime(items, ns=(1, 1))
    touched = fingerprint()
    events.write_text("event_id\n2\n")
    assert len({first, touched, fingerprint()}) == 3


def write(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def read_items(path: Path, **options: Any) -> list[dict[str, Any]]:
    adapter = FilesAdapter(str(path), "none.csv", **options)
    return [row for chunk in adapter.item_chunks() for row in adapter.read_items(chunk).to_pylist()]


def test_a_suffix_may_be_in_capitals_and_a_file_compressed(tmp_path: Path) -> None:
    content = "item_id;Title\nA1;Käse, rund\n".encode("cp1252")
    for name, data in {
        "A.CSV": content,
        "b.tsv": content.replace(b";", b"\t"),
        "c.Txt.GZ": gzip.compress(content),
        "d.csv.zst": pa.compress(content, "zstd", asbytes=True),
        "e.ndjson.bz2": bz2.compress(b'{"item_id": "A1", "title": "K\\u00e4se, rund"}'),
    }.items():
        assert read_items(write(tmp_path / name, data)) == [
            {"item_id": "A1", "title": "Käse, rund"}
        ]
    with pytest.raises(InputError, match=r"items cannot be read: give files that end in \.parquet"):
        read_items(write(tmp_path / "items", content))


def test_the_shop_says_delimiter_and_encoding(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "item_id;title,old\n1;Стул,x\n".encode("koi8-r"))
    assert read_items(
        path, delimiter=";", encoding="koi8-r", item_columns={"title": "title,old"}
    ) == [{"item_id": "1", "title": "Стул,x"}]


def test_folders_named_for_a_value_add_a_column(tmp_path: Path) -> None:
    for day, brand in (("2026-01-01", "A%26B"), ("2026-01-02", "__HIVE_DEFAULT_PARTITION__")):
        write(tmp_path / f"dt={day}" / f"brand={brand}" / "part.csv", "item_id\n1\n2\n")
    write(tmp_path / "_temporary" / "part.csv", "item_id\n3\n")
    rows = read_items(tmp_path, item_columns={"added": "dt"})
    assert rows[1] == {"item_id": "2", "brand": "A&B", "added": "2026-01-01"}
    assert rows[2] == {"item_id": "1", "brand": None, "added": "2026-01-02"}
    assert len(rows) == 4


def test_columns_that_nothing_is_made_of_are_named(tmp_path: Path) -> None:
    items = write(tmp_path / "items.csv", "item_id,Colour,TITLE,size\n1,red,a,xl\n")
    events = write(tmp_path / "events" / "a.csv", "event_id,user_id,item_id,type,time,ip\n")
    adapter = FilesAdapter(str(items), str(events.parent))
    assert adapter.unused_item_columns() == ["Colour", "size"]
    assert adapter.unused_event_columns() == ["ip"]
    assert FilesAdapter(str(items), str(tmp_path / "none")).unused_item_columns()


def test_nested_values_are_mapped_by_their_path(tmp_path: Path) -> None:
    rows = [{"id": "1", "price": {"amount": 2.5}, "tags": [{"name": "Garden"}]}]
    mapping = {"item_id": "id", "price": "price.amount", "category": "tags.name"}
    right = [{"item_id": "1", "price": 2.5, "category": ["Garden"]}]
    path = write(tmp_path / "a.json", json.dumps({"products": rows}))
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    for each in (path, tmp_path / "a.parquet"):
        assert read_items(each, item_columns=mapping) == right


def test_parquet_says_the_values_that_were_meant(tmp_path: Path) -> None:
    table = pa.table(
        {
            "item_id": pa.array([4006381333931.0, None]),
            "price": pa.array([19.99, None], pa.float32()),
            "list_price": pa.array([Decimal("29.90"), None], pa.decimal128(9, 2)),
            "title": pa.array(["a", None]).dictionary_encode(),
            "brand": pa.array(["b", None], pa.string_view()),
            "added": pa.array(
                [1_767_225_600_000_000_001, None], pa.timestamp("ns", "Europe/Paris")
            ),
        }
    )
    pq.write_table(table, tmp_path / "a.parquet")
    adapter = FilesAdapter(str(tmp_path / "a.parquet"), "none.csv")
    (chunk,) = adapter.item_chunks()
    checked = check_items(adapter.read_items(chunk), chunk.path, chunk.start)
    (row,) = checked.good.to_pylist()
    assert {name: row[name] for name in ("item_id", "price", "list_price", "title", "brand")} == {
        "item_id": "4006381333931", "price": 19.99, "list_price": 29.9, "title": "a", "brand": "b",
    }  # fmt: skip
    assert row["added"].isoformat() == "2026-01-01T00:00:00+00:00"


def test_files_without_rows(tmp_path: Path) -> None:
    header = "event_id,user_id,item_id,type,time\n"
    for name, content in {"a.csv": "", "b.csv": header, "c.json": "[]", "d.jsonl": ""}.items():
        write(tmp_path / name, content)
    pq.write_table(EVENTS.slice(0, 0), tmp_path / "e.parquet")
    empty = FilesAdapter("", str(tmp_path))
    assert empty.event_chunks() == empty.unused_event_columns() == []
    with pytest.raises(InputError, match="holds no items"):
        FilesAdapter(str(tmp_path), "").item_chunks()


def test_a_broken_file_is_named(tmp_path: Path) -> None:
    for name, content in {
        "a.csv.gz": gzip.compress(b"item_id\n1\n" * 100)[:-12],
        "b.zip.csv": b"PK\x03\x04 no archive",
        "c.parquet": b"",
        "d.csv.bz2": b"BZh9 no archive",
    }.items():
        with pytest.raises(InputError, match=f"{name} cannot be read"):
            read_items(write(tmp_path / name, content))


def test_an_adapter_for_one_platform_reads_all_columns(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "Handle;Body (HTML)\nx;y\n")
    assert read_file(str(path)).to_pylist() == [{"Handle": "x", "Body (HTML)": "y"}]
    assert read_file(str(write(tmp_path / "b.csv", "a,b\n"))).column_names == ["a", "b"]
    with pytest.raises(InputError, match="has the column 'a' twice"):
        read_file(str(write(tmp_path / "c.csv", "a,a\n1,2\n")))


def test_ids_that_pandas_wrote_as_floats_are_whole_again(tmp_path: Path) -> None:
    items = write(tmp_path / "a.csv", "item_id,gtin,title\n7.0,4006381333931.0,2.0\n8.0,,3.0\n")
    assert read_items(items)[0] == {"item_id": "7", "gtin": "4006381333931", "title": "2.0"}
    assert read_items(items)[1]["gtin"] == ""
    mixed = write(tmp_path / "b.csv", "item_id\n1.0\n1.5\n")
    assert [row["item_id"] for row in read_items(mixed)] == ["1.0", "1.5"]


def test_declared_attribute_columns_come_along(tmp_path: Path) -> None:
    path = tmp_path / "items.csv"
    path.write_text("id,Width,waste\na,60 cm,x\n")
    adapter = FilesAdapter(str(path), "none.csv", {"item_id": "id"}, attribute_columns=["width"])
    [chunk] = adapter.item_chunks()
    assert adapter.read_items(chunk).to_pydict() == {"item_id": ["a"], "width": ["60 cm"]}
    assert adapter.unused_item_columns() == ["waste"]
    missing = FilesAdapter(str(path), "none.csv", {"item_id": "id"}, attribute_columns=["depth"])
    with pytest.raises(InputError, match="no column 'depth' for depth: map one of id, Width"):
        missing.read_items(chunk)


def test_items_have_the_time_of_their_file(tmp_path: Path) -> None:
    path = tmp_path / "items.csv"
    path.write_text("item_id,title,updated_at\na,apple,2026-01-02\n")
    os.utime(path, (1767225600, 1767225600))
    written = {str(path): datetime(2026, 1, 1, tzinfo=UTC)}
    adapter = FilesAdapter(str(path))
    assert adapter.item_times() == written
    (chunk,) = adapter.item_chunks()
    assert adapter.read_items(chunk).column_names == ["item_id", "title", "updated_at"]
    assert set(written) == {chunk.path}
    assert FilesAdapter(events_path=str(path)).item_times() == {}
