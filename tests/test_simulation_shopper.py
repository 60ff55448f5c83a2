"""Shoppers against a shop that always shows the same list."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from typing import Any

import httpx
import numpy as np
import pytest

from recsys.errors import InputError
from recsys.simulation.clicks import Cascade, PositionBased, Spam
from recsys.simulation.shopper import Log, clients, shop
from tests.test_simulation_market import market

LIST = ["i03", "i00", "i07"]


@dataclass
class FakeShop:
    """Answers every `fails_at`-th request with 503, and remembers what it was asked and told."""

    fails_at: int = 0
    refuses: bool = False
    asked: list[httpx.URL] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if request.method == "POST":
            self.events += json.loads(request.content)
            return httpx.Response(422 if self.refuses else 200, json={})
        self.asked.append(request.url)
        number = len(self.asked)
        if self.fails_at and number % self.fails_at == 0:
            return httpx.Response(503)
        items = [{"item_id": item} for item in LIST]
        return httpx.Response(
            200, json={"request_id": f"r{number}", "release": "v1", "items": items}
        )


def day(fake: FakeShop, count: int = 60, seed: int = 0, **more: Any) -> Log:
    async def run() -> Log:
        async with httpx.AsyncClient(
            base_url="http://shop", transport=httpx.MockTransport(fake)
        ) as client:
            asked = market().requests(count, seed=1)
            return await shop(
                [client],
                market(),
                more.pop("model", PositionBased()),
                asked,
                seed,
                places=4,
                **more,
            )

    return asyncio.run(run())


def test_a_day_is_what_was_shown_and_what_the_shop_was_told() -> None:
    fake = FakeShop()
    log = day(fake)
    assert log.rows_BK.tolist() == [[3, 0, 7, -1]] * 60
    assert log.failures == 0
    told = {
        (event["request_id"], event["item_id"]) for event in fake.events if event["type"] == "click"
    }
    clicked = {
        (log.request_ids[b], market().ids[log.rows_BK[b, k]])
        for b, k in np.argwhere(log.clicked_BK)
    }
    assert told == clicked != set()
    assert len({event["event_id"] for event in fake.events}) == len(fake.events) == log.events


def test_searches_ask_for_the_category_in_words_and_say_who_asks() -> None:
    fake = FakeShop()
    log = day(fake)
    queries = [url.params["q"] for url in fake.asked if url.path == "/search"]
    assert sorted(queries) == sorted(market().words[c] for c in log.wanted_B if c >= 0)
    assert {url.params["user_id"] for url in fake.asked} == {f"u{user:04d}" for user in log.users_B}


def test_failures_are_counted_and_nothing_is_clicked_there() -> None:
    log = day(FakeShop(fails_at=4))
    assert log.failures == 15
    assert not log.clicked_BK[~log.answered_B].any()
    assert (log.rows_BK[~log.answered_B] == -1).all()


def test_refused_events_stop_the_day() -> None:
    with pytest.raises(InputError, match="refused"):
        day(FakeShop(refuses=True))


def test_the_same_seed_clicks_the_same() -> None:
    first, again, other = (day(FakeShop(), seed=seed).clicked_BK for seed in (0, 0, 1))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_who_spams_clicks_his_item_wherever_it_is_shown() -> None:
    spam = Spam(tuple(range(10)), row=7)
    log = day(FakeShop(), model=Cascade(), spam=spam)
    spammed = log.users_B < 10
    assert log.clicked_BK[spammed].tolist() == [[False, False, True, False]] * int(spammed.sum())
    assert not log.bought_BK[spammed].any()


def test_every_shopper_has_an_address_of_his_own() -> None:
    async def addresses() -> list[str | None]:
        async with clients("http://127.0.0.1:1", market()) as made:
            return [
                client._transport._pool._local_address
                for client in map(made.__getitem__, range(len(made)))
            ]  # type: ignore[attr-defined]

    assert len(set(asyncio.run(addresses()))) == market().shoppers
