"""What is read of an open release, from tables of a few rows: ids, histories, filters."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from recsys.release.arrow import IdMap, added_days, histories_of, row_ranges
from recsys.release.attributes import AttributeColumns
from recsys.release.release import Release
from recsys.tables import PICTURES
from recsys.types import Filters

ITEMS = pa.table(
    {
        "item_id": pa.chunked_array([["a", "b"], ["c", "d"]]),
        "category": ["Tea / Green", "tea", None, "Cups"],
        "brand": ["Moon", "MOON", " ", None],
        "price": pa.array([1.0, 2.0, None, 3.0], pa.float32()),
        "in_stock": [True, False, None, True],
        "group_id": ["g", " g ", "", None],
        "added": pa.array([0, 86_400_000_000, None, 43_200_000_000], pa.timestamp("us", "UTC")),
    }
)
USERS = pa.table(
    {
        "user_id": pa.chunked_array([["u", "w"], ["v"]]),
        "items": pa.chunked_array([[[3, 1], []], [[2]]], pa.list_(pa.int32())),
        "types": pa.chunked_array([[[0, 3], []], [[1]]], pa.list_(pa.int8())),
        "days": pa.chunked_array([[[1.0, 2.5], []], [[4.0]]], pa.list_(pa.float64())),
    }
)


@pytest.fixture
def release() -> Release:
    release = Release.__new__(Release)
    release.items, release.users = ITEMS, USERS
    release.attributes = AttributeColumns.none(ITEMS.num_rows)
    return release


def test_a_users_history_is_that_of_their_row(release: Release) -> None:
    histories = [release.history(row) for row in range(3)]
    assert [each.offsets.tolist() for each in histories] == [[0, 2], [0, 0], [0, 1]]
    assert [each.items.tolist() for each in histories] == [[3, 1], [], [2]]
    assert [each.types.tolist() for each in histories] == [[0, 3], [], [1]]
    assert [each.days.tolist() for each in histories] == [[1.0, 2.5], [], [4.0]]
    everyone = histories_of(USERS)
    assert everyone.offsets.tolist() == [0, 2, 2, 3]
    assert everyone.items.tolist() == [3, 1, 2]


def test_ids_are_rows_across_shards_and_back() -> None:
    ids = IdMap(pa.chunked_array([["a", "m"], [], ["b", "z"]], pa.string()))
    assert len(ids) == 4
    assert [ids[row] for row in range(4)] == ["a", "m", "b", "z"]
    assert [ids.row(key) for key in ("a", "m", "b", "z")] == [0, 1, 2, 3]
    assert [ids.row(key) for key in ("", "c", "zz")] == [None] * 3
    assert ids.rows(pa.array(["z", "c", "a"])).tolist() == [3, -1, 0]
    nobody = IdMap(pa.chunked_array([[]], pa.string()))
    assert (len(nobody), nobody.row("a"), nobody.rows(pa.array(["a"])).tolist()) == (0, None, [-1])


@pytest.mark.parametrize(
    ("filters", "rows"),
    [
        (Filters(category=("tea",)), [0, 1]),
        (Filters(category=("TEA / green", "cups")), [0, 3]),
        (Filters(brand=("moon",)), [0, 1]),
        (Filters(min_price=2.0), [1, 3]),
        (Filters(max_price=2.0), [0, 1]),
        (Filters(min_price=0.0), [0, 1, 3]),
        (Filters(in_stock=True), [0, 2, 3]),
        (Filters(in_stock=False), [1]),
        (Filters(brand=("moon",), min_price=1.5, max_price=2.5), [1]),
    ],
)
def test_filters_pass_the_items_they_name(
    release: Release, filters: Filters, rows: list[int]
) -> None:
    mask = release.filter_mask(filters)
    assert mask is not None
    assert np.flatnonzero(mask).tolist() == rows


def test_without_filters_nothing_is_masked(release: Release) -> None:
    assert release.filter_mask(Filters()) is None


def test_variants_share_a_group_and_others_have_none(release: Release) -> None:
    assert release.groups_I.tolist() == [0, 0, -1, -1]


def test_a_blank_label_is_none(release: Release) -> None:
    brands = release._label_codes("brand").tolist()
    assert brands[0] == brands[1] >= 0
    assert brands[2:] == [-1, -1]


def test_days_since_1970_are_nan_where_the_shop_does_not_say() -> None:
    np.testing.assert_array_equal(added_days(ITEMS), [0, 1, np.nan, 0.5])


@pytest.mark.parametrize(
    ("total", "size", "ranges"),
    [(0, 2, []), (1, 2, [(0, 1)]), (4, 2, [(0, 2), (2, 4)]), (5, 2, [(0, 2), (2, 4), (4, 5)])],
)
def test_rows_in_ranges(total: int, size: int, ranges: list[tuple[int, int]]) -> None:
    assert [(each.start, each.stop) for each in row_ranges(total, size)] == ranges


def test_the_pictures_of_an_item_are_a_range_of_rows(release: Release) -> None:
    rows = [("a", 0), ("a", 1), ("c", 0), ("d", 0)]
    columns = {"item_id": [item for item, _ in rows], "place": [place for _, place in rows]}
    release.item_ids = IdMap(ITEMS["item_id"])
    release.pictures = pa.table(columns)
    expected = [range(0, 2), range(2, 2), range(2, 3), range(3, 4)]
    assert [release.pictures_of(row) for row in range(4)] == expected


def test_without_pictures_there_are_none_of_any_item(release: Release) -> None:
    release.item_ids = IdMap(ITEMS["item_id"])
    release.pictures = PICTURES.empty_table()
    assert [len(release.pictures_of(row)) for row in range(4)] == [0] * 4
