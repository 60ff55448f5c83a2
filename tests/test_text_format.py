"""Dialects and compressions of text files."""

from __future__ import annotations

import bz2
import gzip
import zipfile
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import fs

from recsys.datasets.text_format import TextFormat, TextOptions, detect_dialect, detect_format
from recsys.errors import InputError

NAMES = ("item_id", "title", "price")


def dialect(text: str, delimiter: str | None = None) -> tuple[str, str, str, int]:
    found = detect_dialect(text.encode(), TextFormat(), delimiter, NAMES)
    return found.delimiter, found.quote, found.escape, found.preamble


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("item_id;title;price\nL0;a;1,50\nL1;b;2,50\n", (";", '"', "", 0)),
        ("item_id\ttitle\tprice\nA\ta, b\t3\n", ("\t", '"', "", 0)),
        ("sku|name\n1|a\n", ("|", '"', "", 0)),
        ("sku,name\n1,a;b\n2,c;d\n", (",", '"', "", 0)),
        ("sep=;\nsku;name\n1;2\n", (";", '"', "", 1)),
        ("# an export\n\nsku,name\n1,a\n2,b\n", (",", '"', "", 2)),
        ("item_id\nA1\nA2\n", (",", '"', "", 0)),
        ("'id','name'\n'1','it'\n", (",", "'", "", 0)),
        ('id,name\n1,"a \\"x\\" b"\n', (",", '"', "\\", 0)),
        ('id,name\n1,"a ""x"" b"\n', (",", '"', "", 0)),
        ('id,name\n1,"5\\""\n', (",", '"', "\\", 0)),
        ('id,name\n1,"\\"",b"\n', (",", '"', "", 0)),
        ('id,name\n1,"a \\"x\\"\nb"\n', (",", '"', "\\", 0)),
        ("id,name\n1,'a'\n2,'b'\n3,'c'\n", (",", '"', "", 0)),
        ("item_id\n1,2\n3,4\n5,6\n", (",", '"', "", 0)),
        ('id\tname\n1\t"Best" lamp\n2\t"Foo" x\n3\t"Bar" y\n', ("\t", "", "", 0)),
        ('id,name\n1,"soft, warm\nbig"\n2,"soft\nx; y"\n3,"a\nb"\n', (",", '"', "", 0)),
        ("", (",", '"', "", 0)),
    ],
)
def test_a_dialect_is_told_from_the_text(text: str, right: tuple[str, str, str, int]) -> None:
    assert dialect(text) == right


@pytest.mark.parametrize("delimiter", ["", "::", "¦", "\n"])
def test_a_delimiter_is_one_character(delimiter: str) -> None:
    with pytest.raises(InputError, match="is no delimiter: give one character"):
        TextOptions(delimiter=delimiter)


def test_the_shop_has_the_last_word() -> None:
    assert dialect("a,b;c\n1,2;3\n", ";")[0] == ";"


def test_a_compression_is_told_from_the_bytes(tmp_path: Path) -> None:
    text = "sku;name\n1;ä\n".encode("cp1252")
    zstd = pa.compress(text, "zstd", asbytes=True)
    for name, data in {
        "gzip": gzip.compress(text),
        "bz2": bz2.compress(text),
        "zstd": zstd,
    }.items():
        (tmp_path / name).write_bytes(data)
    for name, members in {"zip": ["a.csv"], "two": ["a.csv", "b.csv"]}.items():
        with zipfile.ZipFile(tmp_path / name, "w") as archive:
            for member in members:
                archive.writestr(member, text)
    for name in ("gzip", "bz2", "zstd", "zip"):
        read = detect_format(fs.LocalFileSystem(), str(tmp_path / name))
        assert read == TextFormat(encoding="cp1252", compression=name, delimiter=";")
    with pytest.raises(InputError, match="two holds 2 files"):
        detect_format(fs.LocalFileSystem(), str(tmp_path / "two"))
    with pytest.raises(InputError, match="no encoding 'klingon'"):
        detect_format(fs.LocalFileSystem(), str(tmp_path / "gzip"), TextOptions(encoding="klingon"))
