"""Histories without dates: a folder small enough to read by eye, ugly ones, and the real ones."""

import gzip
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recsys.datasets import data_folder, sequences
from recsys.errors import InputError, NotFoundError
from recsys.tables import ITEMS_IN
from recsys.types import PURCHASE

LINES = "ann tea milk\nben jam\n"
ITEMS = (
    "asin,s3rec_id,title,llm_text_id,attribute_ids\n"
    "tea,3,Green Tea,tea words,7 9\nmilk,1,,milk words,\njam,2,Jam,,1\n"
)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "user_sequences.txt").write_text(LINES)
    (tmp_path / "items.csv").write_text(ITEMS)
    return tmp_path


def names(read):
    ids, histories = read.items["item_id"].to_pylist(), read.histories
    parts = [histories.slice(user, user + 1) for user in range(len(histories))]
    return {
        user: [ids[row] for row in part.items]
        for user, part in zip(read.user_ids, parts, strict=True)
    }


def test_a_folder_as_nouns(folder):
    read = sequences.read_histories(folder)
    assert read.items.schema.equals(ITEMS_IN)
    assert read.items.select(["item_id", "title", "attributes", "price"]).to_pylist() == [
        {"item_id": "jam", "title": "Jam", "attributes": "1", "price": None},
        {"item_id": "milk", "title": "milk words", "attributes": None, "price": None},
        {"item_id": "tea", "title": "Green Tea", "attributes": "7 9", "price": None},
    ]
    assert names(read) == {"ann": ["tea", "milk"], "ben": ["jam"]}
    assert (read.histories.types == PURCHASE).all()
    np.testing.assert_array_equal(read.histories.days, [0, sequences.SPACING_DAYS, 0])
    assert {name: count for name, count in read.counts.items() if count} == {
        "users": 2,
        "items": 3,
        "events": 3,
        "histories_of_one": 1,
    }


def test_what_is_odd_is_kept_and_counted(folder):
    (folder / "user_sequences.txt").write_text("\nann tea 007 tea\n \nzed\nben leek\nann jam\n")
    (folder / "items.csv").write_text(ITEMS + "tea,9,Second Tea,,\nleek,4,Leek,,\n,5,Nothing,,\n")
    read = sequences.read_histories(folder)
    assert names(read) == {"ann": ["tea", "007", "tea", "jam"], "ben": ["leek"]}
    assert dict(
        zip(*(read.items[name].to_pylist() for name in ("item_id", "title")), strict=True)
    ) == {
        "007": None,
        "jam": "Jam",
        "leek": "Leek",
        "milk": "milk words",
        "tea": "Green Tea",
    }
    assert read.counts == {
        "users": 2,
        "items": 5,
        "events": 5,
        "empty_lines": 2,
        "users_without_items": 1,
        "unlisted_items": 1,
        "items_without_events": 1,
        "repeated_events": 1,
        "histories_of_one": 1,
        "repeated_users": 1,
        "repeated_items": 1,
        "items_without_id": 1,
    }


def test_the_longest_history_is_one_day_in_its_order(folder):
    rng = np.random.default_rng(0)
    (folder / "user_sequences.txt").write_text(
        "bot " + " ".join(rng.choice(["tea", "jam", "milk"], 100_000))
    )
    read = sequences.read_histories(folder)
    days = read.histories.days
    assert (np.diff(days) > 0).all()
    assert (days[0], np.floor(days[-1]), len(days)) == (0, 0, 100_000)


@pytest.mark.parametrize("kind", ["csv.gz", "jsonl", "jsonl.gz", "parquet", "parquet.gz"])
def test_other_files_say_the_same(folder, kind):
    expected = sequences.read_histories(folder)
    table = pa.table({"asin": ["tea", "milk", "jam"], "title": ["Green Tea", "", "Jam"]})
    table = table.append_column("text", [["", "milk words", "ignored"]])
    table = table.append_column("attribute_ids", [["7 9", None, "1"]])
    (folder / "items.csv").unlink()
    pq.write_table(table, folder / "items")
    contents = {
        "csv": ITEMS.encode(),
        "jsonl": "\n".join(map(json.dumps, table.to_pylist())).encode(),
        "parquet": (folder / "items").read_bytes(),
    }[kind.split(".")[0]]
    (folder / f"items.{kind}").write_bytes(
        gzip.compress(contents) if kind.endswith("gz") else contents
    )
    (folder / "user_sequences.txt").unlink()
    (folder / "anything.txt.gz").write_bytes(gzip.compress(LINES.encode()))
    read = sequences.read_histories(folder)
    assert read.items.equals(expected.items)
    assert names(read) == names(expected)


