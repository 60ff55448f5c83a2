"""The default shop's files: written once a week to the cache, read like those of any shop."""

from __future__ import annotations

import os
from datetime import date, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow.parquet as pq

from recsys.datasets.files import FilesAdapter
from recsys.demo.catalogue import make_catalogue
from recsys.demo.pictures import picture_keys, picture_name, write_pictures
from recsys.demo.year import year_of_events
from recsys.interfaces import DatasetAdapter

#: Counts up when other bytes are written, so that an older folder is not used.
REVISION = 1
PICTURES = "pictures"
SYNONYMS = str(Path(__file__).parent / "synonyms.txt")


def demo_dataset(until: datetime) -> DatasetAdapter:
    """The shop and its year up to the last Sunday before the day of `until`."""
    yesterday = until.date() - timedelta(days=1)
    items, events = demo_files(yesterday - timedelta(days=(yesterday.weekday() + 1) % 7))
    return FilesAdapter(str(items), str(events))


def demo_files(last_day: date) -> tuple[Path, Path]:
    """The items and events of the shop on a day, beside its folder of pictures, in
    $NIGHTSHELF_CACHE or ~/.cache/nightshelf: 8 MB, written on first use."""
    root = Path(os.environ.get("NIGHTSHELF_CACHE") or Path.home() / ".cache" / "nightshelf")
    shop = root / f"demo-{REVISION}"
    shop.mkdir(parents=True, exist_ok=True)
    items, events = (shop / f"{name}-{last_day}.parquet" for name in ("items", "events"))
    with TemporaryDirectory(prefix=".new-", dir=shop) as aside:
        if not (shop / PICTURES).is_dir():
            write_pictures(Path(aside) / PICTURES)
            _publish(Path(aside) / PICTURES, shop / PICTURES)
        if not (items.is_file() and events.is_file()):
            catalogue = make_catalogue(last_day, {key: reference(key) for key in picture_keys()})
            pq.write_table(catalogue.items, Path(aside) / items.name)
            pq.write_table(year_of_events(catalogue, last_day), Path(aside) / events.name)
            for file in (items, events):
                _publish(Path(aside) / file.name, file)
    return items, events


def reference(key: tuple[str, str]) -> str:
    """Of a picture, as an item's `image` names it: a path from the items' folder."""
    return f"{PICTURES}/{picture_name(*key)}"


def _publish(aside: Path, place: Path) -> None:
    """Whole or not at all; where another process was first, its pictures stay."""
    try:
        aside.rename(place)
    except OSError:
        if not place.is_dir():
            raise
