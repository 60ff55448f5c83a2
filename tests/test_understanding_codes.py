import string

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.datasets import data_folder
from recsys.errors import NotFoundError
from recsys.understanding.codes import CodeIndex, is_gtin, is_measure

ITEMS = [
    ("100001", "Everbilt Strap, #SC-141 galvanized"),  # 0
    ("100002", "Whirlpool Microwave WMH31017AS"),  # 1
    ("100003", "Whirlpool microwave (wmh31017as/WMH31017AB)"),  # 2
    ("sku-7", "Pine stud 2x4 1500-watt 3/4 12in"),  # 3
    ("ABC", "Scanner 4006381333931 part 555-1234-9"),  # 4
    ("12", "小米13Pro手机壳 1-1/2"),  # 5
    *[(f"x{row}", "Bulb GX5300 12-gauge") for row in range(30)],  # 6 ...
]


def codes_of(items):
    return CodeIndex.build(*zip(*items, strict=True)) if items else CodeIndex.build([], [])


@pytest.fixture(scope="module")
def codes():
    return codes_of(ITEMS)


@pytest.mark.parametrize(
    ("code", "rows"),
    [
        ("SC-141", [0]),
        ("#sc141", [0]),
        ("sc_141,", [0]),
        ("ＳＣ-141", [0]),
        ("WMH31017AS", [1, 2]),
        ("wmh31017ab", [2]),
        ("100002", [1]),
        ("SKU-7", [3]),
        ("sku7", [3]),
        ("2x4", [3]),
        ("4006381333931", [4]),
        ("04006381333931", [4]),
        ("4006381333932", []),  # a wrong check digit
        ("5551234-9", [4]),
        ("13pro", [5]),
        ("12", [5]),  # an item id
        ("112", []),  # not 1-1/2
        ("ABC", []),
        ("drill", []),
        ("", []),
        ("-", []),
        ("WMH", []),
    ],
)
def test_rows(codes, code, rows):
    assert codes.rows(code).tolist() == rows
    assert codes.rows(code).dtype == np.int32


@pytest.mark.parametrize(
    ("query", "rows", "exact"),
    [
        ("sc-141", [0], True),
        ("sc 141", [0], True),
        (" # SC 141 ", [0], True),
        ("gx5300", list(range(6, 36)), True),
        ("whirlpool wmh31017ab door", [2], False),
        ("microwave (WMH31017AS)", [1, 2], False),
        ("12 in", [], False),  # reads as a measure, though 12in is there
        ("12in", [3], True),
        ("1500-watt heater", [], False),
        ("stud 2x4 pine", [], False),
        ("bulb gx5300", [], False),  # in too many items
        ("model 100001 strap", [], False),  # a short number is anyone's
        ("scan 4006381333931", [4], False),
        ("小米13pro 手机壳", [5], False),
        ("12 drill", [], False),
        ("drill", [], False),
        ("", [], False),
    ],
)
def test_lookup(codes, query, rows, exact):
    found, whole = codes.lookup(query)
    assert (found.tolist(), whole) == (rows, exact)


@pytest.mark.parametrize(
    "token", ["12in", "3/4", "100w", "12-gauge", "1500-watt", "2x4", "16x20x1", "3-light",
              "1-1/2in", "0.5mm",
              "600-watt/3-amp", "2ftx3ft", "90-degree", "18-to-29", "31piece"],
)  # fmt: skip
def test_measures(token):
    assert is_measure(token)


@pytest.mark.parametrize(
    "token", ["sc-141", "wmh31017as", "7594srs", "100001", "75950-ss", "iphone13", "drill", ""]
)
def test_not_measures(token):
    assert not is_measure(token)


def test_gtin_check_digits():
    assert all(map(is_gtin, ["96385074", "036000291452", "4006381333931", "10614141000415"]))
    assert not any(map(is_gtin, ["96385075", "036000291453", "123", "٩٦٣٨٥٠٧٤", ""]))


def test_the_attributes_count():
    codes = CodeIndex.build(["a"], ["pump"], ["model:SC-141; gtin=4006381333931"])
    assert codes.lookup("SC-141")[1]
    assert codes.lookup("4006381333931")[1]


def test_saved_the_same_items_give_the_same_bytes(codes, tmp_path):
    codes.save(tmp_path / "a")
    codes_of(ITEMS).save(tmp_path / "b")
    assert (tmp_path / "a" / "codes.arrow").read_bytes() == (
        tmp_path / "b" / "codes.arrow"
    ).read_bytes()
    loaded = CodeIndex.load(tmp_path / "a")
    assert len(loaded) == len(codes) > 0
    assert loaded.rows("WMH31017AS").tolist() == [1, 2]


def test_an_empty_catalogue(tmp_path):
    codes_of([]).save(tmp_path)
    assert CodeIndex.load(tmp_path).lookup("SC-141")[0].size == 0


