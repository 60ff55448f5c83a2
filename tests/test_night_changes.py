"""The night takes in what changed by day: no gap and no double, whatever is killed or
rolled back."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from recsys.batch import catalogue_changes, night
from recsys.batch.planning import begin
from recsys.catalogue import sqlite
from recsys.catalogue.changes import ItemChange, ItemState
from recsys.datasets.files import FilesAdapter
from recsys.errors import ReleaseError
from recsys.privacy.forget import forget_user
from recsys.release.manifest import Manifest
from recsys.release.release import Release
from recsys.storage.artifacts import ArtifactStore
from tests.file_shop import ITEMS, UNTIL, FileShop, file_shop, item

__all__ = ["file_shop"]
NOON = UNTIL - timedelta(hours=14)


@dataclass
class Day:
    """Changes of the file shop at a time that the test sets."""

    shop: FileShop
    now: datetime = NOON

    def change(self, kind: Any, number: int | str, **fields: Any) -> int:
        """The number that the change got."""
        change = ItemChange(item_id=f"i{number}", kind=kind, fields=fields)
        with closing(self.shop.setup().catalogue_log()) as log:
            (result,) = log.append([change], exists=lambda item_id: True)
        assert result.status == "accepted"
        return result.number

    def states(self) -> dict[str, ItemState]:
        with closing(self.shop.setup().catalogue_log()) as log:
            return {state.item_id: state for state in log.states()}


@pytest.fixture
def day(file_shop: FileShop, monkeypatch: pytest.MonkeyPatch) -> Day:
    """Its files are of the midnight before."""
    day = Day(file_shop)

    class Clock(datetime):
        @classmethod
        def now(cls, zone: Any = None) -> datetime:  # type: ignore[override]
            return day.now

    monkeypatch.setattr(sqlite, "datetime", Clock)
    date_files(file_shop, NOON - timedelta(hours=12))
    return day


def date_files(shop: FileShop, time: datetime) -> None:
    os.utime(shop.folder / "items.csv", (time.timestamp(), time.timestamp()))


def items(shop: FileShop, manifest: Manifest) -> dict[str, dict[str, Any]]:
    release = Release.open(ArtifactStore(str(shop.folder / "home")), manifest.version)
    return {row["item_id"]: row for row in release.items.to_pylist()}


def test_changes_are_in_the_release_and_in_what_the_night_says(day: Day) -> None:
    day.change("patch", 3, price=4.0)
    day.change("patch", 4, hidden=True)
    day.change("put", "-new", title="a new thing", price=9.0)
    day.change("delete", 5)
    manifest = day.shop.night()
    now = items(day.shop, manifest)
    assert (now["i3"]["price"], now["i2"]["price"]) == (4.0, 5.0)
    assert (now["i4"]["hidden"], now["i3"]["hidden"]) == (True, False)
    assert (now["i-new"]["title"], now["i-new"]["in_stock"]) == ("a new thing", True)
    assert "i5" not in now
    assert manifest.changes == 4
    assert manifest.intake[0] == "items: 20 rows read, 20 kept"
    assert "items by day: 2 changed, 1 added, 1 withdrawn" in manifest.intake
    assert manifest.counts["items"] == 20
    assert (manifest.counts["changed_by_day"], manifest.counts["withdrawn_by_day"]) == (2, 1)
    report = day.shop.folder / "home/releases" / manifest.version / "report.html"
    assert "items by day: 2 changed" in report.read_text()


def test_the_hash_and_vector_of_a_changed_text_are_its_own(day: Day) -> None:
    before = items(day.shop, day.shop.night())
    day.change("patch", 3, title="another thing altogether")
    after = items(day.shop, day.shop.night(days=1))
    assert after["i3"]["text_hash"] != before["i3"]["text_hash"]
    assert after["i4"]["text_hash"] == before["i4"]["text_hash"]


def test_the_report_has_the_prices_that_moved(day: Day) -> None:
    first = day.shop.night()
    day.change("patch", 3, price=4.0)
    second = day.shop.night(days=1)
    pages = [
        (day.shop.folder / "home/releases" / each.version / "report.html").read_text()
        for each in (first, second)
    ]
    assert "Prices that moved" not in pages[0]
    assert f"Prices that moved since {first.version}" in pages[1]
    assert "-20.0%" in pages[1]


def test_a_file_written_after_a_change_overrules_it_and_brings_an_item_back(day: Day) -> None:
    day.change("patch", 3, price=4.0, hidden=True)
    day.change("delete", 5)
    day.shop.write([*ITEMS[:3], item(3, price=6), *ITEMS[4:]])
    date_files(day.shop, NOON + timedelta(hours=1))
    manifest = day.shop.night()
    now = items(day.shop, manifest)
    assert (now["i3"]["price"], now["i3"]["hidden"]) == (6.0, True)
    assert "i5" in now
    assert "items by day: 1 changed, 2 overruled by newer files" in manifest.intake


def test_no_gap_no_double_forward_and_back(day: Day) -> None:
    """What a release does not hold applies to it, whichever it is."""
    first = day.shop.night()
    before = day.change("patch", 3, price=4.0)
    second = day.shop.night(days=1)
    after = day.change("patch", 3, price=3.0)
    assert (first.changes, second.changes) == (0, before)
    assert items(day.shop, second)["i3"]["price"] == 4.0
    state = day.states()["i3"]
    assert state.changed_since(second.changes) == {"price": 3.0}
    assert state.changed_since(first.changes) == {"price": 3.0}
    third = day.shop.night(days=2)
    assert third.changes == after
    assert state.changed_since(third.changes) == {}
    assert items(day.shop, third)["i3"]["price"] == 3.0
    assert day.states()["i3"] == state, "a night does not touch the log"


def test_a_night_of_the_past_takes_in_what_had_changed_by_then(day: Day) -> None:
    day.change("patch", 3, price=4.0)
    day.change("patch", 4, price=4.0)
    day.change("put", "-new", title="a new thing", price=9.0)
    day.now = UNTIL + timedelta(hours=1)
    late = day.change("patch", 4, price=2.0)
    day.change("delete", 3)
    day.change("patch", "-new", price=8.0)
    manifest = day.shop.night()
    now = items(day.shop, manifest)
    assert manifest.changes == late - 1 == 3
    # Of what a later change replaced, the log has no more than that it did.
    assert (now["i3"]["price"], now["i4"]["price"]) == (5.0, 5.0)
    assert (now["i-new"]["title"], now["i-new"]["price"]) == ("a new thing", None)
    states = day.states()
    assert states["i4"].changed_since(manifest.changes) == {"price": 2.0}
    assert states["i-new"].changed_since(manifest.changes) == {"price": 8.0}


def test_a_night_killed_at_any_time_is_continued_to_the_same_bytes(day: Day) -> None:
    day.change("patch", 3, title="another thing", price=4.0)
    day.change("put", "-new", title="a new thing")
    whole = day.shop.night()
    killed = begin(day.shop.setup(), UNTIL + timedelta(days=1))
    copied = killed.store.read(killed.work_path(catalogue_changes.CHANGES))
    day.change("patch", 3, price=1.0)
    day.change("delete", "-new")
    again = begin(day.shop.setup())
    assert again.plan == killed.plan
    assert again.store.read(again.work_path(catalogue_changes.CHANGES)) == copied
    resumed = day.shop.night(days=1)
    assert resumed.changes == whole.changes
    names = [name for name in whole.files if name.startswith(("items", "item_vectors"))]
    assert len(names) > 1
    assert [resumed.files[name] for name in names] == [whole.files[name] for name in names]


KILLED = """
import os, signal, sys
from pathlib import Path
from recsys.batch import night
from recsys.batch.planning import begin
from tests.file_shop import UNTIL, FileShop
from tests.in_process import in_this_process
night.run_stages = in_this_process
night.publish = lambda *rest: os.kill(os.getpid(), signal.SIGKILL)
shop = FileShop.__new__(FileShop)
shop.folder, shop.columns, shop.choices = Path(sys.argv[1]), {}, {}
night.run_night(begin(shop.setup(), UNTIL), lambda line: None)
"""


def test_a_night_killed_before_it_published_makes_the_same_bytes(
    day: Day, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    day.change("patch", 3, title="another thing", price=4.0)
    day.change("put", "-new", title="a new thing")
    twin = tmp_path / "twin"
    shutil.copytree(day.shop.folder, twin)
    command = [sys.executable, "-c", KILLED, str(twin)]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    monkeypatch.setattr(FileShop, "__post_init__", lambda self: None)
    day_of_twin = Day(replace(day.shop, folder=twin))
    whole = day.shop.night()
    day.now = NOON + timedelta(hours=3)
    with closing(day_of_twin.shop.setup().catalogue_log()) as log:
        log.append([ItemChange(item_id="i3", kind="delete")], exists=lambda item_id: True)
    resumed = day_of_twin.shop.night()
    assert resumed.to_json() == whole.to_json()


def test_deletions_by_mistake_are_refused_as_a_short_file_is(day: Day) -> None:
    day.shop.night()
    for number in range(5):
        day.change("delete", number)
    with pytest.raises(
        ReleaseError, match=r"15 items after 20.*5 of the files. were withdrawn by day.*--allow"
    ):
        day.shop.night(days=1)
    assert day.shop.night(days=1, allow=["items-since-yesterday"]).counts["items"] == 15


def test_a_shop_may_put_all_its_items(day: Day) -> None:
    for number in range(30):
        day.change("put", number, title=f"thing number {number}", price=5.0)
    events = f"{day.shop.folder}/events.csv"
    setup = replace(
        day.shop.setup(items_per_shard=8), dataset=lambda until: FilesAdapter(events_path=events)
    )
    run = begin(setup, UNTIL)
    assert run.plan.item_parts == 4
    manifest = night.run_night(run, lambda line: None)
    assert manifest.counts["items"] == manifest.counts["added_by_day"] == 30


def test_forgetting_a_user_and_deleting_an_item_are_two_things(day: Day) -> None:
    day.shop.night()
    day.change("patch", 3, price=4.0)
    before = day.states()
    setup = day.shop.setup()
    with closing(setup.event_store()) as events:
        count = events.counts()
        forget_user(setup, events, "u3", NOON)
        assert day.states() == before
        day.change("delete", 5)
        assert events.counts() == count
        assert set(day.states()) == {"i3", "i5"}


def test_a_log_that_changes_while_it_is_copied_is_copied_as_it_was_at_the_end(
    day: Day, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalogue_changes, "_PAGE", 2)
    for number in range(4):
        day.change("patch", number, price=4.0)
    with closing(day.shop.setup().catalogue_log()) as log:
        read, pages = log.states, list[int]()

        def states(after: int = 0, limit: int | None = None) -> list[ItemState]:
            pages.append(after)
            page = read(after, limit)
            if len(pages) == 1:
                day.change("patch", 0, price=3.0)
            return page

        monkeypatch.setattr(log, "states", states)
        copied = catalogue_changes.copy_changes(log, UNTIL)
    assert copied.number == 5
    prices = [
        ItemState.from_json(text).values()["price"] for text in copied.states["state"].to_pylist()
    ]
    assert copied.states["item_id"].to_pylist() == ["i0", "i1", "i2", "i3"]
    assert prices == [3.0, 4.0, 4.0, 4.0]
