"""The checkerboard shop as the fault tests run it: two releases that no answer can be of at
once."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, Literal, cast

import pyarrow as pa
import pytest

from recsys.batch.night import run_night
from recsys.batch.planning import begin
from recsys.config import Setup
from recsys.interfaces import Chunk, EventStore
from recsys.simulation.load import check_answer
from recsys.simulation.traffic import Call
from recsys.training.influence import OnlineConfig
from tests import checkerboard
from tests.checkerboard import ITEMS, Checkerboard, title
from tests.faults.clock import follow

#: The release "even" has the catalogue as it is; "odd" has every title one thing on and every price
#: 100 higher.
EVEN, ODD = "2026-01-02-even", "2026-01-03-odd"
UNTIL = checkerboard.UNTIL
LATER = UNTIL + timedelta(days=1)


def priced(version: str, item: int) -> float:
    return 10.0 + item + (100.0 if version == ODD else 0.0)


def titled(version: str, item: int) -> str:
    return title((item + 2) % ITEMS) if version == ODD else title(item)


@dataclass(frozen=True)
class Moved(Checkerboard):
    """The catalogue of the release "odd", on nights of the day after."""

    def read_items(self, chunk: Chunk) -> pa.Table:
        items = super().read_items(chunk)
        if self.until < LATER or chunk.path == "bad items":
            return items
        rows = range(chunk.start, chunk.start + chunk.rows)
        for name, values in (
            ("title", [titled(ODD, item) for item in rows]),
            ("price", [priced(ODD, item) for item in rows]),
        ):
            items = items.set_column(items.column_names.index(name), name, pa.array(values))
        return items


def moved(until: datetime) -> Checkerboard:
    return Moved(until)


def setup() -> Setup:
    """Lies in $NIGHTSHELF_HOME; $NIGHTSHELF_FAULTS_LAYOUT is its layout: a split one learns by day,
    too. Its replicas follow the clock in the file $NIGHTSHELF_FAULTS_CLOCK, if there is one."""
    shop = replace(checkerboard.setup(), dataset=moved)
    layout = cast(Literal["fused", "split"], os.environ.get("NIGHTSHELF_FAULTS_LAYOUT", "fused"))
    online = OnlineConfig() if layout == "split" else None
    if clock := os.environ.get("NIGHTSHELF_FAULTS_CLOCK"):
        shop = replace(shop, event_store=partial(_jumping, Path(clock), shop.event_store))
    day = replace(shop.day, layout=layout, online=online, search_ms=2_000.0)
    return replace(shop, day=day)


def _jumping(clock: Path, event_store: Callable[[], EventStore]) -> EventStore:
    follow(clock)
    return event_store()


def check_release(call: Call, body: Mapping[str, Any]) -> str:
    """What of an answer is not of the release that it names."""
    if wrong := check_answer(call, body):
        return wrong
    version = body["release"]
    for item in body.get("items", ()):
        number = int(item["item_id"][1:])
        if (item["title"], item["price"]) != (titled(version, number), priced(version, number)):
            return f"mixed: {version} has no {item['title']} for {item['price']}"
    return _not_found(call, body) if call.route == "search" and "user_id" not in call.params else ""


def _not_found(call: Call, body: Mapping[str, Any]) -> str:
    """Whoever asks for a whole title must find it first, by the words and vectors of the release as
    it is."""
    text, titles = call.params["q"], [item["title"] for item in body["items"]]
    return f"mixed: {text} finds {titles[:1]}" if " " in text and titles[:1] != [text] else ""


def publish_releases(home: Path) -> Path:
    """The home with both releases, "odd" the current one, by two real nights on the Ray that there
    is."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NIGHTSHELF_HOME", str(home))
        patch.setenv("NIGHTSHELF_COMMIT", "test")
        for version, until in ((EVEN, UNTIL), (ODD, LATER)):
            run_night(begin(setup(), until, version), lambda line: None)
    return home