def test_columns_of_other_kinds(folder):
    (folder / "items.csv").unlink()
    rows = [
        {"number": 7, "categories": ["Food", "Jam"], "price": "3.5", "brand": " Our "},
        {"number": 8, "price": "dear", "in_stock": "true", "added": "2026-01-02"},
    ]
    (folder / "items.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (folder / "user_sequences.txt").write_text("ann 7 8")
    first, second = sequences.read_histories(folder).items.to_pylist()
    assert (first["item_id"], first["category"], first["price"], first["brand"]) == (
        "7",
        "Food, Jam",
        3.5,
        "Our",
    )
    assert (second["item_id"], second["price"], second["in_stock"]) == ("8", None, True)
    assert second["added"].isoformat() == "2026-01-02T00:00:00+00:00"


@pytest.mark.parametrize(
    ("file", "content", "sentence"),
    [
        (
            "user_sequences.txt",
            b"ann,tea\n\n",
            "no line with a user and an item: write 'user item item ...'",
        ),
        ("user_sequences.txt", b"", "no line with a user and an item"),
        ("user_sequences.txt", b"ann \xff\xfe", "cannot be read as UTF-8 text"),
        (
            "user_sequences.txt",
            b"ann 1 2\nben 3",
            "has no item of the histories, not '1': name their column item_id",
        ),
        ("items.csv", b"", "is empty: give a line of column names"),
        (
            "items.csv",
            b"item_id,title\ntea,Green, fresh\n",
            "row 1 of .* has 3 values for 2 columns: quote the commas",
        ),
        ("items.csv", b'item_id,title\ntea,"Green\n', "cannot be read as csv"),
        ("items.csv", b"item_id,title\n", "has no item of the histories"),
        ("items.parquet", b"PAR0", "cannot be read as parquet"),
        ("items.parquet.gz", b"not packed", "cannot be read as parquet"),
        ("items.jsonl", b'{"item_id": "tea"', "cannot be read as jsonl"),
        ("items.jsonl", b"3", "cannot be read as jsonl"),
        ("items.jsonl", b"", "has no columns: give at least item_id"),
    ],
)
def test_what_cannot_be_used_is_refused_with_a_sentence(folder, file, content, sentence):
    if file.startswith("items"):
        (folder / "items.csv").unlink()
    (folder / file).write_bytes(content)
    with pytest.raises(InputError, match=sentence):
        sequences.read_histories(folder)


def test_what_is_not_there(folder):
    with pytest.raises(
        NotFoundError, match=r"there is no folder at .*gone: give one with user_sequences\.txt"
    ):
        sequences.read_histories(folder / "gone")
    (folder / "user_sequences.txt").rename(folder / "a.txt")
    assert names(sequences.read_histories(folder))
    (folder / "b.txt").write_text("")
    with pytest.raises(
        InputError, match=r"has a\.txt, b\.txt: name the one with histories user_sequences\.txt"
    ):
        sequences.read_histories(folder)
    (folder / "b.txt").unlink()
    (folder / "a.txt").unlink()
    with pytest.raises(NotFoundError, match=r"has no \*\.txt: put user_sequences\.txt there"):
        sequences.read_histories(folder)
    (folder / "a.txt").write_text(LINES)
    (folder / "items.csv").unlink()
    with pytest.raises(NotFoundError, match=r"has no table of items: put one of items\.parquet"):
        sequences.read_histories(folder)


@pytest.mark.realdata
@pytest.mark.parametrize(
    ("name", "users", "items", "events"),
    [
        ("amazon2014_beauty", 22_363, 12_101, 198_502),
        ("amazon2014_sports", 35_598, 18_357, 296_337),
    ],
)
def test_the_real_ones(name, users, items, events):
    try:
        read = sequences.read_histories(data_folder(name))
    except NotFoundError as missing:
        pytest.skip(str(missing))
    assert (len(read.histories), read.items.num_rows, len(read.histories.items)) == (
        users,
        items,
        events,
    )
    assert read.items["title"].null_count <= 7
    odd = {
        name: count
        for name, count in read.counts.items()
        if name not in ("users", "items", "events") and count
    }
    assert odd == {}
