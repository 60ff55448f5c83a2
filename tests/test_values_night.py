"""What a shop's log and catalogue say, from two files through a night to the release."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from recsys.batch.ingest import require_one_currency
from recsys.errors import InputError
from recsys.release.release import Release
from recsys.storage.artifacts import ArtifactStore
from recsys.types import PURCHASE, Filters
from tests.file_shop import EVENTS, ITEMS, FileShop, file_shop, item, purchase

__all__ = ["file_shop"]


def release(shop: FileShop) -> Release:
    return Release.open(ArtifactStore(shop.setup().home))


def test_guests_are_no_users_and_count_for_popularity(file_shop: FileShop) -> None:
    guests = [{**purchase(99, 3, 1), "event_id": f"g{n}", "user_id": "(not set)"} for n in range(9)]
    before = file_shop.night()
    popularity = np.array(release(file_shop).popularity_I)
    file_shop.write(events=[*EVENTS, *guests])
    after = file_shop.night(days=1)
    assert after.counts["users"] == before.counts["users"] == 12
    assert after.counts["events"] == before.counts["events"] + 9
    assert after.counts["guest_events"] == 9
    row = release(file_shop).item_ids.row("i3")
    assert release(file_shop).popularity_I[row] > popularity[row]
    assert int(np.argmax(release(file_shop).popularity_I)) == row
    assert release(file_shop).item_features.touches_TI[PURCHASE, row] >= 9


def test_what_was_sent_back_was_not_bought(file_shop: FileShop) -> None:
    events = [{**each, "quantity": 1} for each in EVENTS]
    sent_back = {**events[0], "event_id": "back", "quantity": -1}
    sent_back["time"] = purchase(0, 0, 0.5)["time"]
    file_shop.write(events=[*events, sent_back])
    manifest = file_shop.night()
    assert manifest.counts["returned_purchases"] == 1
    opened = release(file_shop)
    history = opened.history(opened.user_ids.row(str(events[0]["user_id"])) or 0)
    returned = opened.item_ids.row(str(events[0]["item_id"]))
    assert len(history.items) == 5
    assert returned not in history.items.tolist()


def test_an_orders_number_as_id_loses_no_line(file_shop: FileShop) -> None:
    file_shop.write(events=[{**each, "event_id": each["user_id"]} for each in EVENTS])
    counts = file_shop.night().counts
    assert (counts["events"], counts["order_lines"]) == (len(EVENTS), len(EVENTS) - 12)


def test_an_item_is_of_all_its_categories_and_named_by_its_gtin(file_shop: FileShop) -> None:
    special = {"category": "Garden > Picnic, Textiles", "gtin": "4006381333931", "mpn": "AB-12"}
    plain = {"category": "Garden > Picnic", "gtin": "4006381333932", "mpn": ""}
    file_shop.write(items=[item(0, **special), *(item(n, **plain) for n in range(1, len(ITEMS)))])
    assert file_shop.night().counts["items"] == len(ITEMS)
    opened = release(file_shop)
    row = opened.item_ids.row("i0") or 0
    first = opened.item(row)
    assert (first.category, first.categories) == (
        "Garden / Picnic", ("Garden / Picnic", "Textiles")
    )  # fmt: skip
    textiles = opened.filter_mask(Filters(category=("textiles",)))
    garden = opened.filter_mask(Filters(category=("Garden",)))
    assert textiles is not None
    assert garden is not None
    assert (np.flatnonzero(textiles).tolist(), int(garden.sum())) == ([row], len(ITEMS))
    assert opened.codes.rows("4006381333931").tolist() == [row]
    assert opened.codes.rows("ab12").tolist() == [row]
    assert not len(opened.codes.rows("4006381333932"))


def test_the_files_of_a_catalogue_have_one_currency() -> None:
    require_one_currency(pa.chunked_array([["EUR", None], ["EUR"]]))
    with pytest.raises(
        InputError, match=r"prices in EUR and USD: choose one as catalogue.currency"
    ):
        require_one_currency(pa.chunked_array([["USD", None], ["EUR"]]))
