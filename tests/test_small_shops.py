"""First nights of generated small shops: what proves nothing stops none of them."""

from __future__ import annotations

import numpy as np
import pytest

from recsys.errors import ReleaseError
from recsys.release.manifest import Manifest
from tests.file_shop import ITEMS, FileShop, file_shop, item, purchase

__all__ = ["file_shop"]
SHOPS = 32


def write_generated(shop: FileShop, seed: int) -> tuple[int, int]:
    """5 to 60 items and 0 to 40 users who bought what they liked, over a month; both counts."""
    random = np.random.default_rng(seed)
    items, users = int(random.integers(5, 61)), int(random.integers(0, 41))
    shop.write([item(number) for number in range(items)])
    events = {
        (user, int(random.integers(items)), int(random.integers(1, 30)))
        for user in range(users)
        for _ in range(random.integers(1, 9))
    }
    rows = [purchase(user, number, days + user / 100) for user, number, days in sorted(events)]
    if rows:
        shop.write(events=rows)
    else:
        (shop.folder / "events.csv").write_text("event_id,user_id,item_id,type,time\n")
    return items, users


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(SHOPS))
def test_a_small_shop_publishes_its_first_night(file_shop: FileShop, seed: int) -> None:
    items, users = write_generated(file_shop, seed)
    counts = file_shop.night().counts
    assert (counts["items"], counts["users"]) == (items, users)


def test_a_shop_of_seven_users_publishes(file_shop: FileShop) -> None:
    events = [purchase(user, (3 * user + day) % 20, day) for user in range(7) for day in (1, 2, 4)]
    file_shop.write(events=events)
    assert file_shop.night().counts["users"] == 7


def test_a_shop_that_somebody_bought_empty_publishes(file_shop: FileShop) -> None:
    file_shop.write(ITEMS[:2], [purchase(1, 0, 3), purchase(1, 1, 2), purchase(2, 1, 1)])
    assert file_shop.night().counts["users"] == 2


def test_a_smaller_catalogue_is_published_where_that_is_allowed_once(file_shop: FileShop) -> None:
    def smaller() -> Manifest:
        return file_shop.night(days=1, allow=["items-since-yesterday"])

    file_shop.night()
    file_shop.write(ITEMS[:10])
    with pytest.raises(ReleaseError, match=r"run it again with --allow items-since-yesterday"):
        file_shop.night(days=1)
    assert smaller().counts["items"] == 10


def test_unusable_rows_are_left_out_where_that_is_allowed_once(file_shop: FileShop) -> None:
    file_shop.write([*ITEMS, item(98, price="?"), item(99, price="??")])
    with pytest.raises(ReleaseError, match=r"2 of 22 rows cannot be used.*once with --allow bad-r"):
        file_shop.night()
    assert file_shop.night(allow=["bad-rows"]).counts["items"] == 20
