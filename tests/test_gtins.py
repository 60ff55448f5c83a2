"""A trade item number has a right check digit, or is none."""

from __future__ import annotations

import pyarrow as pa
import pytest

from recsys.datasets.gtins import to_gtin
from recsys.datasets.validate import check_items


@pytest.mark.parametrize(
    ("text", "gtin"),
    [
        ("4006381333931", "4006381333931"),
        (" 4006381-333931 ", "4006381333931"),
        ("'4006381333931", "4006381333931"),
        ("036000291452", "036000291452"),
        ("36000291452", "036000291452"),  # a spreadsheet dropped the zero
        ("96385074", "96385074"),
        ("10614141000415", "10614141000415"),
        ("0-306-40615-2", "9780306406157"),
        ("080442957X", "9780804429573"),
        ("4006381333932", None),
        ("0000000000000", None),
        ("123", None),
        ("4.00638E+12", None),
        ("does not apply", None),
        ("", None),
    ],
)
def test_check_digits(text: str, gtin: str | None) -> None:
    assert to_gtin(pa.array([text, None])).to_pylist() == [gtin, None]


def test_a_wrong_one_costs_the_item_nothing_and_is_counted() -> None:
    gtins = ["4006381333931", "4006381333932", "", None]
    raw = pa.table({"item_id": ["a", "b", "c", "d"], "gtin": gtins})
    checked = check_items(raw, "shop.csv", 0)
    assert checked.good["gtin"].to_pylist() == ["4006381333931", None, None, None]
    assert checked.counts["gtins_dropped"] == 1
    numbers = pa.table({"item_id": ["a"], "gtin": [4006381333931]})
    assert check_items(numbers, "p", 0).good["gtin"].to_pylist() == ["4006381333931"]