TOKEN = st.text(alphabet="ab1 2-./#_,+(手é", max_size=10)


@given(st.lists(TOKEN, min_size=1, max_size=8))
@settings(deadline=None)
def test_a_code_of_a_title_gives_rows_that_all_contain_it(titles):
    check_law(CodeIndex.build([f"id{row}" for row in range(len(titles))], titles), titles)


@pytest.mark.realdata
def test_every_code_of_a_real_title_is_found():
    import pandas as pd

    try:
        folder = data_folder("home_depot")
    except NotFoundError as error:
        pytest.skip(str(error))
    items = pd.read_parquet(folder / "items.parquet")
    titles = items["title"].tolist()
    assert check_law(CodeIndex.build(items["item_id"].tolist(), titles), titles) > 4000


def has_digit_and_latin_letter(token):
    return any(map(str.isdigit, token)) and any("a" <= letter <= "z" for letter in token.lower())


def check_law(codes, titles):
    """How many tokens with a digit and a Latin letter there are; each must be found, where it
    is."""

    def bare(text):
        return "".join(character for character in text.casefold() if character not in "-./#_")

    tokens = {token.strip(string.punctuation) for title in titles for token in title.split()}
    tokens = {token for token in tokens if has_digit_and_latin_letter(token) and "手" not in token}
    for token in tokens:
        rows, exact = codes.lookup(token)
        assert exact, token
        assert rows.size, token
        assert all(bare(token) in bare(titles[row]) or bare(token) == f"id{row}" for row in rows), (
            token
        )
    return len(tokens)


PARTS = [
    ("KVX-TN450", "Toner"),  # 0
    ("ZOR.0717-60", "Tap"),  # 1
    ("KT-INS114-RED", "Cup"),  # 2
    ("KT-INS114-BLUE", "Cup"),  # 3
    ("QWERT", "Pen"),  # 4
    ("lamp", "Lamp 4006381333931 1500-watt-9"),  # 5
]


@pytest.mark.parametrize(
    ("query", "rows"),
    [
        ("kvx-tn45", [0]),
        ("tn450", [0]),
        ("zor.0717", [1]),
        ("0717-60", [1]),
        ("07176", [1]),
        ("kt-ins114", [2, 3]),
        ("ins114", [2, 3]),
        ("qwert", [4]),
        ("QWERT", [4]),
        ("tn45", []),  # too short
        ("lamp", []),  # a word
        ("40063813", []),  # no part of a GTIN
        ("4006381333932", []),
        ("toner", []),
    ],
)
def test_part_of_a_code_names_what_begins_with_it(query, rows):
    found, exact = codes_of(PARTS).lookup(query)
    assert (found.tolist(), exact) == (rows, bool(rows))


def test_a_part_of_too_many_codes_names_none():
    many = codes_of([(f"SKU-AB{row:04}", "Cup") for row in range(200)])
    assert many.lookup("ab000")[0].tolist() == list(range(10))
    assert many.lookup("skuab0")[0].tolist() == []


@pytest.mark.parametrize(
    ("query", "rows"),
    [
        ("vx-tn4", [0]),  # inside
        ("kvx tn45", [0]),  # spaces for dashes
        ("ＫＶＸ-ＴＮ450", [0]),
        ("ns114", [2, 3]),
        ("5-mm2 tape", []),
        ("10100", []),  # round: a quantity
        ("10193691", [1]),
        ("4006381333", []),  # a GTIN has no neighbours
        ("KVX-RED", [2]),  # letters alone
    ],
)
def test_inside_of_a_code(query, rows):
    items = [
        ("KVX-TN450", "Toner 4006381333931"),
        ("W10193691", "Tap X10100"),
        ("KT-INS114-RED", "Cup"),
        ("KT-INS114-BLUE", "Cup"),
    ]
    items[2:2] = [("KVX-RED", "Ribbon")] if query == "KVX-RED" else []
    assert codes_of(items).lookup(query)[0].tolist() == rows


def test_variants_of_a_code_go_on_from_it():
    items = [("KT-INS114", "Cup"), *PARTS, ("GX200", "a"), ("GX2000", "b"), ("GX200B", "c")]
    codes = codes_of(items)
    assert codes.lookup("kt-ins114") == ([0], True)
    assert codes.variants("kt ins114").tolist() == [3, 4]
    assert codes.variants("gx200").tolist() == [9], "GX2000 is another machine"
    assert codes.variants("gx2000b").tolist() == []


@pytest.mark.parametrize(
    ("query", "code"),
    [("kvx-tn45o", "kvx-tn450"), ("ko-1", None), ("kvx-tn450", None), ("lamp", None)],
)
def test_the_letter_o_for_a_zero(query, code):
    assert codes_of(PARTS).respelled(query) == code
