"""CSV texts as tables: dialects, stray quotes, lines that are no rows."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import numpy as np
import pytest

from recsys.datasets import csv_lines, csv_records
from recsys.datasets.text_files import CsvFile
from recsys.datasets.text_format import TextFormat
from recsys.datasets.validate import LINE

Row = dict[str, Any]


def rows(text: str, **dialect: Any) -> list[Row]:
    file = CsvFile(text.encode(), TextFormat(**dialect))
    table = file.read(range(len(file.names)), 0, file.num_rows)
    assert table.num_rows == file.num_rows
    return table.to_pylist()


def lamps(first: int, stop: int) -> str:
    return "".join(f"L{n},Brass lamp {n},{n}\n" for n in range(first, stop))


def stray(*lines: str) -> tuple[list[str], list[str]]:
    """Of a file with these lines among 20 sound ones: ids read, and lines set aside."""
    text = f"item_id,title,price\n{lamps(0, 10)}" + "\n".join(lines) + f"\n{lamps(10, 20)}"
    read = rows(text)
    ids = [row["item_id"] for row in read if row["item_id"] is not None]
    assert [f"L{n}" for n in range(20)] == [each for each in ids if each[0] == "L"]
    return [each for each in ids if each[0] != "L"], [row[LINE] for row in read if row.get(LINE)]


def test_dialects() -> None:
    right = [{"id": "1", "title": 'a; "b"\nc'}, {"id": "2", "title": ""}]
    assert rows('id,title\n1,"a; ""b""\nc"\n2,\n') == right
    assert rows('id;title\n1;"a; \\"b\\"\nc"\n\n2;""', delimiter=";", escape="\\") == right
    assert (
        rows("# x\n\nid\ttitle\n1\t'a; \"b\"\nc'\n2\t\n", delimiter="\t", quote="'", preamble=2)
        == right
    )


def test_an_escaped_line_break_is_inside_its_cell() -> None:
    read = rows('a,b\n1,"x\\\ny"\n2,"z"\\\n3,w\\\n4,5\n', escape="\\")
    assert [(row["a"], row["b"]) for row in read] == [
        ("1", "x\ny"), ("2", '"z"\\'), ("3", "w\\"), ("4", "5"),
    ]  # fmt: skip


def test_a_null_of_a_database_is_null() -> None:
    assert rows("id,title\n\\N,NA\n") == [{"id": None, "title": "NA"}]


def test_no_rows_and_no_columns() -> None:
    assert rows("id,title\n") == rows("id,title") == rows("") == rows("\n\n") == []


def test_a_quote_that_is_never_closed_costs_its_line_alone() -> None:
    assert stray('A,"Brass lamp,4') == ([], ['A,"Brass lamp,4'])
    assert stray('A,"Brass lamp,4', 'B,"a, b",5') == (["B"], ['A,"Brass lamp,4'])
    assert stray('A1,"Brass lamp,4', 'B1,Pipe 5",5') == (["B1"], ['A1,"Brass lamp,4'])
    assert stray('A,"Brass lamp,4', "B,x,1", 'C,"Pipe",5', 'D,"a\nb, c",6') == (
        ["B", "C", "D"],
        ['A,"Brass lamp,4'],
    )


def test_a_stray_quote_before_many_rows() -> None:
    read = rows(f'item_id,title,price\nA1,"open,1\n{lamps(0, 20_000)}')
    assert (len(read), read[0][LINE], read[-1]["item_id"]) == (20_001, 'A1,"open,1', "L19999")


def test_a_cell_of_several_lines_is_no_stray_quote() -> None:
    assert stray('A,"soft, warm\nbig, small",4') == (["A"], [])
    assert stray('A,"soft\n\n- warm\n- big, ""new""",4') == (["A"], [])
    assert stray('A,"a\nb","4"', 'B,"c\nd",5') == (["A", "B"], [])


def test_quotes_inside_a_cell_stay_where_the_line_has_the_right_cells() -> None:
    text = 'id,text\n1,"<p class="x">Soft, warm</p>"\n2,"Best" lamp\n3,5" pipe\n4,"a" b, "c\n'
    read = rows(text)
    assert [row["text"] for row in read] == [
        '<p class="x">Soft, warm</p>', '"Best" lamp', '5" pipe', None,
    ]  # fmt: skip
    assert read[3][LINE] == '4,"a" b, "c'


def test_ragged_lines_stand_where_they_stood() -> None:
    read = rows('a,b\n1,2\n3\n\n"x\ny",4\n5,6,7\n8,9\n')
    assert [(row["a"], row[LINE]) for row in read] == [
        ("1", None), (None, "3"), ("x\ny", None), (None, "5,6,7"), ("8", None),
    ]  # fmt: skip


def test_a_line_with_bytes_of_another_encoding_is_set_aside() -> None:
    read = rows("a,b\n1,x\ufffd\n2,y\n", damaged=True)
    assert [(row["a"], row[LINE]) for row in read] == [(None, "1,x\ufffd"), ("2", None)]


def test_a_header_again_is_set_aside() -> None:
    read = rows("a,b\n1,2\na,b\na,3\n")
    assert [(row["a"], row[LINE]) for row in read] == [("1", None), (None, "a,b"), ("a", None)]


def test_rows_that_end_with_a_delimiter() -> None:
    assert rows("a,b\n1,2,\n3,4,\n") == [
        {"a": "1", "b": "2", "": ""}, {"a": "3", "b": "4", "": ""},
    ]  # fmt: skip
    assert [row[LINE] for row in rows("a,b\n1,2,\n3,4\n")] == ["1,2,", None]


def test_names_have_nothing_invisible_around_them() -> None:
    assert CsvFile("\ufeff\u00a0id , t\u200b\n".encode(), TextFormat()).names == ["id", "t"]


def test_a_column_twice_is_two_columns() -> None:
    file = CsvFile(b"a,b,a\n1,2,3\n", TextFormat())
    assert file.names == ["a", "b", "a"]
    assert [column.to_pylist() for column in file.read([0, 2], 0, 1).columns] == [["1"], ["3"]]


def test_a_row_longer_than_a_block(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recsys.datasets.text_files._BLOCK_BYTES", 1_000)
    text = "a" * 5_000
    assert rows(f"id,title\n1,{text}\n2\n3,b\n")[0]["title"] == text


@pytest.mark.parametrize("block", [1, 2, 3, 7, 1 << 25])
def test_counting_by_blocks_and_scanning_lines_agree(
    block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(csv_lines, "_BLOCK", block)
    random = np.random.default_rng(0)
    fast = spanning = 0
    for _ in range(300):
        text = "".join(random.choice(list('a,"\n'), random.integers(1, 12))).encode()
        scanned = csv_records._Scanner(text, TextFormat(), 9).scan()
        with suppress(csv_lines.UnsoundQuotesError):
            count, spans = csv_lines.count_records(text, TextFormat())
            fast, spanning = fast + 1, spanning + spans
            assert (count, {}) == (scanned.count, scanned.stray)
            assert scanned.text.strip(b"\n") == text.strip(b"\n")
    assert fast > 30
    assert spanning > 3


@pytest.mark.parametrize("block", [1, 5, 1 << 25])
def test_records_that_look_like_rows_are_found(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(csv_lines, "_BLOCK", block)
    text = b'a,"b\nc,d"\n1,2\n\n"x,y\nz,"\ne,"f, g\nh, i"\n3,"4\n5"'
    assert list(csv_lines.records_like_rows(text, TextFormat(), 2)) == [
        b'a,"b\nc,d"', b'"x,y\nz,"',
    ]  # fmt: skip
