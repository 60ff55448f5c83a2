"""Times of every style mean the same, and what could mean two is no time."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pytest

from recsys.datasets.times import TimeReading, to_time

T = datetime(2026, 10, 1, 14, 4, 47, tzinfo=UTC)


def read(values: Any, **reading: Any) -> list[datetime | None]:
    column = values if isinstance(values, pa.Array) else pa.array(values)
    times: list[datetime | None] = to_time(column, TimeReading(**reading)).to_pylist()
    return times


@pytest.mark.parametrize(
    "text",
    [
        "2026-10-01T14:04:47Z",
        "2026-10-01 10:04:47 -0400",
        "2026-10-01 10:04:47 -04:00",
        "2026-10-01 14:04:47 UTC",
        "2026-10-01 14:04:47 GMT",
        "2026-10-01T15:04:47+0100",
        "2026-10-01 14:04:47,000",
        "2026/10/01 14:04:47",
        "20261001T140447Z",
        "2026-10-01T16:04:47+02:00[Europe/Berlin]",
        "Thu, 01 Oct 2026 14:04:47 +0000",
        "Thu, 01 Oct 2026 10:04:47 EDT",
        "1 Oct 2026 14:04:47",
        "Oct 1, 2026 2:04:47 PM",
        "October 1, 2026 at 2:04:47 PM",
        "01.10.2026 14:04:47",
        "1.10.2026 14:04:47",
        "2026-10-01 2:04:47 PM",
    ],
)
def test_one_moment(text: str) -> None:
    assert read([text, "2026-10-01T14:04:47Z", None]) == [T, T, None]


@pytest.mark.parametrize(
    "text",
    ["20261130", "2026", "0", "1790863487", "1790863487000", "", "soon", "01/10/2026 14:04:47",
     "01/10/26", "2026-13-01", "2026-02-30", "31/31/2026", "10:04", "Monday"],
)  # fmt: skip
def test_what_is_no_time(text: str) -> None:
    assert read([text]) == [None]


def test_a_column_shows_whether_the_day_comes_first() -> None:
    first, other = datetime(2026, 2, 1, tzinfo=UTC), datetime(2026, 1, 2, tzinfo=UTC)
    assert read(["01/02/2026"]) == [None]
    assert read(["01/02/2026"], day_first=True) == [first]
    assert read(["01/02/2026"], day_first=False) == [other]
    assert read(["01/02/2026", "13/02/2026"])[0] == first
    assert read(["01/02/2026", "2/13/2026"])[0] == other
    assert read(["01/02/2026", "2/13/2026", "13-02-2026"])[0] is None
    assert read(["05/05/2026"]) == [datetime(2026, 5, 5, tzinfo=UTC)]


@pytest.mark.parametrize("factor", [1, 10**3, 10**6, 10**9])
def test_numbers_have_the_unit_that_their_size_leaves(factor: int) -> None:
    assert read(pa.array([int(T.timestamp()) * factor])) == [T]
    assert read(pa.array([T.timestamp() * factor])) == [T]


def test_other_numbers_are_no_times() -> None:
    assert read(pa.array([20261130, 2026, 0, -1, 10**11])) == [None] * 5
    assert read(pa.array([True])) == [None]
    assert read(pa.array([float("nan"), float("inf")])) == [None, None]


def test_a_text_of_digits_is_a_time_where_its_unit_is_said() -> None:
    assert read([str(int(T.timestamp()))], epoch="s") == [T]
    assert read([f"{int(T.timestamp())}000"], epoch="ms") == [T]
    assert read(["2026-10-01T14:04:47Z", "86400"], epoch="s")[1] == datetime(1970, 1, 2, tzinfo=UTC)


def test_times_without_a_zone_are_the_shops() -> None:
    berlin = {"zone": "Europe/Berlin"}
    naive = datetime(2026, 10, 1, 16, 4, 47)
    assert read(["2026-10-01 16:04:47", "2026-10-01 14:04:47 UTC"], **berlin) == [T, T]
    assert read(pa.array([naive], pa.timestamp("ms")), **berlin) == [T]
    assert read(["2026-10-01"], **berlin) == [datetime(2026, 9, 30, 22, tzinfo=UTC)]
    skipped, twice = "2026-03-29 02:30", "2026-10-25 02:30"
    assert None not in read([skipped, twice], **berlin)
