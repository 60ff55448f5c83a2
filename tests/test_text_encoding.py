"""Encodings told from the bytes of short product files."""

from __future__ import annotations

import pytest

from recsys.datasets.text_encoding import detect_encoding, to_utf8
from recsys.errors import InputError

TITLES = {
    "cp1252": ("Käsereibe Größe 5", "Théière émaillée", "Sillón pequeño", "Tisch 199 €"),
    "cp1250": ("Łóżko drewniane", "Krzesło dębowe", "Pościel bawełniana"),
    "cp1251": ("Стул дубовый", "Лампа латунная", "Подушка мягкая"),
    "cp1253": ("Καρέκλα ξύλινη", "Λάμπα ορειχάλκινη", "Μαξιλάρι μαλακό"),
    "gb18030": ("橡木凳子", "柔软的枕头", "不锈钢保温杯"),
    "big5": ("橡木凳子", "柔軟的枕頭", "咖啡杯大號"),
    "cp932": ("オーク材のスツール", "真鍮ランプ", "やわらかい枕"),
    "cp949": ("참나무 의자", "황동 램프", "부드러운 베개"),
}


def file_of(titles: tuple[str, ...]) -> str:
    rows = [f"A{n},{title},{n}" for n, title in enumerate(titles)]
    rows += [f"L{n},Brass lamp number {n},{n}" for n in range(50)]
    return "item_id,title,price\n" + "\n".join(rows) + "\n"


@pytest.mark.parametrize("encoding", TITLES)
def test_three_titles_tell_a_code_page(encoding: str) -> None:
    text = file_of(TITLES[encoding])
    data = text.encode(encoding)
    assert to_utf8(data, detect_encoding(data, "a.csv")) == (text.encode(), False)


@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"]
)
def test_unicode_is_told_with_and_without_a_mark(encoding: str) -> None:
    text = file_of(("Käsereibe", "茶"))
    data = text.encode(encoding)
    assert to_utf8(data, detect_encoding(data, "a.csv")) == (text.encode(), False)


def test_one_word_that_two_code_pages_have_needs_a_choice() -> None:
    data = file_of(("Dětská postýlka",)).encode("cp1250")
    with pytest.raises(InputError, match=r"may be in cp1250 \(Dětská postýlka\) or cp1254 .*enc"):
        detect_encoding(data, "a.csv")


def test_utf_8_with_a_few_broken_bytes_is_utf_8() -> None:
    data = "käse, größe, 茶\n".encode() + b"e\xff\n"
    assert detect_encoding(data, "a.csv") == "utf-8"
    assert to_utf8(data, "utf-8") == ("käse, größe, 茶\ne\ufffd\n".encode(), True)
