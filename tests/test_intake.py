"""Nothing is lost in silence: what a night and its `--plan` say of rows, columns and texts."""

from __future__ import annotations

import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from jobs import nightly
from recsys.batch import preview
from recsys.batch.estimate import NightEstimate, estimate
from recsys.batch.night import run_night
from recsys.batch.planning import begin
from recsys.datasets.files import FilesAdapter
from recsys.datasets.platforms.shopify import Shopify
from recsys.errors import ReleaseError
from tests.file_shop import EVENTS, ITEMS, UNTIL, FileShop, file_shop, item, purchase

__all__ = ["file_shop"]


def plan(shop: FileShop) -> NightEstimate:
    return estimate(shop.setup(), UNTIL)


@pytest.fixture
def columns(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files whose columns Colour and Shelf nothing is made of."""
    for name, unused in (("item", ["Colour", "Shelf"]), ("event", [])):
        method = f"unused_{name}_columns"
        monkeypatch.setattr(FilesAdapter, method, lambda self, each=unused: each, raising=False)


def test_every_row_is_in_the_summary(file_shop: FileShop, columns: None) -> None:
    file_shop.write(
        [*ITEMS, ITEMS[3], item(20, title="")], [*EVENTS, EVENTS[0], purchase(1, 99, 1)]
    )
    manifest = file_shop.night()
    assert manifest.intake == [
        "items: 22 rows read, 21 kept, 1 quarantined (1 x item_id repeats that of another row: "
        "the first is kept), 1 without a title or description",
        "events: 74 rows read, 72 kept, 1 of items not in the catalogue, 1 quarantined (1 x "
        "event_id repeats that of another row: the first is kept)",
        "items: nothing is made of the columns Colour, Shelf",
    ]
    report = (file_shop.folder / "home/releases" / manifest.version / "report.html").read_text()
    assert "nothing is made of the columns Colour, Shelf" in report


def test_a_catalogue_without_texts_is_refused_with_its_columns(
    file_shop: FileShop, columns: None
) -> None:
    file_shop.write([item(number, title=" ") for number in range(20)])
    sentence = (
        r"0 of 20 items have a title or description to search by, fewer than 50%; nothing was made "
        r"of their columns Colour, Shelf: map one of them to title"
    )
    with pytest.raises(ReleaseError, match=sentence + r".*once with --allow titles"):
        file_shop.night()
    assert plan(file_shop).refused
    assert f"the night would be refused: {sentence}" in str(plan(file_shop))
    assert file_shop.night(allow=["titles"]).counts["items"] == 20


def test_the_plan_of_a_good_night_refuses_nothing(file_shop: FileShop) -> None:
    assert not plan(file_shop).refused
    assert "items            20 rows read: 0 cannot be used, 0 repeat others" in str(
        plan(file_shop)
    )


def test_the_plan_says_which_rows_cannot_be_used_and_why(file_shop: FileShop) -> None:
    file_shop.write([*ITEMS, item(97, price="ask"), item(98, price="ask"), item(99, price=-1)])
    text = str(plan(file_shop))
    assert "23 rows read: 3 cannot be used" in text
    assert "2 x price: it must be" in text
    assert "price is 'ask'" in text
    assert (
        "the night would be refused: items: 3 of 23 rows cannot be used, more than the 5% allowed"
    ) in text


def test_the_plan_knows_the_catalogue_and_yesterday(file_shop: FileShop) -> None:
    file_shop.night()
    file_shop.write(ITEMS[:4])
    text = str(plan(file_shop))
    assert "the night would be refused: 4 items after 20 in 2026-01-10T020000" in text
    assert "% of 72 events name an item of the catalogue (at least 50% must)" in text


def test_of_a_long_log_the_plan_reads_a_sample(
    file_shop: FileShop, monkeypatch: pytest.MonkeyPatch
) -> None:
    chunks = FilesAdapter.event_chunks

    def in_fours(self: FilesAdapter) -> list[Any]:
        (whole,) = chunks(self)
        return [type(whole)(whole.path, start, 4) for start in range(0, 72, 4)]

    monkeypatch.setattr(FilesAdapter, "event_chunks", in_fours)
    monkeypatch.setattr(preview, "EVENT_ROWS", 24)
    assert "24 rows read of 72: 0 cannot be used" in str(plan(file_shop))


def test_a_plan_that_would_be_refused_is_exit_code_1(
    file_shop: FileShop, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(nightly, "load", lambda name: file_shop.setup())
    monkeypatch.setattr(sys, "argv", ["nightly", "--plan"])
    assert nightly.main() == 0
    file_shop.write([item(number, price="?") for number in range(20)])
    assert nightly.main() == 1
    assert "20 of 20 rows cannot be used" in capsys.readouterr().out


def test_the_night_says_at_its_end_what_became_of_the_rows(
    file_shop: FileShop, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(nightly, "load", lambda name: file_shop.setup())
    monkeypatch.setattr(nightly, "connect_ray", lambda: "Ray: none")
    monkeypatch.setattr(nightly, "run_night", run_night)
    monkeypatch.setattr(sys, "argv", ["nightly", "--until", UNTIL.isoformat()])
    assert nightly.main() == 0
    last = capsys.readouterr().out.splitlines()[-3:]
    assert last[0] == "items: 20 rows read, 20 kept"
    assert last[1] == "events: 72 rows read, 72 kept"


def test_equal_rows_are_an_overlap_of_exports(file_shop: FileShop) -> None:
    file_shop.write([*ITEMS, *ITEMS], [*EVENTS, *EVENTS])
    assert not plan(file_shop).refused
    counts = file_shop.night().counts
    assert (counts["items"], counts["events"]) == (20, 72)


@pytest.mark.parametrize("table", ["items", "events"])
def test_rows_that_lose_what_they_say_are_refused(file_shop: FileShop, table: str) -> None:
    again = {"items": item(3, title="another"), "events": EVENTS[0] | {"time": "2026-01-01"}}
    rows = {"items": ITEMS, "events": EVENTS}[table]
    file_shop.write(**{table: [*rows, *[again[table]] * 5]})
    sentence = rf"{table}: the \w+_id of 5 of \d+ rows repeats that of another row, but their other"
    assert re.search(f"the night would be refused: {sentence}", str(plan(file_shop)))
    with pytest.raises(ReleaseError, match=sentence):
        file_shop.night()
    assert file_shop.night(allow=["bad-rows"]).counts[table] == len(rows)


def test_rows_of_an_export_that_are_no_items_and_no_events_are_counted(
    file_shop: FileShop,
) -> None:
    exports = Path(__file__).parent / "exports"
    shop = Shopify(
        products=str(exports / "shopify_products.csv"), orders=str(exports / "shopify_orders.csv")
    )
    setup = replace(file_shop.setup(max_bad_share=1.0), dataset=lambda until: shop)
    assert "other rows: " in str(estimate(setup, UNTIL))
    manifest = run_night(begin(setup, UNTIL, allow=["titles"]), lambda line: None)
    left_out = [*shop.left_out("items").items(), *shop.left_out("events").items()]
    assert left_out
    for kind, count in left_out:
        assert f"{count:,} other rows: {kind}" in " ".join(manifest.intake)
