"""Bots are set aside, heavy shoppers and tills are not: generated accounts of either kind."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from recsys.events.bots import BotLimits, bot_mask
from recsys.tables import EVENTS
from tests.file_shop import EVENTS as SHOP_EVENTS
from tests.file_shop import UNTIL, FileShop, file_shop

__all__ = ["file_shop"]
MORNING = datetime(2026, 1, 5, 8, tzinfo=UTC)


def account(
    seconds: Iterable[float], user: str | None = "a", items: int = 40, kind: str = "view"
) -> list[dict[str, Any]]:
    return [
        {
            "event_id": f"{user}-{kind}-{number}",
            "user_id": user,
            "item_id": f"i{number % items}",
            "type": kind,
            "time": MORNING + timedelta(seconds=float(second)),
        }
        for number, second in enumerate(seconds)
    ]


def bots(*accounts: list[dict[str, Any]], limits: BotLimits = BotLimits()) -> set[str | None]:  # noqa: B008
    rows = [row for rows in accounts for row in rows]
    table = pa.Table.from_pylist(rows, EVENTS)
    is_bot_E = bot_mask(table, limits)
    marked = {row["user_id"] for row, is_bot in zip(rows, is_bot_E, strict=True) if is_bot}
    assert all(
        is_bot == (row["user_id"] in marked) for row, is_bot in zip(rows, is_bot_E, strict=True)
    )
    return marked


def human_seconds(count: int, seed: int = 0) -> np.ndarray:
    """Looks of half a minute, a few of a second."""
    return np.cumsum(np.random.default_rng(seed).lognormal(3, 1, count))


@pytest.mark.parametrize(
    "seconds",
    [
        pytest.param(np.arange(5000) / 10, id="ten a second"),
        pytest.param(np.arange(300) * 1.0, id="one a second"),
        pytest.param(np.arange(1200) * 30.0, id="all day long"),
    ],
)
def test_a_machine_is_a_bot(seconds: np.ndarray) -> None:
    assert bots(account(seconds), account(human_seconds(50), "b")) == {"a"}


def test_who_looks_at_everything_and_buys_nothing_is_a_bot() -> None:
    crawl = account(np.arange(600) * 40.0, items=600)
    assert bots(crawl) == {"a"}
    assert bots(crawl, account([1.0], kind="cart")) == set()


@pytest.mark.parametrize("seed", range(20))
def test_a_heavy_shopper_is_none(seed: int) -> None:
    views = account(human_seconds(400, seed), items=300)
    assert bots(views, account([9000.0], kind="purchase")) == set()


def test_a_page_that_logs_all_it_lists_makes_nobody_a_bot() -> None:
    pages = np.repeat(np.arange(15) * 20.0, 48) + np.tile(np.arange(48) / 1000, 15)
    assert bots(account(pages, items=400)) == set()


def test_dates_without_times_make_nobody_a_bot() -> None:
    assert bots(account(np.zeros(400))) == set()


def test_a_till_is_none_and_guests_are_nobody() -> None:
    assert bots(account(np.arange(5000.0), kind="purchase")) == set()
    assert bots(account(np.arange(5000.0), user=None)) == set()
    assert bots(account(np.arange(5000.0), user=None), account(np.arange(5000.0))) == {"a"}


def test_limits_are_the_shop_s() -> None:
    views = account(human_seconds(60), items=30)
    assert bots(views, limits=BotLimits(views_a_day=60)) == {"a"}
    assert bots(views, limits=BotLimits(items_a_day=30)) == {"a"}
    assert bots(views, limits=BotLimits(busy_seconds=20, dwell_s=120)) == {"a"}
    assert bots([]) == set()


def test_a_night_sets_bots_aside_and_says_so(file_shop: FileShop) -> None:
    crawl = [
        {name: row[name] for name in SHOP_EVENTS[0]} | {"time": row["time"].isoformat()}
        for row in account(np.arange(900) * 1.0, "crawler", items=20)
    ]
    file_shop.write(events=[*SHOP_EVENTS, *crawl])
    manifest = file_shop.night()
    counts = manifest.counts
    assert (counts["users"], counts["events"]) == (12, 72)
    assert (counts["bots"], counts["bot_events"]) == (1, 900)
    assert manifest.intake[1].startswith(
        "events: 972 rows read, 72 kept, 900 of accounts that are bots"
    )
    setup = file_shop.setup(bots=replace(BotLimits(), busy_seconds=10_000))
    assert setup.night.bots.busy_seconds == 10_000
    assert MORNING < UNTIL
