"""A shop of two CSV files that a test writes: 20 things that twelve people bought over six days."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from recsys.batch import night
from recsys.batch.planning import begin
from recsys.config import Setup, event_log
from recsys.datasets.files import FilesAdapter
from recsys.encoders.hashing import HashingEncoder
from recsys.release.manifest import Manifest
from tests.checkerboard import setup
from tests.in_process import in_this_process

UNTIL = datetime(2026, 1, 10, 2, tzinfo=UTC)
Rows = Iterable[Mapping[str, object]]


def write_rows(path: Path, rows: Rows) -> None:
    rows = list(rows)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def item(number: int, **columns: object) -> dict[str, object]:
    return {"item_id": f"i{number}", "title": f"thing number {number}", "price": 5} | columns


def purchase(user: int, number: int, days: float) -> dict[str, object]:
    """`days` before the night."""
    return {
        "event_id": f"{user}-{number}-{days}",
        "user_id": f"u{user}",
        "item_id": f"i{number}",
        "type": "purchase",
        "time": (UNTIL - timedelta(days=days)).isoformat(),
    }


ITEMS = [item(number) for number in range(20)]
EVENTS = [purchase(user, (7 * user + day) % 20, 6 - day) for user in range(12) for day in range(6)]


def dataset(folder: str, columns: Mapping[str, str], until: datetime) -> FilesAdapter:
    return FilesAdapter(f"{folder}/items.csv", f"{folder}/events.csv", columns)


@dataclass
class FileShop:
    """Its files and its home lie in `folder`; nights run in this process."""

    folder: Path
    columns: dict[str, str] = field(default_factory=dict)
    choices: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.write(ITEMS, EVENTS)

    def write(self, items: Rows | None = None, events: Rows | None = None) -> None:
        for name, rows in (("items", items), ("events", events)):
            if rows is not None:
                write_rows(self.folder / f"{name}.csv", rows)

    def setup(self, **night_choices: Any) -> Setup:
        home = str(self.folder / "home")
        base = setup()
        return replace(
            base,
            name="shop",
            home=home,
            dataset=partial(dataset, str(self.folder), dict(self.columns)),
            encoder=partial(HashingEncoder, 32),
            event_store=event_log(home),
            night=replace(
                base.night, **{"max_bad_share": 0.05, "events_per_shard": 50, **night_choices}
            ),
            **self.choices,
        )

    def night(self, days: float = 0, allow: Iterable[str] = (), **night_choices: Any) -> Manifest:
        """One night, `days` after UNTIL."""
        run = begin(self.setup(**night_choices), UNTIL + timedelta(days=days), allow=allow)
        return night.run_night(run, lambda line: None)


@pytest.fixture
def file_shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FileShop:
    monkeypatch.setenv("NIGHTSHELF_COMMIT", "test")
    monkeypatch.setattr(night, "run_stages", in_this_process)
    monkeypatch.setattr("recsys.release.report._plots", lambda report: [])  # seconds a night
    monkeypatch.setattr("os.fsync", lambda descriptor: None)
    return FileShop(tmp_path)
